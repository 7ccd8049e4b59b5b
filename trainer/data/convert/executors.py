"""Where the tasks of a conversion run: in this process, in processes of this machine, or on Ray. They return what came back in any order.

What a task does is a pure function of its item, and what it commits names no worker: that is why a task may die, be tried again, or run
twice (docs/decisions/0013). Nothing here knows pictures.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from trainer.data.convert.output import ConversionError

T = TypeVar("T")
R = TypeVar("R")
RETRIES = 3
"""Times that Ray does a task again whose worker or node was lost."""


class Executor(Protocol):
    @property
    def workers(self) -> int:
        """How many tasks run at once, as far as it is known."""
        ...

    def results(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """`work` of every item, as they are done. `work` can be pickled. Raises what it raised; ConversionError when a worker was lost."""
        ...


@dataclass(frozen=True)
class Here:
    """This process for one worker, else processes of their own, each of one thread's work."""

    workers: int = 1

    def results(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        if self.workers == 1 or len(items) <= 1:
            yield from map(work, items)
            return
        # spawned: a fork would copy whatever threads and locks this process has
        pool = ProcessPoolExecutor(min(self.workers, len(items)), multiprocessing.get_context("spawn"), one_thread)
        try:
            for done in as_completed([pool.submit(work, item) for item in items]):
                yield done.result()
        except BrokenProcessPool:
            because = "a worker process was ended from outside, most often since memory ran out"
            raise ConversionError(f"--workers {self.workers}: {because}; what was committed stays: run it again with fewer") from None
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class OnRay:
    """A Ray cluster at `address` (`auto`, `ray://host:10001`), or with `local` one that this process starts and that ends with it.

    with_networks: tasks go to `workers` actors that stay, so that each loads its network once; with `gpus` each. Without, tasks go wherever
    there is a core, to workers that come and go.
    """

    address: str
    workers: int
    gpus: float = 0
    with_networks: bool = False

    def results(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        try:
            import ray
        except ImportError:
            raise ConversionError("--ray: Ray is not installed; pip install -r requirements/data.txt, or leave --ray out") from None
        if not items:
            return
        begin(ray, self.address, self.workers)
        try:
            yield from (self._by_actors if self.with_networks else self._by_tasks)(ray, work, items)
        except ray.exceptions.RayTaskError as error:  # what the task raised, with Ray's pages about where
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
            first = str(error).strip().splitlines()[0]
            raise ConversionError(f"--ray {self.address}: {first}; what was committed stays: run it again") from None

    def _by_tasks(self, ray: Any, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        task, shared = ray.remote(num_cpus=1, max_retries=RETRIES)(call), ray.put(work)
        yield from first_done(ray, items, self.workers, 1, lambda _, item: task.remote(shared, item))

    def _by_actors(self, ray: Any, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        kind = ray.remote(num_cpus=1, num_gpus=self.gpus, max_restarts=RETRIES, max_task_retries=RETRIES)(Actor)
        actors, shared = [kind.remote() for _ in range(min(self.workers, len(items)))], ray.put(work)
        # two for each: one runs while the other waits
        yield from first_done(ray, items, len(actors), 2, lambda slot, item: actors[slot].call.remote(shared, item))


class Actor:
    """A process of Ray's that stays."""

    def call(self, work: Callable[[T], R], item: T) -> R:
        return work(item)


def one_thread() -> None:
    """What torch and its kin take from here when they are imported: there are as many of us as there are cores."""
    os.environ["OMP_NUM_THREADS"] = "1"


def call(work: Callable[[T], R], item: T) -> R:
    return work(item)


def begin(ray: Any, address: str, workers: int) -> None:
    """Connect. Raises ConversionError."""
    if ray.is_initialized():  # by an earlier pass; Ray itself ends it with this process
        return
    try:
        if address == "local":  # its workers find this package by the PYTHONPATH that they inherit
            ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        else:
            ray.init(address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConversionError(f"--ray {address}: no cluster answers there: {first}; --ray local starts one here") from None


def first_done(ray: Any, items: Sequence[T], slots: int, each: int, start: Callable[[int, T], Any]) -> Iterator[Any]:
    """Results as they come. `start` gets an item and the slot that has the fewest, of which none ever has more than `each`."""
    busy, running = [0] * slots, dict[Any, int]()

    def some() -> list[Any]:
        done, _ = ray.wait(list(running))
        for one in done:
            busy[running.pop(one)] -= 1
        return ray.get(done)

    for item in items:
        while min(busy) >= each:
            yield from some()
        slot = busy.index(min(busy))
        busy[slot] += 1
        running[start(slot, item)] = slot
    while running:
        yield from some()
