"""The reference recipe's small model on one GPU, at 512 and at 1024 pixels: micro-batches, share of peak, memory against the estimate.

A step is forward and backward of one micro-batch and Muon's step, as the trainer does them; the share of peak counts the matrix products
of the step (docs/estimate.md) over the rate of large bfloat16 products on the same card. Claims: at least 40 % of it; peak memory
within 10 % of what the estimate expects. Without a GPU it says so and measures nothing.
"""

import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STEPS, WARM = 8, 3
RATE_SECONDS = 1.0


def recipe_for(pixels: int, micro_batch: int, routed: bool) -> Any:
    """What the bench trains: the built-in recipe without what needs other networks."""
    from dayrun import builtin
    from dayrun.recipe import merge_patch
    from dayrun.rules import load

    stage = {"name": f"{pixels}px", "pixels": pixels, "steps": STEPS, "batch_size": micro_batch, "micro_batch_size": micro_batch}
    patch: dict[str, Any] = {
        "perceptual": {"lpips": None, "dino": None},
        "representation": None,
        "evaluation": None,
        "samples": {"sets": []},
        "schedule": {"warmup_steps": 1},
        "stages": [stage],
        "hardware": {"nodes": 1, "processes_per_node": 1, "sharding": "replicate"},
    }
    document = merge_patch(builtin.get("prx-24h"), patch | ({} if routed else {"routing": None}))
    return load(document, for_training=False)


def measure(recipe: Any, device: Any) -> tuple[float, int]:
    """(seconds a step, most bytes allocated in one)."""
    import torch

    from trainer.ema import AveragedWeights
    from trainer.flow import flow_loss, interpolate, target_velocity, velocity_of
    from trainer.gradients import Signals, gradients_of
    from trainer.model import Denoiser
    from trainer.optim import Optimizers
    from trainer.parallel import prepare
    from trainer.precision import autocast
    from trainer.world import World

    world, stage = World(0, 1, device), recipe.stages[0]
    n, pixels = stage.batch_size, stage.pixels
    model = prepare(Denoiser(recipe.model), recipe.hardware, world)
    gradients, optimizers = gradients_of(model, world), Optimizers(model, recipe.optimizer)
    averages = AveragedWeights(model, recipe.ema)
    clean, noise = (torch.randn(n, recipe.model.in_channels, pixels, pixels, device=device) for _ in range(2))
    times = torch.rand(n, device=device).clamp(min=0.01)
    text = torch.randn(n, recipe.text.tokens, recipe.model.text_width, device=device)
    mask = torch.ones(n, recipe.text.tokens, dtype=torch.bool, device=device)
    taken = []
    for step in range(STEPS):
        if step == WARM:
            torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
        begun = time.perf_counter()
        gradients.zero()
        noisy = interpolate(clean, noise, times, recipe.objective.noise_scale)
        with autocast(recipe.hardware, world):
            predicted = model(noisy, times, text, mask).float()
        target = target_velocity(clean, noise, noisy, times, recipe.objective)
        loss = flow_loss(velocity_of(predicted, noisy, times, recipe.objective), target)
        loss.backward()
        gradients.average(loss, Signals())
        gradients.clip(recipe.optimizer.gradient_clip)
        optimizers.step(1.0)
        averages.update(step + 1)
        torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[WARM:]), torch.cuda.max_memory_allocated(device)


def main() -> None:
    sys.path.insert(0, str(ROOT))
    import torch
    import torch.distributed as dist

    if not torch.cuda.is_available():
        print("no GPU here: torch.cuda.is_available() is false; nothing was measured. On a machine with one: make bench-gpu")
        return
    from dayrun.estimate import estimate
    from trainer.timing import measured_rate

    device = torch.device("cuda", 0)
    dist.init_process_group("cpu:gloo,cuda:nccl", rank=0, world_size=1, store=dist.HashStore())
    rate = measured_rate(device, torch.bfloat16, RATE_SECONDS)
    print(f"{torch.cuda.get_device_name(device)}: large bfloat16 products reach {rate / 1e12:.0f} TFLOP/s", flush=True)
    for pixels in (512, 1024):
        for micro_batch in (1, 2, 4, 8, 16, 32, 64, 128, 256):
            recipe = recipe_for(pixels, micro_batch, routed=False)
            try:
                taken, most = measure(recipe, device)
            except torch.OutOfMemoryError:
                print(f"{pixels} px, micro-batch {micro_batch}: does not fit", flush=True)
                torch.cuda.empty_cache()
                break
            stage = estimate(recipe).stages[0]
            share = stage.flops_per_process_step / taken / rate
            expected = stage.memory.peak_bytes.expected
            print(
                f"{pixels} px, micro-batch {micro_batch}: {1000 * taken:.1f} ms a step, {micro_batch / taken:.1f} images/s, "
                f"{share:.2f} of the product's rate; {most / 2**30:.1f} GiB, {most / expected:.2f} of what was estimated",
                flush=True,
            )
            torch.cuda.empty_cache()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
