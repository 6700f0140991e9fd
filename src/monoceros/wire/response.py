"""The head of a response: validated and serialised once, then sent as often as it is needed."""

from collections.abc import Callable, Iterable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from monoceros.wire import grammar
from monoceros.wire.events import AppError

# RFC 9110 §7.6.1: fields about one connection are ours to say. `Trailer` stays: it is about the message.
HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)

# RFC 9110 §15 has renamed some that older Pythons still call as they were called.
PHRASES: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus} | {
    413: b"Content Too Large",
    414: b"URI Too Long",
    416: b"Range Not Satisfiable",
    422: b"Unprocessable Content",
}

# RFC 9110 §6.4.1 (and §15.3.5, §15.4.5): these never have content, whatever their fields say.
WITHOUT_CONTENT: Final = frozenset((204, 304))

# What a refusal has to say beside its status: what to upgrade to (RFC 9110 §15.5.22), and in which version
# (RFC 6455 §4.4).
BESIDE_REFUSAL: Final = {426: b"Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"}


class Response:
    """Status and fields of a final response, as an application gave them.

    `given` are the fields as they came, `fields` those without what is about the connection; `length` is the
    Content-Length or None; `close` says that the application asked to close the connection, `plain` that
    there is nothing unusual about how to send it. `raw` is the status line and the fields as they go out;
    Date, Server and framing are added per message. Raises `AppError` for what cannot be sent.
    """

    __slots__ = (
        "close",
        "fields",
        "given",
        "has_date",
        "has_server",
        "length",
        "plain",
        "raw",
        "reason",
        "sized",
        "status",
    )

    def __init__(self, status: int, fields: Iterable[tuple[bytes, bytes]] = (), reason: bytes | None = None) -> None:
        if not 200 <= status <= 999:
            raise AppError(f"status {status} is not one of a final response")
        self.status = status
        self.reason = PHRASES.get(status, b"") if reason is None else reason
        if not grammar.reason.fullmatch(self.reason):
            raise AppError(f"invalid reason phrase: {self.reason[:100]!r}")
        self.length: int | None = None
        self.close = self.has_date = self.has_server = False
        self.given = tuple(fields)
        self.fields: Sequence[tuple[bytes, bytes]] = tuple(self._sendable())
        self.plain = not (self.close or self.has_date or self.has_server or status in WITHOUT_CONTENT)
        self.sized: Response | None = None
        self.raw = serialise(b"HTTP/1.1 %d %b" % (status, self.reason), self.fields)

    def with_length(self, length: int) -> "Response":
        """The same head with this Content-Length. The last one made is kept: pages of one length come in rows."""
        sized = self.sized
        if sized is None or sized.length != length:
            fields = [*self.given, (b"Content-Length", b"%d" % length)]
            sized = self.sized = Response(self.status, fields, self.reason)
        return sized

    def _sendable(self) -> Iterable[tuple[bytes, bytes]]:
        for name, value in self.given:
            value = check_field(name, value)
            match name.lower():
                case b"content-length":
                    if not self._take_length(value):
                        continue
                case b"connection":
                    self.close |= b"close" in value.lower()
                case b"date":
                    self.has_date = True
                case b"server":
                    self.has_server = True
            if name.lower() not in HOP_BY_HOP:
                yield name, value

    def _take_length(self, value: bytes) -> bool:
        """True if the Content-Length is to be sent: not a second time, nor where there is no content."""
        if not grammar.content_length.fullmatch(value) or len(value) > grammar.CONTENT_LENGTH_DIGITS:
            raise AppError(f"invalid Content-Length: {value[:40]!r}")
        length = int(value)
        if self.length is not None:
            if self.length != length:
                raise AppError(f"two different Content-Length fields: {self.length} and {length}")
            return False
        self.length = length
        return self.status != 204  # RFC 9110 §8.6


def check_field(name: bytes, value: bytes) -> bytes:
    """The value as it may be sent. Raises `AppError` where name or value would break the head."""
    if not grammar.token.fullmatch(name):
        raise AppError(f"invalid header name: {name[:100]!r}")
    if not grammar.sendable_value.fullmatch(value):
        raise AppError(f"invalid characters in the value of header {name.decode('ascii')}: {value[:100]!r}")
    return value.strip(b" \t")


def serialise(first_line: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A head without its closing empty line."""
    return b"".join([first_line, b"\r\n", *(b"%b: %b\r\n" % field for field in fields)])


class Defaults:
    """The fields that the server itself adds to every response.

    `clock` gives seconds since the epoch. The Date (RFC 9110 §6.6.1) is rendered once a second. `fields` are
    others that the operator wants; a `Server` among them takes the place of ours.
    """

    __slots__ = ("_clock", "_date", "_fields", "_lines", "_second", "_server", "_with_date")

    def __init__(
        self,
        clock: Callable[[], float],
        server: bytes = b"monoceros",
        *,
        date: bool = True,
        fields: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        self._clock = clock
        others = []
        for name, value in fields:
            if name.lower() == b"server":
                server = value
            else:
                others.append((name, value))
        self._server = b"Server: %b\r\n" % server if server else b""
        self._fields = b"".join(b"%b: %b\r\n" % field for field in others)
        self._with_date = date
        self._second = -1
        self._date = self._lines = b""

    def lines(self) -> bytes:
        """Server, the operator's fields and Date, as they go out."""
        now = self._clock()
        if not self._second <= now < self._second + 1:
            self._second = int(now)
            if self._with_date:
                self._date = b"Date: %b\r\n" % formatdate(self._second, usegmt=True).encode("ascii")
            self._lines = self._server + self._fields + self._date
        return self._lines

    def lines_beside(self, response: Response) -> bytes:
        """The same, less what the application has said itself."""
        lines = self.lines()
        if response.has_server:
            lines = lines.removeprefix(self._server)
        if response.has_date:
            lines = lines.removesuffix(self._date)
        return lines


def refusal(status: int) -> tuple[Response, bytes]:
    """What a client gets that broke the protocol, or met an error of ours: head and content.

    Nothing of what it sent is repeated.
    """
    body = b"%d %b\n" % (status, PHRASES[status])
    fields = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Content-Length", b"%d" % len(body))]
    response = Response(status, [*fields, (b"Connection", b"close")])
    response.raw += BESIDE_REFUSAL.get(status, b"")
    return response, body
