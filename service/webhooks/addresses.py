"""Where a webhook may go: to the public network, and to private networks that a setting names. Nowhere else, whatever a name resolves to.

A name is resolved once, every address that it has is checked, and the connection goes to the address that was checked: a name that changes
between check and connect changes nothing.
"""

import asyncio
import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import httpcore

from service.http.problem import ErrorDetail, Problem

Address = IPv4Address | IPv6Address
RESOLVE_SECONDS = 5.0
ANSWER_BYTES = 4096
METADATA = {ip_address("168.63.129.16")}
"""Public addresses that a cloud answers on from within; the others of the kind are link-local or private."""
NAT64 = IPv6Network("64:ff9b::/96")


class Forbidden(Exception):
    """The service does not connect there; the message says why."""


def networks(setting: str) -> list[Any]:
    return [ip_network(one.strip(), strict=False) for one in setting.split(",") if one.strip()]


def meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, IPv6Address):
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)
    return address


def why_not(address: Address, allowed: Iterable[Any]) -> str | None:
    """Why nothing may be sent to `address`; None when it may."""
    address = meant(address)
    if any(address.version == network.version and address in network for network in allowed):
        return None
    kinds = {
        "loopback": address.is_loopback,
        "link-local": address.is_link_local,
        "multicast": address.is_multicast,
        "a metadata service": address in METADATA,
        "unspecified": address.is_unspecified,
        "private": address.is_private,
        "not public": not address.is_global,
    }
    return next((kind for kind, is_so in kinds.items() if is_so), None)


async def checked_addresses(host: str, port: int, allowed: Iterable[Any]) -> list[str]:
    """Addresses of `host`, all of them checked. Raises Forbidden, and OSError when the name does not resolve."""
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError(f"{host[:60]!r} is no name of a host") from None
    addresses = list(dict.fromkeys(str(info[4][0]).partition("%")[0] for info in found))
    for address in addresses:
        if kind := why_not(ip_address(address), allowed):
            raise Forbidden(f"{host} is {address}, which is {kind}; the setting DAYRUN_WEBHOOK_NETWORKS names networks that may be reached")
    return addresses


async def check_url(url: str, allowed: list[Any], at: str = "/url") -> None:
    """Raises Problem 422 for an address that nothing will be sent to."""

    def refuse(because: str) -> Problem:
        return Problem(422, f"{at}: {because}", kind="bad-webhook", errors=[ErrorDetail(pointer=at, value=url[:200], because=because)])

    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise refuse(f"it is no URL: {error}") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or not url.isascii() or any(c.isspace() or c < "!" for c in url):
        raise refuse("it must be an https URL with a host, in ASCII")
    if parts.username or parts.password or parts.fragment:
        raise refuse("it may hold neither a user, nor a password, nor a fragment")
    try:
        addresses = await checked_addresses(parts.hostname, port, allowed)
    except Forbidden as error:
        raise refuse(str(error)) from None
    except (OSError, TimeoutError) as error:
        raise refuse(f"the name {parts.hostname[:100]} cannot be resolved ({error})") from None
    if parts.scheme == "http" and any(why_not(ip_address(address), ()) is None for address in addresses):
        raise refuse("over the public network only https will do")


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, and says nothing to others."""

    def __init__(self, allowed: list[Any]) -> None:
        self._allowed = allowed
        self._network: Any = httpcore.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, *how: Any, **more: Any) -> httpcore.AsyncNetworkStream:
        failed: Exception = OSError("the name has no address")
        for address in await checked_addresses(host, port, self._allowed):
            try:
                return await self._network.connect_tcp(address, port, *how, **more)
            except httpcore.ConnectError as error:
                failed = error
        raise failed

    async def connect_unix_socket(self, path: str, *how: Any, **more: Any) -> httpcore.AsyncNetworkStream:
        raise Forbidden("a webhook goes over TCP")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Sender:
    """POSTs to webhooks: follows no redirect, waits for `seconds` in all, reads little of the answer."""

    def __init__(self, allowed: list[Any], seconds: float, at_once: int) -> None:
        self._seconds = seconds
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=at_once, max_keepalive_connections=0, network_backend=CheckedNetwork(allowed)
        )

    async def post(self, url: str, headers: Mapping[str | bytes, str | bytes], body: bytes) -> tuple[int | None, str]:
        """(status, what was said); no status when no answer came."""
        limits = dict.fromkeys(("connect", "read", "write", "pool"), self._seconds)
        answer = b""
        try:
            async with asyncio.timeout(self._seconds):
                sent = self._pool.stream("POST", url, headers=headers, content=body, extensions={"timeout": limits})
                async with sent as response:
                    async for some in response.aiter_stream():
                        answer += some
                        if len(answer) >= ANSWER_BYTES:
                            break
                    return response.status, answer[:ANSWER_BYTES].decode(errors="replace").replace("\x00", "")
        except (TimeoutError, httpcore.TimeoutException):
            return None, f"no answer within {self._seconds:g} s"
        except Forbidden as error:
            return None, str(error)
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, ValueError) as error:
            return None, f"no connection: {type(error).__name__}: {error}"[:300]

    async def close(self) -> None:
        await self._pool.aclose()
