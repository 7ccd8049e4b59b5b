"""One loader, in an environment of its own: `readers.py KIND PLACE COUNT WORKERS PIXELS [CACHE]`; prints what an epoch took as JSON.

All of them give batches of 32 pictures as (32, pixels, pixels, 3) uint8, decoded by the same function, unless KIND ends in `-pillow`. CPU
seconds count this process and its children from the first line after the imports to the last batch.
"""

import io
import itertools
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 32


def decoded(data: bytes, pixels: int) -> np.ndarray:
    """The best that is known on a CPU: libjpeg-turbo, which scales by eighths while it decodes. Pictures are squares, once or twice it."""
    import simplejpeg

    return simplejpeg.decode_jpeg(data, "RGB", min_height=pixels, min_width=pixels)


def by_pillow(data: bytes, pixels: int) -> np.ndarray:
    """What torchvision's transforms on a Pillow image come to."""
    from PIL import Image

    picture = Image.open(io.BytesIO(data)).convert("RGB")
    if picture.size != (pixels, pixels):
        picture = picture.resize((pixels, pixels), Image.Resampling.BILINEAR)
    return np.asarray(picture)


class Decoding:
    """A transform that workers can be handed."""

    def __init__(self, pixels: int, decode: Callable[[bytes, int], np.ndarray]) -> None:
        self.pixels, self.decode = pixels, decode

    def __call__(self, sample: Any) -> Any:
        return self.decode(sample["image"] if isinstance(sample, dict) else sample, self.pixels)


def ours(place: str, count: int, workers: int, pixels: int, cache: str | None, decode: Any) -> Iterator[Any]:
    """`count` images of an epoch, shuffled, captions chosen; in threads of this process."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from dayrun.rules import load
    from tests.tiny import tiny_recipe
    from trainer.data.loader import Loader

    text = {"encoder": "transformers", "source": "never-loaded", "tokens": 4, "precomputed": False}
    data = {"sources": [{"url": place}], "threads": workers} | ({"cache": {"folder": cache}} if cache else {})
    stages = [{"name": "bench", "pixels": pixels, "steps": 100, "batch_size": BATCH}]
    recipe = load(tiny_recipe(place, processes=1, data=data, text=text, stages=stages))
    yield  # what comes before is imports
    loader = Loader(recipe, pixels, batch_size=BATCH)
    batches = loader.batches(0, BATCH, BATCH, 0, 1)
    for _ in range(count // BATCH):
        yield next(batches).pixels
    batches.close()
    yield np.empty((loader.bad.seen - count // BATCH * BATCH, 0))  # the stream has no end: decoded ahead, and so counted


def mosaicml(place: str, count: int, workers: int, pixels: int, cache: str | None, decode: Any) -> Iterator[Any]:
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    class Pictures(StreamingDataset):
        def __getitem__(self, at: int) -> np.ndarray:
            return decode(super().__getitem__(at)["image"], pixels)

    yield
    where = {"remote": place, "local": cache} if cache else {"local": place}
    dataset = Pictures(**where, shuffle=True, batch_size=BATCH)
    yield from DataLoader(dataset, BATCH, num_workers=workers, drop_last=True)


def webdataset(place: str, count: int, workers: int, pixels: int, cache: str | None, decode: Any) -> Iterator[Any]:
    import webdataset as wds
    from torch.utils.data import DataLoader

    yield
    shards = json.loads(Path(place).read_text()) if place.endswith(".json") else sorted(map(str, Path(place).glob("*.tar")))
    dataset = wds.WebDataset(shards, shardshuffle=100, cache_dir=cache, empty_check=False).shuffle(1000).to_tuple("jpg")
    pictures = dataset.map_tuple(Decoding(pixels, decode)).batched(BATCH, partial=False)
    for (batch,) in DataLoader(pictures, None, num_workers=workers):
        yield batch


def litdata(place: str, count: int, workers: int, pixels: int, cache: str | None, decode: Any) -> Iterator[Any]:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming import downloader

    if hasattr(downloader, "_OBSTORE_CLIENT_OPTIONS"):  # its fast client takes no address without TLS, and no setting says otherwise
        downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True
    yield
    storage = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"], "region_name": "us-east-1"} if cache else {}
    where: dict[str, Any] = {"input_dir": place, "cache_dir": cache, "storage_options": storage} if cache else {"input_dir": place}
    dataset = StreamingDataset(**where, shuffle=True, drop_last=True, transform=Decoding(pixels, decode))
    yield from StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers, drop_last=True)


def files(place: str, count: int, workers: int, pixels: int, cache: str | None, decode: Any) -> Iterator[Any]:
    from torch.utils.data import DataLoader, Dataset

    class Folder(Dataset):
        def __init__(self) -> None:
            self.paths = sorted(Path(place).glob("*.jpg"))

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, at: int) -> np.ndarray:
            return decode(self.paths[at].read_bytes(), pixels)

    yield
    yield from DataLoader(Folder(), BATCH, shuffle=True, num_workers=workers, drop_last=True)


def limit(place: str, count: int, workers: int, pixels: int, cache: str | None, decode: Any) -> Iterator[Any]:
    """The decoder alone: `workers` processes that have the bytes in memory already and keep nothing."""
    some = [path.read_bytes() for path in sorted(Path(place).glob("*.jpg"))[:256]]
    yield
    shares = [count // workers // BATCH * BATCH] * workers

    def work(share: int) -> None:
        for data in itertools.islice(itertools.cycle(some), share):
            decode(data, pixels)
        os._exit(0)

    processes = [multiprocessing.get_context("fork").Process(target=work, args=(share,)) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    yield from (np.empty((BATCH, 0)) for _ in range(sum(shares) // BATCH))


KINDS: dict[str, Callable[..., Iterator[Any]]] = {
    "ours": ours,
    "mosaicml-streaming": mosaicml,
    "webdataset": webdataset,
    "litdata": litdata,
    "files": files,
    "limit": limit,
}


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    kind, place, count, workers, pixels, *cache = sys.argv[1:]
    plain, decode = kind.removesuffix("-pillow"), by_pillow if kind.endswith("-pillow") else decoded
    try:
        import torch

        torch.set_num_threads(1)
    except ImportError:
        pass
    batches = KINDS[plain](place, int(count), int(workers), int(pixels), cache[0] if cache else None, decode)
    next(batches)
    begun, cpu, first, images = time.perf_counter(), cpu_seconds(), 0.0, 0
    for batch in batches:
        first = first or time.perf_counter() - begun
        images += len(batch)
    del batches, batch
    for child in multiprocessing.active_children():
        child.join(10)
    taken = {"images": images, "wall": time.perf_counter() - begun, "cpu": cpu_seconds() - cpu, "first": first}
    print("took " + json.dumps(taken), flush=True)


if __name__ == "__main__":
    main()
