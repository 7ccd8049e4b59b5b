"""What a run has left in its folder, as the wire carries it: checkpoints and logs. Reads files; call it in a thread."""

from collections.abc import Callable
from datetime import UTC, datetime

from dayrun.objects import Prefix
from dayrun.run_folder import RunFolder
from service.http.problem import ErrorDetail, Problem
from service.runs.schemas import Checkpoint

LAUNCHER = "launcher"
LOG_BYTES = 4 * 2**20
"""The end of a log that is sent at most."""


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
