"""HTTP/1.1 and 1.0, the server's side (RFC 9112).

One object a connection. Bytes go in by `receive_data`, events come out of `next_event`; events go in by
`send`, bytes come out. When both sides of an exchange are done, `next_cycle` makes ready for the next.
"""

from typing import Final

from monoceros.wire.body import (
    CHUNKED,
    NOTHING_TO_READ,
    UNTIL_CLOSE,
    Reader,
    Writer,
    reader_for,
    refuse_bare_newline,
    writer_for,
)
from monoceros.wire.events import (
    END,
    NEED_DATA,
    PAUSED,
    AppError,
    Closed,
    Data,
    EndOfMessage,
    FileSpan,
    HeadTooLarge,
    Informational,
    Limits,
    Pause,
    Received,
    RemoteError,
    Request,
    Sendable,
    TargetTooLong,
)
from monoceros.wire.fields import FieldBlock
from monoceros.wire.line import refuse_tls, request_line
from monoceros.wire.response import PHRASES, Defaults, Response, check_field, serialise


class State:
    """A place in the order of events. Compared by identity, so that a look-up costs next to nothing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


HEAD: Final = State("HEAD")
BODY: Final = State("BODY")
ENDING: Final = State("ENDING")  # receiving only: the head was the whole request, which is yet to be said
DONE: Final = State("DONE")

# All there is to know about the order of what we send. Only `next_cycle` leads back to HEAD.
SENDING: Final[dict[State, dict[type, State]]] = {
    HEAD: {Informational: HEAD, Response: BODY},
    BODY: {Data: BODY, FileSpan: BODY, EndOfMessage: DONE},
    DONE: {},
}

# An unread rest of a body up to this size does not cost the client its connection: it is likely to be
# on its way already, and taking it in is cheaper than a new connection.
WORTH_READING: Final = 65536

# What ends a head, by whether the connection stays and whether the client speaks HTTP/1.1.
CLOSE: Final = b"Connection: close\r\n\r\n"
CLOSE_CHUNKED: Final = b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
KEEP: Final = b"\r\n"
KEEP_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n\r\n"
KEEP_OLD: Final = b"Connection: keep-alive\r\n\r\n"


class H1Connection:
    """The state of one connection. Not to be used by two threads at once.

    `has_begun` says that some bytes of a request are here, or of the next one once `next_cycle` was called.
    `keep_alive` says whether the connection may go on after this exchange; a driver that wants to close
    sets `closing`, and the next head will say so.
    """

    __slots__ = (
        "_at",
        "_buffer",
        "_continued",
        "_defaults",
        "_eof",
        "_fields",
        "_head",
        "_limits",
        "_reader",
        "_request",
        "_scanned",
        "_skipped",
        "closing",
        "has_begun",
        "keep_alive",
        "receiving",
        "request",
        "sending",
        "writer",
    )

    def __init__(self, limits: Limits, defaults: Defaults) -> None:
        self._limits = limits
        self._defaults = defaults
        self._buffer: bytes | bytearray = b""
        self._at = 0  # what stands before this position was handed out
        self._scanned = 0
        self._skipped = False
        self._continued = False
        self._eof = False
        self._head: bytes | None = None  # the last head with its empty line: most clients send it again and again
        self._request: Request | None = None
        self._fields: FieldBlock | None = None
        self._reader: Reader = NOTHING_TO_READ
        self.writer: Writer = UNTIL_CLOSE
        self.receiving = HEAD
        self.sending = HEAD
        self.request: Request | None = None
        self.keep_alive = True
        self.closing = False
        self.has_begun = False

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; b"" says that it will send no more."""
        self.has_begun = True
        if not data:
            self._eof = True
        elif self._at == len(self._buffer):
            self._buffer = data
            self._at = self._scanned = 0
        else:
            # A bytearray grows in place: a head that comes byte by byte must not cost n².
            if self._at or isinstance(self._buffer, bytes):
                self._buffer = bytearray(memoryview(self._buffer)[self._at :])
                self._scanned = max(0, self._scanned - self._at)
                self._at = 0
            self._buffer += data

    def next_event(self) -> Received | Pause:
        """The next event; NEED_DATA until there is one, PAUSED until `next_cycle`. Raises `RemoteError`."""
        if self.receiving is HEAD:
            head = self._head
            # The same bytes as last time mean the same request.
            if head is not None and (self._buffer == head if not self._at else self._buffer.startswith(head, self._at)):
                assert self._request is not None
                return self._begin(self._request, self._at + len(head))
            return self._next_request()
        if self.receiving is BODY:
            event, self._at = self._reader.read(self._buffer, self._at)
            if type(event) is EndOfMessage:
                self.receiving = DONE
                self._scanned = self._at
            elif event is not NEED_DATA:
                self._continued = True  # content has come: the client does not wait to be asked for it
            elif self._eof:
                raise RemoteError("connection closed in the middle of the content")
            return event
        if self.receiving is ENDING:
            self.receiving = DONE
            return END
        return PAUSED

    def _next_request(self) -> Received | Pause:
        buffer, at = self._buffer, self._at
        if buffer[at : at + 2] == b"\r\n":
            return self._skip_empty_line()
        end = buffer.find(b"\r\n\r\n", self._scanned)
        if end < 0:
            return self._incomplete()
        self._request = request = self._parse(bytes(buffer), at, end)
        return self._begin(request, end + 4)

    def _begin(self, request: Request, at: int) -> Request:
        """The head of this request ends at `at`."""
        self.request = request
        self._at = self._scanned = at
        fields = request.fields
        self.keep_alive = fields.keep_alive
        if fields.has_body:
            self.receiving = BODY
            self._reader = reader_for(fields, self._limits)
        else:
            self.receiving = ENDING
        return request

    def _parse(self, buffer: bytes, at: int, end: int) -> Request:
        """What the head means that stands in the buffer from `at` to its empty line at `end`."""
        limits = self._limits
        line_end = buffer.find(b"\r\n", at)
        if line_end - at > limits.line > 0:
            raise TargetTooLong(f"request line of over {limits.line} bytes")
        if end - at > limits.head:
            raise HeadTooLarge(f"head of over {limits.head} bytes")
        line = request_line(buffer[at:line_end])
        if self._fields is None:
            self._fields = FieldBlock(buffer[line_end + 2 : end], line.version, limits)
        else:
            self._fields = self._fields.next(buffer, min(line_end + 2, end), end, line.version, limits)
        # Kept only where it costs no copy, which is nearly always: one head, one packet.
        self._head = buffer if not at and end + 4 == len(buffer) else None
        return Request(line, self._fields)

    def _skip_empty_line(self) -> Received | Pause:
        """RFC 9112 §2.2: one empty line before a request line is forgiven, since old clients send it."""
        if self._skipped:
            raise RemoteError("empty lines instead of a request line")
        self._skipped = True
        self._at += 2
        self._scanned = self._at
        return self._next_request()

    def _incomplete(self) -> Pause | Closed:
        """What there is to say of a head whose end has not come: too long, cut off, or to be waited for."""
        buffer, at, limits = self._buffer, self._at, self._limits
        refuse_tls(buffer, at)
        size = len(buffer) - at
        # What is here may end in a part of the CR LF, or CR LF CR LF, that is awaited: it does not count.
        if size - 1 > limits.line > 0 and buffer.find(b"\r\n", at, at + limits.line + 2) < 0:
            raise TargetTooLong(f"request line of over {limits.line} bytes")
        if size - 3 > limits.head:
            raise HeadTooLarge(f"head of over {limits.head} bytes")
        if buffer[at : at + 1] == b"\n":
            raise RemoteError("bare CR or LF")  # even if the content before it ends in a CR
        # Only what is new is looked at: a head that comes byte by byte must not cost n².
        refuse_bare_newline(buffer, max(at, self._scanned - 1))
        self._scanned = max(at, len(buffer) - 3)
        if not self._eof:
            return NEED_DATA
        if bytes(buffer[at:]).strip(b"\r\n"):
            raise RemoteError("connection closed in the middle of a head")
        return Closed()

    def send(self, event: Sendable) -> bytes:
        """The bytes that say `event`. Raises `AppError` if it may not be sent now.

        Of a `FileSpan` the content itself is for the caller to send, right behind what this returns.
        """
        try:
            after = SENDING[self.sending][type(event)]
        except KeyError:
            raise AppError(f"cannot send {type(event).__name__} in state {self.sending}") from None
        if isinstance(event, Data):
            data = self.writer.data(event.data)
        elif isinstance(event, EndOfMessage):
            data = self.writer.end(tuple((f.name, check_field(f.name, f.value)) for f in event.trailers))
        elif isinstance(event, Response):
            data = self._send_head(event)
        elif isinstance(event, FileSpan):
            self.writer.skip(event.size)
            data = b""
        else:
            data = self._send_interim(event)
        self.sending = after
        return data

    def _send_head(self, response: Response) -> bytes:
        method, version = (self.request.line.method, self.request.line.version) if self.request else ("GET", "HTTP/1.1")
        writer = self.writer = writer_for(method, version, response)
        if self.closing or response.close or writer is UNTIL_CLOSE or not self._worth_reading():
            self.keep_alive = False
        if self.keep_alive:
            tail = KEEP_CHUNKED if writer is CHUNKED else KEEP if version == "HTTP/1.1" else KEEP_OLD
        else:
            tail = CLOSE_CHUNKED if writer is CHUNKED else CLOSE
        own = response.has_date or response.has_server
        lines = self._defaults.lines_beside(response) if own else self._defaults.lines()
        return b"%b%b%b" % (response.raw, lines, tail)

    def _worth_reading(self) -> bool:
        """May the connection go on, seeing how much of the request has not arrived yet?"""
        if self.receiving is not BODY:
            return True
        return not self.awaits_continue and self._reader.left <= WORTH_READING

    def _send_interim(self, event: Informational) -> bytes:
        if self.request is None or self.request.line.version == "HTTP/1.0":
            return b""  # RFC 9110 §15.2: never to an HTTP/1.0 client
        if event.status == 100:
            self._continued = True
        fields = [(name, check_field(name, value)) for name, value in event.fields]
        return serialise(b"HTTP/1.1 %d %b" % (event.status, PHRASES.get(event.status, b"")), fields) + b"\r\n"

    @property
    def awaits_continue(self) -> bool:
        """The client waits for 100 Continue, and has not sent any content on its own account."""
        return (
            self.request is not None
            and self.request.fields.expect
            and not self._continued
            and self.receiving is BODY
            and self._at == len(self._buffer)
        )

    def respond(self, response: Response, content: bytes) -> bytes:
        """The bytes of a whole response: of `response`, `Data` and `EndOfMessage`. Raises `AppError` as `send` does."""
        request = self.request
        if (
            response.plain
            and response.length == len(content)
            and request is not None
            and request.line.plain
            and self.keep_alive
            and not self.closing
            and self.sending is HEAD
            and self.receiving is not BODY
        ):
            self.sending = DONE
            return b"%b%b\r\n%b" % (response.raw, self._defaults.lines(), content)
        return self.send(response) + self.send(Data(content)) + self.send(END)

    def next_cycle(self) -> bool:
        """Make ready for the next request. False if the connection must close instead. Raises `RemoteError`."""
        if not self.keep_alive or self.sending is not DONE:
            return False
        while self.receiving is BODY and self.next_event() is not NEED_DATA:
            pass  # the rest of the content that is here already
        if self.receiving is BODY:
            return False
        self.receiving = self.sending = HEAD
        self.request = None
        self._skipped = self._continued = False
        self._scanned = self._at
        self.has_begun = self._at < len(self._buffer)
        return True

    def forget(self) -> None:
        """Let go of what was kept for the next request: there is none."""
        self._fields = self._head = self._request = self.request = None

    @property
    def pending(self) -> int:
        """How many bytes were received but not parsed."""
        return len(self._buffer) - self._at

    def leftover(self) -> bytes:
        """What was received but not parsed: what a successor starts with."""
        return bytes(self._buffer[self._at :])
