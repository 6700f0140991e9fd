"""Hooks of a config file: when they are called, with what, and what their exceptions do."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from process.apps import FILES, asgi, make_gate
from process.load import Client
from server import Server, wait_for

Serve = Callable[..., Server]

# Each hook says in one write: its name, its process, and what it was given.
SAY = """
import os

def say(name, *words):
    os.write(2, (" ".join(map(str, ("hook", name, os.getpid(), *words))) + "\\n").encode())
"""

ALL = (
    SAY
    + """
def nworkers_changed(server, new_value, old_value):
    say("nworkers_changed", new_value, old_value)

def on_starting(server):
    say("on_starting", server.pid, server.num_workers, server.cfg.workers, server.address[0])
    server.log.info("a line of on_starting")

def on_reload(server):
    say("on_reload", server.num_workers)

def when_ready(server):
    say("when_ready", len(server.LISTENERS), len(server.WORKERS))

def pre_fork(server, worker):
    say("pre_fork", worker.pid, worker.age)
    worker.mark = "made by the master"

def post_fork(server, worker):
    say("post_fork", worker.pid == os.getpid(), server.pid == worker.ppid == os.getppid(), worker.mark)
    worker.log.info("a line of post_fork")

def post_worker_init(worker):
    same = worker.wsgi is worker.app
    say("post_worker_init", worker.age, worker.cfg.workers, worker.app.__name__, same, worker.alive)

def worker_int(worker):
    say("worker_int", worker.pid)

def worker_abort(worker):
    say("worker_abort", worker.pid, worker.aborted)

def worker_exit(server, worker):
    say("worker_exit", worker.pid == os.getpid(), worker.alive)

def child_exit(server, worker):
    say("child_exit", worker.pid, worker.age, worker.pid in server.WORKERS)

def on_exit(server):
    say("on_exit", server.pid, len(server.WORKERS))
