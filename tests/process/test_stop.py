"""A graceful stop: who had connected before it is served, nobody is reset, and it does not take for ever."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from signal import SIGTERM

import pytest

from process.apps import FILES, make_gate, open_gate
from process.load import Client, Load
from server import Server, descriptors, wait_for

Serve = Callable[..., Server]

THREADS = pytest.mark.parametrize("threads", ["1", "4"], ids=["sync", "gthread"])


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def busy(serve: Serve, clients: ExitStack, *args: str, threads: str = "1") -> tuple[Server, Client]:
    """A server of one worker, and a client whose request waits at the gate."""
    server = serve("app:app", "--threads", threads, *args, files=FILES).ready()
    make_gate(server)
    client = clients.enter_context(Client(server))
    client.ask("/gate")
    server.expect("at the gate")
    return server, client


def term(server: Server, threads: str = "1") -> None:
    """Begin to stop. Returns when the workers know, unless their only thread is busy."""
    listening = server.listening()
    server.signal(SIGTERM)
    server.expect("Handling signal: term")
    if threads != "1":
        wait_for(
            lambda: not any(listening & set(descriptors(pid).values()) for pid in server.workers()),
            what="the workers to drain",
        )


def until_nobody_comes_in(server: Server, seconds: float) -> None:
    """Return when a connection has not come about for so long. The line about the signal is older than its effect."""

    def left_outside() -> bool:
        try:
            server.connect(seconds).close()
        except (TimeoutError, ConnectionRefusedError):
            return True
        return False

    wait_for(left_outside, what="new connections to be left outside")


@pytest.mark.smoke
@THREADS
def test_a_request_that_runs_is_finished(serve: Serve, clients: ExitStack, threads: str) -> None:
    server, client = busy(serve, clients, threads=threads)
    term(server, threads)
    open_gate(server)
    assert client.answer()[0] == 200
    assert client.ended()
    assert server.wait() == 0


@THREADS
def test_bytes_sent_on_kept_alive_connections_are_answered(serve: Serve, clients: ExitStack, threads: str) -> None:
    """The only thread, or all of them, are busy when they come and when the stop does."""
    server = serve("app:app", "--keep-alive", "60", "--threads", threads, files=FILES).ready()
    make_gate(server)
    kept = [clients.enter_context(Client(server)) for _ in range(10)]
    for client in kept:
        assert client.ask().answer()[0] == 200
    at_gate = [clients.enter_context(Client(server)) for _ in range(int(threads))]
    for number, client in enumerate(at_gate, 1):
        client.ask("/gate")
        server.expect("at the gate", times=number)
    for client in kept:
        client.ask("/")
    term(server)
    open_gate(server)
    for client in at_gate + kept:
        assert client.answer()[0] == 200
        assert client.ended()
    assert server.wait() == 0


def test_many_of_them_take_longer_than_the_last_call(serve: Serve, clients: ExitStack) -> None:
    """More than the selector tells of at once, and slow: none is taken for idle while its request waits."""
    server = serve("app:app", "--keep-alive", "60", files=FILES).ready()
    make_gate(server)
    kept = [clients.enter_context(Client(server)) for _ in range(150)]
    for client in kept:
        assert client.ask().answer()[0] == 200
    with Client(server) as first:
        first.ask("/gate")
        server.expect("at the gate")
        for client in kept:
            client.ask("/work?0.02")
        term(server)
        open_gate(server)
        assert first.answer()[0] == 200
    for client in kept:
        assert client.answer()[0] == 200
        assert client.ended()
    assert server.wait() == 0


@pytest.mark.parametrize("fields", [[], ["Connection: close"]], ids=["", "close"])
@THREADS
def test_the_queue_of_the_kernel_is_served(serve: Serve, clients: ExitStack, threads: str, fields: list[str]) -> None:
    """Connections that nobody had accepted when the stop came; the last of them wait for seconds."""
    server = serve("app:app", "--threads", threads, files=FILES).ready()
    make_gate(server)
    at_gate = [clients.enter_context(Client(server)) for _ in range(int(threads))]
    for number, client in enumerate(at_gate, 1):
        client.ask("/gate", *fields)
        server.expect("at the gate", times=number)
    waiting = [clients.enter_context(Client(server)) for _ in range(150)]
    for client in waiting:
        client.ask("/work?0.02", *fields)
    term(server)
    until_nobody_comes_in(server, seconds=1.2)  # long enough that the worker has more to catch up with than the signal
    open_gate(server)
    for client in at_gate + waiting:
        assert client.answer()[0] == 200
        assert client.ended()
    assert server.wait() == 0


@THREADS
def test_pipelined_requests(serve: Serve, clients: ExitStack, threads: str) -> None:
    """Behind the one that runs are one that is read already and one that is not."""
    server = serve("app:app", "--threads", threads, files=FILES).ready()
    make_gate(server)
    client = clients.enter_context(Client(server))
    head = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
    client.sock.sendall(head % b"gate" + head % b"?second")
    server.expect("at the gate")
    client.sock.sendall(head % b"?third")
    term(server, threads)
    open_gate(server)
    assert client.answer()[0] == 200
    assert client.answer()[1].endswith(" second")
    assert client.answer()[1].endswith(" third")
    assert client.ended()
    assert server.wait() == 0


@THREADS
def test_closing_with_a_request_unread_resets_nobody(serve: Serve, clients: ExitStack, threads: str) -> None:
    """Not even where every answer is the last one."""
    server = serve("app:app", "--keep-alive", "0", "--threads", threads, files=FILES).ready()
    make_gate(server)
    client = clients.enter_context(Client(server))
    client.ask("/gate")
    server.expect("at the gate")
    client.ask("/?second")
    open_gate(server)
    assert client.answer()[0] == 200
    assert client.closing
    assert client.ended()


@THREADS
def test_nobody_is_reset(serve: Serve, clients: ExitStack, threads: str) -> None:
    """Whatever they were at: idle, silent, in the middle of a head or of a body."""
    server, running = busy(serve, clients, "--keep-alive", "60", "--header-timeout", "3", threads=threads)
    if threads == "1":
        open_gate(server)
        assert running.answer()[0] == 200
    idle, silent, head, body = (clients.enter_context(Client(server)) for _ in range(4))
    assert idle.ask().answer()[0] == 200
    head.sock.sendall(b"GET / HT")
    body.sock.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
    assert clients.enter_context(Client(server)).ask().answer()[0] == 200  # so all of this has arrived
    term(server, threads)
    body.sock.sendall(b"67890")
    assert body.answer()[1].endswith(" 10")
    assert body.ended()
    assert idle.ended()
    assert silent.ended()
    assert head.answer()[0] == 408
    assert head.ended()
    if threads != "1":
        open_gate(server)
        assert running.answer()[0] == 200
    assert running.ended()
    assert server.wait() == 0


@THREADS
def test_idle_connections_do_not_delay_it(serve: Serve, clients: ExitStack, threads: str) -> None:
    """However long they might have been kept, and even if they have been idle for a moment only."""
    server = serve("app:app", "--keep-alive", "75", "--threads", threads, files=FILES).ready()
    idle = [clients.enter_context(Client(server)) for _ in range(20)]
    for client in idle:
        assert client.ask().answer()[0] == 200
    assert server.stop(seconds=10) == 0
    assert "Worker graceful timeout" not in server.stderr
    assert all(client.ended() for client in idle)


def test_a_request_on_an_idle_connection_in_the_last_moment(serve: Serve, clients: ExitStack) -> None:
    server, running = busy(serve, clients, "--keep-alive", "60", threads="2")
    late = clients.enter_context(Client(server))
    assert late.ask().answer()[0] == 200
    term(server, "2")
    assert late.ask().answer()[0] == 200
    assert late.closing
    assert late.ended()
    open_gate(server)
    assert running.answer()[0] == 200
    assert server.wait() == 0


def test_who_comes_later_is_not_served(serve: Serve, clients: ExitStack) -> None:
    """It is not refused either, while somebody is still served: it tries again, and may find a successor."""
    server, running = busy(serve, clients)
    term(server)
    until_nobody_comes_in(server, seconds=0.5)
    open_gate(server)
    assert running.answer()[0] == 200
    assert server.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        server.connect()


@THREADS
def test_who_comes_much_later_is_refused(serve: Serve, clients: ExitStack, threads: str) -> None:
    """A proxy finds another server at once, however long the requests here still take."""
    server, running = busy(serve, clients, threads=threads)
    term(server, threads)

    def refused() -> bool:
        try:
            server.connect(seconds=0.2).close()
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
        return False

    wait_for(refused, what="new connections to be refused")
    open_gate(server)
    assert running.answer()[0] == 200
    assert server.wait() == 0


def test_what_the_application_has_forked_does_not_hold_the_address(serve: Serve) -> None:
    forks = "import os, signal\nif not os.fork():\n    signal.pause()\n"
    server = serve("app:app", files={"app.py": forks + FILES["app.py"]}).ready()
    assert server.stop(SIGTERM) == 0
    assert server.tree(), "the fork lives on"
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    with socket.socket() as successor:
        successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        successor.bind(("127.0.0.1", server.port))
        successor.listen()


@THREADS
def test_it_does_not_take_longer_than_it_may(serve: Serve, clients: ExitStack, threads: str) -> None:
    server, client = busy(serve, clients, "--graceful-timeout", "1", threads=threads)
    term(server, threads)
    assert server.wait(seconds=10) == 0
    client.ended()
    if threads == "1":
        server.expect(r"was sent SIGKILL! By us: it was past its deadline\.")
    else:
        server.expect(r"\[WARNING\] Worker graceful timeout \(pid:\d+\)")
    assert server.tree() == []


@THREADS
@pytest.mark.parametrize("args", [[], ["--reuse-port"]], ids=["", "reuse_port"])
def test_under_load_no_request_is_lost(serve: Serve, threads: str, args: list[str]) -> None:
    server = serve("-w", "2", "app:app", "--threads", threads, *args, files=FILES).ready(workers=2)
    with Load(server, 16) as load:
        load.more(300)
        assert server.stop() == 0
        load.join()
    assert load.errors == []
    assert load.refused == 16


def test_under_load_without_kept_alive_connections(serve: Serve) -> None:
    server = serve("-w", "2", "app:app", "--keep-alive", "0", files=FILES).ready(workers=2)
    with Load(server, 16) as load:
        load.more(300)
        assert server.stop() == 0
        load.join()
    assert load.errors == []


def test_a_download_is_finished(serve: Serve) -> None:
    """The client takes its time, and most of the answer is still to be sent when the stop comes."""
    size = 32 << 20
    module = f"""
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "{size}")])
    return [b"x" * {size}]
"""
    server = serve("app:app", files={"app.py": module}).ready()
    with server.connect(seconds=20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        got = len(sock.recv(1000).partition(b"\r\n\r\n")[2])
        term(server)
        while got < size:
            chunk = sock.recv(1 << 20)
            assert chunk, f"cut after {got} bytes"
            got += len(chunk)
        assert sock.recv(1) == b""
    assert server.wait() == 0


# drain_delay


def test_serving_on_for_a_while(serve: Serve) -> None:
    """Clients that come meanwhile are served, kept-alive connections kept; a second signal ends the delay."""
    server = serve("app:app", "--drain-delay", "60", files=FILES).ready()
    with Client(server) as client:
        server.signal(SIGTERM)
        server.expect("Serving on for 60 s before the stop")
        assert client.ask().answer()[0] == 200
        assert not client.closing
        assert server.get("/").status == 200
    assert server.stop() == 0


def test_the_delay_ends_by_itself(serve: Serve) -> None:
    server = serve("app:app", "--drain-delay", "0.2", files=FILES).ready()
    assert server.stop() == 0
