"""Claims about a training step on this machine's CPU, each printed as a ratio beside what it is held against.

The first three count the CPU's time of one thread, which other work on the machine does not change; the others the clock's.

1. A step of our denoiser takes at most 1/1.15 of the time of diffusers' model of the same sizes, trained by a plain loop, in float32 and
   in bfloat16; both with AdamW and clipping, in turns.
2. What share of the rate of bare matrix products of the same shapes each part of the step reaches.
3. Muon's cost over AdamW is what its products alone would take.
4. Two processes of one thread against one: images a second.
5. An asynchronous checkpoint costs the training at most one step.
6. Routed tokens save at least 0.85 of what their FLOP promise.
7. With the whole recipe on: the time by part, no claim.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
THREADS, TURNS, BATCH, TEXT = 1, 5, 8, 32
MODEL = {
    "hidden_size": 384,
    "depth": 4,
    "heads": 6,
    "rotary_axes": [32, 32],
    "patch_size": 8,
    "bottleneck_size": 128,
    "text_width": 384,
}
PIXELS = 128  # 256 tokens, as the reference recipe's first stage


def seconds(act: Callable[[], Any], least: float = 0.0) -> float:
    """CPU seconds of one call, the median of several, after one that does not count."""
    act()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < least:
        begun = time.process_time()
        act()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def document(folder: Path, **patch: Any) -> dict[str, Any]:
    """A recipe that trains the model of this bench."""
    from dayrun.recipe import merge_patch
    from tests.tiny import tiny_recipe

    base = tiny_recipe(folder, processes=1, model=MODEL, text={"encoder": "transformers", "source": "never-loaded", "tokens": TEXT})
    stages = [{"name": "bench", "pixels": PIXELS, "steps": 40, "batch_size": BATCH}]
    hardware = {"threads_per_process": THREADS, "compile": True}
    schedule = {"kind": "constant", "warmup_steps": 1}
    return merge_patch(base, {"stages": stages, "hardware": hardware, "schedule": schedule, "ema": None, **patch})


# ---- 1: against diffusers -------------------------------------------------------------------------------------------------------------


def batch() -> dict[str, Any]:
    import torch

    torch.manual_seed(0)
    return {
        "images": torch.rand(BATCH, 3, PIXELS, PIXELS) * 2 - 1,
        "noise": torch.randn(BATCH, 3, PIXELS, PIXELS),
        "times": torch.rand(BATCH).clamp(min=0.01),
        "text": torch.randn(BATCH, TEXT, MODEL["text_width"]),
        "mask": torch.ones(BATCH, TEXT, dtype=torch.bool),
    }


def our_step(precision: str, optimizer: str = "adamw", **patch: Any) -> Callable[[], None]:
    """What the trainer does in a step, from a batch in memory on."""
    import torch

    from dayrun.rules import load
    from trainer.flow import flow_loss, interpolate, target_velocity, velocity_of
    from trainer.gradients import Signals, gradients_of
    from trainer.model import Denoiser
    from trainer.optim import Optimizers
    from trainer.parallel import prepare
    from trainer.precision import autocast
    from trainer.routing import route
    from trainer.world import World

    known = load(document(Path("none"), optimizer={"kind": optimizer}, hardware={"precision": {"compute": precision}}, **patch))
    world, b = World(0, 1, torch.device("cpu")), batch()
    model = prepare(Denoiser(known.model), known.hardware, world)
    gradients, optimizers = gradients_of(model, world), Optimizers(model, known.optimizer)

    def step() -> None:
        gradients.zero()
        noisy = interpolate(b["images"], b["noise"], b["times"], 1.0)
        skipping = route(0, list(range(BATCH)), (PIXELS // MODEL["patch_size"]) ** 2, known.routing, world.device)
        with autocast(known.hardware, world):
            predicted = model(noisy, b["times"], b["text"], b["mask"], skipping).float()
        target = target_velocity(b["images"], b["noise"], noisy, b["times"], known.objective)
        loss = flow_loss(velocity_of(predicted, noisy, b["times"], known.objective), target)
        loss.backward()
        gradients.average(loss, Signals())
        gradients.clip(1.0)
        optimizers.step(1.0)

    return step


def their_step(precision: str, depth: int) -> Callable[[], None]:
    """diffusers' model in the loop that its examples use: autocast, clip_grad_norm_, AdamW with torch's defaults."""
    import torch
    from diffusers import PRXTransformer2DModel

    from dayrun.rules import load
    from trainer.flow import flow_loss, interpolate, target_velocity, velocity_of

    objective, b = load(document(Path("none"))).objective, batch()
    model = PRXTransformer2DModel(
        in_channels=3,
        patch_size=MODEL["patch_size"],
        context_in_dim=MODEL["text_width"],
        hidden_size=MODEL["hidden_size"],
        mlp_ratio=3.5,
        num_heads=MODEL["heads"],
        depth=depth,
        axes_dim=MODEL["rotary_axes"],
        bottleneck_size=MODEL["bottleneck_size"],
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0)

    def step() -> None:
        optimizer.zero_grad()
        noisy = interpolate(b["images"], b["noise"], b["times"], 1.0)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            predicted = model(noisy, b["times"], b["text"], attention_mask=b["mask"], return_dict=False)[0].float()
        target = target_velocity(b["images"], b["noise"], noisy, b["times"], objective)
        loss = flow_loss(velocity_of(predicted, noisy, b["times"], objective), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()

    return step


def against_diffusers() -> None:
    # a CPU without arithmetic for bfloat16 emulates it, many times slower: one block and one turn are enough to wait for
    for precision, depth, turns in (("float32", MODEL["depth"], TURNS), ("bfloat16", 1, 1)):
        ours, theirs = our_step(precision, model={"depth": depth}), their_step(precision, depth)
        pairs = [(seconds(ours), seconds(theirs)) for _ in range(turns)]
        mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"1. {precision}, {depth} blocks: ours {mine:.3f} s a step, diffusers {other:.3f} s: {ratio:.2f} × (claim: 1.15)", flush=True)


# ---- 2: against matrix products -------------------------------------------------------------------------------------------------------


def against_products() -> None:
    """Forward and backward of each part against the three products of each of its layers, bare, float32."""
    import torch
    import torch.nn.functional as F

    from dayrun.rules import load
    from trainer.model import Denoiser, rotary_table

    known = load(document(Path("none")))
    model, h, tokens = Denoiser(known.model), MODEL["hidden_size"], (PIXELS // MODEL["patch_size"]) ** 2
    block: Any = model.blocks[0]
    image, text = torch.randn(BATCH, tokens, h, requires_grad=True), torch.randn(BATCH, TEXT, h, requires_grad=True)
    activated = torch.randn(BATCH, h, requires_grad=True)
    side = PIXELS // MODEL["patch_size"]
    rotary = rotary_table(side, side, (32, 32), 10_000, torch.device("cpu"))

    def bare(rows: int, inside: int, out: int) -> float:
        x, w, g = torch.randn(rows, inside), torch.randn(out, inside), torch.randn(rows, out)
        return seconds(lambda: (x @ w.t(), g @ w, g.t() @ x), 0.2)

    def attended() -> float:
        heads = MODEL["heads"]
        q, k = torch.randn(BATCH * heads, tokens, h // heads), torch.randn(BATCH * heads, tokens + TEXT, h // heads)
        return 3 * seconds(lambda: (q @ k.mT) @ k, 0.2)

    rows, inner = BATCH * tokens, int(3.5 * h)
    products = {
        "attention": bare(rows, h, 3 * h) + bare(BATCH * TEXT, h, 2 * h) + bare(rows, h, h) + attended(),
        "MLP": 2 * bare(rows, h, inner) + bare(rows, inner, h),
        "modulation": bare(BATCH, h, 6 * h),
    }
    mlp = lambda x: block.down_proj(F.gelu(block.gate_proj(x), approximate="tanh") * block.up_proj(x))  # noqa: E731
    parts = {
        "attention": lambda: block.attention(image, text, rotary, None).sum().backward(),
        "MLP": lambda: mlp(image).sum().backward(),
        "modulation": lambda: sum(part.sum() for part in block.modulation(activated)).backward(),
    }
    for name, act in parts.items():
        taken = seconds(act, 0.5)
        print(f"2. {name}: {1000 * taken:.1f} ms, its products alone {1000 * products[name]:.1f} ms: {products[name] / taken:.2f} of them")
    whole = seconds(lambda: block(image, text, activated, rotary, None).sum().backward(), 0.5)
    block.forward = torch.compile(block.forward, dynamic=False)
    compiled = seconds(lambda: block(image, text, activated, rotary, None).sum().backward(), 0.5)
    limit = sum(products.values())
    print(f"2. a block: {1000 * whole:.1f} ms, compiled {1000 * compiled:.1f} ms, products {1000 * limit:.1f} ms: {limit / compiled:.2f}")


# ---- 3: Muon --------------------------------------------------------------------------------------------------------------------------


def muon_against_adamw() -> None:
    import torch

    from dayrun.layers import newton_schulz
    from dayrun.quantities import total
    from dayrun.rules import load

    known = load(document(Path("none"), optimizer={"kind": "muon"}))
    flop = total(newton_schulz(known.model, known.optimizer, 1))
    h = MODEL["hidden_size"]
    # the rate of the products it does: a batch of Gram matrices of the MLP's shape
    x = torch.randn(2 * MODEL["depth"], h, int(3.5 * h))
    rate = 2 * x.shape[0] * h * h * x.shape[2] / seconds(lambda: x @ x.mT, 0.5)
    pairs = [(seconds(our_step("float32", "muon")), seconds(our_step("float32"))) for _ in range(3)]
    cost = statistics.median(muon - adamw for muon, adamw in pairs)
    predicted = flop / rate
    print(f"3. Muon costs {1000 * cost:.0f} ms more than AdamW; {flop:.3g} FLOP at {rate / 1e9:.0f} GFLOP/s are ", end="")
    print(f"{1000 * predicted:.0f} ms: {cost / predicted:.2f} of the prediction", flush=True)


# ---- 4 and 5: the trainer itself ------------------------------------------------------------------------------------------------------


def trained(recipe: dict[str, Any], folder: Path, name: str, processes: int) -> Any:
    from dayrun.objects import Prefix
    from dayrun.run_folder import RunFolder

    file = folder / f"{name}.json"
    file.write_text(json.dumps(recipe))
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *start, "-m", "trainer", str(file), "--out", str(folder / name)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, stdout=subprocess.DEVNULL)
    return RunFolder(Prefix(folder / name))


def step_times(run: Any) -> dict[int, float]:
    """Step → seconds since the one before."""
    at = {m["step"]: m["time"] for m in run.metrics() if m["name"] == "loss"}
    return {step: at[step] - at[step - 1] for step in sorted(at) if step - 1 in at}


def two_against_one(folder: Path) -> None:
    rates = {}
    for processes in (1, 2):
        stage = {"name": "bench", "pixels": PIXELS, "steps": 24, "batch_size": BATCH * processes}
        hardware = {"threads_per_process": 1, "processes_per_node": processes}
        run = trained(document(folder / "data", stages=[stage], hardware=hardware), folder, f"of-{processes}", processes)
        rates[processes] = BATCH * processes / statistics.median(list(step_times(run).values())[8:])
    ratio = rates[2] / rates[1]
    print(f"4. images/s of one process {rates[1]:.2f}, of two {rates[2]:.2f}: {ratio:.2f} × ({ratio / 2:.2f} of twice)", flush=True)


def lost_to_saves(folder: Path) -> None:
    run = trained(document(folder / "data", checkpoints={"every": 12}), folder, "saves", 1)
    times = step_times(run)
    plain = statistics.median(times.values())
    saves = {e["step"]: e["data"] for e in run.events() if e["type"] == "checkpoint_saved"}
    lost = []
    for step in list(saves)[1:-1]:  # the first one makes the copies' memory; the last one is waited for
        following = [times[s] for s in range(step + 1, step + 12) if s in times]
        lost.append(sum(following) - plain * len(following))
    data = list(saves.values())
    size, taken = data[-1]["bytes"] / 1e6, statistics.median(d["seconds"] for d in data)
    stalled, worst = statistics.median(d["stalled_seconds"] for d in data), max(lost)
    print(f"5. a step takes {plain:.3f} s, a save of {size:.0f} MB {taken:.3f} s; it holds the training for {stalled:.4f} s ", end="")
    print(f"and slows it by {worst:.3f} s: {worst / plain:.2f} steps (claim: at most 1)")


# ---- 6: routing -----------------------------------------------------------------------------------------------------------------------


def routing_against_its_flop() -> None:
    from dayrun.layers import forward
    from dayrun.rules import load

    deeper = {"model": {"depth": 8}}
    plain = our_step("float32", **deeper)
    for kind, rate in (("tread", 0.5), ("sprint", 0.75)):
        patch = deeper | {"routing": {"kind": kind, "rate": rate, "start": 1, "end": 6}}
        known, tokens = load(document(Path("none"), **patch)), (PIXELS // MODEL["patch_size"]) ** 2
        whole, less = (sum(part.flops for part in forward(known.model, tokens, TEXT, routing)) for routing in (None, known.routing))
        routed = our_step("float32", **patch)
        pairs = [(seconds(routed), seconds(plain)) for _ in range(3)]
        with_it, without = (statistics.median(column) for column in zip(*pairs, strict=True))
        saved, promised = statistics.median(1 - a / b for a, b in pairs), 1 - less / whole
        print(f"6. {kind}, rate {rate}, blocks 1 to 6 of 8: {with_it:.3f} s a step, without {without:.3f} s: {saved:.1%} saved of ", end="")
        print(f"{promised:.1%} by FLOP: {saved / promised:.2f} (claim: 0.85)", flush=True)


# ---- 7: everything on -----------------------------------------------------------------------------------------------------------------


def whole_recipe(folder: Path) -> None:
    """LPIPS by a VGG16 of its real widths, P-DINO and REPA by vision transformers of DINO's small size, all with random weights."""
    import torch
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel, DINOv3ViTConfig, DINOv3ViTModel

    from tests.networks import write_vgg

    write_vgg(folder / "vgg", widths=(64, 128, 256, 512, 512))
    torch.manual_seed(0)
    small = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
    Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**small, patch_size=14, image_size=98)).save_pretrained(folder / "dinov2")
    DINOv3ViTModel(DINOv3ViTConfig(**small, patch_size=16, image_size=256, intermediate_size=1536)).save_pretrained(folder / "dinov3")
    everything = {
        "perceptual": {
            "lpips": {"source": str(folder / "vgg"), "below_time": 1.0},
            "dino": {"source": str(folder / "dinov2"), "pixels": 98, "below_time": 1.0},
        },
        "representation": {"teacher": str(folder / "dinov3"), "block": 2},
        "routing": {"rate": 0.5, "start": 1, "end": 2},
        "objective": {"contrastive": {"weight": 0.05}},
        "optimizer": {"kind": "muon"},
        "ema": {"decay": 0.99, "every": 1},
    }
    without = {
        "everything": {},
        "without LPIPS": {"perceptual": {"lpips": None}},
        "without P-DINO": {"perceptual": {"dino": None}},
        "without alignment": {"representation": None},
        "without routing": {"routing": None},
        "without Muon": {"optimizer": {"kind": "adamw"}},
        "without averages": {"ema": None},
    }
    from dayrun.recipe import merge_patch

    stage = {"name": "bench", "pixels": PIXELS, "steps": 21, "batch_size": BATCH}
    for name, patch in without.items():
        run = trained(merge_patch(document(folder / "data", stages=[stage], **everything), patch), folder, name.replace(" ", "-"), 1)
        told = {m["name"]: m["value"] for m in run.metrics() if m["step"] == 20}
        parts = [f"{part} {told[f'{part}_seconds']:.3f}" for part in ("data_wait", "forward", "backward", "communication", "optimizer")]
        print(f"7. {name}: {told['step_seconds']:.3f} s a step: {', '.join(parts)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a training step costs on this machine, and against what.")
    parser.add_argument("only", nargs="*", type=int, help="numbers of claims; default: all")
    only = parser.parse_args().only or [1, 2, 3, 4, 5, 6, 7]
    sys.path.insert(0, str(ROOT))
    import torch
    import torch.distributed as dist

    torch.set_num_threads(THREADS)
    from tests.tiny import write_data

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder / "data", samples=64, tokens=TEXT, width=MODEL["text_width"], pixels=PIXELS)
        dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
        acts = {1: against_diffusers, 2: against_products, 3: muon_against_adamw, 6: routing_against_its_flop}
        for number in only:
            if number in acts:
                acts[number]()
        dist.destroy_process_group()
        if 4 in only:
            two_against_one(folder)
        if 5 in only:
            lost_to_saves(folder)
        if 7 in only:
            whole_recipe(folder)


if __name__ == "__main__":
    main()
