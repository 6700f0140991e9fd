"""A request that takes too long is told of while it runs, with the stack that shows where it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from process.apps import asgi, make_gate, open_gate, open_gate_for
from process.load import Client
from server import Server, wait_for

Serve = Callable[..., Server]

WSGI = """
import time

def wait_at_the_gate():
    open("gate").close()

def app(environ, start_response):
    if environ["PATH_INFO"] == "/gate":
        wait_at_the_gate()
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [])
        return stream()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

def stream():
    yield b"begun"
    wait_at_the_gate()
    yield b"ended"
"""

MORE = """
import time

async def deeper():
    await gate()

async def pieces():
    yield 1
    await deeper()
    yield 2

async def at_pieces(scope, receive, send):
    async for _ in pieces():
        pass
    await answer(send, "ok")

async def at_task(scope, receive, send):
    await asyncio.ensure_future(deeper())
    await answer(send, "ok")

async def at_many(scope, receive, send):
    await asyncio.gather(deeper())
    await answer(send, "ok")

def block():
    open("gate").close()

async def at_block(scope, receive, send):
    block()
    await answer(send, "ok")

async def at_blocklater(scope, receive, send):
    await asyncio.sleep(0)
    block()
    await answer(send, "ok")
"""

LINE = r"\[WARNING\] Slow request, running for \d\.\d s: GET /%s HTTP/1\.1"
STACK = r"\nStack \(most recent call last\):\n(?:  .*\n)*?"
THREADS = pytest.mark.parametrize(
    "args", [["-k", "sync"], ["-k", "gthread", "--threads", "3"]], ids=["sync", "gthread"]
)


def started(serve: Serve, *args: str, files: dict[str, str] | None = None) -> Server:
    server = serve("app:app", *args, "--slow-request", "0.2", files=files or {"app.py": WSGI})
    make_gate(server)
    return server.ready()


@THREADS
@pytest.mark.parametrize("path", ["gate", "stream"])
def test_the_stack_of_a_thread(serve: Serve, args: list[str], path: str) -> None:
    server = started(serve, *args)
    with Client(server).ask(f"/{path}?token=abc&x=1") as client:
        target = path + r"\?token=\[redacted\]&x=1"
        server.expect(LINE % target + STACK + r"  .*app\.py\", line \d+, in wait_at_the_gate\n")
        open_gate(server)
        assert b"200 OK" in client.sock.recv(1000)
    wait_for(lambda: server.get("/").status == 200)
    assert len(re.findall("Slow request", server.stderr)) == 1
    assert "worker/lead.py" not in server.stderr


def test_many_threads_each_with_its_own(serve: Serve) -> None:
    server = started(serve, "-k", "gthread", "--threads", "4", "--log-format", "json")
    with ExitStack() as closing:
        clients = [closing.enter_context(Client(server)) for _ in range(3)]
        for number, client in enumerate(clients):
            client.ask(f"/gate?{number}", f"X-Request-ID: r-{number}")
        server.expect("Slow request", times=3)
        said = [json.loads(line) for line in server.stderr.splitlines()]
        slow = [each for each in said if each["message"].startswith("Slow request")]
        assert sorted(each["request_id"] for each in slow) == ["r-0", "r-1", "r-2"]
        assert all("in wait_at_the_gate" in each["stack"] and each["level"] == "warning" for each in slow)
        open_gate_for(server, [client.sock for client in clients])
        assert [client.answer()[0] for client in clients] == [200] * 3


def test_quick_requests_are_not_told_of(serve: Serve) -> None:
    """Nor is the next one on the connection of a slow one, before it is slow itself."""
    server = started(serve, "-k", "sync")
    with Client(server) as client:
        for number in range(2):
            for _ in range(200):
                assert client.ask().answer()[0] == 200
            client.ask(f"/gate?{number}")
            server.expect(LINE % rf"gate\?{number}")
            open_gate(server)
            assert client.answer()[0] == 200
    assert len(re.findall("Slow request", server.stderr)) == 2


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize(
    ("path", "frames"),
    [
        ("gate", ["at_gate"]),
        ("pieces", ["at_pieces", "pieces", "deeper", "gate"]),
        ("task", ["at_task", "deeper", "gate"]),
        ("many", ["at_many"]),
    ],
)
def test_the_coroutines_of_a_task(serve: Serve, loop: str, path: str, frames: list[str]) -> None:
    server = started(serve, "-k", "asgi", "--asgi-loop", loop, files=asgi(MORE))
    with Client(server).ask(f"/{path}?key=abc") as client:
        stack = "".join(rf'(?:  .*\n)*?  File ".*", line \d+, in {frame}\n' for frame in frames)
        server.expect(LINE % (path + r"\?key=\[redacted\]") + STACK + stack)
        open_gate(server)
        assert client.answer()[0] == 200
    assert server.get("/").status == 200
    assert len(re.findall("Slow request", server.stderr)) == 1


@pytest.mark.parametrize("path", ["block", "blocklater"])
def test_a_blocked_loop(serve: Serve, path: str) -> None:
    server = started(serve, "-k", "asgi", files=asgi(MORE))
    with Client(server).ask(f"/{path}") as client:
        server.expect(LINE % path + r" \(it blocks the event loop\)" + STACK + r"  .*app\.py\", line \d+, in block\n")
        open_gate(server)
        assert client.answer()[0] == 200
    assert len(re.findall("Slow request", server.stderr)) == 1


def test_who_waits_behind_a_blocked_loop_is_told_of_as_well(serve: Serve) -> None:
    server = started(serve, "-k", "asgi", files=asgi(MORE))
    with Client(server).ask("/gate") as waiting:
        server.expect("at the gate")
        with Client(server).ask("/block") as client:
            server.expect(LINE % "gate")
            server.expect(LINE % "block" + r" \(it blocks")
            open_gate(server)
            assert client.answer()[0] == 200
        assert waiting.answer()[0] == 200  # the same gate
    assert "runpy" not in server.stderr


def switches(pid: int) -> int:
    """How often the threads of a process have gone to sleep by themselves: proc_pid_status(5)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    status = "".join((task / "status").read_text() for task in tasks)
    return sum(map(int, re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE)))


@pytest.mark.parametrize("kind", ["sync", "gthread", "asgi"])
def test_an_idle_worker_sleeps(serve: Serve, kind: str) -> None:
    """Its loop looks around once a second; the watch would make that a hundred times a second."""
    files = asgi() if kind == "asgi" else {"app.py": WSGI}
    server = serve("app:app", "-k", kind, "--slow-request", "0.01", files=files).ready()
    assert server.get("/").status == 200
    [pid] = server.serving()
    names = [(task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()]
    assert len(names) >= 2

    def quiet() -> bool:
        """A look around has passed, and little else has happened since."""
        before = switches(pid)
        wait_for(lambda: switches(pid) > before, what="a look around")
        wait_for(lambda: switches(pid) > before + 1, what="another one")
        return switches(pid) - before < 20

    wait_for(quiet, what="an idle worker")
