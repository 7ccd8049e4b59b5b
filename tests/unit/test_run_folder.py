"""The hand-over between trainer and service: lines, fences, checkpoints."""

import json
from pathlib import Path

import pytest

from dayrun.objects import Prefix
from dayrun.run_folder import PART_BYTES, PARTS_A_RANK, Cursor, LineWriter, LogWriter, RunFolder, StaleAttempt


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


def checkpoint(folder: RunFolder, step: int, attempt: int) -> None:
    """What a save leaves behind when its last look at the fence was long ago."""
    folder.prefix.put(f"{folder.checkpoint_key(step, attempt)}/weights", b"...")
    folder.prefix.put(f"{folder.checkpoint_key(step)}/complete.json", json.dumps({"step": step, "attempt": attempt}).encode())


def test_what_an_overtaken_attempt_completes_late_is_no_part_of_the_run(tmp_path: Path):
    """No look at the fence can be late enough: so what counts is what the later attempt went on from."""
    folder = RunFolder(Prefix(tmp_path))
    folder.claim_attempt(1, {})
    folder.went_on_from(1, 0)
    checkpoint(folder, 20, attempt=1)
    folder.claim_attempt(2, {})
    folder.went_on_from(2, 20)
    checkpoint(folder, 40, attempt=1)
    assert folder.checkpoints() == [20]
    assert list(folder.marked_checkpoints()) == [20, 40]
    folder.prefix.put(f"{folder.checkpoint_key(40, 2)}/weights", b"...")
    folder.put_checkpoint_manifest(2, {"step": 40, "attempt": 2})
    assert folder.checkpoints() == [20, 40]
    assert folder.checkpoint_manifest(40)["attempt"] == 2
    with pytest.raises(StaleAttempt):
        folder.put_checkpoint_manifest(1, {"step": 40, "attempt": 1})
    folder.claim_attempt(3, {})
    folder.went_on_from(3, 40)
    assert folder.checkpoints() == [20, 40]


def test_a_stale_writer_of_lines_writes_none(tmp_path: Path):
    folder = RunFolder(Prefix(tmp_path))
    folder.claim_attempt(1, {})
    writer = LineWriter(folder.prefix, "events", 1, fence=lambda: folder.check_attempt(1))
    writer.write({"before": True})
    writer.flush()
    folder.claim_attempt(2, {})
    writer.write({"after": True})
    with pytest.raises(StaleAttempt):
        writer.flush()
    assert list(folder.events()) == [{"before": True}]


def test_lines_that_the_store_refuses_are_kept_in_order(tmp_path: Path):
    folder = RunFolder(Prefix(tmp_path))
    writer = LineWriter(folder.prefix, "metrics", 1)
    (tmp_path / "metrics").write_text("a file where the folder should be")
    for number in range(9000):  # several parts
        writer.write({"step": number, "name": "loss", "value": 0.5, "time": 0.0})
        if number % 3000 == 0:
            with pytest.raises(OSError, match="metrics/0001"):
                writer.flush()
    (tmp_path / "metrics").unlink()
    writer.flush()
    assert [line["step"] for line in folder.metrics()] == list(range(9000))
    assert max(info.bytes for info in folder.prefix.objects("metrics")) < 2 * PART_BYTES


def test_a_log_is_followed_by_offset_across_its_parts(tmp_path: Path):
    folder, seen = RunFolder(Prefix(tmp_path)), b""
    writer = LogWriter(folder.prefix, 1, 10)
    text = b"".join(b"line %d\n" % number for number in range(100_000))
    for first in range(0, len(text), 100_000):
        writer.append(text[first : first + 100_000])
        writer.flush()
        while more := folder.read_log(1, 10, len(seen), most=70_000):
            seen += more
    assert seen == text
    assert folder.log_bytes(1, 10) == len(text)
    for rank in (2, "launcher", 0):
        folder.prefix.put(folder.log_key(1, rank), b"")
    assert folder.log_ranks(1) == ["0", "2", "10", "launcher"]
    assert folder.read_log(1, 3) == b""


def test_a_log_that_cannot_be_put_gives_up_its_middle_and_says_so(tmp_path: Path):
    folder = RunFolder(Prefix(tmp_path))
    writer = LogWriter(folder.prefix, 1, 0)
    chunk = b"x" * (PART_BYTES + 1)
    for _ in range(20):
        writer.append(chunk)
    writer.append(b"the end\n")
    writer.flush()
    log = folder.read_log(1, 0, most=2**30)
    assert log.count(b"bytes are missing here") == 4
    assert log.endswith(b"the end\n")
    assert len(log) < 17 * len(chunk)


def test_a_checkpoint_without_its_marker_is_none(tmp_path: Path):
    folder = RunFolder(Prefix(tmp_path))
    folder.prefix.put("checkpoints/00000010/weights", b"...")
    folder.prefix.put("checkpoints/00000020/weights", b"...")
    folder.prefix.put("checkpoints/00000020/complete.json", json.dumps({"step": 20}).encode())
    assert folder.checkpoints() == [20]
    assert folder.checkpoint_digest(10) is None
    assert folder.checkpoint_digest(20)
