"""A connection: transport, wire and peer; what it waits for; and how those are answered who broke the rules.

It is either parked, when nobody touches it but the loop, or running, when the one who serves it owns it.
"""

import logging
import os
import select
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from monoceros.listener import Listener, Peer
from monoceros.scoreboard import NEVER, clock
from monoceros.wire.events import END, Data, FileSpan, PeerGone, RemoteError, Request, Sendable
from monoceros.wire.h1 import HEAD as NOTHING_SENT
from monoceros.wire.h1 import H1Connection
from monoceros.wire.response import Response, refusal
from monoceros.worker.transport import LEAST_RATE, Transport

if TYPE_CHECKING:
    from monoceros.worker.loop import LoopWorker

log = logging.getLogger("gunicorn.error")

# What a parked connection waits for: the first byte of a request, the rest of a head, the rest of a small
# body, that the client takes what it was sent, or that it has stopped sending before we close.
IDLE: Final = "idle"
HEAD: Final = "head"
CONTENT: Final = "content"
SENDING: Final = "sending"
LINGERING: Final = "lingering"

# The deadline of a connection that has just been parked: the next tick sets it, so that no request has to
# read the clock.
UNSET: Final = -1


class Connection(Transport):
    """One client.

    `request_id` is that of `request`, where requests have one. `phase` is what it waits for, `deadline` until when,
    in milliseconds of the monotonic clock; `armed` is what the kernel watches, 0 if nothing. `alive` says whether
    the connection may go on; `answer` is the last response that was ours, not the application's; `wary` that the
    client may still be sending, so that closing at once would reset it; `heard` counts the bytes that came after
    our last word. `began` is when the request that runs was begun, in seconds of the monotonic clock, and
    `waited` how long it had waited for that, as far as it is known.
    """

    __slots__ = (
        "_since",
        "_slack",
        "alive",
        "answer",
        "armed",
        "began",
        "deadline",
        "heard",
        "listener",
        "peer",
        "phase",
        "request",
        "request_id",
        "running",
        "waited",
        "wary",
        "wire",
        "worker",
    )

    def __init__(self, worker: "LoopWorker[Any]", listener: Listener, sock: socket.socket, peer: Peer) -> None:
        super().__init__(sock, worker.settings.body_timeout)
        self.worker = worker
        self.listener = listener
        self.peer = peer
        self.wire = H1Connection(worker.limits, worker.defaults)
        self.request: Request | None = None
        self.request_id: str | None = None
        self.answer: Response | None = None
        self._slack = 0  # milliseconds that the client may still take for the next piece of content
        self._since = 0
        self.phase = HEAD
        self.deadline = UNSET
        self.armed = 0
        self.heard = 0
        self.alive = True
        self.wary = False
        self.running = False
        self.began = 0.0
        self.waited = 0.0

    def __str__(self) -> str:
        where = f"{self.peer[0]}:{self.peer[1]}" if self.peer[0] else str(self.listener)
        return f"{where} {self.shown}" if self.request else where

    @property
    def shown(self) -> str:
        """The request line as logs may show it. There must be a request."""
        assert self.request is not None
        line = self.request.line
        return f"{line.method} {self.worker.redaction.target(line.target)} {line.version}"

    def close(self) -> None:
        """Close the socket, and let go of what was kept for the next request."""
        super().close()
        self.wire.forget()

    @property
    def client(self) -> Peer:
        """Who the client is: who a trusted proxy says, else the peer. A request that was refused early says nothing."""
        trust = self.request.fields.trust if self.request else None
        return (trust and trust.client) or self.peer

    @property
    def wanted(self) -> int:
        """What the kernel should watch, in this phase."""
        return select.EPOLLOUT if self.phase is SENDING else select.EPOLLIN

    @property
    def silent(self) -> bool:
        """Has the client sent nothing that waits to be read?"""
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    @property
    def silence(self) -> float:
        """How many seconds ago the client's last bytes arrived, by the kernel's ticks; 0 over a Unix socket."""
        if not self.peer[0]:
            return 0.0
        try:
            # tcp_info in linux/tcp.h: eight bytes, then words, of which tcpi_last_data_recv is the twelfth.
            info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)
        except OSError:  # an application may have closed the descriptor
            return 0.0
        return int.from_bytes(info[52:], sys.byteorder) / 1000

    @property
    def broken(self) -> bool:
        """Has the connection an error that nobody has met yet?"""
        try:
            return self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        except OSError:  # an application may have closed the descriptor
            return True

    @property
    def owed(self) -> bool:
        """Has the client sent more than the request that runs?"""
        return bool(self.wire.leftover()) or not self.silent

    def begin_sending(self) -> None:
        """Nothing else is waited for but that the client takes what it was sent."""
        self.phase = SENDING
        self.await_taking()

    def await_taking(self) -> None:
        """From now on the client is awaited for taking what it was sent."""
        self.deadline = clock() + int(self.timeout * 1000) if self.timeout else NEVER
        self.mark()

    def begin_content(self) -> None:
        """From now on the client is awaited for content."""
        self._since = clock()
        self._slack = int(self.timeout * 1000)

    def pause_content(self) -> None:
        """What has passed since the last piece is not the client's time: nobody asked for more."""
        self._since = clock()

    def content_deadline(self, received: int) -> int:
        """Until when the next byte of content must come, now that `received` more have.

        All time since the last call counts against the client, and each byte for it, up to `body_timeout`.
        """
        if not self.timeout:
            return NEVER
        now = clock()
        credit = received * 1000 // LEAST_RATE - (now - self._since)
        self._slack = min(self._slack + credit, int(self.timeout * 1000))
        self._since = now
        return now + self._slack

    # What went wrong.

    def refuse(self, error: RemoteError) -> None:
        """They broke the protocol: answer, one warning line, close. Never waits."""
        log.warning("Invalid request from ip=%s: %s", self.peer[0], self.worker.redaction.target(str(error)))
        self.worker.refused()
        self.dismiss(error.status)

    def apologise(self) -> None:
        """The application failed: 500 if nothing was sent yet, else the client sees that something is missing."""
        self.worker.failed()
        self.dismiss(500)

    def dismiss(self, status: int) -> None:
        """The connection ends here, with this status if no response has begun."""
        self.alive = False
        self.wary = True
        if self.wire.sending is not NOTHING_SENT:
            return
        self.answer, body = refusal(status)
        try:
            self.emit(self.answer, Data(body), END)
        except PeerGone as error:
            log.debug("Closing connection. %s: %s", self, error)

    # The sink of an exchange.

    def emit(self, *events: Sendable) -> None:
        """Send the events as one write. Raises `PeerGone`."""
        pieces: Iterator[bytes] = map(self.wire.send, events)
        self.write(b"".join(pieces))

    def respond(self, response: Response, content: bytes) -> None:
        """Send a whole response. Never waits. Raises `PeerGone`."""
        self.write(self.wire.respond(response, content))

    def emit_file(self, response: Response, span: FileSpan) -> None:
        """Send a response whose content is in a file. Raises `PeerGone`."""
        own = span._replace(fd=os.dup(span.fd))  # before anything is sent: there may be no descriptor left
        try:
            self.write(self.wire.send(response) + self.wire.send(span) + self.wire.send(END))
        except BaseException:
            os.close(own.fd)
            raise
        self.write_file(own)
