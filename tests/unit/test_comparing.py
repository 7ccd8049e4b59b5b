"""Which pictures of two runs belong side by side."""

from datetime import UTC, datetime

from service.samples.comparing import side_by_side, steps_to_show
from service.samples.schemas import Sample
from service.samples.thumbnails import Kept


def sample(step: int, prompt: str, seed: int) -> Sample:
    return Sample(
        step=step,
        set="preview",
        prompt=prompt,
        seed=seed,
        guidance=1.0,
        steps=2,
        ema=True,
        checkpoint=None,
        width=8,
        height=8,
        time=datetime(2026, 11, 1, tzinfo=UTC),
        url=f"/runs/r/samples/{step}/{seed}.png",
    )


def test_both_are_shown_where_the_slower_one_has_come_to():
    assert steps_to_show([[0, 10, 20, 30], [0, 7, 14]], None) == [10, 14]
    assert steps_to_show([[0, 10, 20, 30], [0, 7, 14]], 30) == [30, 14]
    assert steps_to_show([[0, 10], []], None) == [10, None]
    assert steps_to_show([[0, 10]], 5) == [0]  # of two that are equally near the earlier


def test_pairs_are_of_the_same_prompt_and_noise_and_what_one_lacks_is_null():
    one, other = [sample(10, "a pear", 0), sample(10, "an apple", 1)], [sample(14, "a pear", 0), sample(14, "an apple", 2)]
    found = side_by_side(["a", "b"], [10, 14], [one, other])
    assert [(pair.prompt, pair.seed, [s.step if s else None for s in pair.samples]) for pair in found.pairs] == [
        ("a pear", 0, [10, 14]),
        ("an apple", 1, [10, None]),
        ("an apple", 2, [None, 14]),
    ]


def test_what_was_used_last_is_kept_and_never_more_than_there_is_room_for():
    kept = Kept(10)
    kept.put("a", b"12345")
    kept.put("b", b"12345")
    assert kept.get("a") == b"12345"
    kept.put("c", b"12345")
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (b"12345", None, b"12345")
    kept.put("huge", b"x" * 11)
    assert kept.get("huge") is None
