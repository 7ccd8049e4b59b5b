"""Claims about reading pictures: ours, its peers and the limit, in turns, in one run.

1. Ours decodes at least 0.85 of the images per CPU-second of the decoder alone (as many processes that have the bytes in memory), from
   this machine's disk or cache.
2. Ours is ahead of mosaicml-streaming, WebDataset, LitData and a DataLoader over files, each at its newest version in an environment of
   its own: in images per CPU-second, at 512 px from pictures of 512 and of 1,024, and from S3 with a cold and with a warm cache.

All decode by the same call of libjpeg-turbo and give the same batches; `mosaicml-streaming-pillow` decodes as PRX's code does. Pictures:
JPEG (quality 90) cut at random from the photographs that scikit-image and scikit-learn bring along, a little noise over them.

    python bench/loader.py [--pictures 3072] [--rounds 3] [--only 512,1024,s3]
"""

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dayrun" / "bench-loader"
READERS = ROOT / "bench" / "harness" / "readers.py"
PEERS = ("mosaicml-streaming", "webdataset", "litdata")
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket")
WORKERS, PIXELS = 2, 512
QUALITY, NOISE = 90, 4.0
TAR = 256
"""Pictures of a tar."""


# ---- environments and pictures ---------------------------------------------------------------------------------------------------------


def environment(name: str) -> Path:
    """The Python of a peer's environment, made once for each list of versions."""
    requirements = ROOT / "requirements" / "peers" / f"{name}.txt"
    folder, uv = HOME / "environments" / name, Path(sys.executable).parent / "uv"
    made = folder / "made.txt"
    if not made.exists() or made.read_text() != requirements.read_text():
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        python = folder / "bin" / "python"
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, "--require-hashes", "-r", requirements], check=True
        )
        shutil.copy(requirements, made)
    return folder / "bin" / "python"


def photographs() -> list[Any]:
    """Real pictures, (height, width, 3) uint8."""
    code = "import sys, numpy as np; from skimage import data; np.savez(sys.argv[1], *(getattr(data, n)() for n in sys.argv[2:]))"
    import numpy as np
    from sklearn.datasets import load_sample_images

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([environment("pictures"), "-c", code, f"{folder}/p.npz", *PHOTOGRAPHS], check=True)
        with np.load(f"{folder}/p.npz") as found:
            return [*found.values(), *load_sample_images().images]


def jpegs(side: int, count: int) -> Iterator[bytes]:
    """The same pictures each time."""
    import numpy as np
    from PIL import Image

    chance, sources = np.random.default_rng(side), photographs()
    noise = chance.normal(0, NOISE, (side, side, 3))
    for number in range(count):
        source = sources[number % len(sources)]
        cut = int(min(source.shape[:2]) * chance.uniform(0.6, 1.0))
        top, left = (int(chance.integers(0, length - cut + 1)) for length in source.shape[:2])
        picture = Image.fromarray(source[top : top + cut, left : left + cut]).resize((side, side), Image.Resampling.BICUBIC)
        noisy = np.asarray(picture) + np.roll(noise, chance.integers(0, side, 2).tolist(), (0, 1))
        buffer = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=QUALITY)
        yield buffer.getvalue()


def written(side: int, count: int) -> Path:
    """A folder with the same pictures as shards (of ours and of mosaicml-streaming, which share a format), tars, chunks and files."""
    from trainer.data.shards import ShardWriter

    folder, draft = HOME / f"{side}px-{count}", HOME / f"{side}px-{count}.writing"
    if folder.exists():
        return folder
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "files").mkdir(parents=True)
    (draft / "tars").mkdir()
    names = [f"{number:06d}.jpg" for number in range(count)]
    with ShardWriter(draft / "shards", {"image": "bytes", "caption": "str", "id": "str"}) as shards:
        for name, data in zip(names, jpegs(side, count), strict=True):
            shards.write({"image": data, "caption": f"picture {name}", "id": name})
            (draft / "files" / name).write_bytes(data)
    for number in range(0, count, TAR):
        with tarfile.open(draft / "tars" / f"{number // TAR:04d}.tar", "w") as tar:
            for name in names[number : number + TAR]:
                tar.add(draft / "files" / name, name)
    chunks = draft.parent / f"{side}px.py"
    chunks.write_text(
        "import sys, pathlib, litdata\n"
        "def read(path): return {'image': pathlib.Path(path).read_bytes(), 'caption': 'picture'}\n"
        "if __name__ == '__main__':\n"
        "    paths = sorted(map(str, pathlib.Path(sys.argv[1]).glob('*.jpg')))\n"
        "    litdata.optimize(read, paths, sys.argv[2], num_workers=1, chunk_bytes='64MB')\n"
    )
    subprocess.run([environment("litdata"), chunks, draft / "files", draft / "chunks"], check=True, stdout=subprocess.DEVNULL)
    draft.rename(folder)
    return folder


