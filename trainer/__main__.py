"""What torchrun starts: recipe in, exit code out.

    torchrun --nproc-per-node 2 -m trainer RECIPE --out FOLDER [--attempt N]

Exit codes: 0 trained to the end; 75 told to stop, checkpoint written, start again to go on; 70 ended for a cause that the last event
names; 2 wrong usage.
"""

import argparse
import os
import subprocess
import sys
import traceback
from pathlib import Path


def main() -> int:
    from trainer.faults import StopSignal  # first of all: a signal that arrives while torch loads must not be lost

    stop = StopSignal()
    options = parse(sys.argv[1:])
    from dayrun.objects import Prefix
    from dayrun.rules import RecipeErrors, load
    from dayrun.run_folder import EXIT_FAILED, EXIT_STOPPED, RunFolder, StaleAttempt
    from trainer.faults import PeerLostError, cause_of, evidence_of
    from trainer.parallel import join, leave
    from trainer.telemetry import Telemetry
    from trainer.train import Run

    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    folder = RunFolder(Prefix(options.out))
    # every rank finds the same number, since rank 0 claims it only once all have joined
    attempt = options.attempt or folder.newest_attempt() + 1
    log_to(folder, attempt, rank)
    telemetry = Telemetry(folder.prefix, attempt, rank)
    run = None
    try:
        recipe = load(Path(options.recipe).read_bytes())
        world = join(recipe.hardware)
        if world.leads:
            folder.claim_attempt(attempt, {"world_size": size, "recipe": recipe.name})
            folder.put_recipe(recipe.model_dump(mode="json"))
            telemetry.event("attempt_started", 0, world_size=size, device=str(world.device), host=os.uname().nodename)
        run = Run(recipe, folder, attempt, world, telemetry, stop)
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
        cause = None if isinstance(error, PeerLostError) else cause_of(error)
        if isinstance(error, RecipeErrors | OSError) and run is None and cause == "unknown":
            cause = "spec"  # the recipe file itself could not be read
        if cause is not None:
            step = run.progress.step if run else 0
            telemetry.event("ended", step, outcome="failed", cause=cause, evidence=evidence_of(error), rank=rank)
        return EXIT_FAILED
    finally:
        telemetry.close()


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="trainer", description="Train one recipe into one run folder; resumes what is there.")
    parser.add_argument("recipe", help="recipe as a JSON file")
    parser.add_argument("--out", required=True, help="the run's folder; an existing one is resumed from its newest good checkpoint")
    parser.add_argument("--attempt", type=int, help="number of this launch; default: one more than the folder has seen")
    return parser.parse_args(arguments)


def log_to(folder, attempt: int, rank: int) -> None:
    """Copy what this process prints to logs/<attempt>/<rank>.log as well, through a `tee` that outlives a kill −9 of ours."""
    if folder.prefix.path is None:
        return
    path = folder.prefix.path / folder.log_key(attempt, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    # a session of its own: the signals that stop the trainer must not cut off the last lines it prints about it
    tee = subprocess.Popen(["tee", "-a", str(path)], stdin=subprocess.PIPE, start_new_session=True)
    assert tee.stdin is not None
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(tee.stdin.fileno(), 1)
    os.dup2(tee.stdin.fileno(), 2)
    tee.stdin.close()


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a daemon thread or a collective of a dead peer must not hold the exit code back
