"""What the chart becomes: rendered by the real helm, without a cluster."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

CHART = ROOT / "helm" / "dayrun"
VALUES = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
Object = dict[str, Any]


def render(values: str, more: Object | None = None, chart: Path = CHART) -> list[Object]:
    """The objects of the chart with one of its values files, and with values that come after it. Raises CalledProcessError."""
    command = ["helm", "template", "dayrun", str(chart), "--namespace", "dayrun", "-f", str(CHART / "ci" / f"{values}.yaml"), "-f", "-"]
    done = subprocess.run(command, input=json.dumps(more or {}), stdout=subprocess.PIPE, text=True, check=True)
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [one for one in objects if one["kind"] == kind]


def named(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of this kind and name."""
    (found,) = (one for one in of_kind(objects, kind) if one["metadata"]["name"] == name)
    return found


def pod_specs(objects: list[Object]) -> dict[str, Object]:
    """Of every object that has or makes pods, by kind and name."""
    specs = {of(one): one["spec"] if one["kind"] == "Pod" else (one.get("spec") or {}).get("template", {}).get("spec") for one in objects}
    return {name: spec for name, spec in specs.items() if spec and "containers" in spec}


def of(one: Object) -> str:
    """Kind and name, for tables and messages."""
    return f"{one['kind']}/{one['metadata']['name']}"
