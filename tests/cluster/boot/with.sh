#!/bin/bash
# Runs a command with the cluster's own kubectl, helm and KUBECONFIG: with.sh kubectl get pods -A
. "$(dirname "$0")/env.sh"
export KUBECONFIG="$CLUSTER_KUBECONFIG" HOST_IP TAG
exec "$@"
