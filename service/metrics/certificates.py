"""When certificates expire that somebody else terminates TLS with: dayrun itself speaks plain HTTP behind an ingress or a proxy."""

from pathlib import Path

UNREADABLE = 0.0
"""1970: a file that cannot be read is told as expired, since its alert is then true of what we know."""


def expiries(files: str) -> dict[str, float]:
    """File → when the first certificate in it to expire does, seconds since 1970. files: paths of PEM files, with commas between."""
    return {name: expiry_of(Path(name)) for part in files.split(",") if (name := part.strip())}


def expiry_of(file: Path) -> float:
    from cryptography import x509  # only where there is a file: an API that starts is waited for

    try:
        return min(one.not_valid_after_utc.timestamp() for one in x509.load_pem_x509_certificates(file.read_bytes()))
    except (OSError, ValueError):
        return UNREADABLE
