"""What an image is made of, as a CycloneDX document on standard output: Python's distributions and Debian's packages, as installed.

    python sbom.py NAME > sbom.json

Knows no package by name, and writes no time: the same contents make the same file.
"""

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote


def python_components() -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in distributions():
        name = one.metadata["Name"].lower().replace("_", "-")
        purl = f"pkg:pypi/{name}@{quote(one.version)}"
        component: dict[str, Any] = {"type": "library", "name": name, "version": one.version, "purl": purl}
        if expression := one.metadata.get("License-Expression"):
            component["licenses"] = [{"expression": expression}]
        found[name] = component
    return [found[name] for name in sorted(found)]


def debian_components() -> list[dict[str, Any]]:
    shown = "${binary:Package}\t${Version}\t${Architecture}\n"
    said = subprocess.run(["dpkg-query", "--show", f"--showformat={shown}"], check=True, capture_output=True, text=True).stdout
    components: list[dict[str, Any]] = []
    for name, version, architecture in sorted(line.split("\t") for line in said.splitlines()):
        name = name.split(":")[0]
        purl = f"pkg:deb/debian/{name}@{quote(version)}?arch={architecture}&distro=bookworm"
        components.append({"type": "library", "name": name, "version": version, "purl": purl})
    return components


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from dayrun import __version__

    own = {"type": "application", "name": sys.argv[1], "version": __version__, "licenses": [{"license": {"id": "Apache-2.0"}}]}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": python_components() + debian_components(),
    }
    json.dump(document, sys.stdout, indent=1)


main()
