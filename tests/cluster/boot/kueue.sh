#!/bin/bash
# Adds Kueue to the cluster that runs: built from its Go module, with the manifests that it is released with.
set -euo pipefail
. "$(dirname "$0")/env.sh"
"$SCRIPTS/build.sh" kueue
"$SCRIPTS/base.sh"
export KUBECONFIG="$CLUSTER_KUBECONFIG"
if ! store images --quiet "$KUEUE_IMAGE" >/dev/null 2>&1; then
  c=$(store from $BASE_IMAGE)
  store copy --quiet "$c" "$KUEUE_BIN/kueue" /manager >/dev/null
  store config --user 65532:65532 "$c" # as in its own image: its pod must not run as root
  store commit --quiet --rm "$c" "$KUEUE_IMAGE" >/dev/null
fi
python3 "$SCRIPTS/load.py" "$KUEUE_IMAGE"
# a proxy before its metrics would have to be pulled, and nobody reads them here
"$ROOT/.venv/bin/python" - "$KUEUE_BIN/manifests.yaml" "$KUEUE_IMAGE" >"$STATE/kueue.yaml" <<'P'
import sys
import yaml
objects = [one for one in yaml.safe_load_all(open(sys.argv[1])) if one]
for one in objects:
    if one["kind"] == "Deployment":
        pod = one["spec"]["template"]["spec"]
        pod["containers"] = [each for each in pod["containers"] if each["name"] == "manager"]
        pod["containers"][0] |= {"image": sys.argv[2], "imagePullPolicy": "Never"}
        pod["containers"][0]["resources"] = {}
yaml.safe_dump_all(objects, sys.stdout)
P
kubectl apply --server-side --force-conflicts -f "$STATE/kueue.yaml" >/dev/null
kubectl -n kueue-system rollout status deployment/kueue-controller-manager --timeout=180s >/dev/null
# its web hooks answer a moment after its pod is ready: certificates come first
end=$((SECONDS + 120))
until kubectl create --dry-run=server -f - <<'K' >/dev/null 2>&1
{"apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "ResourceFlavor", "metadata": {"name": "asked"}}
K
do
  [ $SECONDS -lt $end ] || { echo "cluster: Kueue's web hooks did not answer within 120 s" >&2; exit 1; }
  sleep 0.5
done
echo "cluster: Kueue $KUEUE is up"
