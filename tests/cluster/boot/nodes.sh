#!/bin/bash
# Lets the cluster have so many simulated nodes of eight H200, in network blocks of eight nodes: nodes.sh COUNT
set -euo pipefail
. "$(dirname "$0")/env.sh"
export KUBECONFIG="${KUBECONFIG:-$CLUSTER_KUBECONFIG}"
count=$1
for i in $(seq 0 $((count - 1))); do
  cat <<K
---
apiVersion: v1
kind: Node
metadata:
  name: h200-$i
  annotations: {kwok.x-k8s.io/node: fake}
  labels:
    kubernetes.io/hostname: h200-$i
    nvidia.com/gpu.product: NVIDIA-H200
    dayrun.dev/block: block-$((i / 8))
spec: {taints: [{key: kwok.x-k8s.io/node, value: fake, effect: NoSchedule}]}
status:
  capacity: &c {cpu: "192", memory: 2Ti, pods: "110", nvidia.com/gpu: "8"}
  allocatable: *c
K
done | kubectl apply --server-side --force-conflicts -f - >/dev/null
surplus=$(kubectl get nodes -l nvidia.com/gpu.product=NVIDIA-H200 -o name | awk -F- -v count="$count" '$2 >= count')
[ -z "$surplus" ] || kubectl delete $surplus >/dev/null
kubectl wait --for=condition=Ready node -l nvidia.com/gpu.product=NVIDIA-H200 --timeout=60s >/dev/null
