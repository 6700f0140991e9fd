"""WebSocket over HTTP/1.1, the server's side (RFC 6455, RFC 7692).

The handshake and the frames are the business of the library `websockets`, of which only the core without input
and output is used; it is imported when the first client wants it. Here is what it leaves to its caller: whole
messages, UTF-8, exact limits, and our own events. Bytes go in by `receive_data`, events come out of
`next_event`, and all there is to be written out of `outgoing`.
"""

import importlib.util
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from monoceros.wire.events import NEED_DATA, PAUSED, AppError, Pause, PeerGone, RemoteError, Request, UpgradeRequired
from monoceros.wire.messages import Assembler, Message
from monoceros.wire.response import Defaults, Response, serialise

if TYPE_CHECKING:
    from websockets.extensions.base import Extension
    from websockets.server import ServerProtocol
    from websockets.typing import LoggerLike

# RFC 6455 §5.5: what a control frame may hold.
CONTROL_SIZE: Final = 125

# RFC 6455 §7.4.1: one without a meaning, and those that say what no close frame has said.
RESERVED: Final = frozenset((1004, 1005, 1006))
NORMAL: Final = 1000
ABNORMAL: Final = 1006
# RFC 6455 §5.5.1: a control frame, less the two bytes of the code.
REASON_SIZE: Final = CONTROL_SIZE - 2

# The library reads what it is given to the end before we see the first message. So little at a time bounds what
# may unfold at once, which with compression is a thousand times as much.
AT_ONCE: Final = 4096

# A frame without content costs as much time as a large one, and a piece may hold 682 of them. After so many in one
# piece the next pieces are smaller, until frames are of 64 bytes on average again.
MANY: Final = 32
A_LITTLE: Final = 512

# A window of 4 KB for each direction (RFC 7692 §7.1.2). The defaults cost 300 KB a connection, and gain little.
WINDOW_BITS: Final = 12
COMPRESSION: Final = {"memLevel": 5}

# RFC 6455 §4.2.2: what the handshake says itself, and what would turn the 101 into something else.
NOT_THE_APPLICATIONS: Final = frozenset((b"connection", b"content-length", b"transfer-encoding", b"upgrade"))
OUR_PREFIX: Final = b"sec-websocket-"

# What the handshake is about; the library need not see the rest.
ITS_FIELDS: Final = frozenset((b"connection", b"origin", b"upgrade"))

SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols"


class ClosedByPeer(NamedTuple):
    """There will be no more messages: code and reason as in RFC 6455 §7.1.5 and §7.1.6.

    1005 is a close frame without a code, 1006 the end without a close frame. Where the peer broke the protocol it
    is the code that we have closed with: 1002, 1007 or 1009.
    """

    code: int
    reason: str


class Quiet(logging.LoggerAdapter[logging.Logger]):
    """For the library: its debug lines show what people say to each other, and its other lines are ours to say."""

    def isEnabledFor(self, level: int) -> bool:
        return level >= logging.WARNING and super().isEnabledFor(level)


log = Quiet(logging.getLogger("gunicorn.error"), {})


def available() -> bool:
    """Whether the library is installed. It is not imported by that."""
    return importlib.util.find_spec("websockets") is not None


def wants(request: Request) -> bool:
    """Whether this request asks to speak WebSocket (RFC 6455 §4.1); whether it does so properly is for `Handshake`."""
    fields = request.fields
    return (
        fields.upgrade == b"websocket"
        and b"upgrade" in fields.connection  # RFC 9110 §7.8: else Upgrade is not meant for us
        and request.line.method == "GET"
        and request.line.version == "HTTP/1.1"
        and not fields.has_body
    )