PLACES = {"ours": "shards", "mosaicml-streaming": "shards", "webdataset": "tars", "litdata": "chunks", "files": "files", "limit": "files"}


# ---- measuring -------------------------------------------------------------------------------------------------------------------------


class Peak(threading.Thread):
    """The most memory that a process and its children hold at a time, each shared page counted once (PSS)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.bytes, self._pid, self._over = 0, pid, threading.Event()

    def run(self) -> None:
        import psutil

        while not self._over.wait(0.25):
            total = 0
            try:
                process = psutil.Process(self._pid)
                for one in (process, *process.children(recursive=True)):
                    total += one.memory_full_info().pss
            except psutil.Error:
                continue
            self.bytes = max(self.bytes, total)

    def end(self) -> int:
        self._over.set()
        self.join()
        return self.bytes


def read(kind: str, place: str, count: int, cache: Path | None = None, variables: dict[str, str] | None = None) -> dict[str, float]:
    """What one epoch took."""
    name = kind.removesuffix("-pillow")
    python = environment(name) if name in PEERS else Path(sys.executable)
    command = [python, READERS, kind, place, str(count), str(WORKERS), str(PIXELS), *([cache] if cache else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(variables or {})})
    peak = Peak(process.pid)
    peak.start()
    out, err = process.communicate()
    memory = peak.end()
    lines = [line for line in out.splitlines() if line.startswith("took ")]
    if process.returncode or not lines:
        raise RuntimeError(f"{kind} from {place}: {err[-2000:]}")
    return json.loads(lines[-1].removeprefix("took ")) | {"memory": memory}


class Table:
    """What several rounds took, by reader."""

    def __init__(self, title: str) -> None:
        self.title, self.rows = title, dict[str, list[dict[str, float]]]()

    def add(self, kind: str, taken: dict[str, float]) -> None:
        self.rows.setdefault(kind, []).append(taken)

    def rate(self, kind: str) -> float:
        """Images per CPU-second."""
        return statistics.median(one["images"] / one["cpu"] for one in self.rows[kind])

    def show(self) -> None:
        print(f"\n{self.title}\n\n| | images per CPU-second | of the limit | images/s | first batch | memory |")
        print("| --- | --- | --- | --- | --- | --- |")
        for kind, rounds in self.rows.items():
            wall = statistics.median(one["images"] / one["wall"] for one in rounds)
            first = statistics.median(one["first"] for one in rounds)
            memory = statistics.median(one["memory"] for one in rounds) / 2**20
            share = f"{self.rate(kind) / self.rate('limit'):.2f}" if "limit" in self.rows else ""
            print(f"| {kind} | {self.rate(kind):.0f} | {share} | {wall:.0f} | {first:.2f} s | {memory:.0f} MiB |")

    def judge(self, share_claimed: float = 0.85) -> bool:
        peers = [kind for kind in self.rows if kind not in ("ours", "limit")]
        best = max(peers, key=self.rate)
        ahead = self.rate("ours") / self.rate(best)
        share = self.rate("ours") / self.rate("limit")
        claim = f" (claim: {share_claimed})" if share_claimed else ", fetching included"
        print(f"ours: {share:.2f} of the limit{claim}, {ahead:.2f} × the best peer, {best} (claim: more than 1)")
        return share >= share_claimed and ahead > 1


def local(side: int, count: int, rounds: int) -> bool:
    folder = written(side, count)
    size = sum(path.stat().st_size for path in (folder / "files").iterdir()) / count
    table = Table(f"{PIXELS} px from pictures of {side} px ({count}, {size / 1000:.0f} kB each), {WORKERS} workers, {rounds} rounds")
    for _ in range(rounds):
        for kind in ("limit", "ours", "mosaicml-streaming", "mosaicml-streaming-pillow", "webdataset", "litdata", "files"):
            table.add(kind, read(kind, str(folder / PLACES[kind.removesuffix("-pillow")]), count))
    table.show()
    return table.judge()


# ---- from S3 ---------------------------------------------------------------------------------------------------------------------------


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """An S3 server that has the shards, tars and chunks of `folder`; its bucket's URL and what clients must know."""
    from dayrun.objects import Prefix
    from service.parts import S3
    from service.stack import BUCKET

    with tempfile.TemporaryDirectory(prefix="dayrun-bench-") as name:
        server = S3(Path(name))
        server.start()
        try:
            os.environ |= server.environment
            url = f"s3://{BUCKET}/pictures"
            for kind in ("shards", "tars", "chunks"):
                prefix = Prefix(f"{url}/{kind}", 60)
                for file in sorted((folder / kind).iterdir()):
                    prefix.put_file(file.name, file)
            yield url, server.environment | {"S3_ENDPOINT_URL": server.environment["AWS_ENDPOINT_URL"]}
        finally:
            server.stop()


