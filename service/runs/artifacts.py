"""What a run has left in its folder, as the wire carries it: pictures and checkpoints. Reads files; call it in a thread."""

from datetime import UTC, datetime

from service.folders import folder_at
from service.runs.schemas import Checkpoint


def checkpoints(url: str) -> list[Checkpoint]:
    """Complete checkpoints, oldest first."""
    folder, found = folder_at(url), list[Checkpoint]()
    for step in folder.checkpoints():
        try:
            manifest = folder.checkpoint_manifest(step)
        except FileNotFoundError:  # pruned while we looked
            continue
        found.append(
            Checkpoint(
                step=step,
                attempt=manifest["attempt"],
                time=datetime.fromtimestamp(manifest["time"], UTC),
                bytes=sum(file["bytes"] for file in manifest["files"].values()),
                world_size=manifest["world_size"],
                digest=folder.checkpoint_digest(step) or "",
            )
        )
    return found
