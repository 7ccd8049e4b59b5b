#!/bin/bash
# Boots a one-node Kubernetes in a network namespace of its own, with the training operator and simulated H200 nodes. Needs root.
set -euo pipefail
. "$(dirname "$0")/env.sh"
mkdir -p "$CACHE"
exec 9>"$CACHE/up.lock"
flock 9 # two at once would each take the other for what a failed boot left behind
if runs; then
  echo "cluster: it runs already; KUBECONFIG=$CLUSTER_KUBECONFIG"
  exit
fi
"$SCRIPTS/down.sh" # what a boot that failed, or a machine that lost power, left behind
export KUBECONFIG="$CLUSTER_KUBECONFIG"
mkdir -p "$STATE"/{pki,cni,log} "$CONTAINERD"
cd "$STATE"

ip netns add $NETNS
ip link add dayrun-host type veth peer name dayrun-node
ip link set dayrun-node netns $NETNS
ip addr add $HOST_IP/24 dev dayrun-host
ip link set dayrun-host up
# nsenter and not `ip netns exec`: the latter mounts /sys anew, and kubelet no longer finds the cgroups
inside() { nsenter --net=/run/netns/$NETNS -- "$@"; }
inside ip link set lo up
inside ip addr add $NODE_IP/24 dev dayrun-node
inside ip link set dayrun-node up
inside ip route add default via $HOST_IP
inside sysctl -qw net.ipv4.ip_forward=1
# NAME COMMAND…: a program of the cluster, which lives in the namespace and is known by that; no terminal and no pipe ties it to us
start() {
  local name=$1
  shift
  setsid nsenter --net=/run/netns/$NETNS -- "$@" </dev/null >"log/$name" 2>&1 9>&- &
}
# WHAT COMMAND…: return once the command succeeds
await() {
  local what=$1 end=$((SECONDS + 60))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "cluster: $what did not come up within 60 s; see $STATE/log" >&2; exit 1; }
    sleep 0.1
  done
}

cat >containerd.toml <<K
version = 2
root = "$CONTAINERD"
state = "$RUN"
[grpc]
  address = "$SOCK"
[plugins."io.containerd.grpc.v1.cri"]
  # some kernels withhold CAP_SYS_RESOURCE even from root
  restrict_oom_score_adj = true
  sandbox_image = "localhost/pause:1"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/cni"
K
cat >cni/10-bridge.conflist <<K
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$STATE/addresses", "ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
K
start containerd containerd -c containerd.toml
await containerd client version
# containerd takes images from here on: those that are ready before the programs are handed to it meanwhile
"$SCRIPTS/build.sh"

openssl genrsa -out pki/sa.key 2048 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -days 365 -keyout pki/api.key -out pki/api.crt -subj /CN=kube-apiserver \
  -addext "subjectAltName=IP:$NODE_IP,IP:10.0.0.1,IP:127.0.0.1,DNS:kubernetes,DNS:kubernetes.default.svc" 2>/dev/null
token=$(openssl rand -hex 16)
echo "$token,admin,admin,\"system:masters\"" >pki/tokens.csv
cat >kubeconfig.new <<K
apiVersion: v1
kind: Config
clusters: [{name: dayrun, cluster: {server: "https://$NODE_IP:6443", certificate-authority: "$STATE/pki/api.crt"}}]
users: [{name: admin, user: {token: "$token"}}]
contexts: [{name: dayrun, context: {cluster: dayrun, user: admin}}]
current-context: dayrun
K
mv kubeconfig.new kubeconfig
cat >kubelet.yaml <<K
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_IP
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://$SOCK
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
# no bounds for the disk: to make room, kubelet would delete images, which are handed over once and cannot be pulled again
evictionHard: {memory.available: 100Mi}
imageGCHighThresholdPercent: 100
clusterDNS: ["$NODE_IP"]
clusterDomain: cluster.local
resolvConf: $STATE/resolv.conf
K
echo "nameserver $NODE_IP" >resolv.conf
cat >Corefile <<K
.:53 {
  bind $NODE_IP
  errors
  kubernetes cluster.local {
    kubeconfig $STATE/kubeconfig dayrun
  }
}
K
start etcd etcd --data-dir "$STATE/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 --unsafe-no-fsync
start kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 --advertise-address=$NODE_IP --secure-port=6443 \
  --tls-cert-file=pki/api.crt --tls-private-key-file=pki/api.key --cert-dir=pki --token-auth-file=pki/tokens.csv \
  --service-account-key-file=pki/sa.key --service-account-signing-key-file=pki/sa.key --service-account-issuer=https://kubernetes.default.svc.cluster.local \
  --authorization-mode=RBAC --service-cluster-ip-range=10.0.0.0/24 --allow-privileged=true --kubelet-preferred-address-types=InternalIP
"$SCRIPTS/system.sh" # the control plane comes up meanwhile
await "the API server" runs
start kube-controller-manager kube-controller-manager --kubeconfig=kubeconfig --leader-elect=false --cert-dir=pki/kcm \
  --service-account-private-key-file=pki/sa.key --root-ca-file=pki/api.crt --use-service-account-credentials=true
start kube-scheduler kube-scheduler --kubeconfig=kubeconfig --leader-elect=false --cert-dir=pki/scheduler
start kubelet kubelet --config=kubelet.yaml --kubeconfig=kubeconfig --root-dir="$STATE/kubelet" --hostname-override=node1 --node-ip=$NODE_IP
start kube-proxy kube-proxy --kubeconfig=kubeconfig --hostname-override=node1 --proxy-mode=iptables --cluster-cidr=10.88.0.0/16 --conntrack-max-per-core=0
start coredns coredns -conf Corefile
start kwok kwok --kubeconfig="$KUBECONFIG" --manage-all-nodes=false --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake \
  --enable-crds=Stage --server-address=127.0.0.1:10247

# the operator's deployment pulls from a registry; here its image is handed over, and it serves the one kind that we use
sed -E "s#image: ghcr.io/kubeflow/training-v1/training-operator.*#image: $OPERATOR_IMAGE\n        imagePullPolicy: Never\n        args: [--enable-scheme=pytorchjob, --pytorch-init-container-image=$OPERATOR_IMAGE]#" \
  "$OPERATOR_BIN/manifests.yaml" >operator.yaml
kubectl apply --server-side -f operator.yaml -f "$OPERATOR_BIN/kwok-kinds.yaml" >/dev/null
# a kind is served a moment after its definition
await "kwok's kind Stage" kubectl apply --server-side -f "$OPERATOR_BIN/kwok-stages.yaml"
kubectl wait --for=create node/node1 --timeout=60s >/dev/null
kubectl wait --for=condition=Ready node/node1 --timeout=60s >/dev/null
# the real node says it has GPUs too: a real worker pod that asks for one is scheduled
kubectl patch node node1 --subresource=status --type=json -p '[{"op":"add","path":"/status/capacity/nvidia.com~1gpu","value":"8"}]' >/dev/null
"$SCRIPTS/nodes.sh" "${1:-4}"
kubectl -n kubeflow rollout status deployment/training-operator --timeout=120s >/dev/null
echo "cluster: up after $SECONDS s; KUBECONFIG=$CLUSTER_KUBECONFIG"
