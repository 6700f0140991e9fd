"""WebSocket on an asyncio loop: the frames of a connection, and the call of the application that they are for."""

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from monoceros.gateway.asgi import Message
from monoceros.gateway.websocket import WebSocketExchange
from monoceros.settings.table import Settings
from monoceros.wire import messages, ws
from monoceros.wire.events import PAUSED, PeerGone, Request, Sendable
from monoceros.wire.response import Response
from monoceros.worker.call import Call
from monoceros.worker.transport import UNSENT

if TYPE_CHECKING:
    from monoceros.worker.stream import Stream

log = logging.getLogger("gunicorn.error")

# What may wait for the application before the client is not read any more, in bytes. One message more may come.
QUEUED: Final = 65536

# How many messages are taken from one client before the others have a turn.
IN_A_ROW: Final = 64

# How long the peer may take to answer a close frame, in seconds.
CLOSE_PATIENCE: Final = 10.0

# RFC 6455 §7.4.1, and the registry of RFC 6455 §11.7
ABNORMAL: Final = 1006
INTERNAL_ERROR: Final = 1011
SERVICE_RESTART: Final = 1012


class Sockets:
    """Who may have a WebSocket, and how. `log` gets a line when one is accepted or refused, as Uvicorn's does."""

    def __init__(self, settings: Settings, log: logging.Logger | None) -> None:
        self.settings = settings
        self.log = log
        self._missing = not ws.available()
        self._on = settings.ws != "none"

    def wanted(self, request: Request) -> bool:
        """Does the request ask for a WebSocket, and may it have one?"""
        if not self._on or not ws.wants(request):
            return False
        if self._missing:
            self._on = False
            log.warning("A client asks for WebSocket, which needs a library: pip install 'monoceros[asgi]'")
            return False
        return True

    def call(self, stream: "Stream", request: Request) -> "WebSocketCall":
        """The call of the application for a request that is `wanted`. Raises `RemoteError`."""
        handshake = ws.Handshake(
            request, deflate=self.settings.ws_per_message_deflate, max_size=self.settings.websocket_max_message_size
        )
        return WebSocketCall(self, stream, request, handshake)


class WebSocketCall(WebSocketExchange, Call):
    """A WebSocket with the application: `receive` and `send`."""

    def __init__(self, sockets: Sockets, stream: "Stream", request: Request, handshake: ws.Handshake) -> None:
        self.socket = Socket(sockets, stream, handshake, self)
        super().__init__(self.socket)
        self.stream = stream
        self.request = request
        self.subprotocols = handshake.subprotocols
        self.is_gone = False

    @property
    def over(self) -> bool:  # type: ignore[override]
        """Is nothing more expected of the application?"""
        return self.finished

    @property
    def settled(self) -> bool:
        """An application that listens on after the end is not waited for: its client has gone."""
        return False

    async def receive(self) -> Message:
        """The next message for the application; waits for it."""
        if self.queued:
            await self.give_way()  # before the message is taken: it must not be lost if this is cancelled
        while (message := self.message()) is None:
            await self.change()
        self.socket.read_on()
        return message

    async def send(self, message: Message) -> None:
        """Do what the message asks for. Waits where the application outruns its client.

        Raises `AppError` for what may not be sent, and `PeerGone`, an OSError, where the client is gone.
        """
        stream = self.stream
        try:
            self.take(message)
        except PeerGone:
            if not self.finished:
                stream.lost()
            raise
        if self.is_gone:
            return  # to close then is no fault, and nothing that became of it
        self.socket.told(message)
        if stream.unsent:
            await stream.drained(self)
        await self.give_way()

    def arrived(self, data: bytes) -> None:
        """Frames, or the client's end."""
        self.socket.arrived(data)

    def gone(self) -> None:
        """The client is not there any more."""
        self.is_gone = True
        self.closed(ABNORMAL, "")
        self.socket.let_go()

    def returned(self) -> None:
        """The application has left: a normal close, or 500 where it has not answered."""
        if not self.started:
            log.error("ASGI callable returned without starting response. (%s)", self.stream)
        self.abandon()

    def raised(self) -> None:
        """The application has failed: a close with 1011, or 500."""
        self.stream.worker.failed()
        if not self.finished:
            self.fail()

    def flushed(self) -> None:
        """The client has taken what it was sent: it may be read again."""
        self.socket.read_on()

    def left(self) -> None:
        """The task has ended: where the WebSocket is open, the closing handshake is still waited for."""
        if not (self.accepted and self.finished):
            self.stream.finish(self)


