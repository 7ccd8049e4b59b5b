"""What a machine must be able to do before it may train: reach the store of run folders, multiply, and exchange sums with its peers.

    python -m trainer.check store URL
    torchrun … -m trainer.check nodes [--seconds 20]

Prints what it measured as lines of JSON, one for each rank and measure. Exit codes: 0 all is well; 70 something is not, and the last line
on stderr says what; 2 wrong usage. Nothing is left at URL.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from obstore.exceptions import BaseError

from dayrun.objects import Prefix

FAILED = 70
PATIENCE_SECONDS = 5.0
KEY, CONTENT = "written-by-preflight", b"dayrun"
MEASURE_AGAIN = 3
"""How often a measure is taken before it is known how many of it fit into the time."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="trainer.check", description="Can this machine train?")
    which = parser.add_subparsers(dest="what", required=True)
    which.add_parser("store", help="write, read and delete an object").add_argument("url", help="a folder that nobody has, a path or a URL")
    of_nodes = which.add_parser("nodes", help="a matrix product and an all-reduce on every rank; start it by torchrun")
    of_nodes.add_argument("--seconds", type=float, default=20.0, help="how long to measure, in all")
    options = parser.parse_args()
    return check_store(options.url) if options.what == "store" else check_nodes(options.seconds)


def say(**measured: Any) -> None:
    """One line in one write: ranks that share a pipe must not cut each other's."""
    sys.stdout.write(json.dumps(measured) + "\n")
    sys.stdout.flush()


# ---- store --------------------------------------------------------------------------------------------------------------------------


def check_store(url: str) -> int:
    took: dict[str, float] = {}
    step = "open"
    try:
        prefix = Prefix(url, PATIENCE_SECONDS)
        steps: list[tuple[str, Callable[[], Any]]] = [
            ("write", lambda: prefix.put(KEY, CONTENT)),
            ("read", lambda: prefix.get(KEY)),
            ("delete", lambda: prefix.delete(KEY)),
        ]
        for step, act in steps:
            start = time.perf_counter()
            found = act()
            took[f"{step}_seconds"] = round(time.perf_counter() - start, 4)
            if step == "read" and found != CONTENT:
                raise OSError(f"{url}/{KEY}: {len(found)} other bytes came back than were written")
    except (OSError, ValueError, BaseError) as error:
        print(f"{step}: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    if prefix.path is not None:
        with suppress(OSError):
            prefix.path.rmdir()
    say(measured="store", **took)
    return 0


# ---- nodes --------------------------------------------------------------------------------------------------------------------------


def check_nodes(seconds: float) -> int:
    # here and not above: the check of a store needs no torch, which takes seconds to import
    import torch
    import torch.distributed as dist

    from dayrun.recipe import Hardware
    from trainer.world import join

    on_gpu = torch.cuda.is_available()
    world = join(Hardware(accelerator="h200" if on_gpu else "cpu", threads_per_process=int(os.environ.get("OMP_NUM_THREADS", "1"))))
    who = {"rank": world.rank, "node": os.environ.get("DAYRUN_NODE", platform.node()), "device": world.device.type}

    def rate(act: Callable[[], Any]) -> float:
        """How often a second `act` can be done, in half of the time; every rank does it as often."""

        def timed(times: int) -> float:
            settle()
            start = time.perf_counter()
            for _ in range(times):
                act()
            settle()
            return time.perf_counter() - start

        timed(MEASURE_AGAIN)  # the first ones build what they need
        a_second = MEASURE_AGAIN / timed(MEASURE_AGAIN)
        times = world.agree(max(MEASURE_AGAIN, int(a_second * seconds / 2)))
        return times / timed(times)

    def settle() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    size, dtype = (8192, torch.bfloat16) if on_gpu else (512, torch.float32)
    torch.manual_seed(world.rank)

    def sparse() -> torch.Tensor:
        """0, and one in eight ±1: every sum on the way is a small whole number, which bfloat16 holds exactly, in whatever order."""
        drawn = torch.randint(0, 16, (size, size), dtype=torch.int8, device=world.device)
        return ((drawn == 0).to(dtype) - (drawn == 1).to(dtype)).contiguous()

    left, right = sparse(), sparse()
    products = rate(lambda: left @ right)
    rows = (left @ right).double().sum(dim=1)
    is_right = bool(torch.equal(rows, left.double() @ right.double().sum(dim=1)))
    say(measured="matrix", **who, is_right=is_right, tflops=round(products * 2 * size**3 / 1e12, 4))

    count = (256 if on_gpu else 4) * 2**20 // 4
    zeros = torch.zeros(count, device=world.device)
    sums = rate(lambda: dist.all_reduce(zeros))
    ranks = torch.full((count,), float(world.rank + 1), device=world.device)
    dist.all_reduce(ranks)
    sums_are_right = bool((ranks == world.size * (world.size + 1) / 2).all())
    # what each rank must send, whatever the way: the figure that NCCL's own tests call bus bandwidth
    moved = 2 * (world.size - 1) / world.size * count * 4
    say(measured="all_reduce", **who, is_right=sums_are_right, ranks=world.size, gigabytes_per_second=round(sums * moved / 1e9, 4))
    dist.destroy_process_group()
    if not (is_right and sums_are_right):
        what = "matrix product" if not is_right else "sum over all ranks"
        print(f"rank {world.rank} on {who['node']}: the {what} is wrong", file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
