"""What only ASGI has: trailers, news of the client, and many requests in one thread."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from contract.client import client
from server import Server

pytestmark = pytest.mark.parametrize("kind", ["asgi"], indirect=True)

HELLO = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_trailers(server: Server) -> None:
    with client(server) as connection:
        connection.send(b"GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
        seen = connection._until(b"X-Sum: 12\r\n\r\n")
        assert seen.endswith(b"\r\n\r\n7\r\nhello, \r\n5\r\nworld\r\n0\r\nX-Sum: 12\r\n\r\n")
        assert connection.stays()


def test_trailers_have_no_place_in_http_1_0(server: Server) -> None:
    with client(server) as connection:
        answer = connection.ask(b"GET /trailers HTTP/1.0\r\n\r\n")
        assert (answer.body, answer.ended) == (b"hello, world", True)


@pytest.mark.parametrize("how", ["end", "reset"])
def test_the_application_hears_that_its_client_is_gone(server: Server, how: str) -> None:
    since = len(server.stderr)
    with server.connect() as sock:
        sock.sendall(b"GET /listen HTTP/1.1\r\nHost: a\r\n\r\n")
        server.expect("^listening$", since=since)
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    server.expect("^heard http.disconnect$", since=since)


def test_who_only_stops_sending_is_still_answered(server: Server) -> None:
    """To shut down one side is a way to say that this was all: ASGI calls it a disconnect, and the answer arrives."""
    with client(server) as connection:
        connection.send(b"GET /listen HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.finish()
        assert connection.answer().body == b"late"
        assert connection.closed()


def taken(sock: socket.socket) -> int:
    """How many bytes there are to read until the connection ends, in whatever way."""
    size = 0
    with suppress(ConnectionError):
        while data := sock.recv(65536):
            size += len(data)
    return size


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_application_that_never_waits_lets_others_have_a_turn(server: Server, method: str) -> None:
    """A client that takes all it gets, or HEAD, which takes nothing: `send` would never have to wait."""
    with client(server) as endless, client(server, 5) as other, ThreadPoolExecutor() as pool:
        endless.send(f"{method} /endless HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert endless.sock.recv(100)
        reading = pool.submit(taken, endless.sock)
        try:
            for _ in range(20):
                assert other.ask(HELLO).status == 200
        finally:
            endless.sock.shutdown(socket.SHUT_RDWR)
    assert (reading.result() > 1000) is (method == "GET")


def test_as_many_as_come_wait_at_once(server: Server) -> None:
    since = len(server.stderr)
    waiting = [server.connect() for _ in range(50)]
    try:
        for sock in waiting:
            sock.sendall(b"GET /listen HTTP/1.1\r\nHost: a\r\n\r\n")
        server.expect("^listening$", since=since, times=50)
        with client(server) as connection:
            assert connection.stays()
    finally:
        for sock in waiting:
            sock.close()
    server.expect("^heard http.disconnect$", since=since, times=50)
