"""Claim: loader, telemetry, checkpoints and previews cost the trainer at most 5 % against the same model stepped in a bare loop.

Both train the demo's model on two threads in one process, in turns, so that a machine that slows down slows both. The bare loop has its
batch in memory and does forward, backward, clipping, optimizer and averages, nothing else. Prints images/s of both and their ratio, and
what telling of a step costs by itself: parts timed, losses by noise level, the guard, the numbers of every tenth step.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STEPS, TURNS, BATCH, WARM = 340, 3, 16, 10


def recipe(folder: Path) -> dict:
    from dayrun import builtin
    from dayrun.recipe import merge_patch

    demo = builtin.get("demo")
    patch = {
        "data": {"sources": [{"url": str(folder / "data")}]},
        "stages": [{"name": "bench", "pixels": 32, "steps": STEPS, "batch_size": BATCH}],
        "schedule": {"kind": "constant", "warmup_steps": 10},
        "hardware": {"processes_per_node": 1, "threads_per_process": 2},
        # as the demo does while it trains: one checkpoint falls among these steps, and as many previews as are due
        "samples": {"sets": [{**one, "at_start": False, "at_end": False} for one in demo["samples"]["sets"]]},
    }
    return merge_patch(demo, patch)


def bare(document: dict) -> float:
    """Images/s of the bare loop."""
    import torch

    from dayrun.rules import load
    from trainer.ema import AveragedWeights
    from trainer.flow import draw, flow_loss, interpolate, target_velocity, velocity_of
    from trainer.model import Denoiser
    from trainer.optim import Optimizers

    known = load(document)
    torch.manual_seed(0)
    model = Denoiser(known.model)
    optimizers, ema = Optimizers(model, known.optimizer), AveragedWeights(model, known.ema)
    images, text = torch.rand(BATCH, 3, 32, 32) * 2 - 1, torch.randn(BATCH, known.text.tokens, known.model.text_width)
    mask = torch.ones(BATCH, known.text.tokens, dtype=torch.bool)
    begun = 0.0
    for step in range(STEPS):
        if step == WARM:
            begun = time.perf_counter()
        draws = draw(0, list(range(step * BATCH, (step + 1) * BATCH)), (3, 32, 32), known.objective)
        noisy = interpolate(images, draws.noise, draws.times, 1.0)
        predicted = model(noisy, draws.times, text, mask)
        target = target_velocity(images, draws.noise, noisy, draws.times, known.objective)
        loss = flow_loss(velocity_of(predicted, noisy, draws.times, known.objective), target)
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step(1.0)
        ema.update(step + 1)
    return (STEPS - WARM) * BATCH / (time.perf_counter() - begun)


def telling(document: dict, folder: Path) -> float:
    """Seconds a step that go into timing, guarding and telling of it, without a step in between."""
    import torch

    from dayrun.objects import Prefix
    from dayrun.rules import load
    from dayrun.run_folder import RunFolder
    from trainer.guard import Guard
    from trainer.meter import IN_A_STEP, Meter
    from trainer.telemetry import Telemetry
    from trainer.timing import Timing
    from trainer.world import join, leave

    known = load(document)
    world = join(known.hardware)
    telemetry = Telemetry(RunFolder(Prefix(folder)), 1, 0)
    timing = Timing(world.device)
    meter, guard = Meter(known, world, telemetry, timing), Guard(known.guard, lambda *_, **__: None)
    meter.begin_stage(known, known.stages[0])
    velocity, target, times = torch.randn(BATCH, 3, 32, 32), torch.randn(BATCH, 3, 32, 32), torch.rand(BATCH)
    for step in range(1, STEPS + 1):
        if step == WARM + 1:
            begun = time.perf_counter()
        timing.begin_step()
        guard.begin_step()
        for part in IN_A_STEP:
            with timing.part(part):
                pass
        meter.saw(velocity, target, times)
        guard.saw([], times[0])
        guard.judge(step, 1.0, 1.0, list)
        timing.end_step(step)
        meter.report(step, False, 1.0, 1.0, 1e-4, dict, dict)
    seconds = (time.perf_counter() - begun) / (STEPS - WARM)
    telemetry.close()
    leave()
    return seconds


def whole(file: Path, out: Path, environment: dict[str, str]) -> float:
    """Images/s of the trainer, from its tenth step to its last, everything in between included."""
    from dayrun.objects import Prefix
    from dayrun.run_folder import RunFolder

    command = [sys.executable, "-m", "trainer", str(file), "--out", str(out)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    times = {m["step"]: m["time"] for m in RunFolder(Prefix(out)).metrics() if m["name"] == "loss"}
    return (STEPS - WARM) * BATCH / (times[STEPS] - times[WARM])


def write_data(folder: Path) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.tiny import write_data as write

    write(folder, samples=256, tokens=16, width=384, pixels=32)


def main() -> None:
    if sys.argv[1:2] == ["bare"]:
        print(bare(json.loads(Path(sys.argv[2]).read_text())))
        return
    if sys.argv[1:2] == ["telling"]:
        print(telling(json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3])))
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder / "data")
        file = folder / "recipe.json"
        file.write_text(json.dumps(recipe(folder)))
        ours, loop = [], []
        for turn in range(TURNS):
            done = subprocess.run(
                [sys.executable, __file__, "bare", str(file)], env=environment, check=True, capture_output=True, text=True
            )
            loop.append(float(done.stdout))
            ours.append(whole(file, folder / f"run{turn}", environment))
            print(f"turn {turn + 1}: bare loop {loop[-1]:.1f} images/s, trainer {ours[-1]:.1f} images/s", flush=True)
        command = [sys.executable, __file__, "telling", str(file), str(folder / "told")]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        told = float(done.stdout.split()[-1])
        print(f"telling of a step: {told * 1e6:.0f} µs, {told * ours[-1] / BATCH:.2%} of a step")
    print(f"trainer / bare loop = {statistics.median(ours) / statistics.median(loop):.3f} (claim: at least 0.95)")


if __name__ == "__main__":
    main()
