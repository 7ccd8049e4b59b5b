"""The hand-over between trainer and service: lines, fences, checkpoints."""

import json
from pathlib import Path

import pytest

from dayrun.objects import Prefix
from dayrun.run_folder import PART_BYTES, PARTS_A_RANK, Cursor, LineWriter, RunFolder, StaleAttempt


def test_a_reader_sees_each_line_once_whatever_the_writer_does_in_between(tmp_path: Path):
    folder, cursor, seen = RunFolder(Prefix(tmp_path)), Cursor(), []
    writer = LineWriter(folder.prefix, "metrics", attempt=1)
    for number in range(5000):
        writer.write({"step": number, "name": "loss", "value": 1 / (number + 1), "time": 0.0})
        if number % 700 == 0:
            writer.flush()
            cursor = Cursor.from_json(cursor.to_json())
            seen += folder.new_lines("metrics", cursor)
    writer.flush()
    seen += folder.new_lines("metrics", cursor)
    assert [line["step"] for line in seen] == list(range(5000))
    assert [line["value"] for line in seen] == [1 / (n + 1) for n in range(5000)]
    assert all(info.bytes < 2 * PART_BYTES for info in folder.prefix.objects("metrics"))


def test_lines_of_attempts_and_ranks_come_in_order(tmp_path: Path):
    prefix = Prefix(tmp_path)
    for attempt, rank in ((2, 0), (1, 1), (1, 0)):
        writer = LineWriter(prefix, "events", attempt, rank)
        writer.write({"attempt": attempt, "rank": rank})
        writer.flush()
    assert [(e["attempt"], e["rank"]) for e in RunFolder(prefix).events()] == [(1, 0), (1, 1), (2, 0)]
    assert PARTS_A_RANK > 1


def test_half_a_line_waits_for_its_other_half(tmp_path: Path):
    prefix, cursor = Prefix(tmp_path), Cursor()
    prefix.put("events/0001-000000000.jsonl", b'{"a":1}\n{"b":')
    assert list(RunFolder(prefix).new_lines("events", cursor)) == [{"a": 1}]
    prefix.put("events/0001-000000000.jsonl", b'{"a":1}\n{"b":2}\n')
    assert list(RunFolder(prefix).new_lines("events", cursor)) == [{"b": 2}]


def test_a_line_that_is_no_number_is_refused_by_the_writer(tmp_path: Path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        LineWriter(Prefix(tmp_path), "metrics", 1).write({"value": float("nan")})


def test_an_older_attempt_is_fenced_off(tmp_path: Path):
    folder = RunFolder(Prefix(tmp_path))
    folder.claim_attempt(1, {})
    folder.claim_attempt(2, {})
    folder.check_attempt(2)
    with pytest.raises(StaleAttempt, match="attempt 2 has taken over"):
        folder.check_attempt(1)
    assert folder.newest_attempt() == 2


def test_a_checkpoint_without_its_marker_is_none(tmp_path: Path):
    folder = RunFolder(Prefix(tmp_path))
    folder.prefix.put("checkpoints/00000010/weights", b"...")
    folder.prefix.put("checkpoints/00000020/weights", b"...")
    folder.prefix.put("checkpoints/00000020/complete.json", json.dumps({"step": 20}).encode())
    assert folder.checkpoints() == [20]
    assert folder.checkpoint_digest(10) is None
    assert folder.checkpoint_digest(20)
