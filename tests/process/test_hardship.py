"""What once went wrong under attack, on the real process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from process.apps import FILES
from process.load import Client
from server import Server, processes, wait_for

Serve = Callable[..., Server]

# It closes the connection under the server, or sends without end.
RUDE = """
import os

def app(environ, start_response):
    path = environ["PATH_INFO"]
    body = str(os.getpid()).encode()
    if path == "/close":
        environ["gunicorn.socket"].close()
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"x" * 65536 for _ in range(64))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def test_an_upload_that_flows_may_take_longer_than_the_timeout(serve: Serve) -> None:
    server = serve("app:app", "--body-timeout", "2", files=FILES).ready()
    size, pieces = 200_000, 25
    pause = threading.Event()
    with Client(server) as client:
        client.sock.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(pieces):
            client.sock.sendall(b"x" * (size // pieces))
            pause.wait(0.1)  # the client's pace: 2.5 s in all
        status, text = client.answer()
    assert (status, text.split()[1]) == (200, str(size))


@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_socket_closed_by_the_application(serve: Serve, threads: str) -> None:
    """The next connection gets the same descriptor, and must not be taken for the closed one."""
    server = serve("app:app", "--threads", threads, files={"app.py": RUDE}).ready()
    for _ in range(5):
        with Client(server) as rude, Client(server) as first:
            rude.ask("/close")
            with Client(server) as second:
                for _ in range(3):
                    assert first.ask("/").answer()[0] == 200
                    assert second.ask("/").answer()[0] == 200
    (worker,) = server.workers()
    before = ticks(worker)
    assert server.get("/").status == 200
    wait_for(lambda: ticks(worker) - before < 10 or None, what="the worker to be at rest")


def ticks(pid: int) -> int:
    """Processor time that a process has used, in clock ticks."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_slow_reader_of_a_stream_is_no_hang(serve: Serve) -> None:
    server = serve("app:app", "--timeout", "2", files={"app.py": RUDE}).ready()
    (worker,) = server.workers()
    pause = threading.Event()
    taken = 0
    with Client(server) as client:
        client.ask("/stream")
        for _ in range(30):  # 6 s, three times the timeout
            taken += len(client.sock.recv(20_000))
            pause.wait(0.2)
    assert taken > 0
    assert server.workers() == [worker]
    assert "WORKER TIMEOUT" not in server.stderr


def test_two_reloads_at_once_leave_who_serves(serve: Serve) -> None:
    gate = "print('importing', flush=True)\nopen('boot').close()\n" + FILES["app.py"]
    server = serve("app:app", files=FILES).ready()
    (worker,) = server.workers()
    os.mkfifo(server.directory / "boot")
    (server.directory / "app.py").write_text(gate)
    for times in (1, 2):
        server.signal(signal.SIGHUP)
        server.expect("importing", times=times, stream="stdout")
        assert server.get("/").text == str(worker)
    assert worker in {process.pid for process in processes()}
