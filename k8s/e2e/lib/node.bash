# Sourced by cluster: what process 1 of a node does in its namespaces.

daemon() { # NAME CMD...: keep it running, as systemd would
  local name=$1; shift
  ( while :; do "$@" >>"$ND/log/$name.log" 2>&1 || true; echo "--- $name ended ($?), starting again" >>"$ND/log/$name.log"; sleep 1; done ) &
}

node_main() { # N NODES
  local n=$1 nodes=$2 d m hostpid
  read -r hostpid _ </proc/self/stat                  # the host's /proc is still mounted here
  ND=$RUN/node$n
  mkdir -p "$ND/log"; exec </dev/null >>"$ND/log/init.log" 2>&1
  set +e; trap '' TERM INT HUP
  mount -t proc proc /proc
  for d in /var/lib/kubelet /var/lib/containerd /var/lib/cni /etc/cni/net.d /var/log/pods /var/log/containers; do
    mkdir -p "$d" "$ND$d"; mount --bind "$ND$d" "$d"
  done
  mount -t tmpfs tmpfs /run -o mode=755; mkdir -p /run/lock /run/netns
  mount --make-rshared /
  hostname "node$n"
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then       # cgroup v2 (not tried)
    mkdir -p "/sys/fs/cgroup/k8s-e2e-node$n"
    sed 's/ / +/g;s/^/+/' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
  else                                                    # cgroup v1: the kubelet wants its root in every hierarchy
    for d in /sys/fs/cgroup/*/; do [ "$d" = /sys/fs/cgroup/unified/ ] || [ -L "${d%/}" ] || mkdir -p "$d/k8s-e2e-node$n"; done
    for d in cpus mems; do cat "/sys/fs/cgroup/cpuset/cpuset.$d" >"/sys/fs/cgroup/cpuset/k8s-e2e-node$n/cpuset.$d"; done
  fi
  ip link set lo up
  sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1 net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
  echo "$hostpid" >"$ND/pid.new"; mv "$ND/pid.new" "$ND/pid"
  # The parent now plugs in eth0; node 1's eth0 is the bridge the others hang on.
  until [ -e "$ND/net" ]; do sleep 0.02; done
  ip addr add "$LAN.$n/24" dev eth0; ip link set eth0 up
  ip route add "$SVC.0/16" dev eth0 src "$LAN.$n"     # only so that the output route look-up succeeds before kube-proxy's DNAT
  for m in $(seq "$nodes"); do [ "$m" = "$n" ] || ip route add "$PODS.$m.0/24" via "$LAN.$m"; done

  cat >/etc/cni/net.d/10-bridge.conflist <<-JSON
	{"cniVersion":"0.4.0","name":"pods","plugins":[
	 {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":false,"hairpinMode":true,
	  "ipam":{"type":"host-local","ranges":[[{"subnet":"$PODS.$n.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
	 {"type":"portmap","capabilities":{"portMappings":true}}]}
	JSON
  cat >"$ND/containerd.toml" <<-TOML
	version = 2
	disabled_plugins = ["io.containerd.snapshotter.v1.btrfs","io.containerd.snapshotter.v1.zfs","io.containerd.snapshotter.v1.devmapper","io.containerd.snapshotter.v1.aufs","io.containerd.internal.v1.opt"]
	[plugins."io.containerd.grpc.v1.cri"]
	  sandbox_image = "localhost/pause:1"
	  disable_apparmor = true
	  restrict_oom_score_adj = true
	  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
	    runtime_type = "io.containerd.runc.v2"
	  [plugins."io.containerd.grpc.v1.cri".cni]
	    bin_dir = "/usr/lib/cni"
	    conf_dir = "/etc/cni/net.d"
	TOML
  : >"$ND/resolv.conf"                                # nothing outside to resolve
  cat >"$ND/kubelet.yaml" <<-YAML
	apiVersion: kubelet.config.k8s.io/v1beta1
	kind: KubeletConfiguration
	authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
	authorization: {mode: Webhook}
	tlsCertFile: $PKI/node$n.crt
	tlsPrivateKeyFile: $PKI/node$n.key
	containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
	cgroupDriver: cgroupfs
	cgroupRoot: /k8s-e2e-node$n
	failCgroupV1: false
	failSwapOn: false
	clusterDNS: [$SVC.10]
	clusterDomain: cluster.local
	resolvConf: $ND/resolv.conf
	enforceNodeAllocatable: [pods]
	evictionHard: {memory.available: "1%", nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
	imageGCHighThresholdPercent: 100
	imageGCLowThresholdPercent: 99
	nodeStatusUpdateFrequency: 4s
	syncFrequency: 10s
	volumeStatsAggPeriod: 1m
	shutdownGracePeriod: 0s
	YAML
  daemon containerd containerd -c "$ND/containerd.toml" -l info
  if [ "$n" = 1 ]; then
    mkdir -p /run/etcd
    daemon etcd "$BIN/etcd" --data-dir /run/etcd --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
      --listen-peer-urls http://127.0.0.1:2380 --log-level warn
    daemon kube-apiserver "$BIN/kube-apiserver" --etcd-servers http://127.0.0.1:2379 --bind-address 0.0.0.0 --secure-port 6443 --advertise-address "$LAN.1" \
      --service-cluster-ip-range "$SVC.0/16" --allow-privileged --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
      --client-ca-file "$PKI/ca.crt" --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key" \
      --kubelet-client-certificate "$PKI/admin.crt" --kubelet-client-key "$PKI/admin.key" --kubelet-certificate-authority "$PKI/ca.crt" \
      --kubelet-preferred-address-types InternalIP \
      --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$PKI/sa.pub" --service-account-signing-key-file "$PKI/sa.key" \
      --endpoint-reconciler-type lease --profiling=false
    ( until (exec 3<>"/dev/tcp/$LAN.1/6443") 2>/dev/null; do sleep 0.1; done
      daemon kube-controller-manager "$BIN/kube-controller-manager" --kubeconfig "$RUN/kcm.conf" --leader-elect=false --use-service-account-credentials \
        --service-account-private-key-file "$PKI/sa.key" --root-ca-file "$PKI/ca.crt" --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key" \
        --bind-address 127.0.0.1 --node-monitor-period 2s --node-monitor-grace-period 20s
      daemon kube-scheduler "$BIN/kube-scheduler" --kubeconfig "$RUN/scheduler.conf" --leader-elect=false --bind-address 127.0.0.1
      wait ) &
  fi
  ( until [ -S /run/containerd/containerd.sock ] && ctr version >/dev/null 2>&1; do sleep 0.1; done
    for d in "$IMG"/*.tar; do ctr -n k8s.io images import "$d" >/dev/null || echo "import of $d failed"; done
    : >"$ND/images"
    until (exec 3<>"/dev/tcp/$LAN.1/6443") 2>/dev/null; do sleep 0.1; done
    daemon kubelet "$BIN/kubelet" --config "$ND/kubelet.yaml" --kubeconfig "$RUN/node$n.conf" --hostname-override "node$n" --node-ip "$LAN.$n"
    daemon kube-proxy "$BIN/kube-proxy" --kubeconfig "$RUN/proxy.conf" --hostname-override "node$n" --proxy-mode iptables --cluster-cidr "$PODS.0.0/16" \
      --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0 --iptables-min-sync-period 100ms
    daemon netpol "$BIN/k8s-aio" netpol "$RUN/admin.conf" "node$n"
    wait ) &
  wait
  while :; do sleep 3600; done
}