"""
)


def said(server: Server, name: str) -> list[list[str]]:
    """Process and words of each call of a hook."""
    return [line.split() for line in re.findall(rf"^hook {name} (.*)$", server.stderr, re.MULTILINE)]


def order(server: Server, *marks: str) -> list[str]:
    """Hooks and those marks that are in the log, in the order in which they stand there."""
    pattern = "|".join(("^hook [a-z_]+", *marks))
    return [found.removeprefix("hook ") for found in re.findall(pattern, server.stderr, re.MULTILINE)]


def configured(serve: Serve, conf: str, *args: str, files: dict[str, str] = FILES) -> Server:
    return serve("-c", "conf.py", "app:app", *args, files={**files, "conf.py": conf})


@pytest.mark.smoke
@pytest.mark.parametrize("kind", ["sync", "asgi"])
def test_the_order(serve: Serve, kind: str) -> None:
    server = configured(serve, ALL, "-k", kind, files=asgi() if kind == "asgi" else FILES).ready()
    (worker,) = server.workers()
    assert server.stop() == 0
    assert order(server, "Starting", "Listening", "Booting", "Worker exiting", "Shutting down") == [
        "nworkers_changed",
        "Starting",
        "on_starting",
        "Listening",
        "when_ready",
        "pre_fork",
        "Booting",
        "post_fork",
        "post_worker_init",
        "Worker exiting",
        "worker_exit",
        "child_exit",
        "Shutting down",
        "on_exit",
    ]
    master, child = str(server.pid), str(worker)
    assert said(server, "nworkers_changed") == [[master, "1", "None"]]
    assert said(server, "on_starting") == [[master, master, "1", "1", f"127.0.0.1:{server.port}"]]
    assert said(server, "when_ready") == [[master, "1", "0"]]
    assert said(server, "pre_fork") == [[master, "None", "1"]]
    assert said(server, "post_fork") == [[child, "True", "True", "made", "by", "the", "master"]]
    assert said(server, "post_worker_init") == [[child, "1", "1", "app", "True", "True"]]
    assert said(server, "worker_exit") == [[child, "True", "False"]]
    assert said(server, "child_exit") == [[master, child, "1", "False"]]
    assert said(server, "on_exit") == [[master, master, "0"]]
    server.expect(rf"\[{master}\] \[INFO\] a line of on_starting")
    server.expect(rf"\[{child}\] \[INFO\] a line of post_fork")


def test_on_reload(serve: Serve) -> None:
    """The hooks of the new generation are those of the new config file."""
    server = configured(serve, ALL).ready()
    (server.directory / "conf.py").write_text(ALL.replace('"on_reload"', '"on_reload", "anew"') + "workers = 2\n")
    server.signal(signal.SIGHUP)
    server.expect("Generation 2 serves")
    master = str(server.pid)
    assert said(server, "on_reload") == [[master, "anew", "2"]]
    assert said(server, "nworkers_changed") == [[master, "1", "None"], [master, "2", "1"]]
    assert [words[2] for words in said(server, "pre_fork")] == ["1", "2", "3"]
    assert [words[2] for words in said(server, "child_exit")] == ["1"]


def test_nworkers_changed(serve: Serve) -> None:
    server = configured(serve, ALL).ready()
    for times, (number, name) in enumerate([(signal.SIGTTIN, "ttin"), (signal.SIGTTOU, "ttou")], 2):
        server.signal(number)
        server.expect(f"Handling signal: {name}")
        server.expect("hook nworkers_changed", times=times)
    server.signal(signal.SIGTTOU)
    server.expect("Handling signal: ttou", times=2)
    assert server.stop() == 0
    assert [words[1:] for words in said(server, "nworkers_changed")] == [["1", "None"], ["2", "1"], ["1", "2"]]


def test_the_number_of_a_generation_that_is_called_off(serve: Serve) -> None:
    server = configured(serve, ALL).ready()
    (server.directory / "conf.py").write_text(ALL + "workers = 2\n")
    (server.directory / "app.py").write_text("1 / 0")
    server.signal(signal.SIGHUP)
    server.expect("Generation 2 called off")
    assert server.stop() == 0
    assert [words[1:] for words in said(server, "nworkers_changed")] == [["1", "None"], ["2", "1"], ["1", "2"]]
    assert server.stderr.count("Booting worker") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("kind", ["sync", "asgi"])
def test_worker_int(serve: Serve, number: int, kind: str) -> None:
    server = configured(serve, ALL, "-k", kind, files=asgi() if kind == "asgi" else FILES).ready()
    (worker,) = server.workers()
    server.signal(number, worker)
    server.expect(rf"hook worker_int {worker} {worker}")
    server.expect(rf"hook worker_exit {worker} True False")
    wait_for(lambda: worker not in server.workers() and server.serving(), what="another worker")
    assert server.stop() == 0
    assert len(said(server, "worker_int")) == 1


def test_worker_int_when_the_master_is_in_a_hurry(serve: Serve) -> None:
    server = configured(serve, ALL, "-w", "2").ready(workers=2)
    assert server.stop(signal.SIGINT) == 0
    assert len(said(server, "worker_int")) == len(said(server, "worker_exit")) == len(said(server, "child_exit")) == 2


def test_no_workers_stay_none(serve: Serve) -> None:
    server = configured(serve, ALL, "--daemon", "--error-logfile", "-", "-R").ready()
    assert server.wait() == 0
    (worker,) = (int(words[0]) for words in said(server, "post_fork"))
    master = int(said(server, "when_ready")[0][0])
    for number in (signal.SIGWINCH, signal.SIGTTOU):
        server.signal(number, master)
    server.expect("Handling signal: ttou")
    server.expect(f"hook child_exit {master} {worker}")
    server.signal(signal.SIGTERM, master)
    wait_for(lambda: server.tree() == [])
    assert [words[1:] for words in said(server, "nworkers_changed")] == [["1", "None"], ["0", "1"]]


def test_worker_abort(serve: Serve) -> None:
    """What it raises changes nothing."""
    conf = ALL.replace("worker.aborted)", "worker.aborted)\n    1 / 0")
    server = configured(serve, conf, "-k", "sync", "--timeout", "1").ready()
    (worker,) = server.workers()
    make_gate(server)
    with Client(server) as client:
        client.ask("/gate")
        server.expect(rf"hook worker_abort {worker} {worker} True")
        server.expect(r"\[ERROR\] Exception in worker_abort hook \(.*/conf.py:\d+\)\nTraceback")
        server.expect(r"\[CRITICAL\] Was serving for .* s: GET /gate")
        server.expect(rf"\[ERROR\] Worker \(pid:{worker}\) was sent SIGKILL! By us")
    server.expect(rf"hook child_exit {server.pid} {worker} 1 False")
    wait_for(server.serving)
    assert said(server, "worker_exit") == []


def test_who_is_killed_has_had_an_exit(serve: Serve) -> None:
    """What people do with child_exit: clean up behind a worker that could not do it itself."""
    server = configured(serve, ALL).ready()
    (worker,) = server.workers()
    server.signal(signal.SIGKILL, worker)
    server.expect(rf"hook child_exit {server.pid} {worker} 1 False")
    assert said(server, "worker_exit") == []


# Requests


REQUESTS = (
    SAY
    + """
