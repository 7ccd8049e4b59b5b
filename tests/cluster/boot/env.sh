# Where everything of the test cluster lives, and which versions it is made of. Sourced by the other scripts.
export CACHE="${DAYRUN_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dayrun-cluster}"
STATE="$CACHE/state"         # one cluster's data: cluster-down deletes it
IMAGES="$CACHE/images"         # layers on their way from the builder to the cluster
CONTAINERD="$CACHE/containerd" # images of the cluster: they outlive it, since torch's alone take a minute to hand over
RUN=/run/dayrun-containerd
export SOCK=$RUN/containerd.sock
NETNS=dayrun
NODE_IP=10.89.0.1 # the cluster's end of the veth pair
HOST_IP=10.89.0.2 # this machine's end

TRAINING_OPERATOR=v1.9.2 KWOK=v0.6.1 KUEUE=v0.10.0
SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$SCRIPTS/../../.." && pwd)
# Kubernetes, etcd and CoreDNS: their versions stand in tools/go.mod, and another file is another folder
KUBERNETES_BIN="$CACHE/bin/kubernetes-$(cat "$SCRIPTS"/tools/go.mod "$SCRIPTS"/tools/dns/main.go | sha256sum | cut -c1-12)"
OPERATOR_BIN="$CACHE/bin/training-operator-$TRAINING_OPERATOR-kwok-$KWOK"
KUEUE_BIN="$CACHE/bin/kueue-$KUEUE"
TOOLS_BIN="${XDG_CACHE_HOME:-$HOME/.cache}/dayrun-tools/bin" # helm: the one that checks the chart
export PATH="$KUBERNETES_BIN:$OPERATOR_BIN:$TOOLS_BIN:$PATH:/usr/sbin:/sbin"
CLUSTER_KUBECONFIG="$STATE/kubeconfig"

TAG=${DAYRUN_IMAGE_TAG:-test}
BASE_IMAGE=localhost/debian:bookworm-slim
OPERATOR_IMAGE=localhost/training-operator:$TRAINING_OPERATOR
KUEUE_IMAGE=localhost/kueue:$KUEUE
store() { buildah --root "$CACHE/buildah" --runroot /run/dayrun-buildah --storage-driver overlay "$@"; }
client() { ctr --address "$SOCK" --namespace k8s.io "$@"; }
runs() { # whether the cluster answers
  [ -f "$CLUSTER_KUBECONFIG" ] && kubectl --kubeconfig "$CLUSTER_KUBECONFIG" --request-timeout=5s get --raw /readyz >/dev/null 2>&1
}
