"""What torchrun starts: recipe in, exit code out.

    torchrun --nproc-per-node 2 -m trainer RECIPE --out FOLDER [--attempt N]

RECIPE and FOLDER are paths or URLs (s3://bucket/runs/1). Exit codes: 0 trained to the end; 75 told to stop, checkpoint written, start
again to go on; 70 ended for a cause that the last event names, or overtaken by a later attempt; 2 wrong usage.

Signals, to any rank: SIGTERM and SIGINT stop, SIGUSR1 writes a checkpoint and goes on, SIGUSR2 keeps a trace of the next steps.
"""

import argparse
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from dayrun.tracing import Start

PATIENCE_SECONDS = 60.0
"""How long an object store may be away before a checkpoint counts as failed: a restart of the store is no event."""


def main() -> int:
    from trainer.faults import StopSignal  # first of all: a signal that arrives while torch loads must not be lost

    stop, begun = StopSignal(), time.time()
    options = parse(sys.argv[1:])
    from dayrun import tracing
    from dayrun.objects import Prefix
    from dayrun.run_folder import EXIT_FAILED, RunFolder
    from trainer.logs import CopiedOutput

    rank = int(os.environ.get("RANK", 0))
    folder = RunFolder(Prefix(options.out, options.patience))
    try:
        # every rank finds the same number, since rank 0 claims it only once all have joined
        attempt = options.attempt or folder.newest_attempt() + 1
        if options.weights and rank == 0:
            folder.put_fork({"from": Prefix(options.weights).url, "step": 0, "weights": "model"})
    except OSError as error:
        print(error, file=sys.stderr, flush=True)
        return EXIT_FAILED
    output = CopiedOutput(folder, attempt, rank)
    tracing.begin("trainer", run=os.environ.get("DAYRUN_RUN", ""), attempt=attempt, rank=rank)
    start = tracing.Start("start", os.environ.get(tracing.TRACEPARENT), begun)
    try:
        return train(options.recipe, folder, attempt, rank, stop, lambda: output.end(options.patience), start)
    finally:
        tracing.end()
        output.end(options.patience)


def train(
    recipe_url: str,
    folder,
    attempt: int,
    rank: int,
    stop,
    last_words: Callable[[], None] = lambda: None,
    start: "Start | None" = None,
) -> int:
    """One rank of one attempt; everything that ends it is an event and an exit code.

    last_words: what is done before an end from another thread. start: what is told of the way to the first step.
    """
    from dayrun.objects import read_url
    from dayrun.rules import RecipeErrors, load
    from dayrun.run_folder import EXIT_FAILED, EXIT_STOPPED, StaleAttempt
    from dayrun.tracing import Start
    from trainer.faults import PeerLostError, cause_of, evidence_of
    from trainer.telemetry import Telemetry
    from trainer.timing import Timing
    from trainer.train import Run
    from trainer.watch import Watch
    from trainer.world import join, leave

    start = start or Start("start", None, time.time())
    telemetry = Telemetry(folder, attempt, rank)
    start.done("import")
    run = watch = None
    try:
        recipe = load(read_url(recipe_url))
        world = join(recipe.hardware)
        start.done("join")
        if world.leads:
            folder.claim_attempt(attempt, {"world_size": world.size, "recipe": recipe.name})
            folder.put_recipe(recipe.model_dump(mode="json"))
            telemetry.event("attempt_started", 0, world_size=world.size, **environment(world.device))
        timing = Timing(world.device, start)
        watch = Watch(timing, world, folder, attempt, telemetry, recipe.guard.hang_seconds, last_words)
        run = Run(recipe, folder, attempt, world, telemetry, stop, timing=timing)
        start.done("model")
        outcome = run.train()
        if world.leads:
            telemetry.event("ended", run.progress.step, outcome=outcome, cause=None, evidence=[])
        world.barrier()  # a rank that leaves early would look like a lost peer to the others
        leave()
        return 0 if outcome == "succeeded" else EXIT_STOPPED
    except StaleAttempt as error:
        print(error, file=sys.stderr, flush=True)
        return EXIT_FAILED
    except Exception as error:
        traceback.print_exc()
        start.end(error=f"{type(error).__name__}: {error}")
        cause = None if isinstance(error, PeerLostError) else cause_of(error)
        if isinstance(error, RecipeErrors | OSError) and run is None and cause == "unknown":
            cause = "spec"  # the recipe file itself could not be read
        if cause is not None:
            step = run.progress.step if run else 0
            telemetry.event("ended", step, outcome="failed", cause=cause, evidence=evidence_of(error), rank=rank)
        return EXIT_FAILED
    finally:
        if watch is not None:
            watch.close()
        telemetry.close()


def environment(device: "torch.device") -> dict[str, Any]:
    """What rank 0 runs on: host, device with the name that it gives itself, versions of what the losses depend on."""
    import torch

    from dayrun import __version__

    versions = {"dayrun": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    name = platform.machine()
    if device.type == "cuda":
        versions["cuda"], name = str(torch.version.cuda), torch.cuda.get_device_name(device)
    return {"device": str(device), "device_name": name, "host": os.uname().nodename, "versions": versions}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="trainer", description="Train one recipe into one run folder; resumes what is there.")
    parser.add_argument("recipe", help="recipe as a JSON file, or the URL of one")
    parser.add_argument("--out", required=True, help="the run's folder; an existing one is resumed from its newest good checkpoint")
    parser.add_argument("--attempt", type=int, help="number of this launch; default: one more than the folder has seen")
    about_patience = "seconds that an object store may be away before a write to it counts as failed; default: %(default)g"
    parser.add_argument("--patience", type=float, default=PATIENCE_SECONDS, help=about_patience)
    parser.add_argument("--weights", help="a folder that diffusers loads: a new run begins with its transformer's weights, not by chance")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a daemon thread or a collective of a dead peer must not hold the exit code back
