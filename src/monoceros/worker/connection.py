"""A connection: transport, wire and peer; and the one boundary where what goes wrong is answered for.

It is either parked, when nobody touches it but the loop, or running, when one thread owns it.
"""

import logging
import os
import socket
import time
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING

from monoceros.gateway import environ as environs
from monoceros.gateway.input import Input
from monoceros.gateway.wsgi import Exchange, Headers, early_hints
from monoceros.listener import Listener, Peer
from monoceros.scoreboard import NEVER, clock
from monoceros.wire.events import (
    CONTINUE,
    END,
    NEED_DATA,
    AppError,
    Data,
    EndOfMessage,
    FileSpan,
    PeerGone,
    Received,
    RemoteError,
    Request,
    Sendable,
)
from monoceros.wire.fields import FieldBlock
from monoceros.wire.h1 import BODY, HEAD, H1Connection
from monoceros.wire.response import Response, refusal
from monoceros.worker.transport import LEAST_RATE, Transport

if TYPE_CHECKING:
    from monoceros.worker.base import Worker

log = logging.getLogger("gunicorn.error")


class Connection(Transport):
    """One client. `advance` collects a request, `serve` answers it and those that came with it.

    `alive` says whether the connection may go on; `answer` is the last response that was ours, not the
    application's; `wary` that the client may still be sending, so that closing at once would reset it.
    """

    __slots__ = (
        "_body",
        "_body_size",
        "_environ",
        "_since",
        "_slack",
        "alive",
        "answer",
        "began",
        "listener",
        "peer",
        "request",
        "running",
        "wary",
        "wire",
        "worker",
    )

    def __init__(self, worker: "Worker", listener: Listener, sock: socket.socket, peer: Peer) -> None:
        super().__init__(sock, worker.settings.body_timeout)
        self.worker = worker
        self._environ = environs.connection_part(worker.environ, listener.server, peer, sock)
        # Of the connection, not of the exchange, which would hold on to its environ and be held by it.
        self._environ["wsgi.early_hints"] = self.early_hints
        self.listener = listener
        self.peer = peer
        self.wire = H1Connection(worker.limits, worker.defaults)
        self.request: Request | None = None
        self.answer: Response | None = None
        self._body: list[bytes] = []
        self._body_size = 0
        self._slack = 0  # milliseconds that the client may still take for the next piece of content
        self._since = 0
        self.alive = True
        self.wary = False
        self.running = False
        self.began = 0.0

    def __str__(self) -> str:
        where = f"{self.peer[0]}:{self.peer[1]}" if self.peer[0] else str(self.listener)
        return f"{where} {self.request.line}" if self.request else where

    def close(self) -> None:
        """Close the socket, and undo the reference cycles, which would keep all this until it is collected."""
        super().close()
        self._environ.clear()
        self.wire.forget()

    # Collecting: by the loop, without waiting.

    def advance(self) -> bool:
        """True if there is a request to serve: whole with its small content, or its head before a large one.

        False if more bytes are needed, or, when `alive` is False then, will not come. Raises `RemoteError`.
        """
        if self.request is None:
            event = self.wire.next_event()
            if event is NEED_DATA:
                return False
            if not isinstance(event, Request):
                self.alive = False
                return False
            self.request = event
            if not event.fields.has_body or not self._begin_content(event.fields):
                return True
        while True:
            event = self.wire.next_event()
            if isinstance(event, Data):
                self._body.append(event.data)
                self._body_size += len(event.data)
                if self._body_size > self.worker.settings.request_buffer:
                    return True
            else:
                return isinstance(event, EndOfMessage)

    def _begin_content(self, fields: FieldBlock) -> bool:
        """True if the content is to be collected; one known to be too large for that is left to the application."""
        self._since = clock()
        self._slack = int(self.timeout * 1000)
        self._body_size = 0
        if (fields.content_length or 0) > self.worker.settings.request_buffer:
            return False
        if self.wire.awaits_continue:
            self.write(self.wire.send(CONTINUE))
        return True

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

    def next_event(self) -> Received:
        """What comes next of the content; waits for it on this thread. Raises `RemoteError` and `PeerGone`."""
        wire = self.wire
        while (event := wire.next_event()) is NEED_DATA:
            if wire.awaits_continue and wire.sending is HEAD:
                self.emit(CONTINUE)
            self._since = clock()  # what the application took before it asked is not the client's time
            data = self.receive(self.content_deadline(0))
            self.content_deadline(len(data))
            wire.receive_data(data)
            self.worker.beat()
        return event if isinstance(event, Data) else END

    # Serving: by one thread, which may wait.

    def serve(self) -> None:
        """Run the exchange of `request`, and of those that arrived behind it. What goes wrong ends here."""
        try:
            while self._exchange() and self.wire.has_begun and self.advance():
                pass
        except RemoteError as error:
            self.refuse(error)
        except PeerGone as error:
            log.debug("Closing connection. %s: %s", self, error)
            self.alive = False

    def _exchange(self) -> bool:
        """One request and its answer. True if the next request may follow at once."""
        worker, request = self.worker, self.request
        assert request is not None
        line, fields = request
        self.began = time.monotonic()
        exchange = None
        try:
            decision = fields.trust or worker.policy.apply(fields, self.peer[0])
            environ = environs.build(self._environ, request, decision)
            input = self._input(environ) if fields.has_body else None
            exchange = Exchange(worker.app, environ, self, input, worker.settings.sendfile)
            exchange.run()
        except PeerGone as error:
            log.debug("Ignored premature client disconnection. %s: %s", self, error)
            self.wire.keep_alive = False
        except RemoteError as error:
            self.refuse(error)
        except AppError as error:
            log.error("Error handling request %s %s: %s", line.method, line.target, error, exc_info=True)
            self._apologise()
        except BaseException:  # an application may exit; asyncio.CancelledError and gevent.Timeout are no Exception
            log.exception("Error handling request %s %s", line.method, line.target)
            self._apologise()
        worker.finished(self, request, exchange)
        if self.alive and self.wire.next_cycle():
            self.request = None
            return not self.unsent
        self.alive = False
        self.wary |= self.wire.receiving is BODY or bool(self.wire.leftover())
        return False

    def _input(self, environ: environs.Environ) -> Input | None:
        """Set `wsgi.input`: a file in memory if all content has arrived, else one that waits for the rest."""
        content = b"".join(self._body)
        self._body = []
        if self.wire.receiving is not BODY:
            environ["wsgi.input"] = BytesIO(content)
            return None
        environ["wsgi.input"] = input = Input(content, self.next_event)
        return input

    def refuse(self, error: RemoteError) -> None:
        """They broke the protocol: answer, one warning line, close. Never waits."""
        log.warning("Invalid request from ip=%s: %s", self.peer[0], error)
        self._answer(error.status)

    def _apologise(self) -> None:
        """The application failed: 500 if nothing was sent yet, else the client sees that something is missing."""
        self.worker.failed()
        self._answer(500)

    def _answer(self, status: int) -> None:
        self.alive = False
        self.wary = True
        if self.wire.sending is not HEAD:
            return
        self.answer, body = refusal(status)
        try:
            self.emit(self.answer, Data(body), END)
        except PeerGone as error:
            log.debug("Closing connection. %s: %s", self, error)

    def moved(self) -> None:
        """The client has taken something: a worker that waits for it is not stuck."""
        self.worker.beat()

    # The sink of an exchange.

    def early_hints(self, headers: Headers) -> None:
        """`wsgi.early_hints`: send 103 with these headers (RFC 8297) before the response."""
        self.emit(early_hints(headers))

    def emit(self, *events: Sendable) -> None:
        """Send the events as one write. Waits where a stream outruns its client. Raises `PeerGone`."""
        pieces: Iterator[bytes] = map(self.wire.send, events)
        self.write(b"".join(pieces))
        if events[-1] is not END:
            self.worker.beat()
            if self.unsent:
                self.throttle()

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
