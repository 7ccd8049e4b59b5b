"""The service's own key, from which other secrets are derived: they need not be stored, and a copy of the database gives none away."""

import hmac
import os
import secrets
from contextlib import suppress

from service.settings import Settings


def secret_key(settings: Settings) -> bytes:
    """DAYRUN_SECRET_KEY; else HOME/secret.key, which is made at the first need and which only the service's user can read."""
    if settings.secret_key:
        return settings.secret_key.encode()
    path = settings.root / "secret.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"secret.key.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):  # another process was faster: its key counts
            os.link(draft, path)
        draft.unlink()
    return path.read_bytes().strip()


def derived(settings: Settings, purpose: str) -> bytes:
    """32 bytes that only this service can make, the same each time for the same `purpose`."""
    return hmac.digest(secret_key(settings), purpose.encode(), "sha256")