def pre_request(worker, req):
    say("pre_request", worker.pid, req.method, req.path, req.query, req.uri, req.scheme, req.version,
        dict(req.headers)["X-COLOUR"], req.remote_addr[0], req.peer_addr[0])
    worker.log.info("%s %s", req.method, req.path)

def post_request({parameters}):
    say("post_request", {words})
"""
)

FOUR = "worker.pid, req.path, resp.status, resp.status_code, resp.sent, resp.response_length, dict(resp.headers)"


@pytest.mark.parametrize("kind", [["sync"], ["gthread", "--threads", "4"], ["asgi"]], ids=lambda kind: kind[0])
def test_requests(serve: Serve, kind: list[str]) -> None:
    conf = REQUESTS.replace("{parameters}", "worker, req, environ, resp").replace("{words}", FOUR)
    server = configured(serve, conf, "-k", *kind, files=asgi() if kind == ["asgi"] else FILES).ready()
    (worker,) = server.workers()
    pid = str(worker)
    for path in ("/?a=b", "/?a=b", "/?c"):
        assert server.get(path, X_Colour="red").status == 200
    server.expect("hook post_request", times=3)
    before, after = said(server, "pre_request"), said(server, "post_request")
    assert before[0] == before[1]
    addresses = ["127.0.0.1", "127.0.0.1"]
    assert before[1] == [pid, pid, "GET", "/", "a=b", "/?a=b", "http", "(1,", "1)", "red", *addresses]
    size = str(len(f"{pid} a=b"))
    assert after[1][:7] == [pid, pid, "/", "200", "OK", "200", size]
    assert "'text/plain'," in after[1]
    assert order(server) == ["pre_request", "post_request"] * 3
    assert server.stderr.count("[INFO] GET /") == 3


@pytest.mark.parametrize(
    ("parameters", "words", "expected"),
    [
        ("worker, req", "req.path", ["/"]),
        ("worker, req, environ", "environ.get('PATH_INFO')", ["/"]),
        ("*given", "len(given)", ["4"]),
    ],
)
def test_older_forms_of_post_request(serve: Serve, parameters: str, words: str, expected: list[str]) -> None:
    conf = REQUESTS.replace("{parameters}", parameters).replace("{words}", words)
    server = configured(serve, conf).ready()
    assert server.get("/", X_Colour="red").status == 200
    server.expect("hook post_request")
    assert said(server, "post_request")[0][1:] == expected


@pytest.mark.parametrize("kind", ["sync", "asgi"])
def test_pre_request_that_fails(serve: Serve, kind: str) -> None:
    conf = "import sys\ndef pre_request(worker, req):\n    sys.exit(1) if req.query else 1 / 0\n"
    server = configured(serve, conf, "-k", kind, files=asgi() if kind == "asgi" else FILES).ready()
    (worker,) = server.workers()
    for path in ("/", "/?exit", "/"):
        assert server.get(path).status == 500
    where = f"{server.directory}/conf.py:2"
    server.expect(rf"\[ERROR\] Exception in pre_request hook \({where}\)\nTraceback", times=3)
    assert server.workers() == [worker]


@pytest.mark.parametrize("kind", ["sync", "asgi"])
def test_post_request_that_fails(serve: Serve, kind: str) -> None:
    conf = "def post_request(worker, req):\n    1 / 0\n"
    server = configured(serve, conf, "-k", kind, files=asgi() if kind == "asgi" else FILES).ready()
    (worker,) = server.workers()
    with Client(server) as client:
        for times in (1, 2):
            assert client.ask("/").answer() == (200, str(worker))
            server.expect(r"\[ERROR\] Exception in post_request hook \(.*/conf.py:1\)", times=times)
            server.expect("ZeroDivisionError", times=times)


def test_post_request_of_a_request_that_fails(serve: Serve) -> None:
    app = "def app(environ, start_response):\n    1 / 0\n"
    conf = REQUESTS.replace("{parameters}", "worker, req, environ, resp").replace("{words}", "resp.status")
    server = configured(serve, conf, files={"app.py": app}).ready()
    assert server.get("/", X_Colour="red").status == 500
    server.expect("hook post_request")
    assert said(server, "post_request")[0][1:] == ["500", "Internal", "Server", "Error"]


WEBSOCKET = """
async def at_ws(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "twelve bytes"})
    await send({"type": "websocket.close"})
