"""`monoceros.run` in somebody's own script."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

import pytest

from monoceros.script import name_of
from process.apps import FILES
from server import Server, wait_for

Serve = Callable[..., Server]

OWN = """
import os
import signal
import monoceros

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

def make():
    return app

def mine(*_):
    pass

if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, mine)
    monoceros.run({call})
    assert signal.getsignal(signal.SIGUSR1) is mine
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("the script goes on", flush=True)
"""


def script(serve: Serve, call: str, **options: object) -> Server:
    files = {**FILES, "own.py": OWN.replace("{call}", call)}
    return serve("--not-for-us", command=(sys.executable, "-W", "error", "own.py"), bind=None, files=files, **options)


@pytest.mark.smoke
def test_an_object_with_two_workers(serve: Serve) -> None:
    server = script(serve, "app, host='127.0.0.1', port={port}, workers=2").ready()
    server.expect("Booting worker", times=2)
    assert int(server.get("/").text) in server.workers()
    assert server.stop() == 0
    # It is Uvicorn's language, so there is an access log.
    assert server.stdout.splitlines()[-1] == "the script goes on"
    assert len(server.stdout.splitlines()) == 2


def test_a_reload_keeps_the_object(serve: Serve) -> None:
    server = script(serve, "app, bind='127.0.0.1:{port}', preload_app=True").ready()
    (first,) = server.workers()
    (server.directory / "gunicorn.conf.py").write_text("workers = 2")
    server.signal(signal.SIGHUP)
    server.expect("Booting worker", times=3)
    wait_for(lambda: first not in server.workers(), what="the first worker to leave")
    assert int(server.get("/").text) in server.workers()
    assert server.stop() == 0
    assert server.stdout == "the script goes on\n"


@pytest.mark.parametrize(
    "call",
    ["'app:app', bind='127.0.0.1:{port}'", "'own:make', factory=True, port={port}", "make, factory=True, port={port}"],
)
def test_what_can_be_served(serve: Serve, call: str) -> None:
    server = script(serve, call).ready()
    assert int(server.get("/").text) in server.workers()
    assert server.stop(signal.SIGINT) == 0
    assert server.stdout.endswith("the script goes on\n")


def test_variables_count_and_arguments_do_not(serve: Serve) -> None:
    server = script(serve, "'app:app', workers=2", env={"GUNICORN_CMD_ARGS": "-w 3 -b 127.0.0.1:{port}"}).ready()
    server.expect("Booting worker", times=2)
    assert len(server.workers()) == 2
    assert "not-for-us" not in server.stderr


def test_the_exit_status(serve: Serve) -> None:
    server = script(serve, "'nowhere:app', port={port}")
    assert server.wait() == 3
    assert "the script goes on" not in server.stdout
    assert "Traceback" not in server.stderr


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("app, threads=0", "SettingsError: threads = 0 (run(threads=...)): must be a whole number, 1 or more"),
        ("app, wrokers=1", "TypeError: run() got an unexpected keyword argument 'wrokers'; did you mean workers?"),
        ("None", "TypeError: run() takes an application or MODULE:NAME, not an object of type 'NoneType'"),
    ],
)
def test_what_is_wrong_with_the_call(serve: Serve, call: str, error: str) -> None:
    server = script(serve, call)
    assert server.wait() == 1
    assert server.stderr.splitlines()[-1].removeprefix("monoceros.settings.table.") == error


def test_only_the_main_thread_can_run_it(serve: Serve) -> None:
    threaded = "import threading, monoceros\nthreading.Thread(target=monoceros.run, args=['app:app']).start()\n"
    server = serve(command=(sys.executable, "own.py"), bind=None, files={**FILES, "own.py": threaded})
    assert server.wait() == 0  # Python's, of a main thread without errors
    expected = "RuntimeError: monoceros.run() must be called in the main thread, since signals are handled there"
    assert server.stderr.splitlines()[-1] == expected


class Application:
    """An object that is called, as a framework's is."""

    def __call__(self) -> None: ...


def test_what_an_object_is_called() -> None:
    assert name_of(name_of) == "monoceros.script:name_of"
    assert name_of(Application) == name_of(Application()) == f"{__name__}:Application"
