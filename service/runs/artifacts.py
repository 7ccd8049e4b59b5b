"""What a run has left in its folder, as the wire carries it: pictures, checkpoints, logs. Reads files; call it in a thread."""

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

from dayrun.objects import Prefix
from dayrun.run_folder import RunFolder
from service.http.problem import ErrorDetail, Problem
from service.runs.schemas import Checkpoint, Sample

LAUNCHER = "launcher"
LOG_BYTES = 4 * 2**20
"""The end of a log that is sent at most."""


def samples(url: str, run_id: str, steps: list[int] | None, sets: list[str], after: tuple[int, str] | None, limit: int) -> list[Sample]:
    """Pictures in order of step and file, those after `after` (step, file)."""
    folder, found = RunFolder(Prefix(url)), list[Sample]()
    for step in folder.sample_steps():
        if (steps and step not in steps) or (after and step < after[0]):
            continue
        try:
            index = folder.sample_index(step)
        except (FileNotFoundError, ValueError):  # the trainer has only begun to draw
            continue
        for image in sorted(index["images"], key=lambda image: image["file"]):
            if (sets and image["set"] not in sets) or (after and (step, image["file"]) <= after):
                continue
            found.append(
                Sample(
                    step=step,
                    time=datetime.fromtimestamp(index["time"], UTC),
                    checkpoint=index["checkpoint"],
                    url=f"/runs/{run_id}/samples/{step}/{quote(image['file'])}",
                    **{name: value for name, value in image.items() if name != "file"},  # pyright: ignore[reportArgumentType]
                )
            )
            if len(found) > limit:
                return found
    return found


def picture(url: str, step: int, file: str) -> bytes:
    """One picture that an index names. Raises Problem 404."""
    folder = RunFolder(Prefix(url))
    try:
        if any(image["file"] == file for image in folder.sample_index(step)["images"]):
            return folder.sample_picture(step, file)
    except (FileNotFoundError, ValueError):
        pass
    raise Problem(404, f"no picture {file[:60]!r} was drawn at step {step}; GET …/samples lists them", kind="no-such-sample")


def checkpoints(url: str) -> list[Checkpoint]:
    """Complete checkpoints, oldest first."""
    folder, found = RunFolder(Prefix(url)), list[Checkpoint]()
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


def log_text(
    url: str, newest_attempt: int, attempt: int | None, rank: str | None, tail: int | None, launcher: Callable[[int], str | None]
) -> str:
    """What one process printed, by default rank 0 of the newest attempt; `launcher` knows what was printed beside the ranks' own logs.

    Raises Problem 404 that names the logs that there are.
    """
    folder, attempt = RunFolder(Prefix(url)), attempt or newest_attempt
    ranks, printed = [one for one in folder.log_ranks(attempt) if one != LAUNCHER], launcher(attempt)
    if printed is not None:
        ranks.append(LAUNCHER)
    chosen = rank or ("0" if "0" in ranks else LAUNCHER)
    if chosen not in ranks:
        detail = f"attempt {attempt} has no log of rank {chosen[:20]!r} (yet); attempts go from 1 to {newest_attempt}"
        raise Problem(
            404,
            detail,
            kind="no-such-log",
            errors=[ErrorDetail(pointer="query rank", value=chosen[:20], because=detail, nearest=list(ranks))],
        )
    if chosen == LAUNCHER:
        text = (printed or "")[-LOG_BYTES:]
    else:
        key = folder.log_key(attempt, chosen)
        text = folder.prefix.get_from(key, max(0, folder.prefix.size(key) - LOG_BYTES)).decode(errors="replace")
    return "".join(text.splitlines(keepends=True)[-tail:]) if tail else text
