"""How content is framed (RFC 9112 §6 and §7): by length, by chunks, or by the end of the connection.

A reader takes bytes from a buffer and gives events; a writer turns content into bytes.
"""

from math import inf
from typing import Final, Protocol

from monoceros.wire import grammar
from monoceros.wire.events import (
    END,
    NEED_DATA,
    AppError,
    BodyTooLarge,
    Data,
    EndOfMessage,
    HeadTooLarge,
    Limits,
    Pause,
    RemoteError,
)
from monoceros.wire.fields import Field, FieldBlock, parse_trailers
from monoceros.wire.response import WITHOUT_CONTENT, Response, serialise

# A chunk's size line, with extensions that nobody uses. RFC 9112 §7.1.1 asks for a limit.
CHUNK_LINE_LIMIT: Final = 256

Buffer = bytes | bytearray


class Reader(Protocol):
    """Takes content out of a buffer. `left` is a lower bound of the bytes still to come."""

    def read(self, buffer: Buffer, at: int) -> tuple[Data | EndOfMessage | Pause, int]:
        """The next event behind position `at`, and the position behind it. Raises `RemoteError`."""

    @property
    def left(self) -> int: ...


class NothingToRead:
    """A request without content."""

    left = 0

    def read(self, buffer: Buffer, at: int) -> tuple[EndOfMessage, int]:
        return END, at


class LengthReader:
    """Content of a known length (RFC 9112 §6.2)."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length

    def read(self, buffer: Buffer, at: int) -> tuple[Data | EndOfMessage | Pause, int]:
        if not self.left:
            return END, at
        data = bytes(buffer[at : at + self.left])
        if not data:
            return NEED_DATA, at
        self.left -= len(data)
        return Data(data), at + len(data)


class ChunkedReader:
    """Content in chunks (RFC 9112 §7.1), with trailers.

    `left` counts down the current chunk with its CR LF; 0 while a size line is awaited.
    """

    __slots__ = ("_ending", "_limits", "_room", "_scanned", "left")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._room: float = limits.body or inf
        self._ending = False  # the last chunk was there: trailers follow
        self._scanned = 0  # how much of the trailers was looked at, from their start
        self.left = 0

    def read(self, buffer: Buffer, at: int) -> tuple[Data | EndOfMessage | Pause, int]:
        # All chunks that are here become one event: a stranger's chunks of one byte must not cost an event each.
        pieces: list[bytes] = []
        try:
            while not self._ending:
                if not self.left:
                    match = grammar.chunk_line.match(buffer, at, at + CHUNK_LINE_LIMIT + 2)
                    if match is None:
                        refuse_chunk_line(buffer, at)
                        break
                    size = self._begin(int(match[1], 16))
                    at = match.end()
                    end = at + size
                    if size and buffer[end : end + 2] == b"\r\n":  # all of it is here, as it mostly is
                        pieces.append(bytes(buffer[at:end]))
                        at = end + 2
                        self.left = 0
                elif self.left > 2:
                    piece = bytes(buffer[at : at + self.left - 2])
                    if not piece:
                        break
                    self.left -= len(piece)
                    at += len(piece)
                    pieces.append(piece)
                else:
                    at = self._chunk_end(buffer, at)
                    if self.left:
                        break
        except RemoteError:
            # What came before the fault goes first, however it was cut on its way; the next read meets it again.
            if not pieces:
                raise
        if pieces:
            return Data(pieces[0] if len(pieces) == 1 else b"".join(pieces)), at
        return self._read_trailers(buffer, at) if self._ending else (NEED_DATA, at)

    def _begin(self, size: int) -> int:
        """Begin a chunk of this size, or the trailers if it is 0."""
        if size > self._room:
            raise BodyTooLarge(f"chunked content of over {self._limits.body} bytes")
        if size:
            self._room -= size
            self.left = size + 2
        else:
            self._ending = True
        return size

    def _chunk_end(self, buffer: Buffer, at: int) -> int:
        """Pass over what has come of the CR LF behind a chunk. Where that ends."""
        missing = b"\r\n"[2 - self.left :]
        found = bytes(buffer[at : at + self.left])
        if not missing.startswith(found):
            raise RemoteError("chunk is longer than its size")
        self.left -= len(found)
        return at + len(found)

    def _read_trailers(self, buffer: Buffer, at: int) -> tuple[EndOfMessage | Pause, int]:
        if buffer[at : at + 2] == b"\r\n":
            return END, at + 2
        end = buffer.find(b"\r\n\r\n", at + self._scanned)
        # Up to three bytes at the end of what is here may be a part of the CR LF CR LF that is awaited.
        if (end if end >= 0 else len(buffer) - 3) - at > self._limits.head:
            raise HeadTooLarge(f"trailers of over {self._limits.head} bytes")
        if end < 0:
            refuse_bare_newline(buffer, at + max(0, self._scanned - 1))
            self._scanned = max(0, len(buffer) - at - 3)
            return NEED_DATA, at
        trailers: list[Field] = parse_trailers(bytes(buffer[at:end]), self._limits)
        return EndOfMessage(trailers), end + 4


def refuse_chunk_line(buffer: Buffer, at: int) -> None:
    """Raise `RemoteError` for what stands at `at`, unless it is the beginning of a chunk's size line."""
    end = buffer.find(b"\r\n", at, at + CHUNK_LINE_LIMIT + 2)
    if end >= 0:
        raise RemoteError(f"invalid chunk size: {bytes(buffer[at : min(end, at + 40)])!r}")
    if len(buffer) - at > CHUNK_LINE_LIMIT + 1:  # the last byte may be the CR of its end
        raise RemoteError(f"chunk size line of over {CHUNK_LINE_LIMIT} bytes")
    refuse_bare_newline(buffer, at)


