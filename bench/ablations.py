"""Which parts of the recipe help at the demo's size: one part at a time changed on the demo's own data, several seeds each.

Every run is the demo's recipe with fewer steps. The teacher and the perceptual network are stand-ins of the published classes, trained
here for minutes to name the demo's objects and colours: what is told of them says nothing about DINO or LPIPS. Beside each variant's
scores stand the differences from the baseline of the same seed, with 95 % intervals (Student's t over seeds). Runs that are done are
kept in the home and not done again; the table goes to standard output.

    python bench/ablations.py --home FOLDER [--steps 300] [--seeds 0,1,2] [--jobs 2]
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TEACHER_STEPS, TEACHER_BATCH = 500, 32
VGG_WIDTHS = (16, 24, 32, 48, 48)
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Student's t for a two-sided 95 % interval, by the number of seeds."""
BASELINE = "baseline"
COLUMNS = {
    "validation_loss": "validation loss",
    "validation_loss_time_0_30": "at t < 0.3",
    "validation_loss_time_30_60": "0.3 to 0.6",
    "validation_loss_time_60_100": "above 0.6",
    "colour": "right background",
}
"""Of pairs of object and colour that no run was trained on. Objects are not recognisable after so few steps, backgrounds are."""


def variants(home: Path) -> dict[str, dict[str, Any]]:
    """A JSON merge patch of the baseline for each part."""
    representation = {"teacher": str(home / "teacher"), "block": 2, "weight": 0.5}
    lpips = {"source": str(home / "vgg"), "resize": 1.0, "weight": 0.1}
    routing = {"kind": "tread", "rate": 0.5, "start": 1, "end": 4}
    return {
        BASELINE: {},
        "AdamW instead of Muon": {"optimizer": {"kind": "adamw"}},
        "TREAD, blocks 1 to 4, rate 0.5": {"routing": routing, "samples": {"self_guidance": False}},
        "alignment to a stand-in teacher": {"representation": representation},
        "stand-in perceptual loss": {"perceptual": {"lpips": lpips}},
    }


