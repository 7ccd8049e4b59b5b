"""Logs in a run's folder. Reads files; call it in a thread."""

from collections.abc import Callable

from service.folders import folder_at
from service.http.problem import ErrorDetail, Problem

LOG_BYTES = 4 * 2**20
"""The end of a log that is sent at most."""
CHUNK_BYTES = 64 * 1024
LAUNCHER = "launcher"


def log_text(
    url: str, newest_attempt: int, attempt: int | None, rank: str | None, tail: int | None, launcher: Callable[[int], str | None]
) -> str:
    """What one process printed, by default rank 0 of the newest attempt; `launcher` knows what was printed beside the ranks' own logs.

    Raises Problem 404 that names the logs that there are.
    """
    folder, attempt = folder_at(url), attempt or newest_attempt
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
        start = max(0, folder.log_bytes(attempt, chosen) - LOG_BYTES)
        text = folder.read_log(attempt, chosen, start, LOG_BYTES).decode(errors="replace")
    return "".join(text.splitlines(keepends=True)[-tail:]) if tail else text


def logs(url: str) -> list[tuple[int, str, int]]:
    """(attempt, rank, bytes) of every log; ranks in order."""
    folder = folder_at(url)
    attempts = [int(name) for name in folder.prefix.folders("logs") if name.isdigit()]
    return [(attempt, rank, folder.log_bytes(attempt, rank)) for attempt in attempts for rank in folder.log_ranks(attempt)]


def log_from(url: str, attempt: int, rank: str, start: int) -> bytes:
    """What was printed from byte `start` on; empty when there is nothing (yet)."""
    return folder_at(url).read_log(attempt, rank, start, CHUNK_BYTES)
