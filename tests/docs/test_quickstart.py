"""docs/quickstart.md does what it says: each of its shell blocks, in their order, in a clone with a service, as a newcomer types them."""

import json
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from dayrun.client import Client
from service.parts import free_port
from tests.conftest import PATIENCE_SECONDS, ROOT, until, without_settings
from tests.docs.blocks import DOCS, Block, blocks_of
from tests.tiny import write_data

pytestmark = pytest.mark.long

PROGRAMS = {"dayrun": "-c 'from dayrun.cli import main; main()'", "python3": "", "torchrun": "-m torch.distributed.run"}
"""What `.venv/bin` of a clone has, by the interpreter that runs the tests."""
CURL = 'curl() { if [ "$1" = -sf ]; then command curl "$@"; else command curl --fail-with-body "$@"; fi; }'
"""A refusal is an exit code, and not only an answer; curl takes this beside its -f for an error."""
SERVE = "dayrun serve\n"
"""The block that goes on until Ctrl-C."""
REFUSED = {'"heads": 3': 22}
"""Blocks that show a refusal, by what they hold: curl ends with this where the service answers with 400 or more."""


class Reader:
    """Somebody who types the blocks into one shell: variables stay, and what fails is seen."""

    def __init__(self, clone: Path, home: Path, port: int) -> None:
        self._clone, self._port, self._state = clone, port, home / ".state"
        self._state.touch()
        self.environment = {**without_settings(), "HOME": str(home), "PYTHONPATH": str(ROOT), "DAYRUN_PORT": str(port), "COLUMNS": "120"}

    def types(self, block: Block) -> tuple[int, str]:
        """Exit code and output."""
        text = block.text.replace("localhost:8765", f"localhost:{self._port}")
        script = f"set -ea\n{CURL}\n. {self._state}\n{text}\nexport -p > {self._state}\n"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self._clone, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """In a clone where `make demo` has run: an environment, data of the demo's form (noise here), fifty pictures of the reader's own."""
    home, clone = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("clone")
    programs = clone / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, how in PROGRAMS.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {how} "$@"\n')
        (programs / name).chmod(0o755 | stat.S_IXUSR)
    write_data(home / ".dayrun/data/fluent-emoji-32/train", tokens=16, width=384, pixels=32)
    own_pictures(clone / "pictures")
    return Reader(clone, home, free_port())


def own_pictures(folder: Path) -> None:
    """Fifty, of several sizes and kinds, with captions that are true; and one that is none."""
    folder.mkdir()
    chance = Random(0)
    for number in range(50):
        colour = chance.choice(["red", "green", "blue"])
        suffix = chance.choice(["png", "jpg", "webp"])
        Image.new("RGB", (chance.randrange(40, 90), chance.randrange(40, 90)), colour).save(folder / f"{number:02d}.{suffix}")
        (folder / f"{number:02d}.txt").write_text(f"a {colour} square\n")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "broken.txt").write_text("nothing")


def test_every_block_does_what_it_says(reader: Reader):
    service: subprocess.Popen[str] | None = None
    said: dict[str, str] = {}
    try:
        for block in blocks_of(DOCS / "quickstart.md"):
            if block.text == SERVE:
                service = serving(reader)
            elif block.language == "sh":
                code, output = reader.types(block)
                expected = next((code for part, code in REFUSED.items() if part in block.text), 0)
                assert code == expected, f"{block}: exit code {code}\n{block.text}\n{output[-3000:]}"
                assert ("urn:dayrun:problem" in output) == bool(expected), f"{block}:\n{output[-3000:]}"
                said[block.text] = output
            elif block.language == "python":
                done = python(reader, block)
                assert done.returncode == 0, f"{block}: {done.stderr[-3000:]}"
                assert "succeeded" in done.stdout
    finally:
        if service is not None:
            end_every_run(reader)
            service.send_signal(signal.SIGINT)
            service.wait(PATIENCE_SECONDS)
    check_what_was_said(reader, said)


def check_what_was_said(reader: Reader, said: dict[str, str]) -> None:
    """The blocks did it, and did not only end without an error."""
    clone, home = reader._clone, Path(reader.environment["HOME"])

    def of(part: str) -> str:
        (found,) = [output for text, output in said.items() if part in text]
        return found

    assert json.loads(of('"heads": 3'))["errors"][0]["nearest"] == [2, 4]
    assert of(":pause  #").count('"state":"paused"') == 1
    assert '"cancelling"' in of(":cancel\n") or '"cancelled"' in of(":cancel\n")
    assert re.search(r"run_\w+ .*succeeded after 40 steps", of("dayrun run demo --overrides short.json"), re.S)
    for picture in ("first.png", "sheet.png", "mine.png"):
        with Image.open(clone / picture) as image:
            image.verify()
    rejects = (home / ".dayrun/data/mine-pictures/rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in rejects] == ["pictures/broken"]
    assert "50" in of("dayrun data inspect")
    ended: dict[str, Any] = json.loads(sorted((clone / "runs/mine/events").iterdir())[-1].read_text().splitlines()[-1])
    assert (ended["type"], ended["data"]["outcome"], ended["step"]) == ("ended", "succeeded", 40)


def serving(reader: Reader) -> subprocess.Popen[str]:
    """The service as the reader starts it, once it says that it is ready; what the page shows of it is what it says."""
    service = subprocess.Popen(
        [str(reader._clone / ".venv/bin/dayrun"), "serve"],
        cwd=reader._clone,
        env=reader.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert service.stdout is not None
    shown = next(block.text for block in blocks_of(DOCS / "quickstart.md") if block.language == "text")
    told = [service.stdout.readline() for _ in shown.splitlines()]
    home, port = reader.environment["HOME"], reader.environment["DAYRUN_PORT"]
    assert "".join(told) == shown.replace("/home/you", home).replace("8765", port)
    return service


def end_every_run(reader: Reader) -> None:
    """Where a block failed, the page's own cancel was never typed, and a run outlives its service."""
    with Client(f"http://127.0.0.1:{reader.environment['DAYRUN_PORT']}") as client:
        for one in client.cancel_runs(project="default"):
            until(lambda id=one.id: client.run(id).over, f"{one.id} to be over")


def python(reader: Reader, block: Block) -> subprocess.CompletedProcess[str]:
    command = [str(reader._clone / ".venv/bin/python3"), "-c", block.text]
    return subprocess.run(command, cwd=reader._clone, env=reader.environment, capture_output=True, text=True)
