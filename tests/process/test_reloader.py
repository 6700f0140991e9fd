"""--reload: what is saved is served, and what is broken is not."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from process.apps import asgi
from process.load import Load
from process.test_reload import code, version
from server import Server, wait_for

Serve = Callable[..., Server]

KINDS = pytest.mark.parametrize(
    "kind", [["-k", "sync"], ["-k", "gthread", "--threads", "4"], ["-k", "asgi"]], ids=["sync", "gthread", "asgi"]
)
QUICK = ("--reload", "--reload-delay", "0.02")

SPEAKS = """
async def at_(scope, receive, send):
    await answer(send, os.getpid(), "version VERSION")

async def at_stream(scope, receive, send):
    await start(send, (b"content-type", b"text/event-stream"))
    while True:
        await piece(send, b"data: VERSION\\n\\n")
        await asyncio.sleep(0.02)

async def at_listen(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
"""


def speaks(version: int) -> str:
    """The ASGI application that says its version, and has a stream and a WebSocket without an end."""
    return asgi(SPEAKS.replace("VERSION", str(version)))["app.py"]


def save(server: Server, text: str, name: str = "app.py") -> None:
    (server.directory / name).write_text(text)


def serves(server: Server, text: str, seconds: float = 10.0) -> None:
    wait_for(lambda: version(server) == text, seconds, f"{text!r} to be served")


def watcher(server: Server) -> int:
    """The pid of the child that is no worker: it has nothing to do with the sockets."""
    listening = server.listening()
    others = [pid for pid in server.tree() if pid != server.pid and not listening & set(_open(pid))]
    assert len(others) == 1, others
    return others[0]


def _open(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{entry}") for entry in os.listdir(f"/proc/{pid}/fd")]


# With any worker


@KINDS
@pytest.mark.smoke
def test_a_saved_file_brings_new_code(serve: Serve, kind: list[str]) -> None:
    write = speaks if "asgi" in kind else code
    server = serve("-w", "2", *kind, *QUICK, "app:app", files={"app.py": write(1)}).ready(workers=2)
    server.expect(r"\[WARNING\] Reloader is on\. Use in development only!")
    old = server.serving()
    with Load(server, 2) as load:
        load.more(10)
        save(server, write(2))
        server.expect(rf"\[INFO\] Worker reloading: {re.escape(str(server.directory))}/app\.py modified$")
        server.expect(r"Generation 2 serves after", seconds=20)
        load.more(10)
    assert load.errors == []
    assert load.refused == 0
    assert version(server) == "version 2"
    assert set(old).isdisjoint(server.tree())
    assert server.stderr.count("Worker reloading") == 1
    assert server.stop() == 0


@KINDS
def test_a_syntax_error_keeps_the_old_code_until_it_is_mended(serve: Serve, kind: list[str]) -> None:
    write = speaks if "asgi" in kind else code
    server = serve("-w", "2", *kind, *QUICK, "app:app", files={"app.py": write(1)}).ready(workers=2)
    old = server.serving()
    for generation, wrong, error in [(2, "def app(:\n", "SyntaxError"), (3, "import nothing_there", "ModuleNotFound")]:
        save(server, wrong)
        server.expect(error)
        server.expect(rf"\[ERROR\] Generation {generation} called off, generation 1 serves on: .* could not boot")
        assert version(server) == "version 1"
        assert sorted(server.serving()) == sorted(old)
    save(server, write(4))
    serves(server, "version 4")
    server.expect("Generation 4 serves after", seconds=20)
    assert set(old).isdisjoint(server.tree())


@KINDS
def test_a_start_with_broken_code_waits_for_the_save_that_mends_it(serve: Serve, kind: list[str]) -> None:
    write = speaks if "asgi" in kind else code
    server = serve("-w", "2", *kind, *QUICK, "app:app", files={"app.py": "def app(:\n"})
    server.expect("SyntaxError")
    server.expect(r"\[ERROR\] worker=\d gen=1 pid=\d+ could not boot, next try in 1 s; 0 others serve")
    # Nor does the next mistake end it, or the one after that.
    for mistake in ("first", "second"):
        save(server, f"{mistake}_mistake")
        server.expect(f"NameError: name '{mistake}_mistake' is not defined")
    assert server.running
    save(server, write(2))
    server.ready(workers=2)
    assert version(server) == "version 2"
    assert "generation 0" not in server.stderr
    assert server.stop() == 0


def test_a_failed_startup_of_the_lifespan_is_mended_as_well(serve: Serve) -> None:
    broken = "\nasync def lifespan(receive, send):\n    await receive()\n    raise RuntimeError('no database')\n"
    server = serve(*QUICK, "--lifespan", "on", "app:app", files={"app.py": speaks(1)}).ready()
    save(server, speaks(2) + broken)
    server.expect("RuntimeError: no database")
    server.expect("Generation 2 called off, generation 1 serves on")
    assert version(server) == "version 1"
    save(server, speaks(3))
    serves(server, "version 3")


# What is open


def test_an_open_stream_does_not_block_it(serve: Serve) -> None:
    """Not once, and not again while the first still runs; the old code goes on with it meanwhile."""
    server = serve("-w", "2", *QUICK, "app:app", files={"app.py": speaks(1)}).ready(workers=2)
    with server.connect() as stream:
        stream.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert stream.recv(65536)
        for number in (2, 3, 4):
            save(server, speaks(number))
            serves(server, f"version {number}")
        end = time.monotonic() + 5
        while b"data: 1" not in stream.recv(65536):
            assert time.monotonic() < end
    assert server.stop() == 0


def test_an_endless_stream_is_ended_after_graceful_timeout(serve: Serve) -> None:
    server = serve(*QUICK, "--graceful-timeout", "1", "app:app", files={"app.py": speaks(1)}).ready()
    (old,) = server.serving()
    with server.connect() as stream:
        stream.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert stream.recv(65536)
        save(server, speaks(2))
        server.expect("Generation 2 serves after")
    wait_for(lambda: old not in server.tree(), what="the old worker to leave")
    assert version(server) == "version 2"


def test_an_open_websocket_does_not_block_it(serve: Serve) -> None:
    """Its client is told to come again: 1012, service restart."""
    server = serve("-w", "2", *QUICK, "app:app", files={"app.py": speaks(1)}).ready(workers=2)
    with connect(f"ws://127.0.0.1:{server.port}/listen") as client:
        save(server, speaks(2))
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=10)
    assert caught.value.rcvd
    assert caught.value.rcvd.code == 1012
    server.expect("Generation 2 serves after", seconds=20)
    assert version(server) == "version 2"


# What is watched


def told(server: Server) -> set[str]:
    """The files that were said to have changed, relative to the directory."""
    paths = re.findall(r"Worker reloading: (.*) modified", server.stderr)
    return {os.path.relpath(path, server.directory) for path in paths}


@pytest.mark.parametrize(
    ("options", "counts", "does_not"),
    [
        ([], ["new.py", "package/deep/down.py"], ["page.html", ".hidden.py", "__pycache__/x.py"]),
        (["--reload-extra-file", "page.html"], ["page.html", "app.py"], ["other.html"]),
        (["--reload-extra-file", "templates/**/*.html"], ["templates/a/b.html"], ["templates/a/b.txt"]),
        (["--reload-include", "*.html"], ["page.html", "app.py"], ["page.txt"]),
        (["--reload-exclude", "gen_*.py"], ["app.py"], ["gen_1.py"]),
        (["--reload-exclude", "migrations"], ["app.py"], ["migrations/one.py"]),
        (["--reload-include", "*.html", "--reload-exclude", "*.py"], ["page.html"], ["app.py"]),
        (["--reload-dir", "src", "--app-dir", "src"], ["src/new.py"], ["new.py"]),
    ],
    ids=["default", "extra", "extra glob", "include", "exclude", "exclude directory", "only html", "directory"],
)
@pytest.mark.parametrize("engine", ["poll", "watchfiles"])
def test_which_files_count(
    serve: Serve, engine: str, options: list[str], counts: list[str], does_not: list[str]
) -> None:
    files = {name: "" for name in [*counts, *does_not] if not name.startswith("new")}
    files |= {"src/app.py": code(1)} if "src" in options else {"app.py": code(1)}
    server = serve(*QUICK, "--reload-engine", engine, *options, "app:app", files=files).ready()
    for name in does_not:
        save(server, code(1) + "# another\n", name)
    for times, name in enumerate(counts, 1):
        save(server, code(1) + f"# {times}\n", name)
        server.expect(rf"Worker reloading: .*/{re.escape(name)} modified")
    server.expect(r"Generation \d+ serves after")
    assert told(server) == set(counts)


@pytest.mark.parametrize("engine", ["auto", "poll", "watchfiles", "inotify"])
def test_engines(serve: Serve, engine: str) -> None:
    server = serve("--reload", "--reload-engine", engine, "app:app", files={"app.py": code(1)}).ready()
    save(server, code(2))
    serves(server, "version 2")
    assert "polls" not in server.stderr


def test_many_files_at_once_are_one_reload(serve: Serve) -> None:
    files = {"app.py": code(1), **{f"module_{number}.py": "" for number in range(8)}}
    server = serve(*QUICK, "--reload-delay", "0.2", "app:app", files=files).ready()
    for name in files:
        save(server, code(2), name)
    serves(server, "version 2")
    server.expect(r"Generation 2 serves after")
    assert told(server) == set(files)
    assert "Generation 3" not in server.stderr


def test_a_directory_that_is_not_there(serve: Serve) -> None:
    server = serve("--reload", "--reload-dir", "nowhere", "app:app", files={"app.py": code(1)})
    assert server.wait() == 1
    server.expect("Reason: Cannot watch files: reload_dirs: '.*/nowhere' is not a directory")
    assert "Traceback" not in server.stderr


def test_preloaded_code_is_not_read_again(serve: Serve) -> None:
    server = serve(*QUICK, "--preload", "app:app", files={"app.py": code(1)}).ready()
    server.expect(r"\[WARNING\] With preload_app, a reload does not bring new code")
    save(server, code(2))
    server.expect("Generation 2 serves after")
    assert version(server) == "version 1"


# Where it is asked for


def test_from_a_script(serve: Serve) -> None:
    script = "import monoceros\nmonoceros.run('app:app', port={port}, reload=True, reload_delay=0.02)\n"
    files = {"app.py": speaks(1), "main.py": script}
    server = serve("main.py", command=[sys.executable], bind=None, files=files)
    server.ready()
    save(server, speaks(2))
    serves(server, "version 2")
    assert server.stop(signal.SIGINT) == 0


def test_as_a_daemon(serve: Serve, tmp_path: Path) -> None:
    args = [*QUICK, "--daemon", "--pid", "pid", "--error-logfile", "log", "app:app"]
    server = serve(*args, files={"app.py": code(1)})
    assert server.wait() == 0
    save(server, code(2))
    serves(server, "version 2")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    wait_for(lambda: not server.tree(), what="the daemon and its watcher to leave")
    assert "Worker reloading" in (tmp_path / "log").read_text()


# Its end


@pytest.mark.parametrize("engine", ["poll", "watchfiles"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_watcher_ends_with_the_master(serve: Serve, number: int, engine: str) -> None:
    server = serve("-w", "2", "--reload", "--reload-engine", engine, "app:app", files={"app.py": code(1)})
    server.ready(workers=2)
    assert watcher(server) in server.workers()
    assert server.stop(number) == (-number if number == signal.SIGKILL else 0)
    wait_for(lambda: not server.tree(), what="the watcher to leave")


def test_control_c_in_a_terminal(serve: Serve) -> None:
    """It goes to all processes of the group."""
    server = serve("-w", "2", "--reload", "app:app", files={"app.py": code(1)}).ready(workers=2)
    os.killpg(server.pid, signal.SIGINT)
    assert server.wait() == 0
    wait_for(lambda: not server.tree(), what="all to leave")
    assert "Traceback" not in server.stderr
    assert "No more reloads" not in server.stderr


def test_without_the_watcher_the_server_serves_on(serve: Serve) -> None:
    server = serve("-w", "2", *QUICK, "app:app", files={"app.py": code(1)}).ready(workers=2)
    server.signal(signal.SIGKILL, watcher(server))
    server.expect(r"\[ERROR\] No more reloads: the reloader \(pid:\d+\) has ended")
    save(server, code(2))
    assert version(server) == "version 1"
    server.signal(signal.SIGHUP)
    serves(server, "version 2")
    assert server.stop() == 0
