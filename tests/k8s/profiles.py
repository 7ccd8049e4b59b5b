"""Clusters of the kinds that there are, as their profiles; the values of the chart's `ci/` say the same."""

from typing import Any

from k8s.profile import ClusterProfile

H200: dict[str, Any] = {
    "node_selector": {"nvidia.com/gpu.product": "NVIDIA-H200"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "block_label": "dayrun.dev/block",
    "block_required": True,
}
CPU: dict[str, Any] = {
    "resource": None,
    "processes_per_node": 4,
    "cpu_per_process": "500m",
    "memory_per_process": "2Gi",
    "shared_memory_per_process": "256Mi",
}
COMMON: dict[str, Any] = {"namespace": "dayrun-runs", "image": "registry.example/dayrun-trainer:1", "environment_secrets": ["dayrun-store"]}
INFINIBAND = {
    "resources_per_node": {"rdma/ib": 8},
    "lock_memory": True,
    "environment": {"NCCL_IB_HCA": "mlx5", "NCCL_NET_GDR_LEVEL": "SYS"},
}
EFA = {
    "resources_per_node": {"vpc.amazonaws.com/efa": 32},
    "environment": {"FI_PROVIDER": "efa", "FI_EFA_USE_DEVICE_RDMA": "1", "NCCL_SOCKET_IFNAME": "^lo,docker"},
}
ROCE = {
    "resources_per_node": {"rdma/roce": 8},
    "lock_memory": True,
    "environment": {"NCCL_IB_GID_INDEX": "3", "NCCL_IB_TC": "106", "NCCL_SOCKET_IFNAME": "eth0"},
}


def profile(fabric: dict[str, Any], **more: Any) -> ClusterProfile:
    return ClusterProfile.model_validate({**COMMON, "hardware": {"h200": {**H200, "fabric": fabric}, "cpu": CPU}, **more})


PROFILES = {
    "cpu": profile({}, volumes=[{"claim": "dayrun-data", "path": "/data"}]),
    "infiniband": profile(INFINIBAND),
    "efa": profile(EFA),
    "roce": profile(ROCE),
    "kueue": profile(INFINIBAND, queue="training"),
    "trainjob": profile(INFINIBAND, back_end="trainjob", environment_secrets=[]),
}