"""


def test_post_request_of_a_websocket(serve: Serve) -> None:
    conf = REQUESTS.replace("{parameters}", "worker, req, environ, resp").replace("{words}", "resp.status, resp.sent")
    server = configured(serve, conf, files=asgi(WEBSOCKET)).ready()
    fields = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    request = f"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nX-Colour: red\r\n{fields}\r\n"
    server.ask(request.encode(), until=b"twelve bytes")
    server.expect("hook post_request")
    assert said(server, "post_request")[0][1:] == ["101", "12"]


# Exceptions


def failing(name: str, parameters: str, what: str = "1 / 0") -> str:
    return f"import os, sys\ndef {name}({parameters}):\n    {what}\n"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("on_starting", "server"), ("when_ready", "server"), ("nworkers_changed", "server, new, old")],
)
def test_what_fails_at_the_start_ends_the_server(serve: Serve, name: str, parameters: str) -> None:
    server = configured(serve, failing(name, parameters), "--pid", "master.pid")
    assert server.wait() == 1
    server.expect(rf"\[ERROR\] Exception in {name} hook \({server.directory}/conf.py:2\)\nTraceback")
    server.expect(rf"\[ERROR\] Reason: The hook {name} has failed: ZeroDivisionError\('division by zero'\)$")
    assert "Unhandled" not in server.stderr
    assert "Booting" not in server.stderr
    assert not (server.directory / "master.pid").exists()
    assert server.tree() == []


@pytest.mark.parametrize(("code", "status"), [("0", 0), ("7", 7), ("'a text'", 1)])
def test_sys_exit_at_the_start(serve: Serve, code: str, status: int) -> None:
    server = configured(serve, failing("when_ready", "server", f"sys.exit({code})"))
    assert server.wait() == status
    server.expect("Shutting down: Master")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("pre_fork", "server, worker"), ("post_fork", "server, worker"), ("post_worker_init", "worker")],
)
@pytest.mark.parametrize("what", ["1 / 0", "sys.exit(0)"])
def test_what_fails_at_a_boot_is_a_failed_boot(serve: Serve, name: str, parameters: str, what: str) -> None:
    server = configured(serve, failing(name, parameters, what), "-w", "2")
    assert server.wait() == 3
    server.expect(rf"\[ERROR\] Exception in {name} hook \({server.directory}/conf.py:2\)\nTraceback")
    server.expect(r"\[ERROR\] Reason: Worker failed to boot\.$")
    assert server.tree() == []


@pytest.mark.parametrize(
    ("name", "parameters", "why"),
    [
        ("pre_fork", "server, worker", r"pre_fork: ZeroDivisionError\('division by zero'\)"),
        ("post_fork", "server, worker", "it exited with code 3"),
        ("post_worker_init", "worker", "it exited with code 3"),
    ],
)
def test_what_fails_at_a_boot_of_a_reload_calls_it_off(serve: Serve, name: str, parameters: str, why: str) -> None:
    server = configured(serve, "").ready()
    old = server.workers()
    (server.directory / "conf.py").write_text(failing(name, parameters))
    server.signal(signal.SIGHUP)
    server.expect(rf"\[ERROR\] Generation 2 called off, generation 1 serves on: worker=2 gen=2.* could not boot: {why}")
    assert server.workers() == old
    assert server.get("/").status == 200
    server.signal(signal.SIGKILL, old[0])  # who replaces it has the hooks of before
    wait_for(lambda: server.serving() not in ([], old), what="another worker")


def test_pre_fork_that_fails_later(serve: Serve) -> None:
    """It is tried again with growing pauses, until it works."""
    what = "assert not os.path.exists('broken')"
    server = configured(serve, failing("pre_fork", "server, worker", what), "-w", "2").ready(workers=2)
    (server.directory / "broken").touch()
    server.signal(signal.SIGKILL, server.workers()[0])
    server.expect(r"\[ERROR\] worker=1 gen=1 could not boot, next try in 1 s; 1 others serve")
    assert server.get("/").status == 200
    (server.directory / "broken").unlink()
    wait_for(lambda: len(server.serving()) == 2)


@pytest.mark.parametrize("what", ["1 / 0", "sys.exit(3)"])
def test_on_reload_that_fails(serve: Serve, what: str) -> None:
    server = configured(serve, failing("on_reload", "server", what)).ready()
    old = server.workers()
    server.signal(signal.SIGHUP)
    server.expect(r"\[ERROR\] Exception in on_reload hook \(.*/conf.py:2\)")
    server.expect(r"\[ERROR\] Generation 2 called off, generation 1 serves on: on_reload has failed: \w+\(")
    assert server.workers() == old
    assert server.get("/").status == 200


@pytest.mark.parametrize("what", ["1 / 0", "sys.exit(5)"])
def test_the_others_are_only_logged(serve: Serve, what: str, tmp_path: Path) -> None:
    both, worker, numbers = "server, worker", "worker", "server, new, old"
    given = {"worker_int": worker, "worker_exit": both, "child_exit": both, "on_exit": "server"}
    conf = "".join(failing(name, parameters, what) for name, parameters in given.items())
    conf += failing("nworkers_changed", numbers, f"if old:\n        {what}")
    server = configured(serve, conf, "--pid", "master.pid").ready()
    (first,) = server.workers()
    server.signal(signal.SIGTTIN)
    server.expect(r"\[ERROR\] Exception in nworkers_changed hook")
    wait_for(lambda: len(server.serving()) == 2)
    server.signal(signal.SIGQUIT, first)
    for name in ("worker_int", "worker_exit", "child_exit"):
        server.expect(rf"\[ERROR\] Exception in {name} hook \({server.directory}/conf.py:\d+\)\nTraceback")
    wait_for(lambda: first not in server.workers() and len(server.serving()) == 2)
    assert (tmp_path / "master.pid").exists()
    assert server.get("/").status == 200
    assert server.stop() == 0
    assert server.stderr.count("Exception in on_exit hook") == 1
    assert server.stderr.count("Exception in worker_exit hook") == 3
    assert "exited with code" not in server.stderr
    assert not (tmp_path / "master.pid").exists()


def test_prometheus_marks_dead_workers_so(serve: Serve) -> None:
    """The hook of many config files: from the master, by the pid of the worker."""
    conf = "import os\ndef child_exit(server, worker):\n    os.unlink(f'live_{worker.pid}.db')\n"
    app = "import os\nopen(f'live_{os.getpid()}.db', 'w').close()\n" + FILES["app.py"]
    server = configured(serve, conf, "-w", "2", files={"app.py": app}).ready(workers=2)
    first, second = server.workers()
    server.signal(signal.SIGKILL, first)
    wait_for(lambda: not (server.directory / f"live_{first}.db").exists())
    assert (server.directory / f"live_{second}.db").exists()
    wait_for(lambda: len(server.serving()) == 2)
    assert server.stop() == 0
    assert list(server.directory.glob("live_*")) == []