def refuse_bare_newline(buffer: Buffer, start: int = 0) -> None:
    """Raise `RemoteError` for a CR or LF that stands alone: the line end for which we wait will not come."""
    if grammar.bare_newline.search(buffer, start):
        raise RemoteError("bare CR or LF")


def reader_for(fields: FieldBlock, limits: Limits) -> Reader:
    """How to read the content of a request with these fields (RFC 9112 §6.3)."""
    if fields.chunked:
        return ChunkedReader(limits)
    if fields.content_length:
        return LengthReader(fields.content_length)
    return NOTHING_TO_READ


class Writer(Protocol):
    """Frames the content of one response."""

    def data(self, data: bytes) -> bytes:
        """The bytes that carry `data`. Raises `AppError` if there is no room for them."""

    def skip(self, count: int) -> None:
        """Somebody else sends `count` bytes of content. Raises `AppError` if there is no room for them."""

    def end(self, trailers: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
        """The bytes that end the content. Raises `AppError` if some of it is missing."""


class NoContent:
    """The answer to HEAD, and statuses without content: what the application gives is not sent."""

    def data(self, data: bytes) -> bytes:
        return b""

    def skip(self, count: int) -> None:
        raise AppError("a file for a response without content")

    def end(self, trailers: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
        return b""


class UntilClose:
    """HTTP/1.0 without a length: the end of the connection is the end of the content."""

    def data(self, data: bytes) -> bytes:
        return data

    def skip(self, count: int) -> None:
        return

    def end(self, trailers: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
        return b""


class LengthWriter:
    """Content of the promised length; more or less would make the next response part of this one."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def data(self, data: bytes) -> bytes:
        self.skip(len(data))
        return data

    def skip(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise AppError(f"content is {-self._left} bytes longer than its Content-Length")

    def end(self, trailers: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
        if self._left:
            raise AppError(f"content is {self._left} bytes shorter than its Content-Length")
        return b""


class ChunkedWriter:
    """Content in chunks: one for each piece the application gives."""

    def data(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if data else b""

    def skip(self, count: int) -> None:
        raise AppError("a file cannot be sent in chunks")

    def end(self, trailers: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
        return serialise(b"0", trailers) + b"\r\n" if trailers else b"0\r\n\r\n"


NOTHING_TO_READ: Final = NothingToRead()
NO_CONTENT: Final = NoContent()
UNTIL_CLOSE: Final = UntilClose()
CHUNKED: Final = ChunkedWriter()


def writer_for(method: str, version: str, response: Response) -> Writer:
    """How to frame the content of a response (RFC 9112 §6.3)."""
    if method == "HEAD" or response.status in WITHOUT_CONTENT:
        return NO_CONTENT
    if response.length is not None:
        return LengthWriter(response.length)
    return CHUNKED if version == "HTTP/1.1" else UNTIL_CLOSE
