"""A server that is told to stop: who was served is served, and nobody is reset."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.client import CutOff, client
from server import Server, wait_for

HELLO = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """What an application of the path /wait waits for."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def opened(pipe: Path) -> int:
    """A descriptor to write to, as soon as the application reads."""

    def attempt() -> int:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # ENXIO: nobody reads yet
            return 0

    return wait_for(attempt, what="the application to wait")


@pytest.mark.smoke
def test_a_request_that_runs_is_answered(start: Callable[..., Server], pipe: Path) -> None:
    server = start("pages:app")
    with client(server) as busy, client(server) as idle:
        assert idle.stays()
        busy.send(f"GET /wait?path={pipe} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        writer = opened(pipe)
        server.signal(15)
        server.expect("Handling signal: term")
        os.write(writer, b"at last")
        os.close(writer)
        answer = busy.answer()
        assert (answer.status, answer.body) == (200, b"at last")
        assert busy.closed()
        assert idle.closed()
    assert server.wait() == 0


def test_an_upload_that_runs_is_taken(start: Callable[..., Server]) -> None:
    server = start("pages:app")
    with client(server) as connection:
        connection.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        assert connection.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        server.signal(15)
        server.expect("Handling signal: term")
        connection.send(b"0123456789")
        assert connection.answer().body == b"0123456789"
        assert connection.closed()
    assert server.wait() == 0


def test_what_takes_too_long_is_cut_off(start: Callable[..., Server], pipe: Path) -> None:
    server = start("pages:app", "--graceful-timeout", "1")
    with client(server) as connection:
        connection.send(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.sock.recv(100)
        server.signal(15)
        with pytest.raises((CutOff, ConnectionError)):
            connection._exactly(1 << 40)
    assert server.wait() == 0


def test_a_quick_end_waits_for_nobody(start: Callable[..., Server], kind: str) -> None:
    server = start("pages:app")
    with client(server) as connection:
        connection.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        assert connection.sock.recv(100)
        server.signal(2)
        assert server.wait(5) == 0
        if kind == "asgi":  # a coroutine can be cancelled, and so its request can be answered
            assert connection.answer().status == 500
        else:
            with pytest.raises((CutOff, ConnectionError)):
                connection.answer()
