"""Limits and time limits that an operator has set: refused with the right status, and told so in peace."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from contract.client import Client, client
from server import Server

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

REFUSED = {
    "a line of 201 bytes": (b"GET /".ljust(192, b"a") + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "six fields": (GET + b"X: 1\r\n" * 5 + b"\r\n", 431),
    "a field of 101 bytes": (GET + b"X: ".ljust(101, b"a") + b"\r\n\r\n", 431),
    "a length over the limit": (POST + b"Content-Length: 100001\r\n\r\n", 413),
    "a length far over the limit": (POST + b"Content-Length: 999999999999999\r\n\r\n", 413),
    "a chunk over the limit": (CHUNKED + b"186a1\r\n", 413),
    "chunks over the limit": (CHUNKED + b"c350\r\n" + b"x" * 50000 + b"\r\nc351\r\n" + b"x" * 50001 + b"\r\n", 413),
    "an expectation that is too large": (POST + b"Content-Length: 100001\r\nExpect: 100-continue\r\n\r\n", 413),
}

ACCEPTED = {
    "a line of 200 bytes": b"GET /hello?".ljust(191, b"a") + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "five fields": GET + b"X: 1\r\n" * 4 + b"\r\n",
    "a field of 100 bytes": GET + b"X: ".ljust(100, b"a") + b"\r\n\r\n",
    "a length at the limit": POST + b"Content-Length: 100000\r\n\r\n" + b"x" * 100000,
    "chunks at the limit": CHUNKED + (b"c350\r\n" + b"x" * 50000 + b"\r\n") * 2 + b"0\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_over_a_limit(strict: Server, name: str) -> None:
    raw, status = REFUSED[name]
    with client(strict) as connection:
        answer = connection.ask(raw)
        assert answer.status == status
        assert connection.closed()


@pytest.mark.parametrize("name", ACCEPTED)
def test_at_a_limit(strict: Server, name: str) -> None:
    with client(strict) as connection:
        assert connection.ask(ACCEPTED[name]).status == 200
        assert connection.stays()


@pytest.mark.parametrize("raw", [POST + b"Content-Length: %d\r\n\r\n" % (1 << 20), POST + b"Bad\r\n\r\n"])
def test_a_refused_upload_does_not_reset_its_client(strict: Server, raw: bytes) -> None:
    """A client that first sends everything must still find the answer."""
    with client(strict) as connection:
        connection.send(raw)
        for _ in range(15):
            connection.send(b"x" * (1 << 16))
        assert connection.answer().status in (400, 413)
        connection.finish()
        assert connection.closed()


# Time limits. What has begun is answered with 408, what has not is closed without a word.

SLOW = {
    "a part of a head": b"GET / HT",
    "a head without its end": GET,
    "a part of a small body": POST + b"Content-Length: 10\r\n\r\nhello",
    "a part of a large body": POST + b"Content-Length: 90000\r\n\r\nhello",
    "a part of a chunk": CHUNKED + b"a\r\nhello",
    "a large part of a chunk": CHUNKED + b"15f90\r\n" + b"x" * 80000,
}


def test_too_slow(strict: Server) -> None:
    with ExitStack() as stack:
        slow = {name: stack.enter_context(client(strict, 12)) for name in SLOW}
        for name, connection in slow.items():
            connection.send(SLOW[name])
        for name, connection in slow.items():
            assert connection.answer().status == 408, name
            assert connection.closed(), name


def test_silence_is_answered_by_silence(strict: Server) -> None:
    with client(strict, 12) as new, client(strict, 12) as kept:
        assert kept.stays()
        assert kept.closed()
        assert new.closed()


def test_a_slow_client_does_not_keep_others_waiting(strict: Server) -> None:
    slow = [strict.connect(12) for _ in range(20)]
    try:
        for number, sock in enumerate(slow):
            sock.sendall((GET, POST + b"Content-Length: 10\r\n\r\nhello")[number % 2])
        with client(strict, 1.9) as connection:  # less than the patience with the slow ones
            assert connection.ask(GET + b"\r\n").status == 200
        for sock in slow:
            assert Client(sock, 12).answer().status == 408
    finally:
        for sock in slow:
            sock.close()
