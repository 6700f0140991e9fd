"""What only ASGI has: trailers, news of the client, and many requests in one thread."""

from __future__ import annotations

import socket

import pytest

from contract.client import client
from server import Server

HELLO = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def asgi(server: Server, kind: str) -> Server:
    if kind != "asgi":
        pytest.skip("only ASGI has it")
    return server


def test_trailers(asgi: Server) -> None:
    with client(asgi) as connection:
        connection.send(b"GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
        seen = connection._until(b"X-Sum: 12\r\n\r\n")
        assert seen.endswith(b"\r\n\r\n7\r\nhello, \r\n5\r\nworld\r\n0\r\nX-Sum: 12\r\n\r\n")
        assert connection.stays()


def test_trailers_have_no_place_in_http_1_0(asgi: Server) -> None:
    with client(asgi) as connection:
        answer = connection.ask(b"GET /trailers HTTP/1.0\r\n\r\n")
        assert (answer.body, answer.ended) == (b"hello, world", True)


@pytest.mark.parametrize("how", ["end", "reset"])
def test_the_application_hears_that_its_client_is_gone(asgi: Server, how: str) -> None:
    since = len(asgi.stderr)
    with asgi.connect() as sock:
        sock.sendall(b"GET /listen HTTP/1.1\r\nHost: a\r\n\r\n")
        asgi.expect("^listening$", since=since)
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    asgi.expect("^heard http.disconnect$", since=since)


def test_who_only_stops_sending_is_still_answered(asgi: Server) -> None:
    """To shut down one side is a way to say that this was all: ASGI calls it a disconnect, and the answer arrives."""
    with client(asgi) as connection:
        connection.send(b"GET /listen HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.finish()
        assert connection.answer().body == b"late"
        assert connection.closed()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_application_that_never_waits_lets_others_have_a_turn(asgi: Server, method: str) -> None:
    """A client that takes all it gets, or HEAD, which takes nothing: `send` would never have to wait."""
    with client(asgi) as endless, client(asgi) as other:
        endless.send(f"{method} /endless HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        for _ in range(20):
            if method == "GET":
                endless._exactly(1000)
            elif not endless.buffer:
                endless._fill()
            assert other.ask(HELLO).status == 200


def test_as_many_as_come_wait_at_once(asgi: Server) -> None:
    since = len(asgi.stderr)
    waiting = [asgi.connect() for _ in range(50)]
    try:
        for sock in waiting:
            sock.sendall(b"GET /listen HTTP/1.1\r\nHost: a\r\n\r\n")
        asgi.expect("^listening$", since=since, times=50)
        with client(asgi) as connection:
            assert connection.stays()
    finally:
        for sock in waiting:
            sock.close()
    asgi.expect("^heard http.disconnect$", since=since, times=50)
