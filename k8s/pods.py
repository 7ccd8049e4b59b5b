"""The pod of a training process group: the same for every back end. Pure functions of an attempt and a cluster's profile."""

import math
import re
from collections.abc import Sequence

from dayrun.recipe import Recipe
from k8s.api import Object
from k8s.attempt import RECIPE_FILE, RUN, Attempt
from k8s.profile import ClusterProfile, Hardware

CONTAINER = "pytorch"
"""The name that the training operator looks for; any other and it injects nothing."""
PORT = 23456
RECIPE_FOLDER, CACHE_FOLDER = "/etc/dayrun", "/cache"
HOSTNAME = "kubernetes.io/hostname"
GONE_SECONDS = 30
"""How long a pod may stay bound to a node that does not answer, instead of five minutes: 31 other GPUs wait for it, and cost."""
AFTER_STOP_SECONDS = 15
"""For torchrun to end after the trainer has, before the kubelet kills both."""
UNITS = {
    "": 1.0,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
    "P": 1e15,
    "Pi": 2.0**50,
    "E": 1e18,
    "Ei": 2.0**60,
}


class NoSuchHardware(Exception):
    """The profile knows no hardware of this name. `nearest`: those that it knows."""

    def __init__(self, name: str, known: list[str]) -> None:
        self.name, self.nearest = name, known
        super().__init__(f"this cluster has no {name!r} nodes; its profile knows {', '.join(known)}")


class TooWide(Exception):
    """More processes a node than a node has. `nearest`: how many it has."""

    def __init__(self, asked: int, hardware: str, has: int) -> None:
        self.asked, self.nearest = asked, has
        super().__init__(f"{asked} processes a node are asked for, and a node of {hardware!r} has room for {has}")


def hardware_of(recipe: Recipe, profile: ClusterProfile) -> Hardware:
    """The nodes that a recipe asks for. Raises NoSuchHardware and TooWide."""
    wanted = recipe.hardware
    if (found := profile.hardware.get(wanted.accelerator)) is None:
        raise NoSuchHardware(wanted.accelerator, sorted(profile.hardware))
    if wanted.processes_per_node > found.processes_per_node:
        raise TooWide(wanted.processes_per_node, wanted.accelerator, found.processes_per_node)
    return found


def pod_template(attempt: Attempt, profile: ClusterProfile) -> Object:
    """Raises NoSuchHardware and TooWide."""
    return {"metadata": {"labels": attempt.labels}, "spec": pod_spec(attempt, profile)}


def pod_spec(attempt: Attempt, profile: ClusterProfile) -> Object:
    hardware = hardware_of(attempt.recipe, profile)
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # hundreds of variables about services that no trainer asks for
        "terminationGracePeriodSeconds": math.ceil(attempt.stop_seconds) + AFTER_STOP_SECONDS,
        "securityContext": restricted(profile),
        "affinity": affinity(attempt, hardware),
        "tolerations": [*hardware.tolerations, *leave_a_lost_node()],
        "containers": [container(attempt, profile, hardware)],
        "volumes": volumes(attempt, profile, hardware),
    }
    optional: Object = {
        "nodeSelector": hardware.node_selector,
        "priorityClassName": profile.priority_class,
        "imagePullSecrets": [{"name": name} for name in profile.pull_secrets],
        "topologySpreadConstraints": spread(attempt, hardware),
    }
    spec |= {name: value for name, value in optional.items() if value}
    return {name: value for name, value in spec.items() if value != {}}