class Socket:
    """The frames of one WebSocket: the sink of its exchange, and the reader of what the client sends."""

    def __init__(self, sockets: Sockets, stream: "Stream", handshake: ws.Handshake, call: WebSocketCall) -> None:
        self._sockets = sockets
        self._stream = stream
        self._handshake = handshake
        self._call = call
        self._frames: ws.WSConnection | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._pings = 0
        self._coming = False  # the loop was asked to read on

    # The sink.

    def accept(self, subprotocol: str | None, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """Switch to WebSocket. What the client has sent already is read as frames. Raises `AppError`, `PeerGone`."""
        stream = self._stream
        head, frames = self._handshake.accept(subprotocol, fields, stream.worker.defaults)
        stream.write(head)
        self._frames = frames
        if stream.wire.pending:
            frames.receive_data(stream.wire.leftover())
        self._ping_later()
        stream.worker.loop.call_soon(self.read_on)

    def send(self, data: str | bytes) -> None:
        """Send a message. Raises `AppError`, `PeerGone`."""
        assert self._frames is not None
        self._frames.send(data)
        self._flush()

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake. Raises `AppError`, `PeerGone`."""
        assert self._frames is not None
        self._frames.close(code, reason)
        self._flush()
        self.forget()
        self._timers.append(self._stream.worker.loop.call_later(CLOSE_PATIENCE, self._stream.lost))

    def emit(self, *events: Sendable) -> None:
        """Send events of a response that is no WebSocket. Raises `PeerGone`."""
        self._stream.wire.closing = True
        self._stream.emit(*events)

    def respond(self, response: Response, content: bytes) -> None:
        """Send a whole response that is no WebSocket. Raises `PeerGone`."""
        self._stream.wire.closing = True
        self._stream.respond(response, content)

    def told(self, message: Message) -> None:
        """The application has sent this: say in the log what became of its WebSocket."""
        call = self._call
        if message["type"] == "websocket.accept":
            self._say("[accepted]")
        elif call.finished and not call.accepted:
            self._say(str(call.status))
            self._stream.finish(call)

    def _say(self, outcome: str) -> None:
        if self._sockets.log is None:
            return
        host, port = self._stream.client
        where = f"{host}:{port}" if host else ""
        target = self._stream.worker.redaction.target(self._call.request.line.target)
        self._sockets.log.info('%s - "WebSocket %s" %s', where, target, outcome)

    # The client.

    def arrived(self, data: bytes) -> None:
        """Take bytes from the client. Before the answer they wait in the wire."""
        if self._frames is not None:
            self._frames.receive_data(data)
            self.read_on()
        elif data:
            self._stream.wire.receive_data(data)
            self._stream.hold_back()
        else:
            self._stream.lost()

    def read_on(self) -> None:
        """Hand on the messages that have come, as long as the application takes them."""
        frames, call, stream = self._frames, self._call, self._stream
        if frames is None or stream.call is not call or self._coming:
            return
        there_is_more = self._take(frames)
        call.changed()
        try:
            self._flush()
        except PeerGone:
            stream.lost()
            return
        if frames.must_close_tcp or frames.closed:
            self._finish()
        elif call.queued > QUEUED or stream.unsent_size > UNSENT:
            stream.stop_reading()
        elif there_is_more:
            stream.stop_reading()
            self._coming = True
            stream.worker.loop.call_soon(self._come)
        else:
            stream.start_reading()

    def _take(self, frames: ws.WSConnection) -> bool:
        """Give messages to the call. True if there may be more that it would take: now the others have a turn."""
        call = self._call
        for _ in range(IN_A_ROW):
            if call.queued > QUEUED:
                return False
            event = frames.next_event()
            if isinstance(event, messages.Message):
                call.received(event.data)
            elif isinstance(event, ws.ClosedByPeer):
                call.closed(event.code, event.reason)
            else:
                return event is PAUSED
        return True

    def _come(self) -> None:
        self._coming = False
        self.read_on()

    def _flush(self) -> None:
        assert self._frames is not None
        data = self._frames.outgoing()
        if data:
            self._stream.write(data)
            if self._stream.unsent:
                self._stream.start_writing()

    def _finish(self) -> None:
        """Both sides have said their last word, or the client has gone."""
        call, stream = self._call, self._stream
        self.forget()
        stream.finish(call)
        if call.task is not None:
            stream.forsake(call)

    # Signs of life.

    def _ping_later(self) -> None:
        interval = self._sockets.settings.ws_ping_interval
        if interval:
            self._timers.append(self._stream.worker.loop.call_later(interval, self._ping))

    def _ping(self) -> None:
        frames, patience = self._frames, self._sockets.settings.ws_ping_timeout
        assert frames is not None
        self._timers = [timer for timer in self._timers if timer.when() > self._stream.worker.loop.time()]
        self._pings += 1
        frames.ping(b"%d" % self._pings)
        try:
            self._flush()
        except PeerGone:
            self._stream.lost()
            return
        self._ping_later()
        if patience:
            self._timers.append(self._stream.worker.loop.call_later(patience, self._look_for_pong, self._pings))

    def _look_for_pong(self, number: int) -> None:
        frames, call, stream = self._frames, self._call, self._stream
        assert frames is not None
        pong = frames.latest_pong or b""
        if pong.isdigit() and number <= int(pong[:20]) <= self._pings:  # and not what was never asked for
            return
        if not stream.listening:  # because the application is slow: the pong may have come
            patience = self._sockets.settings.ws_ping_timeout
            self._timers.append(stream.worker.loop.call_later(patience, self._look_for_pong, number))
            return
        log.debug("%s: no pong for %g s", stream, self._sockets.settings.ws_ping_timeout)
        call.closed(INTERNAL_ERROR, "keepalive ping timeout")
        call.changed()
        try:
            self.close(INTERNAL_ERROR, "keepalive ping timeout")
        except PeerGone as error:
            log.debug("Closing connection. %s: %s", stream, error)
        self._finish()

    def forget(self) -> None:
        """Nothing is waited for any more."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def let_go(self) -> None:
        """Nothing comes or goes any more."""
        self.forget()
        self._frames = None
        self._handshake.forget()

    def restart(self) -> None:
        """The server stops or is replaced: say so to both, and let them finish."""
        call = self._call
        if self._frames is None or call.finished:
            return
        call.closed(SERVICE_RESTART, "")
        call.changed()
        try:
            self.close(SERVICE_RESTART, "")
        except PeerGone:
            self._stream.lost()