class Handshake:
    """What a client wants that asks for WebSocket: checked, and not answered yet.

    `subprotocols` are those offered, as they were sent. `deflate` allows compression, if the client offers it;
    `max_size` bounds a message, in bytes after decompression, 0 for no bound. Raises `RemoteError`.
    """

    __slots__ = ("_assembler", "_core", "_fields", "subprotocols")

    def __init__(self, request: Request, *, deflate: bool, max_size: int) -> None:
        from websockets.datastructures import Headers
        from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
        from websockets.http11 import Request as Opening
        from websockets.protocol import State
        from websockets.server import ServerProtocol

        fields = [
            (name.decode("ascii"), value.decode("latin-1"))
            for name, value in request.fields
            if name in ITS_FIELDS or name.startswith(OUR_PREFIX)
        ]
        factory = ServerPerMessageDeflateFactory(
            server_max_window_bits=WINDOW_BITS, client_max_window_bits=WINDOW_BITS, compress_settings=COMPRESSION
        )
        # OPEN, since it is not to parse the request again. A control frame may come in the middle of a message that
        # is nearly full, but the library compares it with what is left: so there is room for it, and the
        # assembler knows the exact limit.
        core = self._core = ServerProtocol(
            state=State.OPEN,
            extensions=[factory] if deflate else None,
            max_size=max_size + CONTROL_SIZE if max_size else None,
            logger=cast("LoggerLike", log),
        )
        answer = core.accept(Opening(request.line.target, Headers(fields)))
        if core.handshake_exc is not None:
            raise _refused(core.handshake_exc)
        self._fields = [
            (name.encode("ascii"), answer.headers[name].encode("ascii"))
            for name in ("Upgrade", "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Extensions")
            if name in answer.headers
        ]
        self._assembler = Assembler(max_size, core.extensions)
        core.extensions = [cast("Extension", self._assembler), *core.extensions]
        self.subprotocols = [
            item for name, value in fields if name == "sec-websocket-protocol" for item in _items(value)
        ]

    def accept(
        self, subprotocol: str | None, fields: Iterable[tuple[bytes, bytes]], defaults: Defaults
    ) -> tuple[bytes, "WSConnection"]:
        """The head of the 101 that says yes, and the connection behind it. To be called once.

        Raises `AppError` for a subprotocol that was not offered (RFC 6455 §4.2.2), and for fields that cannot be
        sent or are not the application's to send.
        """
        own = list(self._fields)
        if subprotocol is not None:
            if subprotocol not in self.subprotocols:
                raise AppError(f"the client has not offered the subprotocol {subprotocol!r}"[:200])
            own.append((b"Sec-WebSocket-Protocol", subprotocol.encode("ascii")))
        fields = list(fields)
        for name, _ in fields:
            if name.lower() in NOT_THE_APPLICATIONS or name.lower().startswith(OUR_PREFIX):
                raise AppError(f"{name[:100]!r} is not a header that an application may send when it accepts")
        # Not the status, but the rules for fields are those of any response, and for who says Server and Date.
        given = Response(200, fields)
        head = serialise(SWITCHING, [*own, *given.fields])
        return head + defaults.lines_beside(given) + b"\r\n", WSConnection(self._core, self._assembler)

    def forget(self) -> None:
        """Let go of all that takes memory, once nothing more is to come or to go.

        The library's objects refer to each other in circles, which the collector opens late. Until then they would
        keep the compressors, and as much of an unfinished message as there may be.
        """
        self._core.extensions.clear()
        self._core.reader.buffer.clear()
        self._assembler.forget()


def _items(value: str) -> list[str]:
    """The elements of a list that the library has checked to be one of tokens (RFC 9110 §5.6.1)."""
    return [item for item in (part.strip(" \t") for part in value.split(",")) if item]


def _refused(error: Exception) -> RemoteError:
    """Why the library refuses a handshake, as an error of ours."""
    from websockets.exceptions import InvalidHeaderValue

    text = f"invalid WebSocket handshake: {error}"[:200]
    if isinstance(error, InvalidHeaderValue) and error.name == "Sec-WebSocket-Version":
        return UpgradeRequired(text)
    return RemoteError(text)


