"""Clients, and applications, that want more than their share: of the loop, of time, of what belongs to the next one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from signal import SIGHUP, SIGTERM, SIGUSR1

import pytest

from process.apps import asgi, make_gate, open_gate, rss
from process.load import Client
from process.test_websocket import PING, PONG, TEXT, Rude, frame
from server import Deadline, Server, wait_for

Serve = Callable[..., Server]

MIB = 1 << 20

# Applications that never wait where they need not. `served` counts what has reached them before they are asked.
MORE = """
served = 0

async def at_served(scope, receive, send):
    await answer(send, served)

async def at_counted(scope, receive, send):
    global served
    served += 1
    await answer(send, "counted")

async def at_block(scope, receive, send):
    say("blocking")
    open("gate").close()
    await answer(send, os.getpid())

async def at_letters(scope, receive, send):
    global served
    await start(send)
    try:
        while True:
            await piece(send, b"x")
            served += 1
    finally:
        say("no more letters")

async def at_stream(scope, receive, send):
    await start(send)
    try:
        say("streaming")
        while True:
            await piece(send, b"x" * 65536)
    finally:
        say("the stream has ended")

async def at_both(scope, receive, send):
    async def read():
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        say("heard", message["type"])
    reading = asyncio.ensure_future(read())
    await start(send)
    say("streaming")
    for _ in range(256):
        await piece(send, b"x" * 65536)
    await reading

async def at_messages(scope, receive, send):
    global served
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        served += 1

