"""What applications on the loop do wrong, and what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from process.apps import asgi, make_gate, open_gate
from process.load import Broken, Client, dead
from server import Server, wait_for

Serve = Callable[..., Server]

LOOPS = pytest.mark.parametrize("loop", ["auto", "asyncio"])


def line_of(files: dict[str, str], text: str) -> int:
    return next(number for number, line in enumerate(files["app.py"].splitlines(), 1) if text in line)


# A blocked loop

BLOCKED = asgi("""
import time

async def waiter():
    await asyncio.Event().wait()  # for ever

async def at_block(scope, receive, send):
    task = asyncio.create_task(waiter())
    await asyncio.sleep(0.01)
    say("blocking")
    time.sleep(60)  # nobody else is served
    await answer(send, os.getpid())

async def at_endless(scope, receive, send):
    say("waiting")
    await asyncio.Event().wait()
""")


@pytest.mark.smoke
def test_a_blocked_loop_is_replaced(serve: Serve) -> None:
    """The log says where it stood, and what else was going on; the other worker serves meanwhile."""
    args = ("-w", "2", "app:app", "--timeout", "1", "--graceful-timeout", "1")
    server = serve(*args, files=BLOCKED).ready()
    server.expect("Application startup complete", times=2)
    with Client(server) as client:
        client.ask("/block?a=1")
        server.expect("blocking")
        for _ in range(20):
            assert server.get("/").status == 200
        pid = server.expect(r"\[CRITICAL\] WORKER TIMEOUT \(pid:(\d+)\)")[1]
        for _ in range(20):
            assert server.get("/").text != pid
        with pytest.raises((Broken, ConnectionError)):
            client.answer()
    server.expect(rf"Worker \(pid:{pid}\) was sent SIGKILL! By us: it was past its deadline\.")
    file = f'File "{server.directory}/app.py"'
    server.expect(f"{file}, line {line_of(BLOCKED, 'time.sleep(60)')} in at_block")
    server.expect(rf"\[{pid}\] \[CRITICAL\] Was serving for \d\.\d s: GET /block\?a=1 HTTP/1\.1")
    server.expect(f"{file}, line {line_of(BLOCKED, '# for ever')}, in waiter")
    assert server.stderr.count("WORKER TIMEOUT") == 1
    server.expect("Application startup complete", times=3)


def test_an_endpoint_that_waits_is_no_hang(serve: Serve) -> None:
    """Neither is an idle worker: a loop that turns is alive."""
    server = serve("app:app", "--timeout", "1", "--graceful-timeout", "0", files=BLOCKED).ready()
    pid = server.get("/").text
    with Client(server) as client:
        client.ask("/endless")
        server.expect("waiting")
        wait_for(_passed(2.4), what="time to pass")
        assert server.get("/").text == pid
        assert not dead(client.sock)
    assert "WORKER TIMEOUT" not in server.stderr


def _passed(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


# Exceptions

FAULTS = asgi("""
async def at_raise(scope, receive, send):
    raise RuntimeError("on purpose")

async def at_raise_later(scope, receive, send):
    await start(send)
    await piece(send, b"x" * 100)
    raise RuntimeError("on purpose")

async def at_exit(scope, receive, send):
    sys.exit(7)

async def at_interrupt(scope, receive, send):
    raise KeyboardInterrupt

async def at_cancel(scope, receive, send):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)

async def at_nothing(scope, receive, send):
    pass

async def at_half(scope, receive, send):
    await start(send)
    await piece(send, b"x" * 100)

async def at_body_first(scope, receive, send):
    await piece(send, b"", False)

async def at_start_twice(scope, receive, send):
    await start(send)
    await start(send)

async def at_start_late(scope, receive, send):
    await answer(send, os.getpid())
    await start(send)

async def at_unknown(scope, receive, send):
    await send({"type": "http.response.surprise"})

async def at_text(scope, receive, send):
    await start(send)
    await piece(send, "text", False)

async def at_behind(scope, receive, send):
    await answer(send, os.getpid())
    raise RuntimeError("behind the answer")

async def fails():
    raise RuntimeError("nobody looks")

async def at_forget(scope, receive, send):
    task = asyncio.create_task(fails())
    await asyncio.sleep(0.01)
    del task
    import gc
    gc.collect()
    await answer(send, os.getpid())