class WSConnection:
    """The state of one WebSocket connection that is open. Not to be used by two threads at once.

    Whoever drives it calls `next_event` until it needs data, and writes `outgoing()` after that and after all that
    sends. It must not read more from a peer that does not take what is written: each ping is answered, and nothing
    else bounds `outgoing()`. What it has read and not asked events of is kept; so to stop reading holds up a
    flood, before anything of it was decompressed.
    """

    __slots__ = ("_assembler", "_at", "_closing", "_core", "_data", "_eof", "_piece", "_told")

    def __init__(self, core: "ServerProtocol", assembler: Assembler) -> None:
        self._core = core
        self._assembler = assembler
        self._data = b""
        self._at = 0  # what stands before this position was given to the library
        self._piece = AT_ONCE
        self._eof = False
        self._closing = False
        self._told = False

    @property
    def closing(self) -> bool:
        """Our close was sent, on our own account or in answer to the peer."""
        return self._core.close_sent is not None

    @property
    def closed(self) -> bool:
        """The peer has closed, broken the protocol, or gone, and all that came before was handed out."""
        return self._told

    @property
    def must_close_tcp(self) -> bool:
        """When `outgoing()` is written, the server closes the connection (RFC 6455 §7.1.1)."""
        return self._told and self._core.eof_sent

    @property
    def _ended(self) -> bool:
        """The library has met the end, while messages before it may still be here."""
        return self._core.close_rcvd is not None or self._core.parser_exc is not None

    @property
    def latest_pong(self) -> bytes | None:
        """The content of the last pong that has come, asked for or not; None if there was none."""
        return self._assembler.latest_pong

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; b"" says that it will send no more. What comes after the end is dropped."""
        if not data:
            self._eof = True
        elif self._ended or self._eof:
            return
        elif self._at == len(self._data):
            self._data = data
            self._at = 0
        else:
            self._data = self._data[self._at :] + data
            self._at = 0

    def next_event(self) -> Message | ClosedByPeer | Pause:
        """The next event; NEED_DATA until there is one, and for ever after `ClosedByPeer`, which comes once.

        PAUSED in the middle of a flood of control frames: to be asked again, when others have had a turn.
        """
        messages = self._assembler.messages
        while not messages:
            if not self._advance():
                return NEED_DATA if self._told or not self._ended else self._farewell()
            if self._piece == A_LITTLE and not messages:
                return PAUSED
        return messages.popleft()

    def _advance(self) -> bool:
        """Give the library some more of what has come. False if there is nothing more for it."""
        core = self._core
        if self._ended:
            self._data = b""
            self._at = 0
            return False
        if self._at < len(self._data):
            some = self._data[self._at : self._at + self._piece]
            self._at += len(some)
            before = self._assembler.frames
            core.receive_data(some)
            found = self._assembler.frames - before
            if found > MANY:
                self._piece = A_LITTLE
            elif found * 64 < len(some):
                self._piece = AT_ONCE
        elif self._eof:
            core.receive_eof()
        else:
            return False
        core.events_received()  # the same frames that the assembler has seen
        return True

    def _farewell(self) -> ClosedByPeer:
        core = self._core
        self._told = True
        if core.close_rcvd is not None:
            return ClosedByPeer(int(core.close_rcvd.code), core.close_rcvd.reason)
        if core.close_sent is not None and not self._closing:
            return ClosedByPeer(int(core.close_sent.code), core.close_sent.reason)
        return ClosedByPeer(ABNORMAL, "")

    def send(self, message: str | bytes) -> None:
        """Send a message in one frame. Raises `PeerGone` if the peer has closed, `AppError` if we have."""
        if self._ended:
            raise PeerGone("the peer has closed the WebSocket connection")
        if self._closing:
            raise AppError("a message after the close of a WebSocket connection")
        if isinstance(message, str):
            try:
                self._core.send_text(message.encode())
            except UnicodeEncodeError as error:
                raise AppError(f"text that is not Unicode: {error.reason} at {error.start}") from None
        else:
            self._core.send_binary(message)

    def ping(self, payload: bytes = b"") -> None:
        """Ask for a sign of life, at most 125 bytes, which come back as `latest_pong`. Not once the end has begun."""
        if not (self._ended or self._closing):
            self._core.send_ping(payload)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Begin the closing handshake (RFC 6455 §7.1.2). Nothing if it has begun.

        Raises `AppError` for a code that may not be sent, and for a reason of over 123 bytes.
        """
        data = check_close(code, reason)
        if not (self._ended or self._closing):
            self._closing = True
            self._core.send_close(code, data)

    def outgoing(self) -> bytes:
        """All that is to be written now: what was sent, and what the protocol answers by itself."""
        return b"".join(self._core.data_to_send())


def check_close(code: int, reason: str) -> str:
    """The reason, if it may be sent with this code in a close frame (RFC 6455 §5.5.1, §7.4). Raises `AppError`."""
    if not (NORMAL <= code <= 1014 or 3000 <= code <= 4999) or code in RESERVED:
        raise AppError(f"{code} is not a close code that may be sent (RFC 6455 §7.4)")
    try:
        size = len(reason.encode())
    except UnicodeEncodeError as error:
        raise AppError(f"a reason that is not Unicode: {error.reason} at {error.start}") from None
    if size > REASON_SIZE:
        raise AppError(f"a reason of {size} bytes: a close frame has room for {REASON_SIZE}")
    return reason
