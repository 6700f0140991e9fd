"""How a WebSocket ends, whoever ends it, and what the logs say of it."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from signal import SIGHUP, SIGTERM

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from process.apps import asgi, make_gate, open_gate, reset, rss
from process.test_websocket import CLOSE, LOOPS, PING, PONG, TEXT, Rude, frame, talk
from server import Server, wait_for

Serve = Callable[..., Server]

MORE = """
async def accept(receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})

async def at_echo(scope, receive, send):
    await accept(receive, send)
    say("accepted")
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    say("closed", message["code"], message["reason"])
    try:
        await send({"type": "websocket.send", "text": "nobody hears it"})
    except OSError:
        say("send raised")

async def at_listen(scope, receive, send):
    await accept(receive, send)
    got = []
    while (message := await receive())["type"] == "websocket.receive":
        got.append(message["text"])
    say("got", " ".join(got), "and", message["code"])

async def at_close(scope, receive, send):
    await accept(receive, send)
    await send({"type": "websocket.close", "code": 4001, "reason": "go away"})
    message = await receive()
    say(message["type"], message["code"], message["reason"])

async def at_refuse(scope, receive, send):
    await receive()
    await send({"type": "websocket.close", "code": 4001})
    say("then", (await receive())["type"])

async def at_deny(scope, receive, send):
    assert "websocket.http.response" in scope["extensions"]
    await receive()
    headers = [(b"www-authenticate", b"Basic"), (b"content-type", b"text/plain")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"are you?"})

async def at_raise(scope, receive, send):
    await accept(receive, send)
    raise RuntimeError("after accept")

async def at_raise_early(scope, receive, send):
    raise RuntimeError("before accept")

async def at_return(scope, receive, send):
    await accept(receive, send)

async def at_return_early(scope, receive, send):
    await receive()

async def at_order(scope, receive, send):
    await receive()
    await send({"type": "websocket.send", "text": "too early"})

async def at_http(scope, receive, send):
    await accept(receive, send)
    await send({"type": "http.response.start", "status": 200})

async def at_thoughtful(scope, receive, send):
    await receive()
    waiting = asyncio.ensure_future(gate())
    await asyncio.sleep(0)
    say("at the gate")
    await waiting
    await send({"type": "websocket.close"})
    say("and closed", (await receive())["type"])

async def at_forever(scope, receive, send):
    await accept(receive, send)
    say("accepted")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("cancelled")
        raise
