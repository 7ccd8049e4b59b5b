"""Reads a run's samples as its ranks do, without training: `python -m tests.trainer.reading RECIPE FOLDER`.

For each line of standard input, {"ranks", "first", "steps"}, so many processes read those steps, a forked process each so that torch is
loaded once; they print a line a step, with a position and the sample at it for each. What is printed is what was decoded, by its caption.
"""

import json
import os
import sys

from dayrun.rules import load
from trainer.data.loader import Loader

BATCH = 8


def main() -> None:
    recipe = load(sys.argv[1])
    for line in sys.stdin:
        asked = json.loads(line)
        pids: list[int] = []
        for rank in range(asked["ranks"]):
            if (pid := os.fork()) == 0:
                read(recipe, rank, **asked)
            pids.append(pid)
        print(json.dumps(pids), flush=True)
        for _ in pids:
            os.wait()
            print("end", flush=True)


def read(recipe, rank: int, ranks: int, first: int, steps: int) -> None:
    loader = Loader(recipe, 8, batch_size=BATCH)
    batches = loader.batches(first * BATCH, BATCH, BATCH // ranks, rank, ranks)
    for step in range(first, steps):
        batch = next(batches)
        numbers = [caption.split()[-1] for caption in batch.captions]
        pairs = " ".join(f"{position}:{number}" for position, number in zip(batch.positions, numbers, strict=True))
        os.write(1, f"{step} {pairs}\n".encode())  # at once: lines of the ranks must not mix
    os._exit(0)


if __name__ == "__main__":
    main()
