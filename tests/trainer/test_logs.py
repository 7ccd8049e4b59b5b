"""The copier of a process's output: everything comes through, whatever becomes of who wrote it."""

import subprocess
import sys
from pathlib import Path

from dayrun.objects import Prefix
from dayrun.run_folder import RunFolder
from tests.conftest import ROOT


def copier(url: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "trainer.logs", str(url), "1", "0"]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_output_is_copied_whole_to_the_run_and_passed_on(tmp_path: Path):
    text = b"".join(b"step %d: all is well\n" % number for number in range(50_000))
    passed_on, _ = copier(tmp_path).communicate(text, timeout=60)
    assert passed_on == text
    assert RunFolder(Prefix(tmp_path)).read_log(1, 0, most=2**30) == text


def test_a_copier_that_is_told_to_end_does_not_wait_for_who_holds_the_pipe(tmp_path: Path):
    process = copier(tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"the last words\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"the last words\n"
    process.terminate()
    assert process.wait(60) == 0
    assert RunFolder(Prefix(tmp_path)).read_log(1, 0) == b"the last words\n"


def test_output_that_nobody_reads_any_more_is_still_kept(tmp_path: Path):
    process = copier(tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdin.write(b"to nobody\n" * 100_000)
    process.stdin.close()
    assert process.wait(60) == 0
    assert RunFolder(Prefix(tmp_path)).read_log(1, 0, most=2**30) == b"to nobody\n" * 100_000
