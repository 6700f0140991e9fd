"""A line: a connection of a real worker that was never started, and its client at the other end of a real socket."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from monoceros.listener import Listener, Listeners
from monoceros.scoreboard import Scoreboard, clock
from monoceros.settings.table import Settings
from monoceros.worker.base import Berth
from monoceros.worker.member import Member
from monoceros.worker.thread import ThreadWorker

GET = b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n"
LONG = 20

App = Callable[[dict[str, Any], Any], Any]


def post(body: bytes, *lines: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = "\r\n".join(["POST /page HTTP/1.1", "Host: a", f"Content-Length: {size}", *lines, "", ""])
    return head.encode() + body


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body: bytes = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["REQUEST_METHOD"].encode() + b" " + body]


class Line:
    """A connection and its client. The worker's loop does not run: the test does what it would do."""

    def __init__(self, listener: Listener, app: App, using: Settings) -> None:
        board = Scoreboard(1)
        slot = board.take()
        assert slot is not None
        self.worker = ThreadWorker(
            Berth(1, 1, slot, board, using, Listeners(a=listener), os.getppid(), -1, Member(1, using, 0, []), None), app
        )
        self.worker.epoll = select.epoll()
        self.client = socket.create_connection(listener.bound, timeout=LONG)
        sock, self.peer = listener.sock.accept()
        sock.setblocking(False)
        self.worker._take(listener, sock, self.peer)
        [self.connection] = self.worker.connections.values()

    def send(self, data: bytes) -> bool:
        """The client sends; what has come goes to the wire. True if there is a request to serve."""
        self.client.sendall(data)
        got = 0
        while got < len(data):
            received = self.connection.receive(clock() + LONG * 1000)
            self.connection.wire.receive_data(received)
            got += len(received)
        return self.connection.advance()

    def serve(self) -> bytes:
        """Serve, and what the client got of it."""
        self.connection.serve()
        return self.got()

    def got(self) -> bytes:
        """What the client has got: all that was written, since over loopback it is there at once."""
        self.client.setblocking(False)
        got = b""
        try:
            while data := self.client.recv(1 << 20):
                got += data
        except BlockingIOError:
            pass
        finally:
            self.client.settimeout(LONG)
        return got

    def close(self) -> None:
        self.connection.close()
        self.client.close()
        self.worker.epoll.close()

    def reset(self) -> None:
        """The client is gone without a word."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()
