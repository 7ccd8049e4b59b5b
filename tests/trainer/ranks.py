"""Processes that train together, forked from one that has imported torch: a start of four costs no more than a start of one.

    python -m tests.trainer.ranks PLAN.json

The plan is a list of phases, each a number of processes and the jobs that they do one after the other in one process group.
"""

import json
import os
import resource
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from dayrun.objects import Prefix
from dayrun.recipe import Recipe
from dayrun.rules import load
from dayrun.run_folder import RunFolder
from trainer.data.loader import Batch
from trainer.faults import StopSignal
from trainer.muon import Muon
from trainer.parallel import gathered, local
from trainer.telemetry import Telemetry
from trainer.train import Run
from trainer.world import World, join, leave

ROOT = Path(__file__).resolve().parents[2]
SHAPES = [(48, 16), (16, 48), (30, 18), (48, 16), (7, 7), (3, 20)]
"""Some of them divide over no number of ranks; some have fewer rows than there are ranks."""


class StopAt(StopSignal):
    """A stop signal that comes when so many steps are done: the same step on every rank."""

    name = "the test's"
    checkpoint_asked = profile_asked = False

    def __init__(self, step: int | None) -> None:
        self.step, self.run = step, None  # no handlers: several of these in one process

    def __bool__(self) -> bool:
        return self.step is not None and self.run is not None and self.run.progress.step + 1 >= self.step


def train(world: World, recipe: dict[str, Any], out: str, stop_at: int | None = None, spare_bytes: dict[str, int] | None = None) -> None:
    """One attempt. `spare_bytes` limits what a rank may allocate, beyond what it has then, for a whole share of pictures at once."""
    known, folder, stop = load(recipe), RunFolder(Prefix(out)), StopAt(stop_at)
    attempt = world.agree(folder.newest_attempt() + 1)
    telemetry = Telemetry(folder, attempt, world.rank)
    if world.leads:
        folder.claim_attempt(attempt, {})
        telemetry.event("attempt_started", 0, world_size=world.size)
    stop.run = Run(known, folder, attempt, world, telemetry, stop)  # pyright: ignore[reportArgumentType]
    if spare_bytes and str(world.rank) in spare_bytes:
        torch.zeros(1, requires_grad=True).sum().backward()  # starts the threads that backward passes need
        limit_shares(stop.run, spare_bytes[str(world.rank)])
    stop.run.train()
    telemetry.close()
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    world.barrier()


def limit_shares(run: Run, spare: int) -> None:
    """Let the process have `spare` more bytes of address space, and no more, whenever it holds a whole share of the batch at once."""
    loss = run.loss

    def limited(recipe: Recipe, batch: Batch) -> torch.Tensor:
        whole = len(batch.positions) == recipe.stages[0].batch_size // run.world.size
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + spare if whole else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        return loss(recipe, batch)

    run.loss = limited


def muon(world: World, copies: int, slices: int, out: str) -> None:
    """Three steps of Muon over a mesh of copies × slices, from weights and gradients that are a function of the seed."""
    generator = torch.Generator().manual_seed(0)
    wholes = [torch.randn(shape, generator=generator) for shape in SHAPES]
    gradients = [[torch.randn(shape, generator=generator) for shape in SHAPES] for _ in range(3)]
    mesh = init_device_mesh("cpu", (copies, slices) if copies > 1 else (slices,))
    placements = [Replicate(), Shard(0)] if copies > 1 else [Shard(0)]
    weights = [torch.nn.Parameter(distribute_tensor(whole, mesh, placements)) for whole in wholes]
    optimizer = Muon(weights, lr=0.01, momentum=0.95, steps=5, weight_decay=0.1)
    for step in gradients:
        for weight, gradient in zip(weights, step, strict=True):
            weight.grad = distribute_tensor(gradient, mesh, placements)
        optimizer.step()
    found = [weight.detach().full_tensor() if isinstance(weight, DTensor) else weight for weight in weights]
    if world.leads:
        torch.save(found, out)


def draw(world: World, recipe: dict[str, Any], of: str, out: str) -> None:
    """What the averaged weights of a run's last checkpoint make of one input, on rank 0 alone; the run's own weights are back after it."""
    folder = RunFolder(Prefix(of))
    attempt = world.agree(folder.newest_attempt() + 1)
    telemetry = Telemetry(folder, attempt, world.rank)
    run = Run(load(recipe), folder, attempt, world, telemetry, StopAt(None))  # pyright: ignore[reportArgumentType]
    run.resume()
    assert run.ema is not None
    before = {name: local(tensor).clone() for name, tensor in run.model.state_dict().items()}
    with run.ema.in_place(), gathered(run.model), torch.no_grad():
        if world.leads:
            torch.save(run.model(*inputs(recipe)), out)
    world.barrier()
    after = run.model.state_dict()
    assert all(torch.equal(tensor, local(after[name])) for name, tensor in before.items())
    telemetry.close()


def inputs(recipe: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """Pictures, noise levels and text, a function of nothing but their shapes."""
    generator = torch.Generator().manual_seed(0)
    pixels, text = recipe["stages"][0]["pixels"], (2, recipe["text"]["tokens"], recipe["model"]["text_width"])
    shapes = ((2, 3, pixels, pixels), (2,), text)
    return tuple(torch.rand(shape, generator=generator) for shape in shapes)


JOBS = {"train": train, "muon": muon, "draw": draw}


def child(rank: int, size: int, port: int, jobs: list[dict[str, Any]]) -> None:
    local = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in local.items()} | {"MASTER_ADDR": "127.0.0.1"}
    from dayrun.recipe import Hardware

    world = join(Hardware(accelerator="cpu", threads_per_process=1))
    for job in jobs:
        arguments = dict(job)
        JOBS[arguments.pop("do")](world, **arguments)
        dist.barrier()
    leave()


def main() -> int:
    for phase in json.loads(Path(sys.argv[1]).read_text()):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = []
        for rank in range(phase["size"]):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    child(rank, phase["size"], port, phase["jobs"])
                    status = 0
                except BaseException:
                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
            children.append(pid)
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
        if any(statuses):
            return 1
    return 0


def run(plan: list[dict[str, Any]], folder: Path) -> None:
    """Do the plan in a process of its own; fails with all that was printed."""
    file = folder / "plan.json"
    file.write_text(json.dumps(plan))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    # small stacks: where memory is limited, threads must not be what it runs out for
    line = ["bash", "-c", f"ulimit -s 1024; exec {sys.executable} -m tests.trainer.ranks {file}"]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
