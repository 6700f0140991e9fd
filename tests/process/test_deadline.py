"""A worker that misses its deadline, and a master that is gone."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from process.apps import APP, FILES, make_gate, open_gate
from process.load import Broken, Client
from server import Deadline, Server, wait_for

Serve = Callable[..., Server]

THREAD = """
import threading

def beside():
    threading.Event().wait()

threading.Thread(target=beside, daemon=True).start()
"""


def line_of(module: str, text: str) -> int:
    return next(number for number, line in enumerate(module.splitlines(), 1) if text in line)


@pytest.mark.smoke
def test_a_request_that_takes_too_long(serve: Serve) -> None:
    module = APP + THREAD
    server = serve("app:app", "--timeout", "1", files={"app.py": module}).ready()
    make_gate(server)
    stuck = server.get("/").text
    with Client(server) as client:
        client.ask("/gate?a=1")
        server.expect("at the gate")
        server.expect(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{stuck}\)")
        with pytest.raises((Broken, ConnectionError)):
            client.answer()
    server.expect(rf"Worker \(pid:{stuck}\) was sent SIGKILL! By us: it was past its deadline\.")
    file = f'File "{server.directory}/app.py"'
    server.expect(f"{file}, line {line_of(module, 'open(')} in app")
    server.expect(f"{file}, line {line_of(module, 'Event().wait()')} in beside")
    server.expect(rf"\[{stuck}\] \[CRITICAL\] Was serving for \d\.\d s: GET /gate\?a=1 HTTP/1\.1")
    assert server.stderr.count("WORKER TIMEOUT") == 1
    assert server.get("/").text != stuck
    assert server.stop() == 0


def test_other_workers_go_on_meanwhile(serve: Serve) -> None:
    server = serve("-w", "2", "app:app", "--timeout", "1", files=FILES).ready(workers=2)
    make_gate(server)
    with Client(server) as client:
        client.ask("/gate")
        server.expect("at the gate")
        for _ in range(20):
            assert server.get("/").status == 200
        server.expect("was sent SIGKILL! By us")
        for _ in range(20):
            assert server.get("/").status == 200
    assert server.stderr.count("WORKER TIMEOUT") == 1


def test_idle_workers_keep_the_shortest_deadline(serve: Serve) -> None:
    server = serve("-w", "2", "app:app", "--timeout", "1", files=FILES).ready(workers=2)
    before = server.workers()
    with pytest.raises(Deadline):
        server.expect("WORKER TIMEOUT", seconds=4)
    assert server.workers() == before


def test_no_deadline(serve: Serve) -> None:
    server = serve("app:app", "--timeout", "0", files=FILES).ready()
    make_gate(server)
    with Client(server) as client:
        client.ask("/gate")
        server.expect("at the gate")
        with pytest.raises(Deadline):
            server.expect("WORKER TIMEOUT", seconds=2)
        open_gate(server)
        assert client.answer()[0] == 200


def test_a_stream_is_alive_as_long_as_it_moves(serve: Serve) -> None:
    module = """
import time

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "40")])
    for _ in range(40):
        time.sleep(0.1)
        yield b"."
"""
    server = serve("app:app", "--timeout", "1", files={"app.py": module}).ready()
    assert server.get("/").text == "." * 40
    assert "WORKER TIMEOUT" not in server.stderr


def test_stuck_without_the_interpreter(serve: Serve) -> None:
    """In C, holding the lock of the interpreter: nothing in Python runs any more, but the stack is written."""
    module = """
import re

def app(environ, start_response):
    if environ["PATH_INFO"] == "/stuck":
        re.match(r"(a*)*b", "a" * 200)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
    server = serve("app:app", "--timeout", "1", "--threads", "2", files={"app.py": module}).ready()
    with Client(server) as client:
        client.ask("/stuck")
        server.expect("WORKER TIMEOUT", seconds=20)
        server.expect(f'File "{server.directory}/app.py", line 6 in app')
        server.expect("was sent SIGKILL! By us")
    assert server.get("/").text == "ok"


# The master is gone


@pytest.mark.smoke
@pytest.mark.parametrize("threads", ["1", "4"])
def test_workers_do_not_outlive_the_master(serve: Serve, threads: str) -> None:
    server = serve("-w", "2", "app:app", "--threads", threads, files=FILES).ready(workers=2)
    with Client(server) as idle:
        idle.ask().answer()
        server.signal(signal.SIGKILL)
        wait_for(lambda: not server.tree(), seconds=3, what="the workers to leave")
        assert idle.ended()
    server.expect(r"Parent changed, shutting down: worker=\d gen=1 pid=\d+", times=2)
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_orphans_finish_what_they_do(serve: Serve) -> None:
    server = serve("app:app", "--threads", "2", files=FILES).ready()
    make_gate(server)
    with Client(server) as client:
        client.ask("/gate")
        server.expect("at the gate")
        server.signal(signal.SIGKILL)
        server.expect("Parent changed, shutting down")
        open_gate(server)
        assert client.answer()[0] == 200
    wait_for(lambda: not server.tree(), seconds=3)


def test_a_successor_takes_the_port(serve: Serve) -> None:
    first = serve("-w", "2", "app:app", files=FILES).ready(workers=2)
    first.signal(signal.SIGKILL)
    second = serve("app:app", bind=f"127.0.0.1:{first.port}")
    second.expect("Booting worker")
    wait_for(lambda: not first.tree())
    second.port = first.port
    assert int(second.get("/").text) in second.workers()
