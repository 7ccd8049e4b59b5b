"""Run folders as requests read them. Who trains or reconciles is patient with a store that is away; here somebody waits for the answer."""

import asyncio
from contextlib import suppress

from dayrun.objects import Prefix
from dayrun.run_folder import RunFolder

REQUEST_PATIENCE_SECONDS = 3.0


def folder_at(url: str) -> RunFolder:
    """The run folder at `url`; a store that stays away raises, and the request is a 503 `store-away`, after seconds."""
    return RunFolder(Prefix(url, REQUEST_PATIENCE_SECONDS))


async def hold_checkpoint(url: str, step: int, id: str) -> None:
    """Keep the training from pruning what `id` will read. A store that is away is no reason to refuse: reconciliation holds it, too."""
    with suppress(OSError):
        await asyncio.to_thread(folder_at(url).hold_checkpoint, step, id)
