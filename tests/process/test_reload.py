"""HUP: new code and settings, or the old ones go on."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from process.apps import APP, make_gate, open_gate
from process.load import Client, Load
from server import Server, free_port, wait_for

Serve = Callable[..., Server]

VERSION = """
import os

def app(environ, start_response):
    body = f"{{os.getpid()}} version {version}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def code(version: int) -> str:
    return VERSION.format(version=version)


def version(server: Server) -> str:
    return server.get("/").text.partition(" ")[2]


@pytest.mark.smoke
@pytest.mark.parametrize("threads", ["1", "4"])
def test_new_code_and_no_request_is_lost(serve: Serve, threads: str) -> None:
    server = serve("-w", "2", "app:app", "--threads", threads, files={"app.py": code(1)}).ready(workers=2)
    old = set(server.workers())
    with Load(server, 8) as load:
        load.more(100)
        (server.directory / "app.py").write_text(code(2))
        server.signal(signal.SIGHUP)
        server.expect("Hang up: Master")
        wait_for(lambda: old.isdisjoint(server.workers()), seconds=20, what="the old workers to leave")
        load.more(100)
        assert version(server) == "version 2"
    assert load.errors == []
    assert load.refused == 0
    assert server.stderr.count("Booting worker") == 4
    assert "could not boot" not in server.stderr


def test_again_and_again(serve: Serve) -> None:
    server = serve("-w", "2", "app:app", files={"app.py": code(1)}).ready(workers=2)
    with Load(server, 4) as load:
        for times in range(1, 6):
            server.signal(signal.SIGHUP)
            server.expect("Hang up: Master", times=times)
            load.more(20)
        wait_for(lambda: len(server.workers()) == 2, seconds=20, what="the old workers to leave")
        load.more(20)
    assert load.errors == []
    assert load.refused == 0


def test_code_that_does_not_work(serve: Serve) -> None:
    server = serve("-w", "2", "app:app", files={"app.py": code(1)}).ready(workers=2)
    old = server.workers()
    (server.directory / "app.py").write_text("1 / 0")
    server.signal(signal.SIGHUP)
    server.expect("ZeroDivisionError")
    server.expect(
        r"\[ERROR\] Generation 2 called off, generation 1 serves on: "
        r"worker=3 gen=2 pid=\d+ could not boot: it exited with code 3, its lines above say why"
    )
    assert server.workers() == old
    assert version(server) == "version 1"
    server.signal(signal.SIGKILL, old[0])  # whoever dies now is replaced by what there is
    server.expect(r"worker=\d gen=1 pid=\d+ could not boot, next try in 1 s")
    assert version(server) == "version 1"
    (server.directory / "app.py").write_text(code(3))
    server.signal(signal.SIGHUP)
    wait_for(lambda: set(old).isdisjoint(server.workers()))
    assert version(server) == "version 3"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("workers = 'many'", "workers = 'many'"),
        ("1 / 0", "ZeroDivisionError"),
        ("bind = ['127.0.0.1:{port}', 'unix:/nowhere/sock']", "/nowhere/sock"),
        ("bind = ['127.0.0.1:{port}', '127.0.0.1:{taken}']", "Address already in use"),
        ("bind = '127.0.0.1:{port}'; chdir = '/nowhere'", "chdir = '/nowhere'"),
        ("bind = '127.0.0.1:{port}'; errorlog = '/nowhere/log'", "/nowhere/log"),
    ],
)
def test_settings_that_do_not_work(serve: Serve, config: str, said: str) -> None:
    files = {"app.py": code(1), "conf.py": "workers = 2\nbind = '127.0.0.1:{port}'\n"}
    server = serve("-c", "conf.py", "app:app", bind=None, files=files).ready(workers=2)
    other = serve("app:app").ready()
    old = server.workers()
    text = config.replace("{port}", str(server.port)).replace("{taken}", str(other.port))
    (server.directory / "conf.py").write_text(text)
    server.signal(signal.SIGHUP)
    server.expect(f"Reload refused, generation 1 serves on: .*{said}")
    assert version(server) == "version 1"
    assert server.workers() == old
    # And it can still be mended.
    (server.directory / "conf.py").write_text(f"workers = 1\nbind = '127.0.0.1:{server.port}'\n")
    server.signal(signal.SIGHUP)
    wait_for(lambda: set(old).isdisjoint(server.workers()) and len(server.workers()) == 1)
    assert version(server) == "version 1"


