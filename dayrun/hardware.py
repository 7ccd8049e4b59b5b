"""The accelerators a recipe can name: how fast and how large they are, and what share of that speed a training run may reach.

Each figure says whether it was measured, published or assumed. The utilisation here is what to believe before any run was measured;
`calibration.py` moves it to what was.
"""

from typing import Literal, NamedTuple

from pydantic import Field

from dayrun.quantities import Interval
from dayrun.recipe import Hardware

GIB = 2**30


class Utilisation(Interval):
    """Share of the matrix rate that a whole training step reaches: FLOP of the step ÷ (its seconds · rate of all its processes)."""

    source: Literal["prior", "calibrated"] = "prior"
    runs: int = Field(default=0, ge=0, description="Measured stages behind it.")

    @property
    def because(self) -> str:
        many = f"{self.runs} measured stage{'s' if self.runs != 1 else ''}"
        return "assumed: no run was measured yet" if self.source == "prior" else f"calibrated by {many}"


class Accelerator(NamedTuple):
    title: str
    matrix_rate: dict[str, float]
    """FLOP/s of large matrix products of one process, by compute precision; on a CPU of one thread."""
    rate_source: str
    memory_bytes: int | None
    """What a process can allocate; None where it depends on the machine."""
    memory_source: str
    resident_bytes: Interval
    """Held before the first weight: device context, library workspaces, collective buffers; on a CPU the interpreter with torch."""
    resident_source: str
    utilisation: Utilisation
    utilisation_source: str
    kernel_seconds: Interval
    """From one kernel to the next when they are too small to fill the device: what bounds a small model. Assumed."""
    checkpoint_bytes_per_second: Interval
    """Of one node. Assumed."""
    start_seconds: Interval
    """From launch to the first step: processes, weights, data, compilation. Assumed."""


PUBLISHED_DAY = Utilisation(low=0.08, expected=0.18, high=0.42)
"""The prior of a GPU. Low: PRX's day on 32 H200 comes to 8 % of them (docs/estimate.md), all its pauses included. High: a little above the
40 % that the trainer aims at. Expected: their geometric mean, since nothing is known between the two."""

HOPPER_PRIOR = "low: PRX's published day, 8 %; high: the trainer's goal of 40 %; expected: their geometric mean; none of it measured here"
HOPPER_RESIDENT = "assumed: CUDA context 0.5 GB, cuBLAS and NCCL buffers 1 to 4 GB"

LAUNCH = Interval(low=2e-6, expected=5e-6, high=15e-6)

ACCELERATORS: dict[str, Accelerator] = {
    "h200": Accelerator(
        title="NVIDIA H200 SXM",
        matrix_rate={"bfloat16": 790e12, "float8": 1580e12, "float32": 52e12},
        rate_source="bfloat16 measured on large products (989 in its data sheet); float8 assumed twice that; float32 assumed: 0.78 of 67",
        memory_bytes=139 * GIB,
        memory_source="reported by the device as about 139 GiB",
        resident_bytes=Interval(low=1.5e9, expected=2.5e9, high=5e9),
        resident_source=HOPPER_RESIDENT,
        utilisation=PUBLISHED_DAY,
        utilisation_source=HOPPER_PRIOR,
        kernel_seconds=LAUNCH,
        checkpoint_bytes_per_second=Interval(low=0.3e9, expected=1e9, high=4e9),
        start_seconds=Interval(low=60, expected=180, high=600),
    ),
    "h100": Accelerator(
        title="NVIDIA H100 SXM",
        matrix_rate={"bfloat16": 790e12, "float8": 1580e12, "float32": 52e12},
        rate_source="assumed equal to the H200, which is the same chip with more and faster memory; not measured",
        memory_bytes=78 * GIB,
        memory_source="reported by the device as about 78 GiB",
        resident_bytes=Interval(low=1.5e9, expected=2.5e9, high=5e9),
        resident_source=HOPPER_RESIDENT,
        utilisation=PUBLISHED_DAY,
        utilisation_source="assumed equal to the H200",
        kernel_seconds=LAUNCH,
        checkpoint_bytes_per_second=Interval(low=0.3e9, expected=1e9, high=4e9),
        start_seconds=Interval(low=60, expected=180, high=600),
    ),
    "cpu": Accelerator(
        title="CPU",
        matrix_rate={"float32": 110e9, "bfloat16": 110e9},
        rate_source="a thread; float32 measured on one server core with AVX-512; bfloat16 assumed no faster",
        memory_bytes=None,
        memory_source="depends on the machine",
        resident_bytes=Interval(low=0.6e9, expected=0.9e9, high=1.3e9),
        resident_source="the interpreter, torch and the loader: 0.8 to 1.1 GB measured; the interval is assumed",
        utilisation=Utilisation(low=0.1, expected=0.35, high=0.8),
        utilisation_source="the demo's model measured 0.24 to 0.44 on busy cores; the interval is assumed",
        kernel_seconds=Interval.exactly(0),
        checkpoint_bytes_per_second=Interval(low=0.05e9, expected=0.2e9, high=1e9),
        start_seconds=Interval(low=8, expected=20, high=60),
    ),
}


def matrix_rate(hardware: Hardware, threads: int) -> tuple[float, str]:
    """FLOP/s of one process, and how they came about. `threads`: of one process, where the accelerator is a CPU."""
    rate = ACCELERATORS[hardware.accelerator].matrix_rate[hardware.precision.compute]
    if hardware.accelerator == "cpu":
        return rate * threads, f"{threads} threads · {rate:.3g} FLOP/s"
    return rate, f"{rate:.3g} FLOP/s in {hardware.precision.compute}"


def threads_of(hardware: Hardware, cores: int | None) -> int:
    """CPU threads of a process: the recipe's, or its share of a node's cores; 1 where neither is known."""
    return hardware.threads_per_process or max(1, (cores or 1) // hardware.processes_per_node)


def shards(hardware: Hardware) -> int:
    """Over how many processes one copy of weights, gradients and optimizer state is spread."""
    return {"replicate": 1, "hybrid": hardware.processes_per_node, "full": hardware.world_size}[hardware.sharding]
