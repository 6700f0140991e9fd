"""Whoever is faster waits for the slower one: the memory of a worker does not grow with what a stranger sends."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest

from process.apps import asgi, make_gate, open_gate, rss
from process.load import Client
from server import Server, wait_for

Serve = Callable[..., Server]

MIB = 1 << 20
# What one connection may cost: 64 KiB of content or of next requests, 256 KiB of response; the rest is the allocator's.
MOST = 8 * MIB

MORE = """
sent = 0

async def at_stream(scope, receive, send):
    global sent
    sent = 0
    await start(send)
    say("streaming")
    while True:
        await piece(send, b"x" * 65536)
        sent += 65536

async def at_sent(scope, receive, send):
    await answer(send, sent)

async def at_big(scope, receive, send):
    await start(send)
    await piece(send, b"x" * (64 << 20))
    say("through")
    await piece(send, b"", False)

async def at_deaf(scope, receive, send):
    await receive()
    say("listening no more")
    await gate()
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await answer(send, size)
"""
FILES = asgi(MORE)


def one(serve: Serve, *args: str) -> tuple[Server, int]:
    """A server, and the pid of its worker, which has answered once."""
    server = serve("app:app", *args, files=FILES).ready()
    return server, int(server.get("/").text)


def push(sock: socket.socket, data: bytes, most: int) -> int:
    """Send until so much was sent, or until nothing is taken for half a second. Returns how much it was."""
    sent = 0
    sock.setblocking(False)
    while sent < most and select.select([], [sock], [], 0.5)[1]:
        with suppress(BlockingIOError):
            sent += sock.send(data)
    sock.setblocking(True)
    return sent


def held(server: Server) -> int:
    """How much a stream has sent once it sends no more."""
    last = -1

    def same() -> bool:
        nonlocal last
        before, last = last, int(server.get("/sent").text)
        return before == last > 0

    wait_for(same, what="the stream to be held up")
    return last


@pytest.mark.smoke
@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_an_endless_stream_to_a_client_that_does_not_read(serve: Serve, loop: str) -> None:
    server, worker = one(serve, "--asgi-loop", loop)
    before = rss(worker)
    with Client(server) as client:
        client.ask("/stream")
        server.expect("streaming")
        sent = held(server)
        assert sent < 16 * MIB  # the kernel's buffers are most of it
        assert rss(worker) - before < MOST
        # What it reads, it gets; then the application goes on.
        got = 0
        while got < 2 * sent:
            got += len(client.sock.recv(65536))
        assert int(server.get("/sent").text) > sent
        assert rss(worker) - before < MOST


def test_twenty_of_them(serve: Serve) -> None:
    server, worker = one(serve)
    before = rss(worker)
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(Client(server)).ask("/stream")
        server.expect("streaming", times=20)
        held(server)
        assert rss(worker) - before < 20 * MIB


@pytest.mark.parametrize(
    "head", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"], ids=["length", "chunked"]
)
def test_an_upload_to_an_application_that_does_not_read(serve: Serve, head: str) -> None:
    server, worker = one(serve)
    make_gate(server)
    before = rss(worker)
    with Client(server) as client:
        client.sock.sendall(f"POST /deaf HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n".encode())
        data = b"x" * 65536 if "Length" in head else (b"%x\r\n%s\r\n" % (1000, b"x" * 1000)) * 64
        client.sock.sendall(data)
        server.expect("listening no more")
        assert push(client.sock, data, 64 * MIB) < 32 * MIB
        assert rss(worker) - before < MOST
        assert server.get("/").text == str(worker)


def test_an_upload_goes_on_when_the_application_does(serve: Serve) -> None:
    server, _ = one(serve)
    make_gate(server)
    size = 32 * MIB
    with Client(server) as client:
        client.sock.sendall(b"POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        client.sock.sendall(b"x")
        server.expect("listening no more")
        sent = 1 + push(client.sock, b"x" * 65536, size - 65536)
        open_gate(server)
        client.sock.sendall(b"x" * (size - sent))
        status, text = client.answer()
        assert status == 200
        assert 0 < size - int(text) <= 1  # the first message is not counted
    assert server.get("/tasks").text == "2"


def test_a_flood_of_pipelined_requests(serve: Serve) -> None:
    """Behind one that does not end; and the answers are all there, once it does."""
    server, worker = one(serve)
    make_gate(server)
    before = rss(worker)
    request = b"GET /?%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 1000)
    with Client(server) as client:
        client.ask("/gate")
        server.expect("at the gate")
        sent = push(client.sock, request * 60, 64 * MIB)
        assert sent < 32 * MIB
        assert rss(worker) - before < MOST
        open_gate(server)
        answers = sent // len(request)
        assert client.answer()[0] == 200
        for _ in range(answers):
            assert client.answer()[0] == 200
    assert rss(worker) - before < MOST


def test_a_flood_whose_answers_nobody_reads(serve: Serve) -> None:
    server, worker = one(serve)
    before = rss(worker)
    with Client(server) as client:
        assert push(client.sock, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000, 64 * MIB) < 48 * MIB
        assert rss(worker) - before < MOST
        assert server.get("/").text == str(worker)


def test_background_tasks_without_end(serve: Serve) -> None:
    """A client whose answers are complete starts no more tasks than a connection may have."""
    more = """