async def at_shout(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        await send({"type": "websocket.send", "text": scope["query_string"].decode()})
"""
FILES = asgi(MORE)


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started(serve: Serve, *args: str) -> Server:
    return serve("app:app", *args, files=FILES).ready()


def drain(sock: socket.socket) -> None:
    """Take all that comes, on a thread of its own, until the socket is closed."""

    def take() -> None:
        with suppress(OSError):
            while sock.recv(MIB):
                pass

    threading.Thread(target=take, daemon=True).start()


# The loop


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_letters_for_a_client_that_does_not_read(serve: Serve, clients: ExitStack, loop: str) -> None:
    """What waits is 40,000 pieces: they must not cost an object, a look and a system call each, again and again."""
    server = started(serve, "--asgi-loop", loop)
    worker = int(server.get("/").text)
    before = rss(worker)
    client = clients.enter_context(Client(server))
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.ask("/letters")
    last = -1

    def held() -> bool:
        nonlocal last
        last, seen = int(server.get("/served", seconds=5).text), last
        return last == seen > 0

    wait_for(held, seconds=20, what="the letters to be held up")
    assert rss(worker) - before < 4 * MIB
    client.sock.close()
    server.expect("no more letters")


@pytest.mark.parametrize("query", ["x", "x" * 1000])
def test_an_application_that_never_stops_sending(serve: Serve, clients: ExitStack, query: str) -> None:
    """Where the client takes it all at once, to send is never to wait."""
    server = started(serve)
    client = clients.enter_context(Rude(server)).open(f"/shout?{query}")
    drain(client.sock)
    for _ in range(10):
        assert server.get("/", seconds=5).status == 200


def blocked(server: Server, clients: ExitStack) -> None:
    """Stop the loop. What is sent now has come when it goes on, which is when the gate is opened."""
    make_gate(server)
    clients.enter_context(Client(server)).ask("/block")
    server.expect("blocking")


@pytest.mark.smoke
@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_a_pipeline_does_not_come_before_all_others(serve: Serve, clients: ExitStack, loop: str) -> None:
    server = started(serve, "--asgi-loop", loop)
    greedy, other = (clients.enter_context(Client(server)) for _ in range(2))
    for client in (greedy, other):
        assert client.ask().answer()[0] == 200
    blocked(server, clients)
    drain(greedy.sock)
    greedy.sock.sendall(b"GET /counted HTTP/1.1\r\nHost: a\r\n\r\n" * 400)  # one recv's worth
    other.ask("/served")
    open_gate(server)
    assert int(other.answer()[1]) < 50
    wait_for(lambda: server.get("/served").text == "400", what="the pipeline to be answered, too")


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_a_flood_of_messages_does_not_come_before_all_others(serve: Serve, clients: ExitStack, loop: str) -> None:
    server = started(serve, "--asgi-loop", loop)
    greedy = clients.enter_context(Rude(server)).open("/messages")
    other = clients.enter_context(Client(server))
    assert other.ask().answer()[0] == 200
    blocked(server, clients)
    greedy.sock.sendall(frame(TEXT) * 10_000)
    other.ask("/served")
    open_gate(server)
    assert int(other.answer()[1]) < 200
    wait_for(lambda: server.get("/served").text == "10000", what="every message to arrive")


def test_control_frames_are_all_answered(serve: Serve, clients: ExitStack) -> None:
    """However many there are in one packet, and though others have a turn in between."""
    server = started(serve)
    client = clients.enter_context(Rude(server)).open("/messages")
    client.sock.sendall(b"".join(frame(PING, b"%d" % n) for n in range(5_000)))
    client.send(TEXT, b"the end")
    for n in range(5_000):
        assert client.receive() == (PONG, b"%d" % n)
    wait_for(lambda: server.get("/served").text == "1", what="the message to arrive")


# Time


def test_content_does_not_excuse_who_takes_nothing(serve: Serve, clients: ExitStack) -> None:
    """The last of the content comes while the answer is not taken: still the answer has its time."""
    server = started(serve, "--body-timeout", "0.5")
    client = clients.enter_context(Client(server))
    client.sock.sendall(b"POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
    server.expect("streaming")
    assert server.get("/").status == 200  # the stream has filled what there is to fill
    client.sock.sendall(b"cd")
    server.expect("the stream has ended")


def test_to_take_the_answer_does_not_excuse_who_sends_nothing(serve: Serve, clients: ExitStack) -> None:
    """The application waits for content while it streams; that is all taken, and then the client is silent."""
    server = started(serve, "--body-timeout", "0.5")
    client = clients.enter_context(Client(server))
    client.sock.sendall(b"POST /both HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
    server.expect("streaming")
    assert server.get("/").status == 200  # the stream has filled what there is to fill
    got = 0
    while data := client.sock.recv(MIB):
        got += len(data)
    assert got > 256 * 65536
    server.expect("heard http.disconnect")


def test_a_pong_that_was_not_asked_for_is_no_sign_of_life(serve: Serve, clients: ExitStack) -> None:
    server = started(serve, "--ws-ping-interval", "0.1", "--ws-ping-timeout", "0.1")
    client = clients.enter_context(Rude(server)).open("/messages")
    client.send(PONG, b"9" * 20)
    opcode, data = PING, b""
    while opcode == PING:
        opcode, data = client.receive()
    assert data == b"\x03\xf3keepalive ping timeout"


# What belongs to the next request


LATE = [
    (b"Content-Length: 10", b"12345", b"67890"),
    (b"Content-Length: 70000", b"x" * 20_000, b"x" * 50_000),
    (b"Transfer-Encoding: chunked", b"5\r\n12345\r\n", b"5\r\n67890\r\n0\r\n\r\n"),
]


@pytest.mark.parametrize(("field", "first", "rest"), LATE, ids=["short", "long", "chunked"])
def test_content_that_nobody_wanted_comes_late(serve: Serve, field: bytes, first: bytes, rest: bytes) -> None:
    """The answer has said that the connection goes on. So it does, behind the content."""
    server = started(serve)
    with Client(server) as client:
        client.sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n" + first)
        assert client.answer()[0] == 200
        assert not client.closing
        client.sock.sendall(rest + b"GET /counted HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer() == (200, "counted")
    assert server.get("/served").text == "1"


@pytest.mark.parametrize("rest", [b"", b"6\r\n6789", b"6\r\n67890GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_content_that_nobody_wanted_does_not_come(serve: Serve, rest: bytes) -> None:
    """It is waited for as for a head; and what is no content is no request either."""
    server = started(serve, "--header-timeout", "0.5")
    with Client(server) as client:
        client.sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n")
        assert client.answer()[0] == 200
        client.sock.sendall(rest)
        assert client.ended()


# The end


@pytest.mark.parametrize("number", [SIGHUP, SIGUSR1])
def test_signals_until_the_end_do_not_change_the_exit_status(serve: Serve, number: int) -> None:
    server = started(serve)
    server.signal(SIGTERM)
    status = None
    while status is None:
        server.signal(number)
        with suppress(Deadline):
            status = server.wait(0.001)
    assert status == 0
