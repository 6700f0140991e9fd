"""What can happen on a wire, and what a wire is to those who drive it.

Events are small, immutable and shared: the same `Request.fields` serves every request that carries the
same bytes, the same `Response` every answer with the same head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from monoceros.wire.fields import Field, FieldBlock
    from monoceros.wire.line import RequestLine
    from monoceros.wire.response import Response


class RemoteError(Exception):
    """The peer broke the protocol. `status` is what to answer before closing; the text is for our log."""

    status = 400


class RequestTimeout(RemoteError):
    """The peer took too long to send what it had begun (RFC 9110 §15.5.9)."""

    status = 408


class BodyTooLarge(RemoteError):
    """The content is longer than we take (RFC 9110 §15.5.14)."""

    status = 413


class TargetTooLong(RemoteError):
    """The request line is longer than we take (RFC 9110 §15.5.15)."""

    status = 414


class ExpectationFailed(RemoteError):
    """An expectation other than 100-continue (RFC 9110 §10.1.1)."""

    status = 417


class UpgradeRequired(RemoteError):
    """A version of WebSocket that this server does not speak (RFC 6455 §4.4, RFC 9110 §15.5.22)."""

    status = 426


class HeadTooLarge(RemoteError):
    """More or longer fields than we take (RFC 6585 §5)."""

    status = 431


class NotImplementedHere(RemoteError):
    """A method or transfer coding that this server does not do (RFC 9110 §15.6.2, RFC 9112 §6.1)."""

    status = 501


class VersionUnknown(RemoteError):
    """A major version of HTTP that this wire does not speak (RFC 9110 §15.6.6)."""

    status = 505


class AppError(Exception):
    """The application broke its contract: what it asked us to send is not legal, or not now."""


class PeerGone(ConnectionError):
    """The connection is closed or broken: nobody is left to answer.

    To frameworks that read a body this is the OSError they expect of a socket.
    """


@dataclass(frozen=True, slots=True)
class Limits:
    """What a stranger may make us hold, in bytes and counts.

    `head` bounds a whole head (request line and fields), `body` the content of one request; 0 is no bound
    for `body`, and "as much as `head` allows" for the others.
    """

    line: int = 4094
    fields: int = 100
    field_size: int = 8190
    head: int = 65536
    body: int = 0


class Pause(Enum):
    """Why there is no event: more bytes are needed, or the next request waits for `next_cycle`."""

    NEED_DATA = "need data"
    PAUSED = "paused"


NEED_DATA: Final = Pause.NEED_DATA
PAUSED: Final = Pause.PAUSED


class Request(NamedTuple):
    """The head of a request, valid and framed. `Data` and one `EndOfMessage` follow."""

    line: "RequestLine"
    fields: "FieldBlock"


class Data(NamedTuple):
    """Some bytes of a message's content, never the coding around them."""

    data: bytes


class FileSpan(NamedTuple):
    """`size` bytes of content that whoever drives the wire sends from an open file, beginning at `offset`."""

    fd: int
    offset: int
    size: int


class EndOfMessage(NamedTuple):
    """The message is complete. `trailers` are the fields behind a chunked body."""

    trailers: "Sequence[Field]" = ()


class Closed(NamedTuple):
    """The peer will send nothing more, and has left nothing unfinished."""


class Informational(NamedTuple):
    """An interim response (RFC 9110 §15.2): 100 Continue, or 103 Early Hints with fields."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...] = ()


END: Final = EndOfMessage()
CONTINUE: Final = Informational(100)

Received = Request | Data | EndOfMessage | Closed
Sendable: TypeAlias = "Informational | Response | Data | FileSpan | EndOfMessage"


class Wire(Protocol):
    """What a worker needs of a protocol, whichever it is."""

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; b"" says that it will send no more."""

    def next_event(self) -> Received | Pause:
        """The next event, or why there is none. Raises `RemoteError`."""

    def send(self, event: Sendable) -> bytes:
        """The bytes that say `event`. Raises `AppError` if it may not be sent now."""

    def leftover(self) -> bytes:
        """What was received but not parsed: what a successor starts with."""
