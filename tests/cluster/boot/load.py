"""Hands images of the builder to the cluster's containerd: load.py IMAGE…

Only what containerd lacks is copied, and nothing is compressed: torch's layer alone has 5.5 GB. Both keep one copy of a layer between
them, by a hard link.
"""

import fcntl
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
BUILT = f"containers-storage:[overlay@{CACHE / 'buildah'}+/run/dayrun-buildah]"
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
    """Of the images as they are now; a predecessor has lost its name."""
    return [one for one in json.loads((LAYOUT / "index.json").read_bytes())["manifests"] if name_of(one)]


def known() -> dict[str, str]:
    """containerd's images: each reference, and the manifest that it means."""
    lines = said(*CTR, "images", "ls").splitlines()[1:]
    return {reference: digest for reference, _, digest, *_ in map(str.split, lines)}


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def load(image: str) -> None:
    # buildah's own push has no way not to compress; a layer whose file is there already is not even read
    said("skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers", f"{BUILT}{image}", f"oci:{LAYOUT}:{image}")
    manifest = next(one for one in manifests() if name_of(one) == image)
    if known().get(image) == manifest["digest"]:
        return
    has = set(said(*CTR, "content", "ls", "--quiet").split())
    importing = subprocess.Popen([*CTR, "images", "import", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert importing.stdin is not None
    with importing.stdin as pipe, tarfile.open(fileobj=pipe, mode="w|", bufsize=1 << 20, copybufsize=1 << 20) as archive:
        add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())
        for digest in parts(manifest):
            if digest not in has:
                archive.add(blob(digest), f"blobs/{digest.replace(':', '/')}")
    if importing.wait() != 0:
        sys.exit(f"containerd did not take {image}")

    # Kubernetes' side of containerd knows an image by its configuration's digest too, and looks for that only when a name is new
    own = list(parts(manifest))[1]
    said(*CTR, "images", "tag", "--force", image, own)


def forget() -> None:
    """Predecessors in containerd, and the layers that only they had."""
    references = known()
    named = {digest for reference, digest in references.items() if not reference.startswith("sha256:")}
    if old := [reference for reference, digest in references.items() if digest not in named]:
        said(*CTR, "images", "rm", "--sync", *old)


def share() -> None:
    """One file for both where both hold the same blob; none for what no image of ours uses any longer."""
    (LAYOUT / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests()}))
    used = {digest for manifest in manifests() for digest in parts(manifest)}
    for path in (LAYOUT / "blobs" / "sha256").iterdir():
        theirs = CACHE / "containerd/io.containerd.content.v1.content/blobs/sha256" / path.name
        if f"sha256:{path.name}" not in used:
            path.unlink()
        elif theirs.exists() and not theirs.samefile(path):
            path.unlink()
            os.link(theirs, path)


LAYOUT.mkdir(parents=True, exist_ok=True)
with (LAYOUT / "lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # another working tree may hand over its own
    for image in sys.argv[1:]:
        load(image)
    forget()
    share()
