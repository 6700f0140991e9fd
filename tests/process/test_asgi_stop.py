"""The end of a worker for ASGI: requests and tasks are finished, then the application shuts down."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM

import pytest

from process.apps import asgi, make_gate, open_gate
from process.load import Client, Load
from process.test_start import catches
from process.test_stop import term, until_nobody_comes_in
from server import Server, wait_for

Serve = Callable[..., Server]

# An endless stream, a request that never ends, and work that goes on behind an answer.
MORE = """
async def at_stream(scope, receive, send):
    await start(send)
    try:
        while True:
            await piece(send, b"data: x\\n\\n")
            await asyncio.sleep(0.05)
    finally:
        say("the stream has ended")

async def at_stuck(scope, receive, send):
    say("stuck")
    try:
        await asyncio.Event().wait()
    finally:
        say("was cancelled")

async def at_behind(scope, receive, send):
    await answer(send, os.getpid())
    waiting = asyncio.ensure_future(gate())
    await asyncio.sleep(0)
    say("at the gate")
    await waiting
    say("done behind the answer")

async def at_work(scope, receive, send):
    await asyncio.sleep(0.02)
    await answer(send, os.getpid())

async def at_block(scope, receive, send):
    say("blocking")
    open("gate").close()
    await answer(send, os.getpid())

async def at_stubborn(scope, receive, send):
    say("stuck")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            say("does not care")
"""
FILES = asgi(MORE)


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def draining(server: Server) -> None:
    """Begin to stop. Returns when the worker, whose loop is free, has left the listeners."""
    term(server, threads="any")


def until_ready(server: Server, number: int) -> None:
    """Wait until both workers know what to do on this signal: one that is still booting is simply ended by it."""
    server.expect("lifespan: startup", times=2)
    wait_for(lambda: all(catches(pid, number) for pid in server.workers()), what="both to be ready")


# Shutdown


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("number", "loop"), [(SIGTERM, "auto"), (SIGINT, "auto"), (SIGQUIT, "auto"), (SIGTERM, "asyncio")]
)
def test_shutdown_runs(serve: Serve, number: int, loop: str) -> None:
    server = serve("-w", "2", "--asgi-loop", loop, "app:app", files=FILES).ready()
    until_ready(server, number)
    assert server.stop(number) == 0
    assert server.stderr.count("lifespan: shutdown") == 2
    assert server.stderr.count("Application shutdown complete.") == 2
    assert "ERROR" not in server.stderr
    assert server.tree() == []


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_a_signal_before_the_first_turn_of_the_loop(serve: Serve, loop: str) -> None:
    """The worker handles signals already, and its loop does not run yet; it collects garbage, as it happens."""
    more = """
import gc, signal

def collecting(phase, info):
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL and not os.path.exists("told"):
        open("told", "w").close()
        os.kill(os.getpid(), signal.SIGTERM)

gc.callbacks.append(collecting)
"""
    server = serve("app:app", "--asgi-loop", loop, files=asgi(more)).ready()
    server.expect("lifespan: shutdown")
    server.expect(r"Worker exiting")
    assert server.get("/").status == 200


@pytest.mark.parametrize("number", [SIGHUP, signal.SIGTTOU])
def test_shutdown_runs_in_a_worker_that_is_not_wanted_any_more(serve: Serve, number: int) -> None:
    server = serve("app:app", files=FILES).ready()
    first = int(server.get("/").text)
    if number == signal.SIGTTOU:
        server.signal(signal.SIGTTIN)
        server.expect("Application startup complete", times=2)
    server.signal(number)
    server.expect("lifespan: shutdown")
    server.expect(rf"Worker exiting \(pid: {first}\)")
    assert server.get("/").text != str(first)


def test_max_requests(serve: Serve) -> None:
    """Nobody notices, and each worker that leaves has shut down."""
    clients = 4
    server = serve("-w", "2", "app:app", "--max-requests", "50", "--max-requests-jitter", "20", files=FILES).ready()
    with Load(server, clients) as load:
        server.expect(r"Autorestarting worker after current request\.", times=4, seconds=30)
    server.expect(r"Worker exiting \(pid: \d+\)", times=4)
    assert load.errors == []
    assert load.refused == 0
    assert server.stderr.count("lifespan: shutdown") >= 4
    gone = set(load.answers) - set(server.workers())
    assert all(load.answers[pid] >= 50 for pid in gone), load.answers  # it serves until its successor does
    assert "ERROR" not in server.stderr


def test_shutdown_runs_though_a_request_is_stuck(serve: Serve) -> None:
    server = serve("app:app", "--graceful-timeout", "0.5", files=FILES).ready()
    with Client(server) as client:
        client.ask("/stuck")
        server.expect("stuck")
        begun = time.monotonic()
        assert server.stop() == 0
        assert 0.4 < time.monotonic() - begun < 2
        client.ended()
    said = server.stderr
    assert said.index("Cancelling 1 tasks") < said.index("was cancelled") < said.index("lifespan: shutdown")
    assert "Application shutdown complete." in said
    assert "SIGKILL" not in said


def test_who_swallows_the_cancellation_does_not_hold_up_the_shutdown(serve: Serve) -> None:
    server = serve("app:app", "--graceful-timeout", "0.5", files=FILES).ready()
    with Client(server) as client:
        client.ask("/stubborn")
        server.expect("stuck")
        assert server.stop(seconds=5) == 0
    server.expect("does not care")
    server.expect("lifespan: shutdown")


def test_a_shutdown_that_hangs(serve: Serve) -> None:
    more = """
