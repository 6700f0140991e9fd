"""A connection that is served by a thread or a greenlet, which may wait: the way of WSGI.

The loop collects a request, then one of them runs it with those that came behind it.
"""

import logging
import socket
import time
from io import BytesIO
from typing import TYPE_CHECKING, Any

from monoceros.gateway import environ as environs
from monoceros.gateway.input import Input
from monoceros.gateway.requestid import KEY
from monoceros.gateway.wsgi import Exchange, Headers, early_hints
from monoceros.listener import Listener, Peer
from monoceros.ops.jsonlines import current
from monoceros.wire.events import (
    CONTINUE,
    END,
    NEED_DATA,
    AppError,
    Data,
    EndOfMessage,
    PeerGone,
    Received,
    RemoteError,
    Request,
    Sendable,
)
from monoceros.wire.fields import FieldBlock
from monoceros.wire.h1 import BODY, HEAD
from monoceros.worker.connection import Connection

if TYPE_CHECKING:
    from monoceros.worker.wsgi import WsgiWorker

log = logging.getLogger("gunicorn.error")


class BlockingConnection(Connection):
    """One client of a WSGI application. `advance` collects a request, `serve` answers it and those behind it."""

    __slots__ = ("_body", "_body_size", "_environ")

    worker: "WsgiWorker[Any]"

    def __init__(self, worker: "WsgiWorker[Any]", listener: Listener, sock: socket.socket, peer: Peer) -> None:
        super().__init__(worker, listener, sock, peer)
        self._environ = environs.connection_part(worker.environ, listener.server, peer, sock)
        # Of the connection, not of the exchange, which would hold on to its environ and be held by it.
        self._environ["wsgi.early_hints"] = self.early_hints
        self._body: list[bytes] = []
        self._body_size = 0

    def close(self) -> None:
        """Close the socket, and undo the reference cycles, which would keep all this until it is collected."""
        super().close()
        self._environ.clear()

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
        self.begin_content()
        self._body_size = 0
        if (fields.content_length or 0) > self.worker.settings.request_buffer:
            return False
        if self.wire.awaits_continue:
            self.write(self.wire.send(CONTINUE))
        return True

    def next_event(self) -> Received:
        """What comes next of the content; waits for it on this thread. Raises `RemoteError` and `PeerGone`."""
        wire = self.wire
        while (event := wire.next_event()) is NEED_DATA:
            if wire.awaits_continue and wire.sending is HEAD:
                self.emit(CONTINUE)
            self.pause_content()  # what the application took before it asked is not the client's time
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
        self.began = began = time.monotonic()
        if began >= worker.ask_at:
            worker.look_back(self, began)
        self.waited = worker.wait
        if worker.slow is not None:
            worker.slow.wake()
        exchange = None
        try:
            decision = fields.trust or worker.policy.apply(fields, self.peer[0])
            if worker.pre_request is not None:
                worker.look_ahead(self)
            environ = environs.build(self._environ, request, decision)
            if worker.ids is not None:
                self.request_id = environ[KEY] = request_id = worker.ids.decide(fields, self.peer[0])
                current.set(request_id)  # for whatever this thread logs
            input = self._input(environ) if fields.has_body else None
            exchange = Exchange(worker.app, environ, self, input, worker.settings.sendfile)
            exchange.run()
        except PeerGone as error:
            log.debug("Ignored premature client disconnection. %s: %s", self, error)
            self.wire.keep_alive = False
        except RemoteError as error:
            self.refuse(error)
        except AppError as error:
            where = worker.redaction.target(line.target)
            log.error("Error handling request %s %s: %s", line.method, where, error, exc_info=True)
            self.apologise()
        except BaseException:  # an application may exit; asyncio.CancelledError and gevent.Timeout are no Exception
            log.exception("Error handling request %s %s", line.method, worker.redaction.target(line.target))
            self.apologise()
        worker.count(self, request, exchange)
        if worker.ids is not None:
            self.request_id = None
            current.set(None)
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

    # The sink of an exchange.

    def early_hints(self, headers: Headers) -> None:
        """`wsgi.early_hints`: send 103 with these headers (RFC 8297) before the response."""
        self.emit(early_hints(headers))

    def emit(self, *events: Sendable) -> None:
        """Send the events as one write. Waits where a stream outruns its client. Raises `PeerGone`."""
        super().emit(*events)
        if events[-1] is not END:
            self.worker.beat()
            if self.unsent:
                self.throttle()

    def moved(self) -> None:
        """The client has taken something: a worker that waits for it is not stuck."""
        self.worker.beat()
