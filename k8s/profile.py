"""What the service must know of a cluster to train on it: one JSON file that the chart renders from its values. Knows no run.

`ClusterProfile.load` names everything that is wrong with the file by its place.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
"""Kubernetes' spelling of an amount: 500m, 64Gi."""
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]


class WrongProfile(Exception):
    """The file cannot be used; the message names the place, the value and why."""


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fabric(Part):
    """How ranks on different nodes reach each other: what a pod must ask for, and what NCCL must be told."""

    resources_per_node: dict[str, int] = Field(default={}, description="E.g. `rdma/ib: 8`; a pod with fewer processes gets its share.")
    environment: dict[str, str] = Field(default={}, description="Variables of NCCL and of the fabric's library.")
    lock_memory: bool = Field(default=False, description="The fabric pins memory: the container gets IPC_LOCK.")


class Hardware(Part):
    """Nodes of one kind, named in a profile as recipes name their accelerator: `h200`, `h100`, `cpu`."""

    resource: str | None = Field(default="nvidia.com/gpu", description="What a pod asks one of for each process; null: none (CPU).")
    processes_per_node: int = Field(default=8, ge=1, description="What a whole node has: its accelerators, or the processes it may take.")
    cpu_per_process: Quantity = "20"
    memory_per_process: Quantity = "200Gi"
    shared_memory_per_process: Quantity = Field(default="16Gi", description="Of /dev/shm, which counts against the memory.")
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    fabric: Fabric = Fabric()
    block_label: str | None = Field(default=None, description="Label of nodes whose value names their network block; pods stay in one.")
    block_required: bool = Field(default=False, description="A run waits for a block with room rather than train across two.")
    cache_folder: str | None = Field(default=None, description="Folder on the node's own NVMe for shards of data; null: an emptyDir.")


class Storage(Part):
    """A claim that every pod of a run mounts: for data or run folders that are no objects."""

    claim: Name
    path: str = Field(pattern=r"^/[^:]+$")
    read_only: bool = True


class ClusterProfile(Part):
    """All that is the same for every run on this cluster."""

    namespace: Name = Field(description="Where runs are; the service's account may write there and nowhere else.")
    image: str = Field(min_length=1, description="Of the trainer.")
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    pull_secrets: list[Name] = []
    environment: dict[str, str] = Field(default={}, description="Variables of every pod; no secrets: they stand in the manifests.")
    environment_secrets: list[Name] = Field(default=[], description="Secrets whose keys become variables: the store's credentials.")
    volumes: list[Storage] = []
    data: str = Field(default="/data", description="Where relative data URLs of recipes start, as a path in the pods or a URL.")
    hardware: dict[str, Hardware] = Field(min_length=1)
    queue: Name | None = Field(default=None, description="Kueue's LocalQueue that runs are admitted by; null: Kueue has no say.")
    priority_class: Name | None = None
    back_end: Literal["pytorchjob", "trainjob"] = "pytorchjob"
    trainjob_runtime: Name = Field(default="torch-distributed", description="ClusterTrainingRuntime of the `trainjob` back end.")
    user: int = Field(default=10001, ge=1, description="User and group of the pods' processes; never root.")
    keep_finished_seconds: int = Field(default=86_400, ge=0, description="How long a job that is over can still be looked at.")
    pull_patience_seconds: float = Field(default=300, gt=0, description="An image that cannot be pulled for so long fails the attempt.")
    owner: dict[str, Any] | None = Field(default=None, description="Reference, less uid, to what owns every run: with it, they go.")

    @classmethod
    def load(cls, path: Path) -> Self:
        """The profile in the file at `path`. Raises WrongProfile."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise WrongProfile(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            wrong = "; ".join(f"/{'/'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise WrongProfile(f"{path}: {wrong}") from error
