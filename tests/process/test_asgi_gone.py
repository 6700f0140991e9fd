"""Clients that leave before they have their answer: the application hears of it at once, and is cancelled soon."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from process.apps import asgi, reset
from process.load import Client
from server import Server, wait_for

Serve = Callable[..., Server]

GRACE = "0.2"
MORE = """
async def at_forever(scope, receive, send):
    say("waiting")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("cancelled")
        raise

async def at_listen(scope, receive, send):
    await receive()
    say("waiting")
    say("got", (await receive())["type"])
    say("and again", (await receive())["type"])
    await asyncio.Event().wait()

async def at_late(scope, receive, send):
    await receive()
    say("waiting")
    await receive()
    say("heard")
    await answer(send, "late")

async def at_stream(scope, receive, send):
    await start(send)
    try:
        while True:
            await piece(send, b"x" * 100)
            say("waiting")
            await asyncio.sleep(0.01)
    except OSError as error:
        say("send raised", isinstance(error, ConnectionError) or type(error).__name__)
        try:
            await piece(send, b"x" * 100)
        except OSError:
            say("and again")

async def at_download(scope, receive, send):
    await start(send)
    say("waiting")
    try:
        while True:
            await piece(send, b"x" * 65536)
    except OSError:
        say("send raised")

async def at_upload(scope, receive, send):
    await receive()
    say("waiting")
    while (message := await receive())["type"] == "http.request":
        pass
    say("got", message["type"])
    try:
        await answer(send, "nobody hears it")
    except OSError:
        say("send raised")

async def at_behind(scope, receive, send):
    await answer(send, os.getpid())
    say("waiting")
    await asyncio.sleep(0.5)
    say("done behind the answer")
"""
FILES = asgi(MORE)
FIN = pytest.param(socket.socket.close, id="FIN")
RST = pytest.param(reset, id="RST")
WAYS = pytest.mark.parametrize("leave", [FIN, RST])
Leave = Callable[[socket.socket], None]


class Scene:
    """A server that all tests of this module share, and what it has printed since one of them began."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.since = len(server.stderr)

    def expect(self, pattern: str, times: int = 1) -> None:
        self.server.expect(pattern, times=times, since=self.since)


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    args = ("--asgi-disconnect-grace-period", GRACE, "--log-level", "debug")
    with Server("app:app", *args, files=FILES) as server:
        yield server.ready()


@pytest.fixture
def scene(shared: Server) -> Iterator[Scene]:
    scene = Scene(shared)
    yield scene
    wait_for(lambda: shared.get("/tasks").text == "2", what="all tasks to have ended")  # the lifespan, and this one
    said = shared.stderr[scene.since :]
    assert "ERROR" not in said
    assert "Traceback" not in said


@pytest.mark.smoke
@WAYS
def test_who_awaits_for_ever_is_cancelled(scene: Scene, leave: Leave) -> None:
    client = Client(scene.server).ask("/forever")
    scene.expect("waiting")
    begun = time.monotonic()
    leave(client.sock)
    scene.expect("cancelled")
    assert 0.15 < time.monotonic() - begun < 0.6


@WAYS
def test_who_listens_hears_it_at_once(scene: Scene, leave: Leave) -> None:
    client = Client(scene.server).ask("/listen")
    scene.expect("waiting")
    begun = time.monotonic()
    leave(client.sock)
    scene.expect("got http.disconnect\nand again http.disconnect")
    assert time.monotonic() - begun < 0.15


@WAYS
def test_who_sends_gets_an_error(scene: Scene, leave: Leave) -> None:
    client = Client(scene.server).ask("/stream")
    scene.expect("waiting", times=3)
    leave(client.sock)
    scene.expect("send raised True")
    scene.expect("and again")


@WAYS
def test_who_waits_for_a_slow_reader(scene: Scene, leave: Leave) -> None:
    """The application hangs in `send` when its client leaves."""
    client = Client(scene.server).ask("/download")
    scene.expect("waiting")
    (worker,) = scene.server.workers()
    _until_idle(worker)
    leave(client.sock)
    scene.expect("send raised")


@pytest.mark.parametrize("length", ["Content-Length: 100000", "Transfer-Encoding: chunked"], ids=["length", "chunked"])
@WAYS
def test_who_leaves_in_an_upload(scene: Scene, leave: Leave, length: str) -> None:
    client = Client(scene.server)
    client.sock.sendall(f"POST /upload HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n".encode() + b"a\r\n0123456789\r\n")
    scene.expect("waiting")
    leave(client.sock)
    scene.expect("got http.disconnect")
    scene.expect("send raised")


def test_a_client_that_stops_sending_gets_its_answer(scene: Scene) -> None:
    """Half-closed is not gone: what comes within the grace period still finds its way."""
    with Client(scene.server) as client:
        client.ask("/late")
        scene.expect("waiting")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.answer() == (200, "late")
        assert client.ended()


def test_a_whole_request_and_the_end_in_one_packet(scene: Scene) -> None:
    for path in ("/", "/length", "/late"):
        with Client(scene.server) as client:
            client.ask(path)
            client.sock.shutdown(socket.SHUT_WR)
            assert client.answer()[0] == 200
            assert client.ended()


def test_pipelined_requests_and_the_end(scene: Scene) -> None:
    with Client(scene.server) as client:
        client.ask("/?1").ask("/length").ask("/?3")
        client.sock.shutdown(socket.SHUT_WR)
        assert [client.answer()[0] for _ in range(3)] == [200] * 3
        assert client.ended()


def test_half_closed_for_too_long(scene: Scene) -> None:
    with Client(scene.server) as client:
        client.ask("/forever")
        scene.expect("waiting")
        client.sock.shutdown(socket.SHUT_WR)
        scene.expect("cancelled")
        assert client.ended()


@WAYS
def test_what_goes_on_behind_an_answer_is_not_cancelled(scene: Scene, leave: Leave) -> None:
    client = Client(scene.server)
    assert client.ask("/behind").answer()[0] == 200
    leave(client.sock)
    scene.expect("done behind the answer")


def test_a_grace_period_of_nothing(serve: Serve) -> None:
    server = serve("app:app", "--asgi-disconnect-grace-period", "0", files=FILES).ready()
    client = Client(server).ask("/forever")
    server.expect("waiting")
    client.sock.close()
    server.expect("cancelled", seconds=0.3)


def _until_idle(pid: int) -> None:
    """Wait until the process has used no processor time for a while."""
    last = [-1, 0]

    def idle() -> bool:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        last[1] = last[1] + 1 if ticks == last[0] else 0
        last[0] = ticks
        return last[1] > 4

    wait_for(idle, what="the worker to have nothing to do")