async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.Event().wait()
"""
    server = serve("app:app", "--graceful-timeout", "0.5", files=asgi(more)).ready()
    assert server.get("/").status == 200
    assert server.stop(seconds=6) == 0
    server.expect(r"The application did not shut down within \d\.\d s")
    assert "SIGKILL" not in server.stderr


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("raise RuntimeError('the pool is gone')", "RuntimeError: the pool is gone"),
        ("await send({'type': 'lifespan.shutdown.failed', 'message': 'no'})", "Application shutdown failed: no"),
    ],
)
def test_a_shutdown_that_fails(serve: Serve, last: str, said: str) -> None:
    more = f"""
async def lifespan(receive, send):
    await receive()
    await send({{"type": "lifespan.startup.complete"}})
    await receive()
    {last}
"""
    server = serve("app:app", files=asgi(more)).ready()
    assert server.get("/").status == 200
    assert server.stop() == 0
    server.expect(said)


# Drain


def test_a_request_that_runs_is_finished(serve: Serve, clients: ExitStack) -> None:
    server = serve("app:app", files=FILES).ready()
    make_gate(server)
    client, second = (clients.enter_context(Client(server)) for _ in range(2))
    assert second.ask().answer()[0] == 200
    client.ask("/gate")
    server.expect("at the gate")
    draining(server)
    assert second.ask().answer()[0] == 200  # what was on its way
    assert second.closing
    open_gate(server)
    assert client.answer()[0] == 200
    assert client.ended()
    assert second.ended()
    assert server.wait() == 0
    assert "Cancelling" not in server.stderr
    assert server.stderr.count("lifespan: shutdown") == 1


def test_background_tasks_finish(serve: Serve, clients: ExitStack) -> None:
    server = serve("app:app", files=FILES).ready()
    make_gate(server)
    client = clients.enter_context(Client(server))
    assert client.ask("/behind").answer()[0] == 200
    server.expect("at the gate")
    draining(server)
    assert client.ended()
    assert "done" not in server.stderr
    open_gate(server)
    assert server.wait() == 0
    said = server.stderr
    assert said.index("done behind the answer") < said.index("lifespan: shutdown")


def test_streams_get_until_the_end_of_the_time(serve: Serve, clients: ExitStack) -> None:
    server = serve("app:app", "--graceful-timeout", "0.5", files=FILES).ready()
    streams = [clients.enter_context(Client(server)).ask("/stream") for _ in range(5)]
    for client in streams:
        assert client.sock.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    begun = time.monotonic()
    server.signal(SIGTERM)
    got = [_rest(client) for client in streams]
    assert 0.4 < time.monotonic() - begun < 2
    assert server.wait() == 0
    # Cut off, so that the client does not take it for whole.
    assert all(b"data: x" in each and not each.endswith(b"0\r\n\r\n") for each in got)
    server.expect("the stream has ended", times=5)
    assert "SIGKILL" not in server.stderr


def _rest(client: Client) -> bytes:
    got = b""
    try:
        while data := client.sock.recv(65536):
            got += data
    except ConnectionResetError:
        pass
    return got


def test_idle_connections_do_not_hold_it_up(serve: Serve, clients: ExitStack) -> None:
    server = serve("app:app", "--keep-alive", "75", files=FILES).ready()
    idle = [clients.enter_context(Client(server)) for _ in range(20)]
    for client in idle:
        assert client.ask().answer()[0] == 200
    assert server.stop(seconds=4) == 0
    assert "Worker graceful timeout" not in server.stderr
    assert all(client.ended() for client in idle)


def test_nobody_is_reset(serve: Serve, clients: ExitStack) -> None:
    """Whatever they were at: idle, silent, in the middle of a head or of a body, or with a request behind another."""
    server = serve("app:app", "--keep-alive", "60", "--header-timeout", "1", files=FILES).ready()
    make_gate(server)
    running = clients.enter_context(Client(server)).ask("/gate")
    server.expect("at the gate")
    idle, silent, head, body, last = (clients.enter_context(Client(server)) for _ in range(5))
    assert idle.ask().answer()[0] == 200
    head.sock.sendall(b"GET / HT")
    body.sock.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
    running.ask("/?behind")
    assert last.ask().answer()[0] == 200  # so all of this has arrived
    draining(server)
    body.sock.sendall(b"67890")
    assert body.answer()[1].endswith(" 10")
    assert body.ended()
    assert idle.ended()
    assert silent.ended()
    assert head.answer()[0] == 408
    assert head.ended()
    for client in (body, idle, silent, head):
        client.sock.close()  # else the server listens on for a while
    open_gate(server)
    assert running.answer()[0] == 200
    assert running.answer()[1].endswith(" behind")
    assert running.ended()
    assert server.wait() == 0


def test_the_queue_of_the_kernel_is_served(serve: Serve, clients: ExitStack) -> None:
    """Connections that nobody had accepted when the stop came, since the loop was blocked."""
    server = serve("app:app", files=FILES).ready()
    make_gate(server)
    blocking = clients.enter_context(Client(server)).ask("/block")
    server.expect("blocking")
    waiting = [clients.enter_context(Client(server)).ask("/work") for _ in range(100)]
    term(server)
    until_nobody_comes_in(server, seconds=0.5)
    open_gate(server)
    for client in [blocking, *waiting]:
        assert client.answer()[0] == 200
        assert client.ended()
        client.sock.close()
    assert server.wait() == 0


def test_under_load_no_request_is_lost(serve: Serve) -> None:
    server = serve("-w", "2", "app:app", "--reuse-port", files=FILES).ready()
    until_ready(server, SIGTERM)
    with Load(server, 16) as load:
        load.more(300)
        assert server.stop() == 0
        load.join()
    assert load.errors == []
    assert server.stderr.count("lifespan: shutdown") == 2


def test_a_second_signal_puts_an_end_to_patience(serve: Serve) -> None:
    """Still the application is cancelled and shut down in order."""
    server = serve("app:app", "--graceful-timeout", "60", files=FILES).ready()
    with Client(server) as client:
        client.ask("/stuck")
        server.expect("stuck")
        server.signal(SIGTERM)
        server.expect("Handling signal: term")
        assert server.stop(SIGINT, seconds=5) == 0
    server.expect("Quick shutdown requested")
    server.expect("was cancelled")
    server.expect("lifespan: shutdown")


def test_a_hurry(serve: Serve) -> None:
    """Requests get a second, and no idle connection is waited for."""
    server = serve("app:app", "--graceful-timeout", "60", "--keep-alive", "60", files=FILES).ready()
    with Client(server) as idle, Client(server) as client:
        assert idle.ask().answer()[0] == 200
        client.ask("/stuck")
        server.expect("stuck")
        begun = time.monotonic()
        assert server.stop(SIGINT) == 0
        assert time.monotonic() - begun < 3
    server.expect("was cancelled")
    server.expect("lifespan: shutdown")


def test_workers_do_not_outlive_the_master(serve: Serve) -> None:
    server = serve("app:app", files=FILES).ready()
    with Client(server) as idle:
        assert idle.ask().answer()[0] == 200
        server.signal(signal.SIGKILL)
        server.expect(r"Parent changed, shutting down")
        assert idle.ended()
    server.expect("lifespan: shutdown")
    wait_for(lambda: not server.tree(), what="the worker to leave")
