"""A client that reads every answer to its exact end, so that what follows on the connection can be trusted."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from server import Server

PROBE = b"GET /hello HTTP/1.1\r\nHost: probe\r\n\r\n"


class CutOff(AssertionError):
    """The connection has ended before the answer has."""


@dataclass
class Answer:
    """One final response, with the interim ones before it."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    interim: list[Answer] = field(default_factory=list)
    ended: bool = False  # by the end of the connection, as without a length in HTTP/1.0

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of the one field of this name, None if there is none."""
        values = self.all(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """One connection to a server."""

    def __init__(self, sock: socket.socket, seconds: float = 10.0) -> None:
        self.sock = sock
        self.deadline = time.monotonic() + seconds
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.settimeout(self._left())
        self.sock.sendall(data)

    def finish(self) -> None:
        """Say that nothing more will be sent."""
        self.sock.shutdown(socket.SHUT_WR)

    def answer(self, method: str = "GET") -> Answer:
        """The next answer. Raises `CutOff` if it breaks off."""
        interim = []
        while True:
            answer = self._head()
            if answer.status >= 200:
                break
            interim.append(answer)
        answer.interim = interim
        self._body(answer, method)
        return answer

    def ask(self, raw: bytes) -> Answer:
        self.send(raw)
        return self.answer(raw.lstrip().partition(b" ")[0].decode("latin-1"))

    def closed(self) -> bool:
        """Whether the server closes now, without a byte more and without a reset."""
        return not self.buffer and self._recv() == b""

    def stays(self) -> bool:
        """Whether the connection is good for another request."""
        try:
            return self.ask(PROBE).status == 200
        except (CutOff, ConnectionError):
            return False

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        while self._fill():
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    def _head(self) -> Answer:
        first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, reason = first.split(" ", 2)
        headers = []
        for line in lines[:-2]:
            name, colon, value = line.partition(": ")
            assert colon, line
            headers.append((name, value))
        return Answer(version, int(status), reason, headers, b"")

    def _body(self, answer: Answer, method: str) -> None:
        length, coding = answer.get("Content-Length"), answer.get("Transfer-Encoding")
        assert length is None or coding is None, answer
        if method == "HEAD" or answer.status in (204, 304):
            return
        if coding is not None:
            assert coding == "chunked"
            chunks = []
            while size := int(self._until(b"\r\n").partition(b";")[0], 16):
                chunks.append(self._exactly(size))
                assert self._exactly(2) == b"\r\n"
            assert self._until(b"\r\n") == b"\r\n"
            answer.body = b"".join(chunks)
        elif length is not None:
            answer.body = self._exactly(int(length))
        else:
            assert answer.get("Connection") == "close", "neither a length nor the end of the connection"
            answer.body = self.rest()
            answer.ended = True

    def _until(self, end: bytes) -> bytes:
        while end not in self.buffer:
            if not self._fill():
                raise CutOff(f"after {self.buffer[-200:]!r}")
        at = self.buffer.index(end) + len(end)
        taken, self.buffer = self.buffer[:at], self.buffer[at:]
        return taken

    def _exactly(self, size: int) -> bytes:
        pieces, missing = [self.buffer[:size]], size - len(self.buffer)
        self.buffer = self.buffer[size:]
        while missing > 0:
            piece = self._recv()
            if not piece:
                raise CutOff(f"{missing} bytes are missing")
            pieces.append(piece[:missing])
            self.buffer = piece[missing:]
            missing -= len(piece)
        return b"".join(pieces)

    def _fill(self) -> bool:
        data = self._recv()
        self.buffer += data
        return bool(data)

    def _recv(self) -> bytes:
        self.sock.settimeout(self._left())
        return self.sock.recv(65536)

    def _left(self) -> float:
        return max(0.01, self.deadline - time.monotonic())


@contextmanager
def client(server: Server, seconds: float = 10.0) -> Iterator[Client]:
    """A connection to `server`, whose whole life may take `seconds`."""
    with server.connect(seconds) as sock:
        yield Client(sock, seconds)
