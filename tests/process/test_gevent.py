"""Workers on gevent: what waits in one request keeps nobody else waiting, and what does not yield is found."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from process.apps import asgi
from process.load import Broken, Client, Load, dead
from server import Server, wait_for

Serve = Callable[..., Server]

APP = """
import os, re, socket, subprocess, sys, threading, time
from urllib.request import urlopen

print("socket is", socket.socket.__module__, "and fork", os.fork.__module__, file=sys.stderr, flush=True)

def hold():
    while not os.path.exists("open"):
        time.sleep(0.01)

def app(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/hold":
        print("held", query, file=sys.stderr, flush=True)
        hold()
    elif path == "/work":
        time.sleep(float(query))
    elif path == "/fetch":
        with urlopen(query) as answer:
            query = answer.read().decode()
    elif path == "/block":
        print("blocking", file=sys.stderr, flush=True)
        while True:
            pass
    elif path == "/length":
        query = str(len(environ["wsgi.input"].read()))
    elif path == "/run":
        query = subprocess.run(["sh", "-c", "sleep 0.1; exit 7"]).returncode
    elif path == "/exit":
        import gevent
        gevent.spawn(sys.exit, 3)
        time.sleep(0.05)
    elif path == "/forget":
        import gevent
        gevent.Timeout.start_new(0.05)
    elif path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"x" * 65536 for _ in range(1000))
    body = f"{os.getpid()} {query}".rstrip().encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

FILES = {"app.py": APP}
KIND = ("-k", "gevent", "app:app")
MANY = 1000
ROOM = ("--worker-connections", str(2 * MANY))

PRELOAD = pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])


def let_go(server: Server) -> None:
    (server.directory / "open").touch()


