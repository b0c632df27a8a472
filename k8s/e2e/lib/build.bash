# Sourced by cluster: Debian packages, one Go binary that is every program of Kubernetes, and two small images.

deps() {
  local need=() p
  for p in containerd:containerd runc:runc iptables:iptables ip:iproute2 openssl:openssl \
           unshare:util-linux sysctl:procps; do
    command -v "${p%%:*}" >/dev/null || need+=("${p##*:}")
  done
  [ -x /usr/lib/cni/bridge ] || need+=(containernetworking-plugins)
  [ ${#need[@]} = 0 ] && return
  say "apt-get install ${need[*]}"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${need[@]}"; } >"$DIR/apt.log" 2>&1 \
    || die "apt-get failed, see $DIR/apt.log"
}

# A download that hangs is given up and tried again; what has arrived is kept.
fetch_modules() {
  local try
  command -v go >/dev/null || die "Go is missing: go.mod in $SRC names the version that Kubernetes needs"
  for try in 1 2 3; do
    ( cd "$SRC" && timeout 300 go list -deps . ./coredns ./pause >/dev/null 2>"$DIR/modules.log" ) && return
    say "fetching Go modules failed $try times: $(tail -n 1 "$DIR/modules.log")"
  done
  die "the Go modules could not be fetched, see $DIR/modules.log"
}

build() {
  mkdir -p "$BIN" "$IMG"
  deps
  local key vp=k8s.io/component-base/version
  key=$(cat "$SRC"/{go.mod,main.go,netpol.go,coredns/main.go,pause/main.go} <(go version) | sha256sum | cut -c1-16)
  if [ "$(cat "$BIN/.key" 2>/dev/null)" != "$key" ]; then
    say "fetching Go modules"
    fetch_modules
    say "building Kubernetes v$VERSION and CoreDNS (minutes when the Go build cache is cold)"
    ( cd "$SRC" && CGO_ENABLED=0 GOGC=${GOGC:-400} nice -n 10 go build -buildvcs=false -trimpath -gcflags=all=-dwarf=false -o "$BIN/" -ldflags "-s -w \
        -X $vp.gitVersion=v$VERSION -X $vp.gitMajor=1 -X $vp.gitMinor=34 -X $vp.gitTreeState=clean -X $vp.gitCommit=lab" . ./coredns ./pause )
    local c
    for c in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do ln -sf k8s-aio "$BIN/$c"; done
    rm -f "$IMG/coredns.tar" "$IMG/pause.tar"
    echo "$key" >"$BIN/.key"
  fi
  base_images
}

# mkimage NAME:TAG ROOTFS OUT.tar [CONFIG_JSON]: a docker-save archive of one layer.
mkimage() {
  local tmp cfg=${4:-'{}'} sum
  tmp=$(mktemp -d)
  tar -C "$2" --numeric-owner --owner=0 --group=0 --sort=name --mtime=@0 -cf "$tmp/layer.tar" .
  sum=$(sha256sum <"$tmp/layer.tar" | cut -d' ' -f1)
  printf '{"architecture":"amd64","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created_by":"cluster"}]}' "$cfg" "$sum" >"$tmp/config.json"
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$1" >"$tmp/manifest.json"
  tar -C "$tmp" -cf "$3.new" manifest.json config.json layer.tar
  mv "$3.new" "$3"; rm -rf "$tmp"
}

base_images() {
  local t
  if [ ! -s "$IMG/pause.tar" ]; then
    t=$(mktemp -d); cp "$BIN/pause" "$t/pause"
    mkimage localhost/pause:1 "$t" "$IMG/pause.tar" '{"Entrypoint":["/pause"]}'; rm -rf "$t"
  fi
  if [ ! -s "$IMG/coredns.tar" ]; then
    t=$(mktemp -d); cp "$BIN/coredns" "$t/coredns"
    mkimage localhost/coredns:1.12.4 "$t" "$IMG/coredns.tar" '{"Entrypoint":["/coredns"]}'; rm -rf "$t"
  fi
}
