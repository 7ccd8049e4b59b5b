"""Which pictures belong side by side: the same prompt and seed of several runs, at steps as near as there are. Pure."""

from service.samples.schemas import Comparison, Pair, Sample


def nearest(steps: list[int], wanted: int) -> int | None:
    """The step nearest to `wanted`; of two that are equally near the earlier."""
    return min(sorted(steps), key=lambda step: abs(step - wanted), default=None)


def steps_to_show(steps: list[list[int]], wanted: int | None) -> list[int | None]:
    """For each run the step to show: nearest to the wanted one, or to the newest that all of them have reached."""
    newest = [max(some) for some in steps if some]
    aim = wanted if wanted is not None else min(newest, default=0)
    return [nearest(some, aim) for some in steps]


def side_by_side(runs: list[str], steps: list[int | None], samples: list[list[Sample]]) -> Comparison:
    """Pairs in the order of the first run's pictures, then what only the others have. `samples`: of each run, at its step."""
    by_noise = [{(one.set, one.prompt, one.seed): one for one in some} for some in samples]
    places = dict.fromkeys(place for some in by_noise for place in some)
    pairs = [Pair(set=place[0], prompt=place[1], seed=place[2], samples=[some.get(place) for some in by_noise]) for place in places]
    return Comparison(runs=runs, steps=steps, pairs=pairs)
