"""Both logs as JSON, and ids of requests, by the real server and every kind of worker."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from server import Server, wait_for

Serve = Callable[..., Server]

WSGI = """
import logging
shop = logging.getLogger("shop")
shop.handlers = logging.getLogger("gunicorn.error").handlers
shop.setLevel("INFO")

def app(environ, start_response):
    if environ["PATH_INFO"] == "/raise":
        raise RuntimeError("two\\nlines \\ud800")
    if environ["PATH_INFO"] == "/log":
        shop.info("sold %r", environ["QUERY_STRING"])
        print("to wsgi.errors", file=environ["wsgi.errors"])
    body = environ.get("HTTP_X_REQUEST_ID", "none").encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

ASGI = """
import logging
shop = logging.getLogger("shop")
shop.handlers = logging.getLogger("gunicorn.error").handlers
shop.setLevel("INFO")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    if scope["path"] == "/raise":
        raise RuntimeError("two\\nlines \\ud800")
    if scope["path"] == "/log":
        shop.info("sold %r", scope["query_string"].decode())
    found = [value for name, value in scope["headers"] if name == b"x-request-id"]
    body = b",".join(found) or b"none"
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""

KINDS = [
    pytest.param(["-k", "sync"], WSGI, id="sync"),
    pytest.param(["-k", "gthread", "--threads", "4"], WSGI, id="gthread"),
    pytest.param(["-k", "asgi"], ASGI, id="asgi"),
    pytest.param(["-k", "uvicorn.workers.UvicornWorker"], ASGI, id="uvicorn"),
]
JSON = ["--log-format", "json", "--access-logfile", "-"]
OURS = r"[0-9a-f]{32}"

HOSTILE = [
    b'GET /"%22%0a%00%ff%ed%a0%80?a="\\%0d%ff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    b'GET /?\\ud8 HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\xed\xa0\x80"\\\r\nReferer: \x80\r\nConnection: close\r\n\r\n',
    b"GET /raise HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    b'GET / HTTP/1.1\r\nHost: a\r\nX: \x01"\r\n\r\n',
    b'\x16\x03\x01\x02\x00\x01\x00\n"{}\r\n\r\n',
    b'G"T /?token=hidden-1 HTTP/1.1\r\nHost: a\r\n\r\n',
    b"GET /?token=hidden-2 HTTP/7.1\r\nHost: a\r\n\r\n",
    b"GET /raise?password=hidden-3 HTTP/1.1\r\nHost: a\r\nReferer: http://b/?sig=hidden-4\r\nConnection: close\r\n\r\n",
    b"GET /log?secret=hidden-5 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer hidden-6\r\nConnection: close\r\n\r\n",
]


def read(text: str) -> list[dict[str, Any]]:
    """The objects of all lines, which are whole and of nothing but JSON."""
    assert text.isascii()
    found = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(said, dict) for said in found)
    json.dumps(found, ensure_ascii=False).encode()
    return found


def accessed(server: Server, lines: int) -> list[dict[str, Any]]:
    wait_for(lambda: server.stdout.count("\n") >= lines, what=f"{lines} lines in the access log")
    return read(server.stdout)


@pytest.mark.parametrize(("args", "app"), KINDS)
def test_every_line_is_an_object(serve: Serve, args: list[str], app: str) -> None:
    server = serve("app:app", *args, *JSON, files={"app.py": app}).ready()
    for raw in HOSTILE:
        server.ask(raw)
    assert server.get("/log?last").status == 200
    with server.connect() as sock:  # one that leaves in the middle
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.sendall(b"GET / HTTP/1.1\r\nHost")
    lines = accessed(server, 6)
    assert server.stop() == 0
    assert [line["path"] for line in lines][:3] == ['/""\n\0\ufffd\ufffd\ufffd\ufffd', "/", "/raise"]
    assert {line["generation"] for line in lines} == {1}
    assert {line["worker"] for line in lines} == {1}
    told = read(server.stderr)
    assert "hidden-1" not in server.stdout + server.stderr
    assert set(re.findall("hidden-.", server.stdout + server.stderr)) == {"hidden-5"}  # the application's own line
    failed = [said for said in told if "exception" in said]
    assert len(failed) == 2
    assert all(re.fullmatch(OURS, said["request_id"]) and "two\nlines" in said["exception"] for said in failed)
    assert [said["request_id"] for said in failed] == [line["request_id"] for line in lines if line["status"] == 500]
    [_, sold] = [said for said in told if said["logger"] == "shop"]
    assert (sold["message"], sold["request_id"]) == ("sold 'last'", lines[-1]["request_id"])
    assert all("worker" in said for said in told if said["pid"] != server.pid)
    assert not any("worker" in said for said in told if said["pid"] == server.pid)


@pytest.mark.parametrize(("args", "app"), KINDS)
def test_who_may_name_a_request(serve: Serve, args: list[str], app: str) -> None:
    server = serve("app:app", *args, *JSON, "--workers", "2", files={"app.py": app}).ready(workers=2)
    assert server.get("/", X_Request_ID="abc-1").text == "abc-1"
    made = [server.get("/").text for _ in range(5)]
    assert all(re.fullmatch(OURS, each) for each in made)
    assert len(set(made)) == 5
    assert [line["request_id"] for line in accessed(server, 6)] != []
    assert sorted(line["request_id"] for line in accessed(server, 6)) == sorted(["abc-1", *made])


@pytest.mark.parametrize(("args", "app"), KINDS)
def test_on_one_connection_each_request_has_its_own(serve: Serve, args: list[str], app: str) -> None:
    """The same bytes again, and bytes that differ in the id only, are where the server saves work."""
    server = serve("app:app", *args, *JSON, files={"app.py": app}).ready()
    heads = ["", "", "X-Request-ID: a\r\n", "X-Request-ID: b\r\n", "X-Request-ID: b\r\n", "X-Request-ID: c\r\n", ""]
    raw = "".join(f"GET / HTTP/1.1\r\nHost: a\r\n{head}Accept: x\r\n\r\n" for head in heads)
    answer = server.ask(raw.encode() + b"GET / HTTP/1.0\r\n\r\n").decode()
    found = re.findall(r"\r\n\r\n(.*?)(?=HTTP/1.1|\Z)", answer, re.DOTALL)
    assert found[2:6] == ["a", "b", "b", "c"]
    made = [*found[:2], *found[6:]]
    assert len(set(made)) == 4
    assert all(re.fullmatch(OURS, each) for each in made)
    assert [line["request_id"] for line in accessed(server, 8)] == found


@pytest.mark.parametrize(("args", "app"), KINDS[:3])
def test_a_stranger_is_given_an_id(serve: Serve, args: list[str], app: str) -> None:
    format = "%({x-request-id}i)s"
    more = ["--request-id", "--forwarded-allow-ips", "192.0.2.1", "--access-logfile", "-", "--access-logformat", format]
    server = serve("app:app", *args, *more, files={"app.py": app}).ready()
    made = server.get("/", X_Request_ID="abc-1").text
    assert re.fullmatch(OURS, made)
    server.expect(f"^{made}$", stream="stdout")


@pytest.mark.parametrize(("args", "app"), KINDS[:3])
def test_without_ids_the_field_is_the_clients(serve: Serve, args: list[str], app: str) -> None:
    server = serve("app:app", *args, files={"app.py": app}).ready()
    assert server.get("/").text == "none"
    assert server.get("/", X_Request_ID="a b").text == "a b"


def test_a_reload_is_another_generation(serve: Serve) -> None:
    server = serve("app:app", *JSON, files={"app.py": WSGI}).ready()
    server.signal(1)
    server.expect(r'"message":"Generation 2 serves')
    wait_for(lambda: server.get("/").status == 200 and accessed(server, 1)[-1]["generation"] == 2)
    assert server.stop() == 0
    assert [said["generation"] for said in read(server.stderr)][-1] == 2
