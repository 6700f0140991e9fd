"""ASGI from the command to the first answer: which worker, which loop, and the application's startup."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from process.apps import FILES, asgi, open_gate
from process.load import Client
from server import Server

Serve = Callable[..., Server]

ASGI2 = """
import os

class app:
    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        assert self.scope["type"] == "http", "no lifespan here"
        body = str(os.getpid()).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
"""


def lifespan(body: str) -> dict[str, str]:
    """The application with another lifespan, of which `body` is the inside of the function."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    return asgi(f"\nasync def lifespan(receive, send):\n{lines}")


# Which worker


@pytest.mark.smoke
@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_an_asgi_application_needs_no_option(serve: Serve, loop: str) -> None:
    server = serve("app:app", "--asgi-loop", loop, files=asgi()).ready()
    server.expect(r"\[INFO\] app:app is an ASGI application$")
    with Client(server) as client:
        for _ in range(3):
            assert client.ask("/?a=b").answer() == (200, f"{server.workers()[0]} a=b")
    answer = server.get("/length", method="POST", body=b"x" * 200_000)
    assert answer.text.split()[1] == "200000"
    assert server.stop() == 0
    assert "ERROR" not in server.stderr
    assert "Traceback" not in server.stderr


@pytest.mark.parametrize(("option", "module"), [("auto", "uvloop"), ("asyncio", "asyncio"), ("uvloop", "uvloop")])
def test_the_loop(serve: Serve, option: str, module: str) -> None:
    more = "\nasync def at_loop(scope, receive, send):\n    await answer(send, type(asyncio.get_running_loop()))\n"
    server = serve("app:app", "--asgi-loop", option, files=asgi(more)).ready()
    assert server.get("/loop").text.startswith(f"<class '{module}.")


def test_asgi_2(serve: Serve) -> None:
    server = serve("app:app", files={"app.py": ASGI2}).ready()
    server.expect("app:app is an ASGI application")
    assert int(server.get("/").text) in server.workers()


def test_wsgi_is_told_apart(serve: Serve) -> None:
    server = serve("app:app", "--log-level", "debug", files=FILES).ready()
    server.expect(r"\[DEBUG\] app:app is a WSGI application$")
    assert int(server.get("/").text) in server.workers()


def test_an_object(serve: Serve) -> None:
    """What Starlette and its like are: an object with an async `__call__`."""
    more = """
class Framework:
    async def __call__(self, scope, receive, send):
        await app(scope, receive, send)

framework = Framework()
"""
    server = serve("app:framework", files=asgi(more)).ready()
    assert int(server.get("/").text) in server.workers()


@pytest.mark.parametrize(
    ("kind", "preload"),
    [("sync", []), ("gthread", []), ("gthread", ["--preload"]), ("gevent", []), ("gevent", ["--preload"])],
)
def test_a_worker_that_cannot_serve_it(serve: Serve, kind: str, preload: list[str]) -> None:
    server = serve("-k", kind, "app:app", *preload, files=asgi())
    assert server.wait() == 3
    (line,) = re.findall(r"\[ERROR\] (.*ASGI.*)", server.stderr)
    assert line == f"'app:app' is an ASGI application, which {kind} workers do not serve: leave out -k, or take asgi"
    assert "Traceback" not in server.stderr
    assert "Reason: Worker failed to boot." in server.stderr


@pytest.mark.parametrize("kind", ["asgi", "uvicorn.workers.UvicornWorker"])
def test_wsgi_on_the_worker_for_asgi(serve: Serve, kind: str) -> None:
    server = serve("-k", kind, "app:app", files=FILES)
    assert server.wait() == 3
    server.expect(r"'app:app' is a WSGI application, which asgi workers do not serve: leave out -k, or take gthread")
    assert "Traceback" not in server.stderr


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("asgi", "uvloop"),
        ("uvicorn_worker.UvicornWorker", "uvloop"),
        ("uvicorn.workers.UvicornH11Worker", "asyncio"),
        ("mine.Worker", "asyncio"),
    ],
)
def test_the_names_of_the_worker(serve: Serve, kind: str, module: str) -> None:
    more = "\nasync def at_loop(scope, receive, send):\n    await answer(send, type(asyncio.get_running_loop()))\n"
    mine = (
        "import uvicorn_worker\nclass Worker(uvicorn_worker.UvicornWorker):\n    CONFIG_KWARGS = {'loop': 'asyncio'}\n"
    )
    server = serve("-k", kind, "app:app", files={**asgi(more), "mine.py": mine}).ready()
    assert server.get("/loop").text.startswith(f"<class '{module}.")


@pytest.mark.parametrize(
    ("args", "warned"),
    [(["--factory", "app:make"], False), (["app:make()"], False), (["app:make"], True)],
    ids=["flag", "call", "guessed"],
)
def test_a_factory(serve: Serve, args: list[str], warned: bool) -> None:
    server = serve(*args, files=asgi("\ndef make():\n    return app\n")).ready()
    assert int(server.get("/").text) in server.workers()
    assert ("is a factory of an application" in server.stderr) == warned


