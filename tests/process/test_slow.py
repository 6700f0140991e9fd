"""Slow clients cost memory, not a worker."""

from __future__ import annotations

import resource
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from process.apps import FILES
from process.load import Client
from server import Server

Serve = Callable[..., Server]

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 1000


class Drip:
    """Many connections that send a byte each second, until told to stop."""

    def __init__(self, server: Server, number: int) -> None:
        self.socks = []
        for _ in range(number):
            self.socks.append(sock := server.connect(seconds=30))
            sock.sendall(HEAD[:1])  # who has said nothing by the time that it is late is not told so
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._drip, daemon=True)

    def __enter__(self) -> Drip:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()
        for sock in self.socks:
            sock.close()

    def _drip(self) -> None:
        for n in range(1, len(HEAD)):
            if self._enough.wait(1.0):
                return
            for sock in self.socks:
                with suppress(OSError):  # its time is up, and it was told so
                    sock.send(HEAD[n : n + 1])


@pytest.fixture
def descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize("header_timeout", [2])
def test_500_slow_clients_and_a_fast_one(serve: Serve, header_timeout: int) -> None:
    """One thread answers the fast one at once; the slow ones get 408 when their time is up."""
    server = serve("-w", "1", "app:app", "--header-timeout", str(header_timeout), files=FILES).ready()
    with Drip(server, 500) as drip:
        took = []
        with Client(server) as fast:
            for _ in range(50):
                begun = time.monotonic()
                assert fast.ask().answer()[0] == 200
                took.append(time.monotonic() - begun)
        assert statistics.median(took) < 0.05
        answers = [_read(sock) for sock in drip.socks]
    assert {answer[:20] for answer in answers} == {b"HTTP/1.1 408 Request"}
    assert all(b"\r\nConnection: close\r\n" in answer for answer in answers)
    assert "ERROR" not in server.stderr
    assert server.stop() == 0


def _read(sock: socket.socket) -> bytes:
    answer = b""
    with suppress(ConnectionResetError):  # it went on sending for longer than we listen
        while chunk := sock.recv(65536):
            answer += chunk
    return answer


def test_whom_the_only_thread_waits_for(serve: Serve) -> None:
    """Neither for the rest of a head nor of a small body."""
    server = serve("app:app", files=FILES).ready()
    with Client(server) as head, Client(server) as body, Client(server) as silent:
        head.sock.sendall(b"GET /?head HT")
        body.sock.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"x" * 100)
        for _ in range(10):
            assert server.get("/").status == 200
        head.sock.sendall(b"TP/1.1\r\nHost: a\r\n\r\n")
        body.sock.sendall(b"x" * 59_900)
        assert head.answer()[1].endswith(" head")
        assert body.answer()[1].endswith(" 60000")
        assert silent.ask().answer()[0] == 200


@pytest.mark.parametrize("size", [1000, 100_000])
def test_a_body_that_does_not_come(serve: Serve, size: int) -> None:
    """Whether it is collected before the application runs, or the application waits for it."""
    server = serve("app:app", "--body-timeout", "1", "--request-buffer", "10000", files=FILES).ready()
    answer = server.ask(
        b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (size, b"x" * (size // 2)), seconds=20
    )
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"Connection: close" in answer
    server.expect(r"\[WARNING\] Invalid request from ip=127\.0\.0\.1: ")
    assert "Traceback" not in server.stderr
    assert server.get("/").status == 200


@pytest.mark.parametrize("size", [5000, 100_000])
def test_a_body_that_comes_by_drops(serve: Serve, size: int) -> None:
    """Each drop in time, but all in all too slowly."""
    server = serve("app:app", "--body-timeout", "1", "--request-buffer", "10000", files=FILES).ready()
    enough = threading.Event()
    with server.connect(seconds=20) as sock:
        sock.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)

        def drip() -> None:
            with suppress(OSError):
                while not enough.wait(0.2):
                    sock.send(b"xx")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        assert sock.recv(65536).startswith(b"HTTP/1.1 408 ")
        enough.set()
        thread.join()
    assert server.get("/").status == 200


def test_a_client_that_takes_nothing(serve: Serve) -> None:
    """Its answer waits for it, the worker does not, and after a while neither does."""
    module = """
def app(environ, start_response):
    size = int(environ["QUERY_STRING"] or 2)
    start_response("200 OK", [("Content-Length", str(size))])
    return [b"x" * size]
"""
    server = serve("app:app", "--body-timeout", "1", "--log-level", "debug", files={"app.py": module}).ready()
    with ExitStack() as stack:
        lazy = [stack.enter_context(Client(server)) for _ in range(5)]
        for client in lazy:
            client.ask("/?20000000")
        for _ in range(10):
            assert server.get("/").text == "xx"
        server.expect("has taken no byte of its response for 1 s", times=5)


def test_more_connections_than_a_worker_may_have(serve: Serve) -> None:
    """The others wait in the queue of the kernel, and are served when there is room."""
    server = serve("app:app", "--worker-connections", "5", "--keep-alive", "60", files=FILES).ready()
    with ExitStack() as stack:
        first = [stack.enter_context(Client(server)) for _ in range(5)]
        for client in first:
            assert client.ask().answer()[0] == 200
        later = [stack.enter_context(Client(server)) for _ in range(5)]
        for client in later:
            client.ask("/?later")
        for client in first:
            assert client.ask("/?first").answer()[1].endswith(" first")
            client.sock.close()
        for client in later:
            assert client.answer()[1].endswith(" later")