def ask_all(server: Server, path: str) -> None:
    """All at once: one after the other they would take longer than any client waits."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server, seconds=40)) for _ in range(MANY)]
        for client in clients:
            client.ask(path)
        assert {client.answer()[0] for client in clients} == {200}


# Many at once


@pytest.mark.smoke
@PRELOAD
def test_requests_that_sleep(serve: Serve, preload: list[str]) -> None:
    server = serve(*KIND, *ROOM, *preload, files=FILES).ready()
    ask_all(server, "/work?1")
    assert len(server.workers()) == 1
    assert server.stop() == 0


def test_requests_that_ask_a_slow_service(serve: Serve) -> None:
    work = "\nasync def at_work(scope, receive, send):\n    await asyncio.sleep(1)\n    await answer(send, 'done')\n"
    files = {"slow.py": asgi(work)["app.py"], **FILES}
    service = serve("slow:app", *ROOM, files=files).ready()
    server = serve(*KIND, *ROOM).ready()
    ask_all(server, f"/fetch?http://127.0.0.1:{service.port}/work")


def test_no_more_connections_than_there_may_be(serve: Serve) -> None:
    server = serve(*KIND, "--worker-connections", "2", files=FILES).ready()
    with Client(server) as first, Client(server) as second, Client(server) as third:
        for client in (first, second):
            client.ask("/hold?a")
        server.expect("held a", times=2)
        third.ask("/hold?b")
        assert dead(third.sock) is False
        assert "held b" not in server.stderr
        third.sock.settimeout(20)
        let_go(server)
        assert [client.answer()[0] for client in (first, second)] == [200, 200]
        first.sock.close()
        assert third.answer()[0] == 200


def test_slow_clients_keep_nobody_waiting(serve: Serve) -> None:
    """One that takes its time over a large body, and one that does not take what it gets."""
    server = serve(*KIND, files=FILES).ready()
    with server.connect() as sender, server.connect() as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sender.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 1_000_000)
        receiver.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert receiver.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100):
            assert server.get("/").status == 200
        assert not dead(sender)
        sender.setblocking(True)
        sender.sendall(b"x" * 1_000_000)
        assert sender.recv(1000).endswith(b" 2000000")


def test_children_of_the_application(serve: Serve) -> None:
    server = serve(*KIND, files=FILES).ready()
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)).ask("/run") for _ in range(8)]
        assert {client.answer()[1].split()[1] for client in clients} == {"7"}


# Who does not yield


@PRELOAD
def test_a_blocked_hub_is_replaced(serve: Serve, preload: list[str]) -> None:
    server = serve(*KIND, "--timeout", "1", *preload, files=FILES).ready()
    with Client(server) as client, Client(server) as other:
        other.ask("/hold?a")
        server.expect("held a")
        stuck = client.ask("/").answer()[1]
        client.ask("/block?a=1")
        server.expect(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{stuck}\)")
        with pytest.raises((Broken, ConnectionError)):
            client.answer()
    line = next(number for number, line in enumerate(APP.splitlines(), 1) if "while True:" in line)
    server.expect(rf'File "{server.directory}/app.py", line ({line}|{line + 1}) in app')
    server.expect(rf"\[{stuck}\] \[CRITICAL\] Was serving for \d+\.\d s: GET /block\?a=1 HTTP/1\.1")
    server.expect(rf"Worker \(pid:{stuck}\) was sent SIGKILL! By us: it was past its deadline\.")
    assert server.get("/").text != stuck
    assert server.stop() == 0


def test_a_request_may_wait_for_longer_than_the_timeout(serve: Serve) -> None:
    server = serve(*KIND, "--timeout", "1", files=FILES).ready()
    assert server.get("/work?4", seconds=20).status == 200
    assert "WORKER TIMEOUT" not in server.stderr


def test_slow_requests_are_told_of(serve: Serve) -> None:
    server = serve(*KIND, "--slow-request", "0.2", files=FILES).ready()
    with Client(server) as client:
        client.ask("/hold?a")
        told = server.expect(r"Slow request, running for \d\.\d s: GET /hold\?a HTTP/1\.1\nStack.*\n((?:  .*\n)*)")
        let_go(server)
        assert client.answer()[0] == 200
    assert "in app\n    hold()" in told[1]
    assert "in hold\n    time.sleep(0.01)" in told[1]


# What greenlets do


def test_a_greenlet_that_exits_ends_itself_only(serve: Serve) -> None:
    server = serve(*KIND, files=FILES).ready()
    pid = server.get("/exit").text
    assert server.get("/").text == pid
    assert server.stop() == 0


def test_a_timeout_that_was_forgotten_costs_one_connection(serve: Serve) -> None:
    server = serve(*KIND, files=FILES).ready()
    with Client(server) as client:
        pid = client.ask("/forget").answer()[1]
        wait_for(lambda: dead(client.sock), what="the end of the connection")
    server.expect(r"\[ERROR\] Closing connection: its greenlet has failed\. 127\.0\.0\.1:\d+")
    assert server.get("/").text == pid


# The end


@PRELOAD
def test_a_graceful_stop_lets_requests_finish(serve: Serve, preload: list[str]) -> None:
    server = serve(*KIND, *preload, files=FILES).ready()
    with Client(server) as running, Client(server) as idle:
        assert idle.ask("/").answer()[0] == 200
        running.ask("/hold?a")
        server.expect("held a")
        server.signal(signal.SIGTERM)
        assert idle.ended()
        let_go(server)
        assert running.answer()[0] == 200
        assert running.ended()
    assert server.wait() == 0
    assert "Worker graceful timeout" not in server.stderr


@pytest.mark.parametrize("path", ["/hold?a", "/block?a"])
def test_a_quick_stop_waits_for_nobody(serve: Serve, path: str) -> None:
    server = serve(*KIND, files=FILES).ready()
    with Client(server) as client:
        client.ask(path)
        server.expect("held a|blocking")
        assert server.stop(signal.SIGINT) == 0
    assert "SIGKILL" not in server.stderr


@pytest.mark.smoke
@PRELOAD
def test_reloads_under_load(serve: Serve, preload: list[str]) -> None:
    server = serve("-w", "2", *KIND, *preload, files=FILES).ready(workers=2)
    with Load(server, 16, path="/work?0.01") as load:
        for round in range(1, 4):
            load.more(200)
            old = set(server.workers())
            server.signal(signal.SIGHUP)
            server.expect("Hang up: Master", times=round)
            wait_for(lambda old=old: old.isdisjoint(server.workers()), seconds=20, what="the old workers to leave")
        load.more(200)
    assert (load.errors, load.refused) == ([], 0)
    assert server.stop() == 0


def test_workers_are_replaced_after_so_many_requests(serve: Serve) -> None:
    server = serve("-w", "2", *KIND, "--max-requests", "200", files=FILES).ready(workers=2)
    old = set(server.workers())
    with Load(server, 8, path="/work?0.001") as load:
        server.expect("Autorestarting worker after current request", times=2, seconds=60)
        wait_for(lambda: old.isdisjoint(server.workers()), seconds=20, what="the old workers to leave")
        load.more(100)
    assert (load.errors, load.refused) == ([], 0)


def test_the_access_log_is_written_soon(serve: Serve) -> None:
    server = serve(*KIND, "--access-logfile", "access.log", files=FILES).ready()
    for number in range(1, 4):
        server.get(f"/?{number}")
        wait_for(lambda n=number: (server.directory / "access.log").read_text().count("\n") >= n, what="the line")


# Patched before the application


@PRELOAD
@pytest.mark.parametrize("where", ["app.py", "gunicorn.conf.py"])
def test_everything_is_patched_before_the_application_is_imported(serve: Serve, preload: list[str], where: str) -> None:
    """Though somebody else does so, too; and the master has its children as before."""
    files = {"gunicorn.conf.py": "", **FILES}
    files[where] = "from gevent import monkey\nmonkey.patch_all()\n" + files[where]
    server = serve("-w", "2", *KIND, *preload, files=files).ready(workers=2)
    kept = preload and where == "app.py"
    server.expect(r"socket is gevent\._socket3 and fork " + ("posix" if kept else r"gevent\.os"))
    assert "Warning" not in server.stderr
    assert server.get("/run").text.split()[1] == "7"
    for pid in server.workers():
        server.signal(signal.SIGKILL, pid)
        server.expect(rf"Worker \(pid:{pid}\) was sent SIGKILL!")
        wait_for(lambda pid=pid: len(server.workers()) == 2 and pid not in server.workers(), what="another worker")
    assert server.get("/run").text.split()[1] == "7"
    assert server.stop() == 0


def test_the_library_is_missing(serve: Serve) -> None:
    files = {**FILES, "gevent.py": "raise ImportError('as if it were not there')\n"}
    for more in ([], ["--check-config"]):
        server = serve(*KIND, *more, files=files)
        assert server.wait() == 1
        (line,) = server.stderr.splitlines()
        assert line == (
            "Error: worker_class = 'gevent' (--worker-class): it needs gevent: pip install 'monoceros[gevent]' "
            "(as if it were not there)"
        )


def test_settings_are_checked_as_a_worker_would(serve: Serve) -> None:
    server = serve(*KIND, "--threads", "4", "--check-config", files=FILES)
    assert server.wait() == 0
    assert re.findall("socket is .* fork", server.stderr) == ["socket is gevent._socket3 and fork"]
    server.expect("--threads.* has no effect: a gevent worker serves all in one thread")
