"""Stand-ins for those who listen to logs and metrics: sockets that keep all that was sent to them."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

TYPES = {
    "udp": socket.SOCK_DGRAM,
    "tcp": socket.SOCK_STREAM,
    "dgram": socket.SOCK_DGRAM,
    "stream": socket.SOCK_STREAM,
}
FAMILIES = {"udp": socket.AF_INET, "tcp": socket.AF_INET, "dgram": socket.AF_UNIX, "stream": socket.AF_UNIX}


class Ear:
    """Listens by one of udp, tcp, dgram and stream (the last two are Unix sockets). `address` is where.

    Of a stream, a message is what ends in a NUL.
    """

    def __init__(self, kind: str, place: Path, address: tuple[str, int] | str | None = None) -> None:
        self.kind = kind
        self.sock = socket.socket(FAMILIES[kind], TYPES[kind])
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        unix = FAMILIES[kind] == socket.AF_UNIX
        self.sock.bind(address or (str(place / f"{kind}.sock") if unix else ("127.0.0.1", 0)))
        self.address = self.sock.getsockname()
        self.messages: list[bytes] = []
        self._selector = selectors.DefaultSelector()
        self._closing = threading.Event()
        if TYPES[kind] == socket.SOCK_STREAM:
            self.sock.listen()
            self._watch(self.sock, self._accept)
        else:
            self._watch(self.sock, lambda: self.messages.append(self.sock.recv(65536)))
        # Who speaks may wait for who listens, so that does not wait for the test.
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    @property
    def url(self) -> str:
        """As a syslog_addr says it."""
        if FAMILIES[self.kind] == socket.AF_INET:
            return "{}://{}:{}".format(self.kind, *self.address)
        return f"unix://{self.address}#{self.kind}"

    def heard(self) -> list[bytes]:
        """All messages that have come, in the order of each sender's."""
        return list(self.messages)

    def last_heard(self) -> list[bytes]:
        """All messages, when nobody speaks any more: what is on its way is read first."""
        self.deaf()
        while events := self._selector.select(0):
            for key, _ in events:
                key.data()
        return self.heard()

    def deaf(self) -> None:
        """From now on read nothing."""
        self._closing.set()
        self._thread.join()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()
        if FAMILIES[self.kind] == socket.AF_UNIX:
            Path(self.address).unlink()

    def _watch(self, sock: socket.socket, act: Callable[[], object]) -> None:
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, act)

    def _listen(self) -> None:
        while not self._closing.is_set():
            for key, _ in self._selector.select(0.01):
                key.data()

    def _accept(self) -> None:
        speaker, _ = self.sock.accept()
        self._watch(speaker, partial(self._take, speaker, bytearray()))

    def _take(self, speaker: socket.socket, begun: bytearray) -> None:
        try:
            piece = speaker.recv(65536)
        except ConnectionResetError:
            piece = b""
        if not piece:
            self._selector.unregister(speaker)
            speaker.close()
        *whole, rest = (begun + piece).split(b"\0")
        self.messages += [bytes(message) + b"\0" for message in whole]
        begun[:] = rest


@contextmanager
def ear(kind: str, place: Path, address: tuple[str, int] | str | None = None) -> Iterator[Ear]:
    """An ear, closed at the end."""
    made = Ear(kind, place, address)
    try:
        yield made
    finally:
        made.close()