def recipe(home: Path, patch: dict[str, Any], steps: int, seed: int) -> dict[str, Any]:
    from dayrun import builtin
    from dayrun.recipe import merge_patch

    data = home / "data"
    common = {
        "seed": seed,
        "data": {"sources": [{"url": str(data / "train")}]},
        "stages": [{"name": "32px", "pixels": 32, "steps": steps, "batch_size": 16}],
        "schedule": {"warmup_steps": min(100, steps // 4)},
        "samples": {"sets": []},
        "checkpoints": {"every": steps, "keep_last": 1},
        "hardware": {"threads_per_process": 1},
        "evaluation": {"every": steps, "metrics": ["validation_loss"], "reference": str(data / "held_out"), "validation_samples": 1024},
    }
    return merge_patch(merge_patch(builtin.get("demo"), common), patch)


# the stand-ins


def labelled(home: Path):
    """The trained pairs as (n, 3, 32, 32) in [−1, 1], numbers of their objects and of their colours, and how many of each there are."""
    import io

    import numpy as np
    import torch
    from PIL import Image

    from trainer.data.shards import ShardSet

    samples = list(ShardSet(home / "data" / "train"))
    objects, colours = (sorted({sample[kind] for sample in samples}) for kind in ("object", "colour"))
    pictures = np.stack([np.asarray(Image.open(io.BytesIO(sample["image"])).convert("RGB")) for sample in samples])
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    labels = torch.tensor([[objects.index(sample["object"]), colours.index(sample["colour"])] for sample in samples])
    return images, labels, (len(objects), len(colours))


def taught(home: Path, features, width: int, parameters, name: str) -> None:
    """Teach a network whose `features` (n, 3, h, w) → (n, width) to name object and colour, from shifted and mirrored pictures."""
    import torch
    import torch.nn.functional as F

    images, labels, (objects, colours) = labelled(home)
    head = torch.nn.Linear(width, objects + colours)
    optimizer = torch.optim.AdamW([*parameters, *head.parameters()], lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, TEACHER_STEPS)
    right = 0.0
    for step in range(TEACHER_STEPS):
        chosen = torch.randint(len(images), (TEACHER_BATCH,))
        batch = F.pad(images[chosen], (3, 3, 3, 3), mode="replicate")
        top, left = (int(torch.randint(7, ())) for _ in range(2))
        batch = batch[:, :, top : top + 32, left : left + 32]
        batch = batch.flip(3) if step % 2 else batch
        guesses = head(features(batch))
        loss = F.cross_entropy(guesses[:, :objects], labels[chosen, 0]) + F.cross_entropy(guesses[:, objects:], labels[chosen, 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        right = 0.98 * right + 0.02 * float((guesses[:, :objects].argmax(1) == labels[chosen, 0]).float().mean())
    print(f"{name}: names {right:.2f} of the objects that it learnt from (of late, {objects} kinds)", file=sys.stderr)


def make_teacher(home: Path) -> None:
    """A vision transformer of DINOv2's class, with patches of 4 pixels: one for each token of the model."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    from trainer.objective.pictures import for_imagenet

    torch.manual_seed(0)
    model = Dinov2Model(Dinov2Config(hidden_size=96, num_hidden_layers=4, num_attention_heads=4, mlp_ratio=3, patch_size=4, image_size=32))
    # of the mean of the patches, not of the class token: the patches' features are what is aligned to
    taught(home, lambda x: model(for_imagenet(x)).last_hidden_state[:, 1:].mean(1), 96, model.parameters(), "teacher")
    model.save_pretrained(home / "teacher")


def make_vgg(home: Path) -> None:
    """A thin VGG16 in torchvision's names, and LPIPS' heads all equal."""
    import torch
    from safetensors.torch import save_file

    from trainer.objective.perceptual import LEVELS, Vgg16

    torch.manual_seed(1)
    weights, before = {}, 3
    for level, numbers in enumerate(LEVELS):
        for number in numbers:
            width = VGG_WIDTHS[level]
            weights[f"features.{number}.weight"] = torch.randn(width, before, 3, 3) * (2 / (9 * before)) ** 0.5
            weights[f"features.{number}.bias"] = torch.zeros(width)
            before = width
        weights[f"lin{level}.model.1.weight"] = torch.full((1, before, 1, 1), 1 / before)
    network = Vgg16(weights)
    width = sum(VGG_WIDTHS)
    taught(
        home, lambda x: torch.cat([level.mean((2, 3)) for level in network(x)], 1), width, network.levels.parameters(), "perceptual network"
    )
    for level, numbers in zip(network.levels, LEVELS, strict=True):
        for layer, number in zip(level, numbers, strict=True):
            weights[f"features.{number}.weight"], weights[f"features.{number}.bias"] = layer.weight.detach(), layer.bias.detach()
    (home / "vgg").mkdir(exist_ok=True)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, home / "vgg" / "vgg.safetensors")


# a run and its scores


def scored(home: Path, out: Path) -> dict[str, Any]:
    """What the run's averaged and its plain weights are worth."""
    from PIL import Image

    from dayrun.objects import Prefix
    from dayrun.run_folder import RunFolder
    from demo.score import background
    from trainer.evaluation.reference import Reference
    from trainer.evaluation.validation import validation_loss
    from trainer.samples import draw_pictures, encode, levels
    from trainer.trained import alone, load_trained, recipe_of

    folder = RunFolder(Prefix(out))
    document = recipe_of(folder)
    prompts = json.loads((home / "data" / "prompts.json").read_text())["held_out"]
    texts = [row["prompt"] for row in prompts]
    found: dict[str, Any] = {}
    with alone(document.hardware) as world:
        states = encode(document, texts, world)
        reference = Reference(document, 32, None)
        for by, ema in (("averages", True), ("weights", False)):
            model = load_trained(folder, world, document, None, ema).model
            found[by] = validation_loss(model, None, document, reference, 1024, world)
            drawn = levels(draw_pictures(model, document, states, texts, list(range(len(texts))), 32)).byte().permute(0, 2, 3, 1)
            right = [background(Image.fromarray(one)) == row["colour"] for one, row in zip(drawn.numpy(), prompts, strict=True)]
            found[by]["colour"] = sum(right) / len(right)
    return found


def run(home: Path, name: str, patch: dict[str, Any], steps: int, seed: int) -> dict[str, Any]:
    """The scores of one run, from the home when they are there."""
    out = home / "runs" / f"{steps}-{name.replace(' ', '_').replace(',', '')}-{seed}"
    told = out / "scores.json"
    if not told.exists():
        out.mkdir(parents=True, exist_ok=True)
        file = out / "asked.json"
        file.write_text(json.dumps(recipe(home, patch, steps, seed)))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        for command in (["-m", "trainer", str(file), "--out", str(out)], [__file__, "--home", str(home), "--score", str(out)]):
            done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name}, seed {seed}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    scores = json.loads(told.read_text())
    print(f"{name}, seed {seed}: {scores['averages']}", file=sys.stderr, flush=True)
    return scores


# the table


def interval(values: list[float]) -> str:
    """Mean ± half of the 95 % interval."""
    if len(values) < 2:
        return f"{values[0]:+.3f}"
    return f"{statistics.mean(values):+.3f} ± {T_95[len(values)] * statistics.stdev(values) / math.sqrt(len(values)):.3f}"


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Means of the baseline, and each variant's differences from it, by seed."""
    lines = [f"| | {' | '.join(COLUMNS.values())} |", f"|---|{'---|' * len(COLUMNS)}"]
    base = found[BASELINE]
    means = [f"{statistics.mean(row[key] for row in base):.3f}" for key in COLUMNS]
    lines.append(f"| {BASELINE} | {' | '.join(means)} |")
    for name, rows in found.items():
        if name != BASELINE:
            cells = [interval([row[key] - other[key] for row, other in zip(rows, base, strict=True)]) for key in COLUMNS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, required=True, help="where data, networks and runs are kept")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each of one thread")
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    home = options.home.resolve()
    if options.score:
        (options.score / "scores.json").write_text(json.dumps(scored(home, options.score)))
        return
    from demo.data import build, default_cache

    build(home / "data", 32, default_cache())
    for name, make in (("teacher", make_teacher), ("vgg", make_vgg)):
        if not (home / name).exists():
            make(home)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    known = variants(home)
    tasks = [(name, seed) for seed in seeds for name in known]
    with ThreadPoolExecutor(options.jobs) as pool:
        scores = dict(zip(tasks, pool.map(lambda task: run(home, task[0], known[task[0]], options.steps, task[1]), tasks), strict=True))
    found = {name: [scores[name, seed]["averages"] for seed in seeds] for name in known}
    found["plain weights instead of averages"] = [scores[BASELINE, seed]["weights"] for seed in seeds]
    print(f"{options.steps} steps of 16 pictures, seeds {options.seeds}\n\n{table(found)}")


if __name__ == "__main__":
    main()
