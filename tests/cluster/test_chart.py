"""The chart on a real API server: every values file is taken as it is, and the account may do what it should and no more."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from k8s.api import Api
from tests.chart.conftest import CHART, VALUES
from tests.cluster.cluster import Cluster, KubectlFailed
from tests.cluster.installed import Installation
from tests.conftest import until
from tests.k8s.profiles import PROFILES
from tests.k8s.test_render import CASES, attempt
from tools.schemas import CRDS

OTHERS = {"dayrun.dev/of": "chart-tests"}
"""Labels of the namespaces that values files name."""
TRAINJOBS = {"github.com/kubeflow/trainer/v2@v2.0.0": ["manifests/base/crds/trainer.kubeflow.org_trainjobs.yaml"]}


@pytest.fixture(scope="module")
def kinds(cluster: Cluster) -> Iterator[None]:
    """The kinds of others that the chart has objects of: definitions from their Go modules, and no controllers."""
    made: list[str] = []
    for module, files in {**CRDS, **TRAINJOBS}.items():
        told = subprocess.run(["go", "mod", "download", "-json", module], check=True, capture_output=True, text=True)
        for file in files:
            definition = yaml.safe_load((Path(json.loads(told.stdout)["Dir"]) / file).read_text())
            definition["spec"].pop("conversion", None)  # it would ask a webhook that is not there
            cluster.apply(definition)
            made.append(definition["metadata"]["name"])
    for name in made:
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
    yield
    cluster.kubectl("delete", "crd", *made, "--wait=false")
    cluster.kubectl("delete", "namespace", "--wait=false", *(f"--selector={name}={value}" for name, value in OTHERS.items()))


@pytest.mark.parametrize("values", VALUES)
def test_the_api_server_takes_every_values_file(cluster: Cluster, namespace: str, kinds: None, values: str):
    file, version = (
        str(CHART / "ci" / f"{values}.yaml"),
        json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"],
    )
    objects = cluster.helm("template", "dayrun", str(CHART), "--namespace", namespace, "--kube-version", version, "-f", file)
    runs = {one["metadata"]["namespace"] for one in yaml.safe_load_all(objects) if one and "namespace" in one["metadata"]}
    for other in runs - {namespace}:
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other, "labels": OTHERS}})

    def taken() -> str | None:
        try:
            return cluster.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=objects)
        except KubectlFailed as error:
            if "no matches for kind" in str(error):  # a definition is served a moment after it is established
                return None
            raise

    said = until(taken, "the API server's answer", 30)
    assert len(said.splitlines()) == sum(1 for one in yaml.safe_load_all(objects) if one)


def test_the_api_server_takes_a_trainjob(api: Api, namespace: str, kinds: None):
    from k8s.render import job

    recipe, patch, profile, more = CASES["4x8-h200-trainjob"]
    known = PROFILES[profile].model_copy(update={"namespace": namespace})
    assert api.create(job(attempt(recipe, patch, **more), known), dry_run=True)["kind"] == "TrainJob"


@pytest.mark.parametrize(
    ("verb", "what", "may"),
    [
        ("create", "pytorchjobs.kubeflow.org", True),
        ("delete", "pytorchjobs.kubeflow.org", True),
        ("create", "configmaps", True),
        ("create", "jobs.batch", True),
        ("list", "pods", True),
        ("delete", "pods", True),
        ("get", "pods/log", True),
        ("watch", "events", True),
        ("list", "resourcequotas", True),
        ("create", "pods", False),
        ("create", "pods/exec", False),
        ("get", "secrets", False),
        ("list", "secrets", False),
        ("create", "deployments.apps", False),
        ("create", "rolebindings.rbac.authorization.k8s.io", False),
        ("impersonate", "serviceaccounts", False),
    ],
)
def test_the_account_may_do_this_and_not_that_where_runs_are(dayrun: Installation, verb: str, what: str, may: bool):
    assert can(dayrun, verb, what, dayrun.namespace) is may
    assert can(dayrun, verb, what, "default") is False


@pytest.mark.parametrize(("verb", "may"), [("list", True), ("watch", True), ("patch", False), ("delete", False)])
def test_nodes_may_be_looked_at_and_not_touched(dayrun: Installation, verb: str, may: bool):
    assert can(dayrun, verb, "nodes", None) is may


def can(dayrun: Installation, verb: str, what: str, namespace: str | None) -> bool:
    """What the cluster's own authoriser says of the service's account."""
    account = f"system:serviceaccount:{dayrun.namespace}:dayrun"
    where = ["--namespace", namespace] if namespace else []
    found = dayrun.cluster.try_kubectl("auth", "can-i", verb, what, f"--as={account}", *where)
    assert found in ("yes", "no"), found
    return found == "yes"
