"""Makes the folder of JSON schemas that kubeconform checks the chart against, and prints its name: no network once it is there.

Kubernetes' own are those of the package kubernetes-validate; those of other projects' objects are made from their CRDs, which lie in
their Go modules. Everything is closed: a field that an API server would drop in silence is an error.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = "v1.34.0"
CRDS = {  # Go module: the files of those CRDs of which the chart has objects
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": [
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ],
    "sigs.k8s.io/gateway-api@v1.3.0": ["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
    "sigs.k8s.io/kueue@v0.10.0": [
        "config/components/crd/bases/kueue.x-k8s.io_clusterqueues.yaml",
        "config/components/crd/bases/kueue.x-k8s.io_localqueues.yaml",
        "config/components/crd/bases/kueue.x-k8s.io_resourceflavors.yaml",
    ],
    "github.com/ray-project/kuberay/ray-operator@v1.4.2": ["config/crd/bases/ray.io_rayjobs.yaml"],
}
HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dayrun-tools"


def kubernetes(folder: Path) -> None:
    """Kubernetes' schemas. Their references are of a web server's; of a folder they must be relative."""
    package = folder / "package"
    pip = [
        str(Path(sys.executable).with_name("uv")),
        "pip",
        "install",
        "--quiet",
        "--python",
        sys.executable,
        "--no-deps",
        "--require-hashes",
    ]
    subprocess.run([*pip, "--target", str(package), "-r", str(HERE / "schemas.txt")], check=True)
    for source in (package / "kubernetes_validate/kubernetes-json-schema" / f"{KUBERNETES}-local-strict").glob("*.json"):
        schema = json.loads(source.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
        schema.pop("$id", None)
        (folder / source.name).write_text(json.dumps(schema))
    shutil.rmtree(package)


def of_crds(folder: Path, module: str, files: list[str]) -> None:
    told = subprocess.run(["go", "mod", "download", "-json", module], check=True, stdout=subprocess.PIPE, cwd=folder)
    for file in files:
        crd = yaml.safe_load((Path(json.loads(told.stdout)["Dir"]) / file).read_text())["spec"]
        for version in crd["versions"]:
            name = f"{crd['names']['kind'].lower()}-{crd['group'].partition('.')[0]}-{version['name']}.json"
            (folder / name).write_text(json.dumps(closed(version["schema"]["openAPIV3Schema"], top=True)))


def closed(node: Any, top: bool = False) -> Any:
    """A CRD's schema as a JSON schema that takes no field that it does not name. An object's metadata is Kubernetes' matter."""
    if isinstance(node, list):
        return [closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {key: closed(value) for key, value in node.items()}
    if node.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    if isinstance(node.get("properties"), dict) and not node.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if top:
        made["properties"]["metadata"] = {"type": "object"}
    return made


def main() -> int:
    made_of = [KUBERNETES, *(module.rpartition("/")[2].replace("@", "-") for module in CRDS)]
    folder = CACHE / f"schemas-{'-'.join(made_of)}"
    if not folder.exists():
        draft = folder.with_name(f"{folder.name}.{os.getpid()}")
        draft.mkdir(parents=True)
        kubernetes(draft)
        for module, files in CRDS.items():
            of_crds(draft, module, files)
        draft.rename(folder)
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