"""
FILES = asgi(MORE)


def status(server: Server, path: str) -> int:
    with pytest.raises(InvalidStatus) as caught, talk(server, path):
        pass
    return caught.value.response.status_code


def closed(server: Server, path: str) -> tuple[int, str]:
    """With which code and reason the server closes."""
    with talk(server, path) as client, pytest.raises(ConnectionClosed) as caught:
        client.recv(timeout=5)
    assert caught.value.rcvd
    return caught.value.rcvd.code, caught.value.rcvd.reason


# By the application


@pytest.mark.smoke
@LOOPS
def test_the_application_ends_it(serve: Serve, loop: str) -> None:
    server = serve("app:app", "--asgi-loop", loop, files=FILES).ready()
    assert closed(server, "/close") == (4001, "go away")
    server.expect("websocket.disconnect 4001 go away")
    assert closed(server, "/return") == (1000, "")
    assert status(server, "/refuse") == 403
    server.expect("then websocket.disconnect")
    with pytest.raises(InvalidStatus) as caught, talk(server, "/deny"):
        pass
    response = caught.value.response
    assert (response.status_code, response.body) == (401, b"who are you?")
    assert response.headers["WWW-Authenticate"] == "Basic"
    wait_for(lambda: server.get("/tasks").text == "2", what="the tasks to end")
    assert "ERROR" not in server.stderr


@LOOPS
def test_the_application_fails(serve: Serve, loop: str) -> None:
    server = serve("app:app", "--asgi-loop", loop, files=FILES).ready()
    assert closed(server, "/raise")[0] == 1011
    server.expect("RuntimeError: after accept")
    assert status(server, "/raise_early") == 500
    server.expect("RuntimeError: before accept")
    assert status(server, "/return_early") == 500
    server.expect("ASGI callable returned without starting response")
    assert status(server, "/order") == 500
    server.expect(r"websocket\.send was sent before websocket\.accept")
    assert closed(server, "/http")[0] == 1011
    server.expect(r"no message for a websocket: 'http\.response\.start'")
    wait_for(lambda: server.get("/tasks").text == "2", what="the tasks to end")
    assert server.stderr.count("[ERROR]") == 5


# By the client


@LOOPS
def test_the_client_ends_it(serve: Serve, loop: str) -> None:
    server = serve("app:app", "--asgi-loop", loop, files=FILES).ready()
    with talk(server, "/echo") as client:
        client.close(3001, "have to go")
    server.expect("closed 3001 have to go\nsend raised")
    with Rude(server) as rude:
        rude.open("/echo").send(CLOSE)  # without a code
        assert rude.receive() == (CLOSE, b"")
        assert rude.ended()
    server.expect("closed 1005 $")
    assert "ERROR" not in server.stderr


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["FIN", "RST"])
def test_the_client_is_gone(serve: Serve, leave: Callable[[socket.socket], None]) -> None:
    """Without a word: who listens hears 1006, who does not is cancelled."""
    server = serve("app:app", "--asgi-disconnect-grace-period", "0.2", files=FILES).ready()
    with Rude(server) as client, Rude(server) as second:
        client.open("/echo").send(TEXT, b"x")
        assert client.receive() == (TEXT, b"x")
        second.open("/forever")
        begun = time.monotonic()
        leave(client.sock)
        leave(second.sock)
        server.expect("closed 1006 \nsend raised")
        server.expect("cancelled")
        assert 0.15 < time.monotonic() - begun < 1
    wait_for(lambda: server.get("/tasks").text == "2", what="the tasks to end")
    assert "ERROR" not in server.stderr


def test_the_client_is_gone_before_the_answer(serve: Serve) -> None:
    """To close then is no fault, and does not make a second line in the log."""
    line = "%(m)s %(U)s %(s)s"
    server = serve("app:app", "--access-logfile", "-", "--access-logformat", line, files=FILES).ready()
    make_gate(server)
    with Rude(server) as client:
        client.ask("/thoughtful")
        server.expect("at the gate")
        client.sock.close()
    server.expect("^GET /thoughtful 499$", stream="stdout")
    open_gate(server)
    server.expect("and closed websocket.disconnect")
    assert server.get("/").status == 200
    server.expect("^GET / 200$", stream="stdout")
    assert len(server.stdout.splitlines()) == 2
    assert "ERROR" not in server.stderr


def test_unfinished_messages_leave_with_their_clients(serve: Serve) -> None:
    """Each has most of a message that will never be whole, and there is room for a few of them only."""
    server = serve("app:app", files=FILES).ready()
    worker = int(server.get("/").text)
    piece = b"x" * (8 << 20)
    sizes = []
    for n in range(40):
        with Rude(server) as client:
            client.open("/echo").send(TEXT, piece, fin=False)
            client.send(PING)
            assert client.receive() == (PONG, b"")  # so it has arrived
            if n % 4 == 3:
                sizes.append(rss(worker))
    assert max(sizes[2:]) - sizes[1] < 60_000_000, sizes


def test_what_was_sent_before_the_end_arrives(serve: Serve) -> None:
    server = serve("app:app", files=FILES).ready()
    with Rude(server) as client:
        client.open("/listen")
        client.sock.sendall(b"".join(frame(TEXT, b"%d" % n) for n in range(100)) + frame(CLOSE, b"\x03\xe8"))
        assert client.close_code() == 1000
        assert client.ended()
    server.expect(f"got {' '.join(map(str, range(100)))} and 1000$")
    assert "ERROR" not in server.stderr


# Signs of life


def test_a_ping_is_answered(serve: Serve) -> None:
    server = serve("app:app", files=FILES).ready()
    with Rude(server) as client:
        client.open("/forever").send(PING, b"are you there?")
        assert client.receive() == (PONG, b"are you there?")


def test_a_client_that_does_not_answer_a_ping(serve: Serve) -> None:
    server = serve("app:app", "--ws-ping-interval", "0.2", "--ws-ping-timeout", "0.2", files=FILES).ready()
    with Rude(server) as client:
        client.open("/echo")
        begun = time.monotonic()
        opcode, _ = client.receive()
        assert opcode == PING
        while opcode == PING:
            opcode, data = client.receive()
        assert (opcode, data) == (CLOSE, b"\x03\xf3keepalive ping timeout")
        assert 0.35 < time.monotonic() - begun < 1
        server.expect("closed 1011 keepalive ping timeout\nsend raised")
        assert client.ended()
    wait_for(lambda: server.get("/tasks").text == "2", what="the tasks to end")
    assert "ERROR" not in server.stderr


def test_one_that_does_stays(serve: Serve) -> None:
    server = serve("app:app", "--ws-ping-interval", "0.1", "--ws-ping-timeout", "0.3", files=FILES).ready()
    with Rude(server) as client:
        client.open("/echo")
        for _ in range(10):
            opcode, data = client.receive()
            assert opcode == PING
            client.send(PONG, data)
        client.send(TEXT, b"still there")
        while (received := client.receive())[0] == PING:
            pass
        assert received == (TEXT, b"still there")


# By the server


@LOOPS
@pytest.mark.parametrize("number", [SIGTERM, SIGHUP])
def test_the_server_stops_or_reloads(serve: Serve, number: int, loop: str) -> None:
    """Both sides are told, and it does not take long."""
    server = serve("app:app", "--asgi-loop", loop, "--graceful-timeout", "30", files=FILES).ready()
    (worker,) = server.workers()
    with ExitStack() as stack:
        clients = [stack.enter_context(talk(server, "/echo")) for _ in range(50)]
        for client in clients:
            client.send("x")
            assert client.recv(timeout=5) == "x"
        begun = time.monotonic()
        server.signal(number)
        for client in clients:
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(timeout=5)
            assert caught.value.rcvd
            assert caught.value.rcvd.code == 1012
        server.expect(rf"Worker exiting \(pid: {worker}\)")
        assert time.monotonic() - begun < 4
    assert server.stderr.count("closed 1012") == 50
    assert "Cancelling" not in server.stderr
    assert "ERROR" not in server.stderr


def test_clients_that_do_not_answer_the_close(serve: Serve) -> None:
    server = serve("app:app", "--graceful-timeout", "1", files=FILES).ready()
    with Rude(server) as client, Rude(server) as second:
        client.open("/echo")
        second.open("/forever")
        server.expect("accepted", times=2)
        begun = time.monotonic()
        server.signal(SIGTERM)
        assert client.close_code() == 1012
        assert second.close_code() == 1012
        server.expect("closed 1012")
        assert server.wait() == 0
        assert time.monotonic() - begun < 3
    server.expect("lifespan: shutdown")
    assert "SIGKILL" not in server.stderr


# The logs


def test_the_access_log(serve: Serve) -> None:
    """One line, when it is over."""
    line = "%(h)s %(m)s %(U)s %(s)s %(b)s %(D)s"
    server = serve("app:app", "--access-logfile", "-", "--access-logformat", line, files=FILES).ready()
    with talk(server, "/echo") as client:
        client.send("x" * 1000)
        assert client.recv(timeout=5) == "x" * 1000
        assert server.stdout == ""
    server.expect(r"^127\.0\.0\.1 GET /echo 101 1000 \d+$", stream="stdout")
    assert status(server, "/refuse") == 403
    server.expect(r"^127\.0\.0\.1 GET /refuse 403 0 \d+$", stream="stdout")
    assert status(server, "/deny") == 401
    server.expect(r"^127\.0\.0\.1 GET /deny 401 12 \d+$", stream="stdout")
    assert len(server.stdout.splitlines()) == 3


def test_in_the_manner_of_uvicorn(serve: Serve) -> None:
    """A line when it is accepted or refused, in the error log, and none in the access log."""
    args = ("-k", "uvicorn.workers.UvicornWorker", "--access-logfile", "-")
    server = serve("app:app", *args, files=FILES).ready()
    with talk(server, "/echo?a=b", additional_headers={"X-Forwarded-For": "192.0.2.7"}):
        server.expect(r'192\.0\.2\.7:0 - "WebSocket /echo\?a=b" \[accepted\]$')
    with talk(server, "/echo") as client:
        port = client.socket.getsockname()[1]
        server.expect(rf'127\.0\.0\.1:{port} - "WebSocket /echo" \[accepted\]$')
    assert status(server, "/refuse") == 403
    server.expect(r'"WebSocket /refuse" 403$')
    assert server.get("/").status == 200
    server.expect('"GET / HTTP/1.1" 200', stream="stdout")
    assert not re.search("echo|refuse", server.stdout)
