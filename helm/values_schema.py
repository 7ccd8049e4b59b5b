"""Writes helm/dayrun/values.schema.json: what values the chart takes. Closed: a name that does not exist is refused, with its place.

`python helm/values_schema.py --write`, or `--check` that it is current. Two parts are the code's own, so that there is one spelling:
`settings` has the fields of `service.settings.Settings`, `cluster.profile` is `k8s.profile.ClusterProfile`, less what the chart sets.
Nothing is required, since every value has a default, in values.yaml.
"""

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from k8s.profile import ClusterProfile, Name, Quantity
from service.settings import Settings

SCHEMA = Path(__file__).parent / "dayrun" / "values.schema.json"
SET_BY_CHART = {
    "settings": {"home", "data", "host", "port", "database", "broker", "runs", "secret_key", "cluster"},
    "profile": {"namespace", "image", "pull_policy", "pull_secrets", "owner"},
}
NEEDED = {"Flavor": ["name", "quotas"], "Host": ["host"]}
"""What an element of a list cannot do without."""

Open = dict[str, Any]
"""As in Kubernetes' own objects; the API server checks it."""
Texts = dict[str, str]
Count = Annotated[int, Field(ge=0)]
Port = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[str, StringConstraints(pattern=r"^([0-9]+(ms|s|m|h|d))+$")]
Maybe = Annotated[str, StringConstraints(pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$")]
"""The name of an object, or nothing."""


class KeyFrom(TypedDict):
    name: Name
    key: str


class Image(TypedDict):
    repository: str
    tag: str
    digest: Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-f]{64})?$")]


class Images(TypedDict):
    registry: Annotated[str, StringConstraints(pattern=r"^([^/].*[^/])?$")]
    pullPolicy: Literal["IfNotPresent", "Always", "Never"]
    pullSecrets: list[Name]
    service: Image
    trainer: Image
    data: Image


class Server(TypedDict):
    url: str
    urlFrom: KeyFrom


class Objects(TypedDict):
    url: Annotated[str, StringConstraints(pattern=r"^s3://[^/]+(/.*[^/])?$")]
    endpoint: Annotated[str, StringConstraints(pattern=r"^(https?://.*)?$")]
    region: str
    allowHttp: bool
    accessKeyId: str
    secretAccessKey: str
    existingSecret: Maybe


class Cluster(TypedDict):
    enabled: bool
    profile: ClusterProfile


class Runs(TypedDict):
    namespace: Maybe
    createNamespace: bool
    podSecurity: Literal["", "restricted", "baseline", "privileged"]
    onUninstall: Literal["keep", "delete"]


class ServiceAccount(TypedDict):
    create: bool
    name: Maybe
    annotations: Texts


class Rbac(TypedDict):
    create: bool
    clusterRole: bool


class Disruption(TypedDict):
    enabled: bool
    maxUnavailable: Count | Annotated[str, StringConstraints(pattern=r"^[0-9]+%$")]


class Pods(TypedDict):
    replicas: Annotated[int, Field(ge=1)]
    podDisruptionBudget: Disruption
    resources: Open
    podAnnotations: Texts
    podLabels: Texts
    nodeSelector: Texts
    tolerations: list[Open]
    affinity: Open
    topologySpreadConstraints: list[Open]
    priorityClassName: Maybe


class ApiService(TypedDict):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"]
    port: Port
    annotations: Texts


class Autoscaling(TypedDict):
    enabled: bool
    minReplicas: Annotated[int, Field(ge=1)]
    maxReplicas: Annotated[int, Field(ge=1)]
    targetCPUUtilization: Annotated[int, Field(ge=1, le=100)]


class Api(Pods):
    forwardedAllowIps: str
    automountServiceAccountToken: bool
    service: ApiService
    autoscaling: Autoscaling


class Migration(TypedDict):
    enabled: bool
    annotations: Texts
    secondsToLive: Count | None
    patienceSeconds: Count
    backoffLimit: Count
    waitSeconds: Count
    resources: Open


class Host(TypedDict):
    host: str
    path: str


class Ingress(TypedDict):
    enabled: bool
    className: str
    annotations: Texts
    hosts: list[Host]
    tls: list[Open]


class HttpRoute(TypedDict):
    enabled: bool
    annotations: Texts
    parentRefs: list[Open]
    hostnames: list[str]
    timeouts: Open


class NetworkPolicy(TypedDict):
    enabled: bool
    apiFrom: list[Open]
    runs: bool
    runsFrom: list[Open]


class Monitor(TypedDict):
    enabled: bool
    labels: Texts
    interval: Duration
    scrapeTimeout: Duration
    keyFrom: KeyFrom
    metricRelabelings: list[Open]


class Shipped(TypedDict):
    enabled: bool
    labels: Texts
    annotations: Texts


class Rules(Shipped):
    docs: str


class Dashboards(Shipped):
    namespace: Maybe
    page: Annotated[str, StringConstraints(pattern=r"^https?://[^/].*[^/]$")]


