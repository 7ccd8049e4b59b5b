#!/bin/bash
# Builds the cluster's programs from their Go modules, each version once. Cold, with the images beside it: a quarter of an hour of two cores.
# build.sh kueue: Kueue, too, which few need.
set -euo pipefail
. "$(dirname "$0")/env.sh"
. "$ROOT/tools/go/flags.sh"

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

# PACKAGE@VERSION…: an empty module that requires them, in $work: `go install` refuses modules that replace others
requiring() {
  work=$(mktemp -d)
  (cd "$work" && go mod init build 2>/dev/null && { go get "$@" 2>log || { cat log >&2; exit 1; }; })
}
program() { (cd "$work" && go build -ldflags "-s -w" -o "$out/$1" "$2"); } # NAME PACKAGE
manifests() { kubectl kustomize "$(cd "$work" && go list -m -f '{{.Dir}}' "$1")/$2"; } # MODULE FOLDER

operator() {
  # both on the operator's client-go, which is compiled once; kwok 0.6 takes that (0.7 does not), with an easycel for its cel-go
  requiring github.com/kubeflow/training-operator/cmd/training-operator.v1@$TRAINING_OPERATOR sigs.k8s.io/kwok/cmd/kwok@$KWOK github.com/wzshiming/easycel@v0.6.0
  program training-operator github.com/kubeflow/training-operator/cmd/training-operator.v1
  program kwok sigs.k8s.io/kwok/cmd/kwok
  # what the operator's own project installs it with: custom resources, roles, web hook
  manifests github.com/kubeflow/training-operator manifests/overlays/standalone >"$out/manifests.yaml"
  manifests sigs.k8s.io/kwok kustomize/crd >"$out/kwok-kinds.yaml"
  manifests sigs.k8s.io/kwok kustomize/stage/fast >"$out/kwok-stages.yaml"
  rm -rf "$work"
}

kueue() {
  requiring sigs.k8s.io/kueue/cmd/kueue@$KUEUE
  program kueue sigs.k8s.io/kueue/cmd/kueue
  manifests sigs.k8s.io/kueue config/default >"$out/manifests.yaml"
  rm -rf "$work"
}

make_once "$KUBERNETES_BIN" kubernetes
make_once "$OPERATOR_BIN" operator
"$ROOT/tools/go/install" helm >/dev/null
[ "${1-}" != kueue ] || make_once "$KUEUE_BIN" kueue
