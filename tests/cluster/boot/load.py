"""Hands images of the builder to the cluster's containerd: load.py IMAGE…

Only what containerd lacks is copied, and nothing is compressed: torch's layer alone has 5.5 GB. Both keep one copy of a layer between
them, by a hard link.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CACHE, SOCK = Path(os.environ["CACHE"]), os.environ["SOCK"]
LAYOUT = CACHE / "images"
BUILDAH = ["buildah", "--root", str(CACHE / "buildah"), "--runroot", "/run/dayrun-buildah", "--storage-driver", "overlay"]
CTR = ["ctr", "--address", SOCK, "--namespace", "k8s.io"]


def said(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def blob(digest: str) -> Path:
    return LAYOUT / "blobs" / digest.replace(":", "/")


def parts(manifest: dict[str, Any]) -> Iterator[str]:
    """Digests of all that an image is: its manifest, its configuration, its layers."""
    yield manifest["digest"]
    content = json.loads(blob(manifest["digest"]).read_bytes())
    yield content["config"]["digest"]
    yield from (layer["digest"] for layer in content["layers"])


def name_of(manifest: dict[str, Any]) -> str | None:
    return manifest.get("annotations", {}).get("org.opencontainers.image.ref.name")


def manifests() -> list[dict[str, Any]]:
    return json.loads((LAYOUT / "index.json").read_bytes())["manifests"]


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def load(image: str) -> None:
    said(*BUILDAH, "push", "--quiet", "--disable-compression", image, f"oci:{LAYOUT}:{image}")
    manifest = next(one for one in manifests() if name_of(one) == image)
    has = set(said(*CTR, "content", "ls", "--quiet").split())
    if f"{image} {manifest['digest']}" in said(*CTR, "images", "ls", f"name=={image}").replace("application/vnd.oci.image.manifest.v1+json ", ""):
        return
    importing = subprocess.Popen([*CTR, "images", "import", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert importing.stdin is not None
    with importing.stdin as pipe, tarfile.open(fileobj=pipe, mode="w|", bufsize=1 << 20) as archive:
        add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())
        for digest in parts(manifest):
            if digest not in has:
                archive.add(blob(digest), f"blobs/{digest.replace(':', '/')}")
    if importing.wait() != 0:
        sys.exit(f"containerd did not take {image}")


def share() -> None:
    """One file for both where both hold the same blob; none for what no image of ours uses any longer."""
    used = {digest for manifest in manifests() for digest in parts(manifest)}
    for path in (LAYOUT / "blobs" / "sha256").iterdir():
        theirs = CACHE / "containerd/io.containerd.content.v1.content/blobs/sha256" / path.name
        if f"sha256:{path.name}" not in used:
            path.unlink()
        elif theirs.exists() and not theirs.samefile(path):
            path.unlink()
            os.link(theirs, path)


for image in sys.argv[1:]:
    load(image)
share()