async def at_callback(scope, receive, send):
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await answer(send, os.getpid())
""")


FAILING = {
    "raise": "RuntimeError: on purpose",
    "exit": "SystemExit: 7",
    "interrupt": "KeyboardInterrupt",
    "cancel": "CancelledError",
    "nothing": r"ASGI callable returned without starting response\. \(127\.0\.0\.1:\d+ GET /nothing HTTP/1\.1\)",
    "body_first": "the application has sent 'http.response.body' before http.response.start",
    "start_twice": "the application has sent 'http.response.start' before the end of the body",
    "unknown": "the application has sent 'http.response.surprise' before http.response.start",
    "text": "headers and content must be bytes, not str: 'text'",
}


@LOOPS
def test_500_and_the_worker_goes_on(serve: Serve, loop: str) -> None:
    server = serve("app:app", "--asgi-loop", loop, files=FAULTS).ready()
    with Client(server) as other:
        _, pid = other.ask().answer()
        for path, said in FAILING.items():
            with Client(server) as client:
                before = len(server.stderr)
                assert client.ask(f"/{path}").answer()[0] == 500
                assert client.closing
                assert client.ended()
                server.expect(said, since=before)
                assert other.ask().answer() == (200, pid)
    assert server.stop() == 0
    assert server.stderr.count("[ERROR]") == len(FAILING)


@pytest.mark.parametrize(
    ("path", "said"), [("raise_later", "RuntimeError: on purpose"), ("half", "returned without completing response")]
)
def test_a_response_that_breaks_off(serve: Serve, path: str, said: str) -> None:
    """The client can tell that something is missing, and no second head stands in the middle."""
    server = serve("app:app", files=FAULTS).ready()
    got = server.ask(f"GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert got.endswith(b"\r\n64\r\n" + b"x" * 100 + b"\r\n")
    server.expect(said)
    assert server.get("/").status == 200


BESIDE = {
    "behind": "RuntimeError: behind the answer",
    "start_late": "the application has sent 'http.response.start' after the response was complete",
    "forget": "Task exception was never retrieved",
    "callback": "ZeroDivisionError",
}


@LOOPS
def test_what_goes_wrong_beside_an_answer(serve: Serve, loop: str) -> None:
    server = serve("app:app", "--asgi-loop", loop, files=FAULTS).ready()
    with Client(server) as client:
        for path, said in BESIDE.items():
            status, pid = client.ask(f"/{path}").answer()
            assert status == 200
            server.expect(said)
            assert client.ask().answer() == (200, pid)
    server.expect(r"\[ERROR\]", times=len(BESIDE))


# Requests do not know of each other

CONTEXT = asgi("""
import contextvars

var = contextvars.ContextVar("var", default="nothing")

async def at_(scope, receive, send):
    before = var.get()
    var.set(scope["query_string"].decode())
    await answer(send, before)

async def at_waiting(scope, receive, send):
    before = var.get()
    var.set("waiting")
    await receive()
    await asyncio.sleep(0)
    await answer(send, before)
    await asyncio.sleep(0)
    var.set("behind")

async def lifespan(receive, send):
    var.set("lifespan")
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
""")


@LOOPS
def test_context_variables_do_not_leak(serve: Serve, loop: str) -> None:
    """One after the other on one connection, pipelined, with a body, and on the next connection."""
    server = serve("app:app", "--asgi-loop", loop, files=CONTEXT).ready()
    with Client(server) as client:
        for n in range(3):
            assert client.ask(f"/?{n}").answer() == (200, "nothing")
            assert client.ask("/waiting").answer() == (200, "nothing")
        client.sock.sendall(b"GET /waiting HTTP/1.1\r\nHost: a\r\n\r\n" * 5)
        assert [client.answer() for _ in range(5)] == [(200, "nothing")] * 5
        client.sock.sendall(b"POST /waiting HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
        with Client(server) as second:
            assert second.ask("/?x").answer() == (200, "nothing")
        client.sock.sendall(b"67890")
        assert client.answer() == (200, "nothing")


def test_what_a_scope_is_changed_to_is_not_seen_by_the_next(serve: Serve) -> None:
    more = """
async def at_(scope, receive, send):
    seen = "mine" in scope, (b"mine", b"") in scope["headers"], "mine" in scope["extensions"]
    scope["mine"] = True
    scope["headers"].append((b"mine", b""))
    scope["extensions"]["mine"] = {}
    await answer(send, *seen)
"""
    server = serve("app:app", files=asgi(more)).ready()
    with Client(server) as client:
        for _ in range(3):
            assert client.ask().answer() == (200, "False False False")


# More requests than wanted


def test_limit_concurrency(serve: Serve) -> None:
    server = serve("app:app", "--limit-concurrency", "2", files=asgi()).ready()
    make_gate(server)
    with Client(server) as first, Client(server) as second, Client(server) as third:
        assert third.ask().answer()[0] == 200
        first.ask("/gate?1")
        second.ask("/gate?2")
        server.expect("at the gate", times=2)
        assert third.ask().answer()[0] == 503
        assert third.closing
        assert third.ended()
        server.expect(r"\[WARNING\] Exceeded concurrency limit\.$")
        open_gate(server)
        assert first.answer()[0] == 200
        assert second.answer()[0] == 200
        assert first.ask().answer()[0] == 200
