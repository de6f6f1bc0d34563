# The keys and certificates of one cluster. For sourcing, by up. They live as long as its directory.
# shellcheck shell=bash

# The private key $1.key.
new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" 2>/dev/null; }

# Issues $1.crt for the subject $2 with the extensions $3.
issue() {
  new_key "$1"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" -days 30 \
    -extfile <(printf 'keyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:FALSE\n%s\n' "$3") \
    -out "$1.crt" 2>/dev/null
}

# The kubeconfig of the client $1 for the API server $2, with its credentials in it.
kubeconfig() {
  cat <<EOF
apiVersion: v1
kind: Config
clusters:
  - name: node
    cluster:
      server: $2
      certificate-authority-data: $(base64 -w0 ca.crt)
users:
  - name: user
    user:
      client-certificate-data: $(base64 -w0 "$1.crt")
      client-key-data: $(base64 -w0 "$1.key")
contexts:
  - name: node
    context: {cluster: node, user: user}
current-context: node
EOF
}

# A client of the API server: its name, and its certificate's subject.
client() {
  issue "$1" "$2" extendedKeyUsage=clientAuth
  kubeconfig "$1" https://127.0.0.1:6443 >"$1.kubeconfig"
}

# Makes all of them in $1/pki, for the node's address $2 and the API server's Service $3, and the
# administrator's $1/kubeconfig.
create_pki() (
  umask 077
  cd "$1/pki" || exit
  new_key ca
  openssl req -x509 -new -key ca.key -subj /CN=cmk-node-ca -days 30 -out ca.crt \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out sa.key 2>/dev/null
  openssl pkey -in sa.key -pubout -out sa.pub
  local name names="IP:127.0.0.1,IP:$2,IP:$3,DNS:localhost"
  for name in kubernetes{,.default{,.svc{,.cluster.local}}}; do names+=,DNS:$name; done
  issue apiserver /CN=kube-apiserver "extendedKeyUsage=serverAuth
subjectAltName=$names"
  issue apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client extendedKeyUsage=clientAuth
  client admin /O=system:masters/CN=cmk-node-admin
  client kube-controller-manager /CN=system:kube-controller-manager
  client kube-scheduler /CN=system:kube-scheduler
  client kube-proxy /CN=system:kube-proxy
  client coredns /CN=system:coredns
  client kubelet /O=system:nodes/CN=system:node:node
  kubeconfig admin "https://$2:6443" >"$1/kubeconfig"
)
