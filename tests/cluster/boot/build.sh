#!/bin/bash
# Builds the cluster's programs from their Go modules, each version once. Cold: 17 minutes of one core, 10 on two that do nothing else.
# build.sh kueue: Kueue, too, which few need.
set -euo pipefail
. "$(dirname "$0")/env.sh"
# static, and without the machine's paths and symbols: they are copied into images and into caches
export CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"
export GOGC=400 # the compiler is a Go program, too: its collector takes a tenth of the time otherwise

# FOLDER COMMAND…: run the command with $out set to an empty folder, which becomes FOLDER once it succeeded
make_once() {
  [ -d "$1" ] && return
  echo "cluster: building $(basename "$1")"
  out="$1.new"
  rm -rf "$out" && mkdir -p "$out"
  "${@:2}"
  mv "$out" "$1"
}

kubernetes() {
  local version
  version=$(cd "$SCRIPTS/tools" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
  local at=k8s.io/component-base/version
  # without a version, the API server calls itself v0.0.0 and clients refuse it
  (cd "$SCRIPTS/tools" && go build -o "$out/" -ldflags "-s -w -X $at.gitVersion=$version -X $at.gitMajor=1 -X $at.gitMinor=$(echo "$version" | cut -d. -f2)" \
    k8s.io/kubernetes/cmd/kube{-apiserver,-controller-manager,-scheduler,-proxy,let,ctl} go.etcd.io/etcd/server/v3 ./dns)
  mv "$out/server" "$out/etcd"
  mv "$out/dns" "$out/coredns"
}

# PACKAGE VERSION PROGRAM MODULE: build it as a dependency of an empty module: `go install` refuses modules that replace others
alone() {
  local work
  work=$(mktemp -d)
  (
    cd "$work"
    go mod init build 2>/dev/null
    go get "$1@$2" 2>log || { cat log >&2; exit 1; }
    go build -ldflags "-s -w" -o "$out/$3" "$1"
    go list -m -f '{{.Dir}}' "$4" >dir
  )
  module=$(cat "$work/dir")
  rm -rf "$work"
}

operator() {
  alone github.com/kubeflow/training-operator/cmd/training-operator.v1 "$TRAINING_OPERATOR" training-operator github.com/kubeflow/training-operator
  # the manifests that its own project installs it with: custom resources, roles, web hook
  kubectl kustomize "$module/manifests/overlays/standalone" >"$out/manifests.yaml"
}

kwok() {
  alone sigs.k8s.io/kwok/cmd/kwok "$KWOK" kwok sigs.k8s.io/kwok
  kubectl kustomize "$module/kustomize/crd" >"$out/crd.yaml"
  kubectl kustomize "$module/kustomize/stage/fast" >"$out/stages.yaml"
}

kueue() {
  alone sigs.k8s.io/kueue/cmd/kueue "$KUEUE" kueue sigs.k8s.io/kueue
  kubectl kustomize "$module/config/default" >"$out/manifests.yaml"
}

make_once "$KUBERNETES_BIN" kubernetes
make_once "$KWOK_BIN" kwok
make_once "$OPERATOR_BIN" operator
make_once "$HELM_BIN" alone helm.sh/helm/v3/cmd/helm "$HELM" helm helm.sh/helm/v3
[ "${1-}" != kueue ] || make_once "$KUEUE_BIN" kueue