def signed(url: str, tars: list[str], file: Path) -> str:
    """A list of commands that fetch tars: WebDataset has no client for S3 of its own."""
    import datetime

    import obstore
    from obstore.store import from_url

    store: Any = from_url(f"{url}/tars")
    addresses = [obstore.sign(store, "GET", tar, datetime.timedelta(hours=2)) for tar in tars]
    file.write_text(json.dumps([f"pipe:curl -s -f '{address}'" for address in addresses]))
    return str(file)


def cold_and_warm(kind: str, place: str, count: int, scratch: Path, variables: dict[str, str]) -> list[dict[str, float]]:
    """Two epochs with one cache, new at the first. A peer that breaks off is told of and tried again, twice at most, and then has no
    figures of this round; ours may not break off."""
    for _ in range(3):
        with tempfile.TemporaryDirectory(dir=scratch) as cache:
            try:
                return [read(kind, place, count, Path(cache), variables) for _ in range(2)]
            except RuntimeError as error:
                if kind == "ours":
                    raise
                print(f"{kind} broke off: {str(error).strip().splitlines()[-1]}", flush=True)
    return []


def from_s3(count: int, rounds: int) -> bool:
    folder, good = written(PIXELS, count), True
    tables = {state: Table(f"{PIXELS} px from S3, {state} cache, {WORKERS} workers, {rounds} rounds") for state in ("cold", "warm")}
    with served(folder) as (url, variables), tempfile.TemporaryDirectory(prefix="dayrun-bench-") as scratch:
        tars = signed(url, [file.name for file in sorted((folder / "tars").iterdir())], Path(scratch) / "tars.json")
        for _ in range(rounds):
            for kind in ("limit", "ours", *PEERS):
                if kind == "limit":
                    taken = [read(kind, str(folder / "files"), count) for _ in tables]
                else:
                    place = tars if kind == "webdataset" else f"{url}/{PLACES[kind]}"
                    taken = cold_and_warm(kind, place, count, Path(scratch), variables)
                for table, one in zip(tables.values(), taken, strict=False):
                    table.add(kind, one)
    for state, table in tables.items():
        table.show()
        good = table.judge(0.85 if state == "warm" else 0.0) and good
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=3072)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="512,1024,s3")
    options = parser.parse_args()
    begun, good = time.monotonic(), True
    for what in options.only.split(","):
        good = (from_s3(options.pictures, options.rounds) if what == "s3" else local(int(what), options.pictures, options.rounds)) and good
    print(f"\n{'every claim holds' if good else 'a claim does not hold here'}; {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