async def at_behind(scope, receive, send):
    await answer(send, os.getpid())
    await asyncio.Event().wait()
"""
    server = serve("app:app", files=asgi(more)).ready()
    with Client(server) as client:
        for _ in range(100):
            client.ask("/behind")
        for _ in range(16):
            assert client.answer()[0] == 200
        client.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.answer()
        assert server.get("/tasks").text == "18"  # the lifespan, and this one


# Stalled, or merely slow


def test_a_stalled_reader_is_dropped(serve: Serve) -> None:
    server, _ = one(serve, "--body-timeout", "0.5", "--log-level", "debug")
    with Client(server) as stream, Client(server) as big:
        stream.ask("/stream")
        big.ask("/big")
        server.expect(r"has taken nothing of its response for 0\.5 s", times=2)
    wait_for(lambda: server.get("/tasks").text == "2", what="their tasks to end")
    assert "ERROR" not in server.stderr


def test_a_flowing_one_is_not(serve: Serve) -> None:
    """It takes three times as long as `body_timeout` allows to stand still."""
    server, _ = one(serve, "--body-timeout", "0.5", "--log-level", "debug")
    pause = threading.Event()
    with server.connect(seconds=5) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        end = time.monotonic() + 1.8
        while time.monotonic() < end:
            assert sock.recv(20_000)
            pause.wait(0.05)  # the client's pace
    assert "has taken nothing" not in server.stderr


def test_an_upload_that_stalls(serve: Serve) -> None:
    server, _ = one(serve, "--body-timeout", "0.5")
    answer = server.ask(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000, seconds=10)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    server.expect("left after 1000")
    assert server.get("/tasks").text == "2"
    assert "ERROR" not in server.stderr


def test_an_upload_that_flows(serve: Serve) -> None:
    server, _ = one(serve, "--body-timeout", "0.5")
    pause = threading.Event()
    with Client(server) as client:
        client.sock.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 16000\r\n\r\n")
        for _ in range(16):
            client.sock.sendall(b"x" * 1000)
            pause.wait(0.09)
        assert client.answer()[1].split()[1] == "16000"


def test_the_time_of_an_application_that_does_not_read_is_not_the_clients(serve: Serve) -> None:
    server, _ = one(serve, "--body-timeout", "0.5")
    make_gate(server)
    pause = threading.Event()
    with Client(server) as client:
        client.sock.sendall(b"POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: 160000\r\n\r\nx")
        server.expect("listening no more")
        client.sock.sendall(b"x" * 100_000)
        pause.wait(1.8)
        open_gate(server)
        client.sock.sendall(b"x" * 99_999)
        assert client.answer()[0] == 200
