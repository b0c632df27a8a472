#!/bin/sh
# Keeps containers with a network away from everything that is not public: the daemon's own namespace (a pod, a
# machine), the cluster, the node, the cloud's metadata service; over IPv4 and IPv6, on docker0 and on every br-*.
# Run it as root in the daemon's network namespace, before dockerd or beside it, as often as you like; dockerd puts
# its own rules behind DOCKER-USER and leaves that chain alone.
#
#   FIREWALL_RESOLVERS   addresses that containers may ask for names on port 53; those of /etc/resolv.conf if unset
set -eu
resolvers=${FIREWALL_RESOLVERS-$(sed -n 's/^nameserver[[:space:]]\{1,\}\([0-9a-fA-F.:]*\).*/\1/p' /etc/resolv.conf)}

guard() { # TOOL, how it says "administratively prohibited", PRIVATE NETWORKS
  tool=$1 prohibited=$2 private=$3
  for chain in DOCKER-USER DCCF-FORWARD DCCF-INPUT; do
    "$tool" -w -N "$chain" 2>/dev/null || "$tool" -w -F "$chain"
  done

  # What containers send on to others: answers, names, public addresses.
  "$tool" -w -A DCCF-FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
  for resolver in $resolvers; do
    case $tool:$resolver in iptables:*:* | ip6tables:*.*) continue ;; esac
    for protocol in udp tcp; do
      "$tool" -w -A DCCF-FORWARD -d "$resolver" -p "$protocol" --dport 53 -j RETURN
    done
  done
  for network in $private; do
    "$tool" -w -A DCCF-FORWARD -d "$network" -j REJECT --reject-with "$prohibited"
  done

  # What they send to the daemon's namespace itself: answers, and with IPv6 what finds neighbours.
  "$tool" -w -A DCCF-INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
  if [ "$tool" = ip6tables ]; then
    for type in 133 134 135 136; do
      "$tool" -w -A DCCF-INPUT -p icmpv6 --icmpv6-type "$type" -j ACCEPT
    done
  fi
  "$tool" -w -A DCCF-INPUT -j REJECT --reject-with "$prohibited"

  for bridge in docker0 br-+; do
    "$tool" -w -A DOCKER-USER -i "$bridge" -j DCCF-FORWARD
    "$tool" -w -C INPUT -i "$bridge" -j DCCF-INPUT 2>/dev/null || "$tool" -w -I INPUT -i "$bridge" -j DCCF-INPUT
  done
  "$tool" -w -A DOCKER-USER -j RETURN
  # dockerd does this for the families that it filters, and puts itself first.
  "$tool" -w -C FORWARD -j DOCKER-USER 2>/dev/null || "$tool" -w -I FORWARD -j DOCKER-USER
}

guard iptables icmp-admin-prohibited "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 \
192.0.0.0/24 192.168.0.0/16 198.18.0.0/15 224.0.0.0/3"
# A kernel without IPv6 has nothing to guard.
[ ! -e /proc/sys/net/ipv6 ] || guard ip6tables icmp6-adm-prohibited \
  "::/128 ::1/128 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 fc00::/7 fe80::/10 fec0::/10 ff00::/8"
