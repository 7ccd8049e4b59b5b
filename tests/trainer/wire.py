"""A TCP relay before an S3 server: counts what is asked, holds an answer back, spoils one on its way, is away. It changes no request."""

import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

REQUEST = re.compile(rb"^(GET|HEAD) (/[^ ?]*)\S* HTTP/1\.1\r\n", re.MULTILINE)


class Wire:
    """Listens on `url`; whoever speaks to it speaks to the server at `to`."""

    def __init__(self, to: str) -> None:
        parts = urlsplit(to)
        self._to = (parts.hostname or "", parts.port or 0)
        self._port = 0
        self._open: list[socket.socket] = []
        self.asked: Counter[tuple[str, str]] = Counter()
        """How often, by (method, name of the object without its folders)."""
        self._hold: dict[str, threading.Event] = {}
        self.held = threading.Event()
        """Set once a request is held back."""
        self._spoil: set[str] = set()
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Take connections, at the same address as before."""
        listening = socket.create_server(("127.0.0.1", self._port))
        self._port = listening.getsockname()[1]
        self._open = [listening]
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections, and cut those that are open."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def hold_next(self, name: str) -> threading.Event:
        """The next GET of the object `name` goes no further until the event that is returned is set."""
        self._hold[name] = threading.Event()
        return self._hold[name]

    def spoil_next(self, name: str) -> None:
        """The last byte of the next answer to a GET of the object `name` is another one."""
        self._spoil.add(name)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                server = socket.create_connection(self._to)
                self._open += [client, server]
                spoiled = threading.Event()
                threading.Thread(target=self._requests, args=(client, server, spoiled), daemon=True).start()
                threading.Thread(target=self._answers, args=(server, client, spoiled), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, spoiled: threading.Event) -> None:
        with ending(client, server):
            while data := client.recv(1 << 16):
                for method, path in REQUEST.findall(data):
                    name = path.decode().rsplit("/", 1)[-1]
                    self.asked[method.decode(), name] += 1
                    if method == b"GET" and (until := self._hold.pop(name, None)):
                        self.held.set()
                        until.wait()
                    if method == b"GET" and name in self._spoil:
                        self._spoil.remove(name)
                        spoiled.set()
                server.sendall(data)

    def _answers(self, server: socket.socket, client: socket.socket, spoiled: threading.Event) -> None:
        with ending(client, server):
            while data := server.recv(1 << 20):
                if spoiled.is_set() and not data.endswith(b"\r\n\r\n"):  # a head alone
                    spoiled.clear()
                    data = data[:-1] + bytes([data[-1] ^ 1])
                client.sendall(data)


@contextmanager
def ending(*sockets: socket.socket) -> Iterator[None]:
    """When one side is over, so is the other."""
    with suppress(OSError):
        yield
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