def container(attempt: Attempt, profile: ClusterProfile, hardware: Hardware) -> Object:
    between_nodes = hardware.fabric.environment if attempt.recipe.hardware.nodes > 1 else {}
    return {
        "name": CONTAINER,
        "image": profile.image,
        "imagePullPolicy": profile.pull_policy,
        "args": command(attempt),  # and no command: the image's own entrypoint passes signals on
        "env": [
            *variables({**own_environment(attempt, profile, hardware), **between_nodes, **profile.environment}),
            {"name": "DAYRUN_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "envFrom": [{"secretRef": {"name": name}} for name in profile.environment_secrets],
        "ports": [{"name": "pytorchjob-port", "containerPort": PORT}],
        "resources": resources(attempt, hardware),
        "terminationMessagePolicy": "FallbackToLogsOnError",  # the last lines of a process that died without a word are its evidence
        "securityContext": restricted_container(["IPC_LOCK"] if pins_memory(attempt, hardware) else []),
        "volumeMounts": [
            *([] if attempt.program else [{"name": "recipe", "mountPath": RECIPE_FOLDER, "readOnly": True}]),
            {"name": "shared-memory", "mountPath": "/dev/shm"},
            {"name": "temporary", "mountPath": "/tmp"},
            {"name": "cache", "mountPath": CACHE_FOLDER},
            *({"name": one.claim, "mountPath": one.path, "readOnly": one.read_only} for one in profile.volumes),
        ],
    }


def restricted(profile: ClusterProfile) -> Object:
    """Of a pod: what the `restricted` standard asks for."""
    return {
        "runAsNonRoot": True,
        "runAsUser": profile.user,
        "runAsGroup": profile.user,
        "fsGroup": profile.user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def restricted_container(added: Sequence[str] = ()) -> Object:
    """Of a container, with capabilities that it cannot do without."""
    capabilities = {"drop": ["ALL"], **({"add": list(added)} if added else {})}
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": capabilities}


def command(attempt: Attempt) -> list[str]:
    """torchrun; how many nodes there are and where the first one is stands in the variables that the back end injects.

    torchrun must not start workers anew by itself: an attempt is counted, and decided on, by the reconciler.
    """
    torchrun = ["python", "-m", "torch.distributed.run", "--max-restarts=0", f"--shutdown-timeout={math.ceil(attempt.stop_seconds)}"]
    trainer = ["trainer", f"{RECIPE_FOLDER}/{RECIPE_FILE}", "--out", attempt.folder, "--attempt", str(attempt.number)]
    return [*torchrun, "-m", *(attempt.program or trainer)]


def own_environment(attempt: Attempt, profile: ClusterProfile, hardware: Hardware) -> dict[str, str]:
    threads = attempt.recipe.hardware.threads_per_process or max(1, math.floor(amount(hardware.cpu_per_process)))
    return {
        "DAYRUN_RUN": attempt.run_id,
        "DAYRUN_ATTEMPT": str(attempt.number),
        "DAYRUN_DATA": profile.data,
        "OMP_NUM_THREADS": str(threads),
        "HOME": "/tmp",  # the image's own is read-only
        "XDG_CACHE_HOME": CACHE_FOLDER,
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_FOLDER}/inductor",
        **attempt.environment,
    }


def variables(values: dict[str, str]) -> list[Object]:
    return [{"name": name, "value": value} for name, value in values.items()]


def resources(attempt: Attempt, hardware: Hardware) -> Object:
    """Memory and devices are limits as well; CPU is not, since a throttled loader stalls a GPU while others' cores idle."""
    processes = attempt.recipe.hardware.processes_per_node
    memory = times(hardware.memory_per_process, processes)
    devices = {hardware.resource: str(processes)} if hardware.resource else {}
    if attempt.recipe.hardware.nodes > 1:
        share = processes / hardware.processes_per_node
        devices |= {name: str(math.ceil(count * share)) for name, count in hardware.fabric.resources_per_node.items()}
    return {
        "requests": {"cpu": times(hardware.cpu_per_process, processes), "memory": memory, **devices},
        "limits": {"memory": memory, **devices},
    }


def volumes(attempt: Attempt, profile: ClusterProfile, hardware: Hardware) -> list[Object]:
    shared = times(hardware.shared_memory_per_process, attempt.recipe.hardware.processes_per_node)
    cache: Object = {"emptyDir": {}}
    if hardware.cache_folder is not None:
        cache = {"hostPath": {"path": hardware.cache_folder, "type": "DirectoryOrCreate"}}
    recipe = {"name": "recipe", "configMap": {"name": attempt.name, "items": [{"key": RECIPE_FILE, "path": RECIPE_FILE}]}}
    return [
        *([] if attempt.program else [recipe]),
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": shared}},
        {"name": "temporary", "emptyDir": {}},
        {"name": "cache", **cache},
        *({"name": one.claim, "persistentVolumeClaim": {"claimName": one.claim, "readOnly": one.read_only}} for one in profile.volumes),
    ]


def pins_memory(attempt: Attempt, hardware: Hardware) -> bool:
    return hardware.fabric.lock_memory and attempt.recipe.hardware.nodes > 1


def leave_a_lost_node() -> list[Object]:
    return [
        {"key": f"node.kubernetes.io/{state}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": GONE_SECONDS}
        for state in ("not-ready", "unreachable")
    ]


def affinity(attempt: Attempt, hardware: Hardware) -> Object:
    """Away from nodes that failed before, and into the block that was chosen, or at least towards the group's other pods."""
    required: list[Object] = []
    preferred: list[Object] = []
    near: Object = {}
    if attempt.avoid_nodes:
        required.append({"key": HOSTNAME, "operator": "NotIn", "values": sorted(attempt.avoid_nodes)})
    if hardware.block_label and attempt.recipe.hardware.nodes > 1:
        if attempt.block is not None:
            here = {"key": hardware.block_label, "operator": "In", "values": [attempt.block]}
            if hardware.block_required:
                required.append(here)
            else:
                preferred.append({"weight": 100, "preference": {"matchExpressions": [here]}})
        else:
            group = {"labelSelector": {"matchLabels": {RUN: attempt.labels[RUN]}}, "topologyKey": hardware.block_label}
            if hardware.block_required:
                near = {"requiredDuringSchedulingIgnoredDuringExecution": [group]}
            else:
                near = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": group}]}
    node: Object = {}
    if required:
        node["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [{"matchExpressions": required}]}
    if preferred:
        node["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    return {name: value for name, value in (("nodeAffinity", node), ("podAffinity", near)) if value}


def spread(attempt: Attempt, hardware: Hardware) -> list[Object]:
    """A pod a node where that is possible: two that share one share its network too. Accelerators see to it by themselves."""
    if hardware.resource or attempt.recipe.hardware.nodes == 1:
        return []
    group = {"matchLabels": {RUN: attempt.labels[RUN]}}
    return [{"maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": group}]


def amount(quantity: str) -> float:
    """A quantity as a number: of cores, of bytes."""
    number, unit = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)", quantity).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return float(number) * UNITS[unit]


def times(quantity: str, count: int) -> str:
    """`quantity` times `count`, in the same unit: 500m × 3 = 1500m."""
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity).groups()  # pyright: ignore[reportOptionalMemberAccess]
    product = float(number) * count
    return f"{int(product) if product.is_integer() else product}{unit}"
