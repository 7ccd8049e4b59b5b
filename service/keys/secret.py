"""What a key looks like, and what is kept of it: `dayrun_`, 26 characters of its id, `_`, 64 hexadecimal digits.

The beginning and the fixed form let scanners of repositories and logs recognise a leaked key: `dayrun_[0-9a-z]{26}_[0-9a-f]{64}`.
"""

import hashlib
import re
import secrets

FORM = re.compile(r"dayrun_[0-9a-z]{26}_[0-9a-f]{64}", re.ASCII)
PREFIX = "dayrun_"
LENGTH = len(PREFIX) + 26 + 1 + 64


def new_secret(key_id: str) -> str:
    """The key with the id `key_…`: 256 random bits behind it."""
    return f"{PREFIX}{key_id.removeprefix('key_')}_{secrets.token_hex(32)}"


def digest_of(secret: str) -> str:
    """What the database holds of a key. Plain SHA-256: there is nothing to guess in 256 random bits, and it costs a microsecond."""
    return hashlib.sha256(secret.encode()).hexdigest()
