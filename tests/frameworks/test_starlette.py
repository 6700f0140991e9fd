"""Starlette: its endpoints, streams, files and WebSockets, and what it needs to know of server and client."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from server import Server

pytest.importorskip("starlette")

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("starlette")
    (directory / "large").write_bytes(os.urandom(5 << 20))
    with Server("starlette_app:app", "--pythonpath", str(HERE), directory=directory) as running:
        yield running.ready(20)


@pytest.fixture
def large(server: Server) -> bytes:
    return (server.directory / "large").read_bytes()


@pytest.fixture
def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=10) as client:
        yield client


def chat(server: Server, path: str, *subprotocols: str) -> ClientConnection:
    wanted = [Subprotocol(each) for each in subprotocols]
    return connect(f"ws://127.0.0.1:{server.port}{path}", proxy=None, subprotocols=wanted or None)


def curl(*arguments: str) -> bytes:
    command = ("curl", "--silent", "--show-error", "--max-time", "20", *arguments)
    return subprocess.run(command, check=True, capture_output=True, timeout=30).stdout


@pytest.mark.smoke
def test_pages(http: httpx.Client) -> None:
    assert http.get("/").text == "Hello, world!"
    head = http.head("/")
    assert (head.content, head.headers["Content-Length"]) == (b"", "13")
    assert http.get("/methods").text == "got"
    assert http.put("/methods", json={"a": ["\u20ac"]}).json() == {"a": ["\u20ac"]}
    assert http.delete("/methods").status_code == 405
    assert http.get("/away", follow_redirects=True).text == "Hello, world!"
    assert http.get("/", headers={"Host": "other.example"}).text == "the other"


def test_state_is_shared_and_what_a_request_adds_is_not(http: httpx.Client) -> None:
    first = http.get("/count").json()
    assert http.get("/count").json() == first + 1
    assert http.get("/mine").json() is False


def test_a_background_task_runs_behind_its_response(http: httpx.Client, server: Server) -> None:
    since = len(server.stdout)
    assert http.post("/later").text == "accepted"
    assert http.get("/").status_code == 200
    assert "worked" not in server.stdout[since:]
    assert http.post("/release").text == "released"
    server.expect("^worked$", since=since, stream="stdout")


def test_a_plain_function_does_not_block_the_others(http: httpx.Client) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(http.get, "/slow")
        assert http.get("/go").text == "go"
        assert waiting.result(10).text == "slow"


def test_a_stream_ends_when_its_client_leaves(http: httpx.Client, server: Server) -> None:
    since = len(server.stdout)
    with http.stream("GET", "/stream") as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(100)] == [str(number) for number in range(100)]
    server.expect("^stream ends$", since=since, stream="stdout")


def test_events_end_at_once_when_the_listener_leaves(server: Server) -> None:
    since = len(server.stdout)
    with server.connect() as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        while b"data: first" not in sock.recv(65536):
            pass
    server.expect("^listener left$", since=since, stream="stdout", seconds=1)


@pytest.mark.parametrize("how", ["length", "chunks"])
def test_an_upload(http: httpx.Client, large: bytes, how: str) -> None:
    content = large if how == "length" else (large[i : i + 70_001] for i in range(0, len(large), 70_001))
    answer = http.post("/upload", content=content)
    assert answer.text == f"{len(large)} {hashlib.sha256(large).hexdigest()}"


def test_curl_uploads_and_waits_to_be_asked(server: Server, url: str, large: bytes) -> None:
    path = str(server.directory / "large")
    answer = curl("--include", "--header", "Expect: 100-continue", "--data-binary", f"@{path}", f"{url}/upload")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert answer.endswith(hashlib.sha256(large).hexdigest().encode())


@pytest.mark.parametrize("how", ["end", "reset"])
def test_an_upload_that_breaks_off(server: Server, how: str) -> None:
    since = len(server.stdout)
    with server.connect() as sock:
        sock.sendall(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"x" * 100_000)
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    server.expect("^upload broke off$", since=since, stream="stdout")


@pytest.mark.smoke
def test_a_file(http: httpx.Client, server: Server, url: str, large: bytes) -> None:
    path = str(server.directory / "large")
    answer = http.get("/file", params={"path": path})
    assert answer.content == large
    assert answer.headers["Content-Length"] == str(len(large))
    assert http.head("/file", params={"path": path}).headers["Content-Length"] == str(len(large))
    assert curl("--range", "1000000-2999999", f"{url}/file?path={path}") == large[1_000_000:3_000_000]
    same = http.get("/static/large", headers={"If-None-Match": http.head("/static/large").headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert http.get("/static/large").content == large
    assert http.get("/static/%2e%2e/large").status_code == 404


def test_a_middleware_that_compresses(http: httpx.Client, url: str) -> None:
    zipped = curl("--header", "Accept-Encoding: gzip", f"{url}/zipped/")
    assert gzip.decompress(zipped) == b"all alike " * 10_000
    assert http.get("/zipped/").headers["Content-Encoding"] == "gzip"


def test_what_fails(http: httpx.Client, server: Server) -> None:
    since, before = len(server.stderr), server.workers()
    answer = http.get("/broken")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    server.expect("^RuntimeError: broken on purpose$", since=since)
    with pytest.raises(httpx.RemoteProtocolError):  # so that nobody takes it for whole
        http.get("/broken_stream")
    server.expect("^RuntimeError: broken in the middle$", since=since)
    assert http.get("/file", params={"path": "/nowhere"}).status_code == 500
    assert http.get("/").status_code == 200
    assert server.workers() == before


def test_urls(http: httpx.Client, url: str) -> None:
    assert http.get("/url?a=b").json() == {"url": f"{url}/url?a=b", "base": f"{url}/", "here": f"{url}/admin/url"}
    proxied = {"X-Forwarded-Proto": "https", "Host": "example.com"}
    assert http.get("/admin/url", headers=proxied).json() == {
        "url": "https://example.com/admin/url",
        "base": "https://example.com/",
        "here": "https://example.com/admin/url",
    }


def test_an_echo(server: Server) -> None:
    since = len(server.stdout)
    with chat(server, "/echo", "chat", "other") as connection:
        assert connection.subprotocol == "chat"
        assert connection.response
        assert connection.response.headers["X-Mine"] == "1"
        for data in (b"", b"x", os.urandom(200_000)):
            connection.send(data)
            assert connection.recv(5) == data
        pieces = [os.urandom(10_000) for _ in range(20)]
        connection.send(iter(pieces))  # fragments of one message
        assert connection.recv(5) == b"".join(pieces)
        assert connection.ping().wait(5)
        connection.close(4000, "done")
    server.expect("^closed with 4000$", since=since, stream="stdout")


def test_a_websocket_that_is_refused(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        chat(server, "/denied").close()
    response = refused.value.response
    assert (response.status_code, response.body) == (401, b'{"why":"no token"}')


def test_a_websocket_that_the_server_closes(server: Server) -> None:
    with chat(server, "/closes") as connection:
        assert connection.recv(5) == f'{{"url":"ws://127.0.0.1:{server.port}/closes","path":"/closes"}}'
        with pytest.raises(ConnectionClosedError) as closed:
            connection.recv(5)
    assert closed.value.rcvd
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "enough")


def test_a_websocket_whose_client_vanishes(server: Server) -> None:
    since = len(server.stdout)
    with chat(server, "/echo") as connection:
        connection.socket.shutdown(socket.SHUT_RDWR)
        server.expect("^closed with 1006$", since=since, stream="stdout")