def test_what_was_done_before_a_reload_failed_is_undone(serve: Serve) -> None:
    """New sockets, other variables: later workers are as the first."""
    app = code(1).replace("version 1", "{os.environ.get('COLOUR')} {os.environ.get('SHAPE')}")
    conf = "bind = '127.0.0.1:{port}'\nraw_env = ['COLOUR=red']\n"
    server = serve("-c", "conf.py", "app:app", bind=None, files={"app.py": app, "conf.py": conf}).ready()
    pid, _, before = server.get("/").text.partition(" ")
    assert before == "red None"
    (server.directory / "conf.py").write_text(
        f"bind = ['127.0.0.1:{server.port}', 'unix:new.sock']\nraw_env = ['COLOUR=blue', 'SHAPE=round']\n"
        "errorlog = '/nowhere/log'\n"
    )
    server.signal(signal.SIGHUP)
    server.expect("Reload refused, generation 1 serves on: .*/nowhere/log")
    assert list(server.directory.rglob("new.sock")) == []
    server.signal(signal.SIGKILL, int(pid))
    server.expect("was sent SIGKILL!")
    assert server.get("/").text.partition(" ")[2] == before


def test_another_number_of_workers(serve: Serve) -> None:
    files = {"app.py": code(1), "conf.py": "workers = 1"}
    server = serve("-c", "conf.py", "app:app", files=files).ready()
    for number in (3, 1, 2):
        (server.directory / "conf.py").write_text(f"workers = {number}")
        old = server.workers()
        server.signal(signal.SIGHUP)
        wait_for(lambda old=old, number=number: set(old).isdisjoint(found := server.workers()) and len(found) == number)


def test_another_address(serve: Serve) -> None:
    files = {"app.py": code(1), "conf.py": "bind = '127.0.0.1:{port}'"}
    server = serve("-c", "conf.py", "app:app", bind=None, files=files).ready()
    before, server.port = server.port, free_port()
    (server.directory / "conf.py").write_text(f"bind = ['127.0.0.1:{server.port}']")
    server.signal(signal.SIGHUP)
    server.ready()
    server.expect("Worker exiting", seconds=20)
    assert version(server) == "version 1"
    server.port = before
    wait_for(lambda: _refused(server))


def _refused(server: Server) -> bool:
    try:
        server.connect(seconds=0.2).close()
    except ConnectionRefusedError:
        return True
    except (ConnectionResetError, TimeoutError):
        return False  # it was closed while we came, or is about to be
    return False


def test_a_boot_that_takes_too_long(serve: Serve) -> None:
    server = serve("-w", "2", "app:app", "--boot-timeout", "2", files={"app.py": code(1)}).ready(workers=2)
    old = server.workers()
    (server.directory / "app.py").write_text("import threading\nthreading.Event().wait()")
    server.signal(signal.SIGHUP)
    server.expect("Generation 2 called off, generation 1 serves on: .* it was not ready within 2 s", seconds=20)
    assert server.workers() == old


def test_new_settings_of_a_generation_that_is_called_off(serve: Serve) -> None:
    """Addresses, variables and logs are those of before."""
    app = code(1).replace("version 1", "{os.environ.get('COLOUR')}")
    conf = "bind = '127.0.0.1:{port}'\nraw_env = ['COLOUR=red']\n"
    server = serve("-c", "conf.py", "app:app", bind=None, files={"app.py": app, "conf.py": conf}).ready()
    (pid,) = server.workers()
    (server.directory / "conf.py").write_text(
        f"bind = ['127.0.0.1:{server.port}', 'unix:new.sock']\nraw_env = ['COLOUR=blue']\nerrorlog = 'other.log'\n"
    )
    (server.directory / "app.py").write_text("1 / 0")
    server.signal(signal.SIGHUP)
    server.expect("Generation 2 called off, generation 1 serves on")
    assert "ZeroDivisionError" in (server.directory / "other.log").read_text()
    assert not (server.directory / "new.sock").exists()
    (server.directory / "app.py").write_text(app)
    server.signal(signal.SIGKILL, pid)
    server.expect("was sent SIGKILL!")
    assert version(server) == "red"


def test_another_reload_in_the_middle_of_one(serve: Serve) -> None:
    """The one that has not got far is called off, and the last one wins."""
    server = serve("-w", "2", "app:app", files={"app.py": code(1)}).ready(workers=2)
    old = server.workers()
    (server.directory / "app.py").write_text("import threading\nthreading.Event().wait()")
    server.signal(signal.SIGHUP)
    server.expect("Booting worker", times=3)
    (server.directory / "app.py").write_text(code(3))
    server.signal(signal.SIGHUP)
    server.expect("Generation 2 called off, generation 1 serves on: another reload was asked for")
    server.expect(r"Generation 3 serves after \d+\.\d s")
    assert len(server.workers()) == 2
    assert set(old).isdisjoint(server.workers())
    assert version(server) == "version 3"


def test_a_request_that_runs_is_finished_by_the_old_code(serve: Serve) -> None:
    server = serve("-w", "1", "app:app", files={"app.py": APP}).ready()
    make_gate(server)
    with Client(server) as client:
        client.ask("/gate")
        server.expect("at the gate")
        (old,) = server.workers()
        (server.directory / "app.py").write_text(code(2))
        server.signal(signal.SIGHUP)
        wait_for(lambda: "version 2" in server.get("/").text)
        open_gate(server)
        assert client.answer() == (200, str(old))
    server.expect(rf"Worker exiting \(pid: {old}\)")
