# Sourced by cluster: a certificate authority for one cluster, and kubeconfigs for everybody in it.

cert() { # FILE SUBJECT EXTENSIONS
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$PKI/$1.key" -subj "$2" 2>/dev/null |
    openssl x509 -req -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -set_serial "0x$(openssl rand -hex 8)" -days 30 \
      -extfile <(printf '%s\n' "keyUsage=critical,digitalSignature" "extendedKeyUsage=serverAuth,clientAuth" ${3:+"$3"}) -out "$PKI/$1.crt" 2>/dev/null
}

kubeconf() { # FILE CERT SERVER
  cat >"$1" <<-YAML
	apiVersion: v1
	kind: Config
	clusters: [{name: e2e, cluster: {server: "$3", certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")}}]
	users: [{name: $2, user: {client-certificate-data: $(base64 -w0 "$PKI/$2.crt"), client-key-data: $(base64 -w0 "$PKI/$2.key")}}]
	contexts: [{name: e2e, context: {cluster: e2e, user: $2}}]
	current-context: e2e
	YAML
}

pki() { # NODES
  local n api="https://$LAN.1:6443"
  mkdir -p "$PKI"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$PKI/ca.key" -out "$PKI/ca.crt" -days 30 \
    -subj /CN=e2e-ca -addext keyUsage=critical,keyCertSign,digitalSignature 2>/dev/null
  openssl genrsa -out "$PKI/sa.key" 2048 2>/dev/null
  openssl rsa -in "$PKI/sa.key" -pubout -out "$PKI/sa.pub" 2>/dev/null
  cert apiserver /CN=kube-apiserver "subjectAltName=IP:127.0.0.1,IP:$LAN.1,IP:$SVC.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local" &
  cert admin /O=system:masters/CN=admin &
  cert kcm /CN=system:kube-controller-manager &
  cert scheduler /CN=system:kube-scheduler &
  cert proxy /CN=system:kube-proxy &
  for n in $(seq "$1"); do cert "node$n" "/O=system:nodes/CN=system:node:node$n" "subjectAltName=DNS:node$n,IP:$LAN.$n" & done
  wait
  kubeconf "$DIR/kubeconfig" admin "https://127.0.0.1:$PORT"
  kubeconf "$RUN/admin.conf" admin "$api"
  kubeconf "$RUN/kcm.conf" kcm "$api"; kubeconf "$RUN/scheduler.conf" scheduler "$api"; kubeconf "$RUN/proxy.conf" proxy "$api"
  for n in $(seq "$1"); do kubeconf "$RUN/node$n.conf" "node$n" "$api"; done
}
