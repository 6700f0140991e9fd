"""Bytes to and from a client that takes them slowly, or not at all: a socket pair, whose other end is the client."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from monoceros.scoreboard import NEVER, clock
from monoceros.wire.events import FileSpan, PeerGone, RequestTimeout
from monoceros.worker.transport import UNSENT, Transport
from server import wait_for

LONG = 20.0
BIG = bytes(range(256)) * 8192  # 2 MiB, of which no byte may be lost or change its place


def own(span: FileSpan) -> FileSpan:
    """The same with a descriptor of its own, which a transport closes when it is done."""
    return span._replace(fd=os.dup(span.fd))


class Pair:
    """A transport and the socket of its client."""

    def __init__(self, timeout: float) -> None:
        sock, self.client = socket.socketpair()
        sock.setblocking(False)
        self.client.settimeout(LONG)
        self.transport = Transport(sock, timeout)

    def read(self, size: int) -> bytes:
        """What the client gets when it takes `size` bytes; the transport is flushed as room appears."""
        got = bytearray()
        while len(got) < size:
            self.transport.flush()
            got += self.client.recv(size - len(got))
        return bytes(got)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair(timeout=LONG)
    yield pair
    pair.transport.close()
    pair.client.close()


@pytest.fixture
def hasty() -> Iterator[Pair]:
    """With hardly any patience."""
    pair = Pair(timeout=0.05)
    yield pair
    pair.transport.close()
    pair.client.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(BIG)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    yield fd
    os.close(fd)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# Sending


def test_what_fits_is_sent_at_once(pair: Pair) -> None:
    pair.transport.write(b"hello")
    assert not pair.transport.unsent
    assert pair.transport.unsent_size == 0
    assert pair.transport.flush()
    assert pair.client.recv(100) == b"hello"


def test_what_does_not_fit_waits_in_order(pair: Pair) -> None:
    pair.transport.write(BIG)
    pair.transport.write(b"and")
    pair.transport.write(b"more")
    assert not pair.transport.flush()
    assert 0 < pair.transport.unsent_size < len(BIG) + 7
    assert pair.read(len(BIG) + 7) == BIG + b"andmore"
    assert pair.transport.flush()
    assert pair.transport.unsent_size == 0


def test_small_pieces_that_wait_are_joined(pair: Pair) -> None:
    pair.transport.write(BIG)
    pieces = [b"%d " % n for n in range(20_000)]
    for piece in pieces:
        pair.transport.write(piece)
    small = b"".join(pieces)
    assert len(pair.transport.unsent) < 2 + len(small) // 2048
    assert pair.read(len(BIG) + len(small)) == BIG + small


def test_pieces_are_not_joined_across_a_file(pair: Pair, file: int) -> None:
    pair.transport.write(BIG)
    pair.transport.write(b"before")
    pair.transport.write_file(own(FileSpan(file, 0, 10)))
    pair.transport.write(b"af")
    pair.transport.write(b"ter")
    assert pair.read(len(BIG) + 21) == BIG + b"before" + BIG[:10] + b"after"


def test_a_client_that_takes_a_byte_at_a_time(pair: Pair) -> None:
    pair.transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    pair.transport.write(BIG[:20_000])
    assert b"".join(pair.read(1) for _ in range(20_000)) == BIG[:20_000]


def test_a_client_that_is_gone(pair: Pair) -> None:
    pair.client.close()
    with pytest.raises(PeerGone, match="cannot send: "):
        pair.transport.write(b"hello")


def test_a_client_that_goes_in_the_middle(pair: Pair) -> None:
    pair.transport.write(BIG)
    pair.client.close()
    with pytest.raises(PeerGone, match="cannot send: "):
        pair.transport.flush()


# Files


def test_a_file_between_bytes(pair: Pair, file: int) -> None:
    pair.transport.write(b"<")
    pair.transport.write_file(own(FileSpan(file, 3, 1000)))
    pair.transport.write(b">")
    assert pair.read(1002) == b"<" + BIG[3:1003] + b">"
    assert pair.transport.flush()


def test_a_large_file_and_what_follows(pair: Pair, file: int) -> None:
    before = descriptors()
    pair.transport.write_file(own(FileSpan(file, 0, len(BIG))))
    assert descriptors() == before + 1
    assert pair.transport.unsent_size == 0  # it holds no memory
    pair.transport.write(b"end")
    assert pair.read(len(BIG) + 3) == BIG + b"end"
    assert pair.transport.flush()
    assert descriptors() == before


def test_a_file_closed_by_its_owner(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(BIG)
    with (tmp_path / "other").open("rb") as other:
        pair.transport.write_file(FileSpan(os.dup(other.fileno()), 0, len(BIG)))
    assert pair.read(len(BIG)) == BIG


def test_a_file_that_has_become_shorter(pair: Pair, file: int, tmp_path: Path) -> None:
    pair.transport.write_file(own(FileSpan(file, 0, len(BIG))))
    os.truncate(tmp_path / "file", 10)
    with pytest.raises(PeerGone, match="shorter"):
        pair.read(len(BIG))


def test_closing_in_the_middle_of_files(pair: Pair, file: int) -> None:
    before = descriptors()
    for _ in range(3):
        pair.transport.write_file(own(FileSpan(file, 0, len(BIG))))
    pair.transport.close()
    assert descriptors() == before - 1
    assert not pair.transport.unsent


# Waiting for the client to take bytes


def test_no_throttle_below_the_mark(hasty: Pair) -> None:
    hasty.transport.write(BIG)
    hasty.transport.unsent.clear()
    hasty.transport.unsent.append(memoryview(BIG)[:UNSENT])
    hasty.transport.throttle()


def test_throttle_until_the_client_has_taken_enough(pair: Pair) -> None:
    pair.transport.write(BIG)
    got = bytearray()

    def read() -> None:
        while len(got) < len(BIG) - UNSENT:
            got.extend(pair.client.recv(65536))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    pair.transport.throttle()
    assert pair.transport.unsent_size <= UNSENT
    reader.join(LONG)
    assert bytes(got) + pair.read(len(BIG) - len(got)) == BIG


def test_throttle_gives_up_on_a_client_that_takes_nothing(hasty: Pair) -> None:
    hasty.transport.write(BIG)
    with pytest.raises(PeerGone, match=r"has taken next to nothing of the response for 0\.05 s"):
        hasty.transport.throttle()


def test_throttle_sees_that_the_client_goes(pair: Pair) -> None:
    pair.transport.write(BIG)
    threading.Thread(target=pair.client.close, daemon=True).start()
    with pytest.raises(PeerGone, match="cannot send"):
        pair.transport.throttle()


def test_throttle_tells_when_the_client_has_moved(pair: Pair) -> None:
    moves: list[int] = []

    class Telling(Transport):
        def moved(self) -> None:
            moves.append(self.unsent_size)

    transport = Telling(pair.transport.sock, LONG)
    transport.write(BIG)

    def read() -> None:
        got = 0
        while got < len(BIG) - UNSENT:
            got += len(pair.client.recv(65536))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    transport.throttle()
    reader.join(LONG)
    assert moves == sorted(moves, reverse=True)
    assert moves


# Whether the client moves


def test_a_client_moves_when_its_kernel_has_taken_something(pair: Pair) -> None:
    """Long before there is room for more of ours: a look asks for what was taken since the last one."""
    transport = pair.transport
    transport.write(BIG)
    transport.mark()
    assert not transport.moving
    before = transport.unsent_size
    pair.client.recv(65536)
    assert transport.unsent_size == before
    assert transport.moving
    assert not transport.moving, "since the last look"


def test_what_goes_from_us_to_the_kernel_is_no_move(pair: Pair) -> None:
    transport = pair.transport
    transport.unsent.append(memoryview(b"x" * 1000))
    transport.mark()
    transport.flush()
    assert transport.unsent_size == 0
    assert not transport.moving


def test_a_client_over_tcp_moves_when_it_reads() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=LONG)
        sock, _ = listener.accept()
    sock.setblocking(False)
    transport = Transport(sock, LONG)
    client.setblocking(False)

    def read() -> bool:
        with suppress(BlockingIOError):
            client.recv(65536)
        return transport.moving

    with client:
        transport.write(BIG * 16)
        wait_for(lambda: not transport.moving, LONG)  # until its kernel is full, too
        wait_for(read, LONG)
    transport.close()


# Receiving


def test_receive(pair: Pair) -> None:
    pair.client.sendall(b"hello")
    assert pair.transport.receive(clock() - 1) == b"hello"  # what is there is never late
    pair.client.shutdown(socket.SHUT_WR)
    assert pair.transport.receive(NEVER) == b""


def test_receive_waits(pair: Pair) -> None:
    threading.Thread(target=lambda: pair.client.sendall(b"late"), daemon=True).start()
    assert pair.transport.receive(NEVER) == b"late"


@pytest.mark.parametrize("patience", [-10_000, 0, 20])
def test_receive_gives_up(pair: Pair, patience: int) -> None:
    deadline = clock() + patience
    with pytest.raises(RequestTimeout) as caught:
        pair.transport.receive(deadline)
    assert caught.value.status == 408
    assert clock() >= deadline


def test_receive_from_a_client_that_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        sock, _ = listener.accept()
    sock.setblocking(False)
    transport = Transport(sock, LONG)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()  # which resets the connection
    with pytest.raises(PeerGone, match="cannot receive: "):
        wait_for(lambda: transport.receive(clock() + 1000), LONG)
    transport.close()
