"""The access log of the worker for ASGI, in both manners."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

import pytest

from process.apps import asgi, reset
from process.load import Client
from server import Server, wait_for

Serve = Callable[..., Server]

MORE = """
async def at_slow(scope, receive, send):
    await asyncio.sleep(0.2)
    await answer(send, "x" * 12345)

async def at_stream(scope, receive, send):
    await start(send)
    for _ in range(10):
        await piece(send, b"x" * 1000)
        await asyncio.sleep(0.01)
    await piece(send, b"last", False)

async def at_empty(scope, receive, send):
    await send({"type": "http.response.start", "status": 204})
    await piece(send, b"", False)

async def at_raise(scope, receive, send):
    raise RuntimeError("on purpose")

async def at_forever(scope, receive, send):
    say("waiting")
    await asyncio.Event().wait()

async def at_file(scope, receive, send):
    await start(send)
    await send({"type": "http.response.pathsend", "path": os.path.abspath("app.py")})
"""
FILES = asgi(MORE)
FORMAT = "%(h)s %(m)s %(U)s %(q)s %(s)s %(b)s %(D)s"
LINE = re.compile(r"(\S+) (\w+) (\S+) (\S*) (\d+) (\S+) (\d+)")


def logged(server: Server, lines: int) -> list[tuple[str, ...]]:
    """The fields of the access log, once it has so many lines."""
    wait_for(lambda: server.stdout.count("\n") >= lines, what=f"{lines} lines in the access log")
    found = [LINE.fullmatch(line) for line in server.stdout.splitlines()]
    assert all(found), server.stdout
    return [match.groups() for match in found if match]


def test_status_size_and_duration(serve: Serve) -> None:
    server = serve("app:app", "--access-logfile", "-", "--access-logformat", FORMAT, files=FILES).ready()
    server.get("/?a=b")
    server.get("/slow")
    server.get("/slow", method="HEAD")
    server.get("/stream")
    server.get("/empty")
    server.get("/raise")
    server.get("/file")
    lines = logged(server, 7)
    size = str((server.directory / "app.py").stat().st_size)
    pid = server.get("/").text
    assert [line[:6] for line in lines[:7]] == [
        ("127.0.0.1", "GET", "/", "a=b", "200", str(len(f"{pid} a=b"))),
        ("127.0.0.1", "GET", "/slow", "", "200", "12345"),
        ("127.0.0.1", "HEAD", "/slow", "", "200", "0"),
        ("127.0.0.1", "GET", "/stream", "", "200", "10004"),
        ("127.0.0.1", "GET", "/empty", "", "204", "0"),
        ("127.0.0.1", "GET", "/raise", "", "500", lines[5][5]),
        ("127.0.0.1", "GET", "/file", "", "200", size),
    ]
    microseconds = [int(line[6]) for line in lines]
    # uvloop's clock goes by whole milliseconds, so it may wake a task up to one of them early.
    assert 199_000 <= microseconds[1] < 400_000
    assert 199_000 <= microseconds[2] < 400_000
    assert 100_000 <= microseconds[3] < 300_000
    assert all(each < 100_000 for each in [microseconds[0], *microseconds[4:7]])


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["FIN", "RST"])
def test_a_client_that_has_gone(serve: Serve, leave: Callable[[socket.socket], None]) -> None:
    """One line, whoever ends it."""
    args = ("--asgi-disconnect-grace-period", "0.1", "--access-logfile", "-", "--access-logformat", FORMAT)
    server = serve("app:app", *args, files=FILES).ready()
    client = Client(server).ask("/forever")
    server.expect("waiting")
    leave(client.sock)
    assert [line[1:6] for line in logged(server, 1)] == [("GET", "/forever", "", "499", "0")]
    server.get("/")
    assert len(logged(server, 2)) == 2


def test_one_line_each_also_under_load(serve: Serve) -> None:
    server = serve("app:app", "--access-logfile", "-", "--access-logformat", FORMAT, files=FILES).ready()
    with Client(server) as client:
        client.sock.sendall(b"".join(b"GET /?%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(500)))
        for _ in range(500):
            assert client.answer()[0] == 200
    assert [line[3] for line in logged(server, 500)] == [str(n) for n in range(500)]


@pytest.mark.parametrize("args", [["-k", "uvicorn.workers.UvicornWorker"], ["-k", "uvicorn_worker.UvicornWorker"]])
def test_under_uvicorns_name(serve: Serve, args: list[str]) -> None:
    server = serve("app:app", *args, "--access-logfile", "-", files=FILES).ready()
    with Client(server) as client:
        port = client.sock.getsockname()[1]
        assert client.ask("/?a=b%20c").answer()[0] == 200
        assert client.ask("/empt%79", "X-Forwarded-For: 192.0.2.7").sock.recv(1000).startswith(b"HTTP/1.1 204")
        server.expect(rf'127\.0\.0\.1:{port} - "GET /\?a=b%20c HTTP/1\.1" 200', stream="stdout")
        server.expect(r'192\.0\.2\.7:0 - "GET /empty HTTP/1\.1" 204', stream="stdout")
    assert len(server.stdout.splitlines()) == 2


RECORDS = """
import logging

class Collect(logging.Handler):
    def emit(self, record):
        say("record:", record.name, record.levelname, repr(record.args))

logging.getLogger("uvicorn.access").addHandler(Collect())
"""


def test_the_record_of_uvicorn(serve: Serve) -> None:
    """Five arguments, which formatters and filters of users unpack."""
    server = serve(
        "app:app", "-k", "uvicorn.workers.UvicornWorker", "--access-logfile", "-", files=asgi(RECORDS)
    ).ready()
    with Client(server) as client:
        port = client.sock.getsockname()[1]
        assert client.ask("/?a=b").answer()[0] == 200
        said = server.expect(r"record: uvicorn\.access INFO (.*)")[1]
        assert re.sub(r"^\w*(?=\()", "", said).replace("client_addr=", "").startswith(f"('127.0.0.1:{port}', ")
        assert all(each in said for each in ("'GET'", "'/?a=b'", "'1.1'", "200"))


@pytest.mark.parametrize(("trusted", "client"), [("127.0.0.1", "192.0.2.7"), ("10.0.0.0/8", "127.0.0.1")])
def test_the_client_behind_a_proxy(serve: Serve, trusted: str, client: str) -> None:
    more = "\nasync def at_who(scope, receive, send):\n    await answer(send, scope['client'][0], scope['scheme'])\n"
    args = ("--forwarded-allow-ips", trusted, "--access-logfile", "-", "--access-logformat", FORMAT)
    server = serve("app:app", *args, files=asgi(more)).ready()
    answer = server.get("/who", X_Forwarded_For="203.0.113.9, 192.0.2.7", X_Forwarded_Proto="https")
    assert answer.text == f"{client} {'https' if client != '127.0.0.1' else 'http'}"
    assert logged(server, 1)[0][0] == client
