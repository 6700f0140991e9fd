"""Lines arrive whole: one write for each, full disks, pipes that are stuck, and who is waited for."""

from __future__ import annotations

import io
import itertools
import logging
import os
import resource
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from monoceros.ops.sink import FileSink, Sink, pieces


def sink_on(fd: int) -> Sink:
    return Sink(open(fd, "w", closefd=False))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe whose writing end does not block."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def fill(writer: int) -> int:
    """The number of bytes that made the pipe full."""
    count = 0
    while True:
        try:
            count += os.write(writer, b"x" * select.PIPE_BUF)
        except BlockingIOError:
            return count


@pytest.mark.parametrize("length", [1, 79, 80, 81, 1000])
def test_pieces_end_where_lines_end(length: int) -> None:
    data = b"".join(b"%d\n" % (10**n) for n in range(60)) + b"y" * length + b"\nend\n"
    cut = list(pieces(data, 80))
    assert b"".join(cut) == data
    assert all(piece.endswith(b"\n") for piece in cut)
    assert all(len(piece) <= 80 or piece.count(b"\n") == 1 for piece in cut)
    assert all(len(one) + len(other) > 80 for one, other in itertools.pairwise(cut))


def test_pieces_of_a_text_without_an_end() -> None:
    assert list(pieces(b"a\n" + b"b" * 10, 5)) == [b"a\n", b"b" * 10]
    assert list(pieces(b"", 5)) == []


def test_each_record_is_one_write_and_a_batch_is_few() -> None:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # one message is one write
    with reader, writer:
        sink = sink_on(writer.fileno())
        sink.emit(logging.makeLogRecord({"msg": "a\nb"}))
        assert reader.recv(100_000) == b"a\nb\n"
        lines = "".join(f"line {number}\n" for number in range(1000))
        sink.write(lines)
        writer.close()
        messages = list(iter(lambda: reader.recv(100_000), b""))
    assert b"".join(messages) == lines.encode()
    assert len(messages) == -(-len(lines) // select.PIPE_BUF)
    assert all(message.endswith(b"\n") and len(message) <= select.PIPE_BUF for message in messages)


def test_a_slow_reader_of_a_pipe_is_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = sink_on(writer)
    sink.patience = 60.0
    filled = fill(writer)
    lines = "".join(f"line {number}\n" for number in range(50_000))
    received: list[bytes] = []

    def read() -> None:
        while sum(map(len, received)) < filled + len(lines):
            received.append(os.read(reader, 50_000))

    thread = threading.Thread(target=read)
    thread.start()
    sink.write(lines)
    thread.join()
    assert b"".join(received)[filled:].decode() == lines


def test_a_stuck_pipe_is_waited_for_once(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = sink_on(writer)
    sink.patience = 0.001
    filled = fill(writer)
    with pytest.raises(BlockingIOError):
        sink.write("lost\n")
    sink.patience = 3600.0  # would run into the time limit of the test, if it were granted again
    with pytest.raises(BlockingIOError):
        sink.write("lost as well\n")
    left = filled
    while left:
        left -= len(os.read(reader, left))
    sink.write("arrives\n")
    assert os.read(reader, 100) == b"arrives\n"
    assert not sink.stuck


def test_a_line_that_was_cut_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    sink = FileSink(str(path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # as a disk that is full after 10 bytes
    try:
        with pytest.raises(OSError, match="File too large"):
            sink.write("a line of some length\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    sink.write("whole\n")
    sink.write("again\n")
    sink.close()
    assert path.read_text() == "a line of \nwhole\nagain\n"


def test_an_error_of_the_log_is_not_raised_into_the_server(capfd: pytest.CaptureFixture[str]) -> None:
    sink = FileSink("/dev/full")
    sink.emit(logging.makeLogRecord({"msg": "nowhere to go"}))
    sink.close()
    assert "No space left on device" in capfd.readouterr().err


def test_a_stream_without_a_descriptor() -> None:
    stream = io.StringIO()
    Sink(stream).write("line\n")
    assert stream.getvalue() == "line\n"