class Metrics(TypedDict):
    serviceMonitor: Monitor
    podMonitor: Monitor
    rules: Rules
    dashboards: Dashboards


class Flavor(TypedDict):
    name: Name
    nodeLabels: Texts
    tolerations: list[Open]
    quotas: dict[str, Quantity | Count]


class ClusterQueue(TypedDict):
    name: Maybe
    cohort: Maybe
    preemption: Open


class LocalQueue(TypedDict):
    name: Maybe


class Kueue(TypedDict):
    create: bool
    flavors: list[Flavor]
    clusterQueue: ClusterQueue
    localQueue: LocalQueue


class Convert(TypedDict):
    enabled: bool
    command: Literal["convert", "text-latents", "image-latents", "recaption"]
    source: Annotated[str, StringConstraints(pattern=r"^([a-z0-9]+://.*)?$")]
    out: Annotated[str, StringConstraints(pattern=r"^([a-z0-9]+://.*)?$")]
    options: list[str]
    workers: Annotated[int, Field(ge=1)]
    tasks: Annotated[int, Field(ge=1)]
    gpus: Annotated[float, Field(ge=0)]
    rayVersion: str
    backoffLimit: Count
    secondsToLive: Count
    resources: Open
    headResources: Open
    sharedMemory: Quantity
    extraEnv: list[Open]
    nodeSelector: Texts
    tolerations: list[Open]


class Store(TypedDict):
    enabled: bool
    image: str
    command: list[str]
    args: list[str]
    env: list[Open]
    securityContext: Open
    scratchPaths: list[str]
    resources: Open


class Persistence(TypedDict):
    enabled: bool
    size: Quantity
    storageClass: str


class KeptStore(Store):
    dataPath: str
    persistence: Persistence


class Test(TypedDict):
    enabled: bool
    recipe: str | Open
    overrides: Open
    timeoutSeconds: Annotated[int, Field(ge=1)]
    keyFrom: KeyFrom
    resources: Open


class Values(TypedDict):
    nameOverride: Maybe
    fullnameOverride: Maybe
    commonLabels: Texts
    image: Images
    settings: Open
    existingSecret: Maybe
    secretKey: Annotated[str, StringConstraints(pattern=r"^(.{32,})?$")]
    extraEnv: list[Open]
    database: Server
    broker: Server
    objects: Objects
    cluster: Cluster
    runs: Runs
    serviceAccount: ServiceAccount
    rbac: Rbac
    podSecurityContext: Open
    containerSecurityContext: Open
    api: Api
    worker: Pods
    migration: Migration
    ingress: Ingress
    httpRoute: HttpRoute
    networkPolicy: NetworkPolicy
    metrics: Metrics
    kueue: Kueue
    convert: Convert
    postgres: KeptStore
    valkey: Store
    seaweedfs: KeptStore
    test: Test


def schema() -> dict[str, Any]:
    """Of values.yaml, as Helm reads it."""
    made = TypeAdapter(Values).json_schema()
    defs = made["$defs"]
    profile = ClusterProfile.model_json_schema()
    for name in defs.keys() - profile["$defs"].keys():
        defs[name] = only(defs[name]) | ({"required": NEEDED[name]} if name in NEEDED else {})
    defs["Settings"] = only(Settings.model_json_schema(), SET_BY_CHART["settings"])
    defs["ClusterProfile"] = only(profile, SET_BY_CHART["profile"])
    del defs["ClusterProfile"]["$defs"]
    defs["KeyFrom"]["anyOf"] = [{"required": ["name", "key"]}, {"maxProperties": 0}]
    made = only(made)
    made["properties"] |= {
        "settings": {"$ref": "#/$defs/Settings"},
        # what Helm adds where this chart is a part of another
        "global": {"type": "object"},
        "enabled": {"type": "boolean"},
    }
    made["title"] = "Values of the chart dayrun"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | without_titles(made)


def only(model: dict[str, Any], left_out: Collection[str] = ()) -> dict[str, Any]:
    """`model` as a part of values: closed, nothing required, without the properties that are the chart's to set."""
    rest = {name: value for name, value in model["properties"].items() if name not in left_out}
    return {key: value for key, value in model.items() if key != "required"} | {"properties": rest, "additionalProperties": False}


def without_titles(node: Any) -> Any:
    """pydantic titles every property by its own name, and says defaults that values.yaml may change."""
    if isinstance(node, list):
        return [without_titles(one) for one in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if not (key in ("title", "default") and not isinstance(value, dict))}
    return {key: without_titles(value) for key, value in kept.items()}


def main(arguments: list[str]) -> int:
    text = json.dumps(schema(), indent=2) + "\n"
    if arguments == ["--write"]:
        SCHEMA.write_text(text)
    elif arguments != ["--check"]:
        print("usage: python helm/values_schema.py --write | --check", file=sys.stderr)
        return 2
    elif not SCHEMA.exists() or SCHEMA.read_text() != text:
        print(f"{SCHEMA.name} is not what helm/values_schema.py makes: run `make chart`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
