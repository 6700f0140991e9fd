"""Readers and writers of content, each on its own; the corpus has them at work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monoceros.wire.body import (
    CHUNK_LINE_LIMIT,
    CHUNKED,
    NO_CONTENT,
    NOTHING_TO_READ,
    UNTIL_CLOSE,
    ChunkedReader,
    LengthReader,
    LengthWriter,
    Reader,
    reader_for,
    refuse_bare_newline,
    writer_for,
)
from monoceros.wire.events import (
    END,
    NEED_DATA,
    BodyTooLarge,
    Data,
    EndOfMessage,
    HeadTooLarge,
    Limits,
    Pause,
    RemoteError,
)
from monoceros.wire.fields import FieldBlock
from monoceros.wire.response import Response

LIMITS = Limits()


def read_all(reader: Reader, buffer: bytes | bytearray, at: int = 0) -> tuple[list[bytes], EndOfMessage | Pause, int]:
    """Everything that can be read: the content, what came last, and where that was."""
    pieces: list[bytes] = []
    while isinstance(result := reader.read(buffer, at), tuple):
        event, at = result
        if not isinstance(event, Data):
            return pieces, event, at
        pieces.append(event.data)
    raise AssertionError


# By length


def test_length() -> None:
    reader = LengthReader(5)
    assert reader.read(b"..hel", 2) == (Data(b"hel"), 5)
    assert reader.left == 2
    assert reader.read(b"", 0) == (NEED_DATA, 0)
    assert reader.read(b"lo!", 0) == (Data(b"lo"), 2)
    assert reader.read(b"lo!", 2) == (END, 2)


def test_data_is_bytes_whatever_the_buffer_is() -> None:
    """A slice of a buffer that grows would change, or keep it from growing, in the hands of an application."""
    for reader, raw in (
        (LengthReader(2), b"ab"),
        (ChunkedReader(LIMITS), b"2\r\nab\r\n"),
        (ChunkedReader(LIMITS), b"2\r\na"),
    ):
        event, _ = reader.read(bytearray(raw), 0)
        assert isinstance(event, Data)
        assert type(event.data) is bytes


def test_nothing() -> None:
    assert NOTHING_TO_READ.read(b"GET", 0) == (END, 0)


# By chunks


def test_chunks_that_are_here_are_one_event() -> None:
    raw = b"1\r\na\r\n2;x\r\nbc\r\n3\r\nde"
    assert ChunkedReader(LIMITS).read(raw, 0) == (Data(b"abcde"), len(raw))


def test_last_chunk_is_an_event_of_its_own() -> None:
    pieces, event, at = read_all(ChunkedReader(LIMITS), b"1\r\na\r\n0\r\nX: y\r\n\r\nGET")
    assert pieces == [b"a"]
    assert isinstance(event, EndOfMessage)
    assert [(field.name, field.value) for field in event.trailers] == [(b"x", b"y")]
    assert at == 17


def test_chunks_byte_by_byte() -> None:
    reader = ChunkedReader(LIMITS)
    raw = b"3;a=b\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\n"
    buffer, at, data, ends = bytearray(), 0, b"", 0
    for code in raw:
        buffer.append(code)
        pieces, event, at = read_all(reader, buffer, at)
        data += b"".join(pieces)
        ends += isinstance(event, EndOfMessage)
    assert (data, ends, at) == (b"abc0123456789abcdef", 1, len(raw))


def test_left_is_what_the_current_chunk_lacks() -> None:
    reader = ChunkedReader(LIMITS)
    assert reader.left == 0
    reader.read(b"a\r\nabc", 0)
    assert reader.left == 7 + 2
    reader.read(b"defghij\r", 0)
    assert reader.left == 1  # of its CR LF


def test_content_before_a_fault_is_handed_out_first() -> None:
    """An application sees the same, whether the fault came with the content or after it."""
    reader = ChunkedReader(LIMITS)
    raw = b"1\r\na\r\n1\r\nb\r\nx\r\n"
    event, at = reader.read(raw, 0)
    assert event == Data(b"ab")
    for _ in range(2):
        with pytest.raises(RemoteError, match="invalid chunk size: b'x'"):
            reader.read(raw, at)


def test_limit_counts_the_content_of_all_chunks() -> None:
    limits = replace(LIMITS, body=5)
    assert read_all(ChunkedReader(limits), b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")[:2] == ([b"abcde"], END)
    reader = ChunkedReader(limits)
    raw = b"3\r\nabc\r\n3\r\n"
    event, at = reader.read(raw, 0)
    assert event == Data(b"abc")
    for _ in range(2):
        with pytest.raises(BodyTooLarge):
            reader.read(raw, at)


def test_limit_is_checked_before_the_content_comes() -> None:
    with pytest.raises(BodyTooLarge):
        ChunkedReader(replace(LIMITS, body=5)).read(b"6\r\n", 0)


def line_of(size: int) -> bytes:
    return b"0;" + b"a" * (size - 2) + b"\r\n\r\n"


def test_chunk_line_limit_exact() -> None:
    """The same whether it comes whole or not; the CR LF at its end does not count."""
    line = line_of(CHUNK_LINE_LIMIT)
    assert ChunkedReader(LIMITS).read(line, 0)[0] == END
    reader = ChunkedReader(LIMITS)
    for end in range(CHUNK_LINE_LIMIT + 2):
        assert reader.read(line[:end], 0) == (NEED_DATA, 0)
    assert reader.read(line, 0)[0] == END


def test_chunk_line_limit_over() -> None:
    line = line_of(CHUNK_LINE_LIMIT + 1)
    for length in (CHUNK_LINE_LIMIT + 2, CHUNK_LINE_LIMIT + 3, len(line)):
        with pytest.raises(RemoteError, match=f"chunk size line of over {CHUNK_LINE_LIMIT} bytes"):
            ChunkedReader(LIMITS).read(line[:length], 0)


@pytest.mark.parametrize("size", [8, 9, 10])
def test_trailers_limit(size: int) -> None:
    """The same whether they come whole or not; the empty line at their end does not count."""
    raw = b"0\r\nX: " + b"y" * (size - 3) + b"\r\n\r\n"
    for start in (len(raw), 4):
        reader = ChunkedReader(replace(LIMITS, head=9))
        seen: list[object] = []
        at = 0
        try:
            for end in range(start, len(raw) + 1):
                event, at = reader.read(raw[:end], at)
                seen.append(type(event))
        except HeadTooLarge:
            assert size == 10
        else:
            assert size < 10
            assert seen[-1] is EndOfMessage


@pytest.mark.parametrize("text", [b"a\nb", b"\n", b"a\rb"])
def test_bare_newline(text: bytes) -> None:
    with pytest.raises(RemoteError, match="bare CR or LF"):
        refuse_bare_newline(text)
    refuse_bare_newline(text, len(text))


# Which reader


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"Transfer-Encoding: chunked", ChunkedReader),
        (b"Content-Length: 5", LengthReader),
        (b"Content-Length: 0", type(NOTHING_TO_READ)),
        (b"X: y", type(NOTHING_TO_READ)),
    ],
)
def test_reader_for(line: bytes, kind: type) -> None:
    assert type(reader_for(FieldBlock(b"Host: a\r\n" + line, "HTTP/1.1", LIMITS), LIMITS)) is kind


# Which writer

LENGTH = [(b"Content-Length", b"5")]


@pytest.mark.parametrize(
    ("method", "version", "response", "writer"),
    [
        ("GET", "HTTP/1.1", Response(200), CHUNKED),
        ("GET", "HTTP/1.0", Response(200), UNTIL_CLOSE),
        ("HEAD", "HTTP/1.1", Response(200), NO_CONTENT),
        ("HEAD", "HTTP/1.1", Response(200, LENGTH), NO_CONTENT),
        ("GET", "HTTP/1.1", Response(204), NO_CONTENT),
        ("GET", "HTTP/1.1", Response(204, LENGTH), NO_CONTENT),
        ("GET", "HTTP/1.1", Response(304, LENGTH), NO_CONTENT),
        ("GET", "HTTP/1.0", Response(304), NO_CONTENT),
    ],
)
def test_writer_for(method: str, version: str, response: Response, writer: object) -> None:
    assert writer_for(method, version, response) is writer


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_writer_for_a_length(version: str) -> None:
    assert isinstance(writer_for("GET", version, Response(200, LENGTH)), LengthWriter)
    assert isinstance(writer_for("GET", version, Response(200, [(b"Content-Length", b"0")])), LengthWriter)