def test_preload(serve: Serve) -> None:
    server = serve("-w", "2", "--preload", "app:app", files=asgi("\nsay('imported by', os.getpid())\n")).ready()
    assert int(server.get("/").text) in server.workers()
    server.expect("lifespan: startup", times=2)
    assert re.findall(r"imported by (\d+)", server.stderr) == [str(server.pid)]


def test_a_unix_socket(serve: Serve) -> None:
    more = "\nasync def at_who(scope, receive, send):\n    await answer(send, scope['client'], scope['server'])\n"
    server = serve("app:app", bind="unix:sock", files=asgi(more)).ready()
    assert server.get("/who").text == "None ('sock', None)"


# Startup


def test_nobody_is_answered_before_startup_is_complete(serve: Serve, tmp_path: Path) -> None:
    body = """
await receive()
waiting = asyncio.ensure_future(gate())
await asyncio.sleep(0)
say("starting")
await waiting
await send({"type": "lifespan.startup.complete"})
await receive()
"""
    os.mkfifo(tmp_path / "gate")
    server = serve("app:app", files=lifespan(body)).ready(workers=0)
    with Client(server) as client:
        client.ask()
        server.expect("starting")
        client.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.answer()
        open_gate(server)
        client.sock.settimeout(5)
        assert client.answer()[0] == 200


def test_a_slow_startup_is_no_hang(serve: Serve) -> None:
    """The deadline for requests is not that for a boot."""
    body = (
        "await receive()\nawait asyncio.sleep(2.2)\nawait send({'type': 'lifespan.startup.complete'})\nawait receive()"
    )
    server = serve("app:app", "--timeout", "1", files=lifespan(body)).ready()
    assert server.get("/").status == 200
    assert "WORKER TIMEOUT" not in server.stderr


FAILED = "await receive()\nawait send({'type': 'lifespan.startup.failed', 'message': 'no database at db:5432'})"
RAISED = "await receive()\nraise RuntimeError('no database')"


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_startup_fails(serve: Serve, mode: str) -> None:
    server = serve("app:app", "--lifespan", mode, files=lifespan(FAILED))
    assert server.wait() == 3
    server.expect(r"\[ERROR\] Application startup failed: no database at db:5432$")
    server.expect(r"Reason: Worker failed to boot\.$")
    assert "Traceback" not in server.stderr


def test_startup_raises_where_it_must_not(serve: Serve) -> None:
    server = serve("app:app", "--lifespan", "on", files=lifespan(RAISED))
    assert server.wait() == 3
    server.expect(r"\[ERROR\] Application startup failed")
    server.expect("RuntimeError: no database")
    server.expect(r"app\.py\", line \d+, in lifespan")


def test_startup_raises_where_it_may(serve: Serve) -> None:
    """Many applications know nothing of it, and say so by an exception."""
    server = serve("app:app", files=lifespan(RAISED)).ready()
    server.expect(r"\[INFO\] ASGI 'lifespan' protocol appears unsupported\.$")
    assert server.get("/").status == 200
    assert server.stop() == 0
    assert "Traceback" not in server.stderr


def test_no_lifespan_if_it_is_off(serve: Serve) -> None:
    more = "\nasync def at_state(scope, receive, send):\n    await answer(send, 'state' in scope)\n"
    server = serve("app:app", "--lifespan", "off", files=asgi(more)).ready()
    assert server.get("/state").text == "False"
    assert server.stop() == 0
    assert "lifespan:" not in server.stderr


def test_a_reload_to_a_startup_that_fails(serve: Serve, tmp_path: Path) -> None:
    """The old worker goes on, and the log says why."""
    server = serve("app:app", files=asgi()).ready()
    old = server.get("/").text
    (tmp_path / "app.py").write_text(lifespan(FAILED)["app.py"])
    server.signal(signal.SIGHUP)
    server.expect("Application startup failed: no database")
    assert server.get("/").text == old


def test_state(serve: Serve) -> None:
    """Each request gets a copy of what startup has left; what is in it is shared."""
    more = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        scope["state"].update(number=7, shared=[])
        return await lifespan(receive, send)
    state = scope["state"]
    state["shared"].append(1)
    mine = state.get("mine")
    state["mine"] = "set"
    await answer(send, state["number"], len(state["shared"]), mine)
"""
    server = serve("app:app", files=asgi(more)).ready()
    with Client(server) as client:
        assert client.ask().answer() == (200, "7 1 None")
        assert client.ask().answer() == (200, "7 2 None")
    server.expect("lifespan: startup")


def test_workers_that_come_later_start_up_too(serve: Serve) -> None:
    server = serve("app:app", files=asgi()).ready()
    server.expect("lifespan: startup")
    server.signal(signal.SIGTTIN)
    server.expect("lifespan: startup", times=2)
    assert len(server.workers()) == 2
