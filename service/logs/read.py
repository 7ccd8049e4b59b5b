"""Logs in a run's folder. Reads files; call it in a thread."""

from dayrun.objects import Prefix
from dayrun.run_folder import RunFolder
from service.http.problem import ErrorDetail, Problem

LOG_BYTES = 4 * 2**20
"""The end of a log that is sent at most."""
CHUNK_BYTES = 64 * 1024


def log_text(url: str, newest_attempt: int, attempt: int | None, rank: str | None, tail: int | None) -> str:
    """What one process printed, by default rank 0 of the newest attempt. Raises Problem 404 that names the logs that there are."""
    folder, attempt = RunFolder(Prefix(url)), attempt or newest_attempt
    ranks = folder.log_ranks(attempt)
    chosen = rank or ("0" if "0" in ranks else "launcher")
    if chosen not in ranks:
        detail = f"attempt {attempt} has no log of rank {chosen[:20]!r} (yet); attempts go from 1 to {newest_attempt}"
        raise Problem(
            404,
            detail,
            kind="no-such-log",
            errors=[ErrorDetail(pointer="query rank", value=chosen[:20], because=detail, nearest=list(ranks))],
        )
    key = folder.log_key(attempt, chosen)
    text = folder.prefix.get_from(key, max(0, folder.prefix.size(key) - LOG_BYTES)).decode(errors="replace")
    return "".join(text.splitlines(keepends=True)[-tail:]) if tail else text


def logs(url: str) -> list[tuple[int, str, int]]:
    """(attempt, rank, bytes) of every log; ranks in order, the launcher last."""
    found: list[tuple[int, str, int]] = []
    for info in Prefix(url).objects("logs"):
        _, attempt, name = info.key.split("/", 2)
        if attempt.isdigit() and name.endswith(".log"):
            found.append((int(attempt), name.removesuffix(".log"), info.bytes))
    return sorted(found, key=lambda log: (log[0], not log[1].isdigit(), int(log[1]) if log[1].isdigit() else 0, log[1]))


def log_from(url: str, attempt: int, rank: str, start: int) -> bytes:
    """What was printed from byte `start` on; empty when there is nothing (yet). One call a look: the place to read from an object store."""
    folder = RunFolder(Prefix(url))
    try:
        return folder.prefix.get_from(folder.log_key(attempt, rank), start)[:CHUNK_BYTES]
    except FileNotFoundError:
        return b""
