"""One ASGI exchange over WebSocket: which messages are legal when, and what they mean. No await in this file.

See https://asgi.readthedocs.io/en/latest/specs/www.html#websocket (2.5), and the extension websocket.http.response
for answers that are no WebSocket.
"""

import sys
from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from enum import Enum
from typing import Any, Final, Protocol

from monoceros.wire.events import END, AppError, Data, PeerGone, Sendable
from monoceros.wire.response import WITHOUT_CONTENT, Response, refusal

# Close codes of RFC 6455 §7.4.1, as an application meets them.
NORMAL: Final = 1000
ABNORMAL: Final = 1006
INTERNAL_ERROR: Final = 1011

# The application closes what it has not accepted.
FORBIDDEN: Final = Response(403, [(b"Content-Length", b"0")])

Fields = Sequence[tuple[bytes, bytes]]
AsgiMessage = MutableMapping[str, Any]


class Sink(Protocol):
    """Where an exchange's messages go: the connection. `emit` and `respond` speak HTTP, before `accept`."""

    def accept(self, subprotocol: str | None, fields: Fields) -> None:
        """Switch to WebSocket. Raises `AppError` for what cannot be sent, `PeerGone`."""

    def send(self, data: str | bytes) -> None:
        """Send a message. Raises `AppError` for text that is not Unicode, `PeerGone`."""

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake. Raises `AppError` for a code or a reason that cannot be sent, `PeerGone`."""

    def emit(self, *events: Sendable) -> None:
        """Send the events of a response, as one write where that is possible. Raises `PeerGone`."""

    def respond(self, response: Response, content: bytes) -> None:
        """Send a whole response. Raises `PeerGone`."""


class State(Enum):
    """How far an exchange is. The values end sentences about a message that came at the wrong time."""

    CONNECTING = "before websocket.accept"
    OPEN = "after websocket.accept"
    DENYING = "after websocket.http.response.start"
    CLOSED = "after websocket.close, or the end of the response"


class WebSocketExchange:
    """One WebSocket connection as its application sees it.

    `received` and `closed` tell of the client, `message` and `take` serve the application. `status` is what went
    out: 101, 403, or that of the response; None as long as nothing did. `response` is that other than the 101, and
    `sent` counts the content that the application has given, in bytes, of messages or of the response. `queued` is
    the memory, in bytes, of what was received and not taken: more than its content, so that a flood of empty
    messages counts, too.
    """

    __slots__ = (
        "_end",
        "_gone",
        "_greeted",
        "_queue",
        "_sink",
        "_state",
        "accepted",
        "queued",
        "response",
        "sent",
        "status",
    )

    environ = None  # which access logs may ask for

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._state = State.CONNECTING
        self._greeted = False
        self._gone = False
        self._queue: deque[str | bytes] = deque()
        self._end = ABNORMAL, ""
        self.accepted = False
        self.response: Response | None = None
        self.sent = 0
        self.status: int | None = None
        self.queued = 0

    @property
    def started(self) -> bool:
        """Has anything been sent?"""
        return self.status is not None

    @property
    def finished(self) -> bool:
        """Nothing more is to be sent, and what was sent is whole. A worker cuts off what never gets here."""
        return self._state is State.CLOSED

    # What comes from the client.

    def received(self, data: str | bytes) -> None:
        """A message has come. Nobody will want it once the end is decided."""
        if self._state is State.OPEN:
            self._queue.append(data)
            self.queued += sys.getsizeof(data)

    def closed(self, code: int, reason: str) -> None:
        """The client has closed or is gone (1006), or the server leaves it (1012). Who ended it first is right."""
        if self._state is not State.CLOSED:
            self._gone = True
            self._finish(code, reason)

    def message(self) -> AsgiMessage | None:
        """What `receive` returns next; None if that is yet to come. After websocket.disconnect nothing else does."""
        if not self._greeted:
            self._greeted = True
            return {"type": "websocket.connect"}
        if self._queue:
            data = self._queue.popleft()
            self.queued -= sys.getsizeof(data)
            return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}
        if self._state is State.CLOSED:
            code, reason = self._end
            return {"type": "websocket.disconnect", "code": code, "reason": reason}
        return None

    # What comes from the application.

    def take(self, message: AsgiMessage) -> None:
        """Do what the application says.

        Raises `AppError` for a message that is not legal, or not now, and nothing is sent for it. When the client
        is gone, raises `PeerGone`, an OSError as the specification asks; but to close then is no fault.
        """
        kind = message.get("type") if isinstance(message, dict) else None
        if not isinstance(kind, str) or kind not in KINDS:
            raise AppError(f"no message for a websocket: {kind!r}"[:200])
        if self._gone:
            if kind == "websocket.close":
                return
            raise PeerGone(f"{kind}: the client is gone")
        step = LEGAL[self._state].get(kind)
        if step is None:
            raise AppError(f"{kind} was sent {self._state.value}")
        step(self, message)

    def abandon(self) -> None:
        """The application has returned. What it has left open is closed: 500, or a normal close. Raises `PeerGone`."""
        self._leave(NORMAL)

    def fail(self) -> None:
        """The application has raised: 500, or a close with 1011. Raises `PeerGone`."""
        self._leave(INTERNAL_ERROR)

    def _leave(self, code: int) -> None:
        if self._state is State.OPEN:
            self._finish(code, "")
            self._sink.close(code, "")
        elif self._state is not State.CLOSED and self.status is None:
            self._respond(*refusal(500))
        # Otherwise a response has begun and will not end: the client must see that something is missing.

    def _finish(self, code: int, reason: str) -> None:
        self._state = State.CLOSED
        self._end = code, reason

    def _respond(self, response: Response, content: bytes) -> None:
        """Send a whole response, and that is the end."""
        self._finish(ABNORMAL, "")
        self.response = response
        self.status = response.status
        self.sent = len(content)
        self._sink.respond(response, content)

    def _accept(self, message: AsgiMessage) -> None:
        subprotocol = message.get("subprotocol")
        if not (subprotocol is None or isinstance(subprotocol, str)):
            raise AppError(f"websocket.accept: subprotocol must be a str, not {type(subprotocol).__name__}")
        self._sink.accept(subprotocol, _fields(message))
        self._state = State.OPEN
        self.accepted = True
        self.status = 101

    def _refuse(self, message: AsgiMessage) -> None:
        """A close before the accept: code and reason have no place in a response."""
        self._respond(FORBIDDEN, b"")

    def _send(self, message: AsgiMessage) -> None:
        text, data = message.get("text"), message.get("bytes")
        if (text is None) == (data is None):
            raise AppError("websocket.send needs one of text and bytes")
        if text is not None:
            if not isinstance(text, str):
                raise AppError(f"websocket.send: text must be a str, not {type(text).__name__}")
            self._sink.send(text)
            self.sent += len(text) if text.isascii() else len(text.encode())
        else:
            data = _bytes(message, "bytes")
            self._sink.send(data)
            self.sent += len(data)

    def _close(self, message: AsgiMessage) -> None:
        code, reason = message.get("code"), message.get("reason")
        code = NORMAL if code is None else code
        reason = "" if reason is None else reason
        if not isinstance(code, int):
            raise AppError(f"websocket.close: code must be an int, not {type(code).__name__}")
        if not isinstance(reason, str):
            raise AppError(f"websocket.close: reason must be a str, not {type(reason).__name__}")
        self._sink.close(code, reason)
        self._finish(code, reason)

    def _start(self, message: AsgiMessage) -> None:
        """Keep the head of a response. As in HTTP, it is sent with the first piece of content."""
        status = message.get("status")
        if not isinstance(status, int):
            raise AppError(f"websocket.http.response.start: status must be an int, not {type(status).__name__}")
        self.response = Response(status, _fields(message))
        self._state = State.DENYING

    def _body(self, message: AsgiMessage) -> None:
        response = self.response
        assert response is not None
        body, more = _bytes(message, "body"), bool(message.get("more_body"))
        if response.status in WITHOUT_CONTENT:
            body = b""
        elif response.length is not None:
            self._check_length(response.length, self.sent + len(body), more)
        elif not (more or self.started):
            response = response.with_length(len(body))
        if not (more or self.started):
            self._respond(response, body)
            return
        events: list[Sendable] = [] if self.started else [response]
        if body:
            events.append(Data(body))
        if not more:
            events.append(END)
            self._finish(ABNORMAL, "")
        self.status = response.status
        self.sent += len(body)
        if events:
            self._sink.emit(*events)

    def _check_length(self, length: int, content: int, more: bool) -> None:
        """Refuse content that does not fit its Content-Length, before the wire has half of it."""
        if content > length or (content < length and not more):
            raise AppError(f"websocket.http.response.body: {content} bytes of a Content-Length of {length}")


Step = Callable[[WebSocketExchange, AsgiMessage], None]

# All there is to know about the order of messages.
LEGAL: Final[dict[State, dict[str, Step]]] = {
    State.CONNECTING: {
        "websocket.accept": WebSocketExchange._accept,
        "websocket.close": WebSocketExchange._refuse,
        "websocket.http.response.start": WebSocketExchange._start,
    },
    State.OPEN: {
        "websocket.send": WebSocketExchange._send,
        "websocket.close": WebSocketExchange._close,
    },
    State.DENYING: {
        "websocket.http.response.body": WebSocketExchange._body,
    },
    State.CLOSED: {},
}
KINDS: Final = frozenset(kind for steps in LEGAL.values() for kind in steps)


def _fields(message: AsgiMessage) -> list[tuple[bytes, bytes]]:
    """The headers of a message: pairs of byte strings, in tuples or lists. Raises `AppError`."""
    fields = []
    try:
        for name, value in message.get("headers") or ():
            fields.append((name, value))
    except (TypeError, ValueError):
        raise AppError(f"{message['type']}: headers must be pairs of name and value") from None
    if not all(isinstance(each, bytes) for field in fields for each in field):
        raise AppError(f"{message['type']}: names and values of headers must be bytes")
    return fields


def _bytes(message: AsgiMessage, key: str) -> bytes:
    """A byte string in a message, empty if there is none. Raises `AppError`."""
    data = message.get(key, b"")
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise AppError(f"{message['type']}: {key} must be bytes, not {type(data).__name__}")
