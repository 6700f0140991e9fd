"""FastAPI, as its tutorial has it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from server import Server, wait_for

pytest.importorskip("fastapi")

HERE = Path(__file__).parent
SOURCE = (HERE / "fastapi_app.py").read_bytes()
APP = ("fastapi_app:app", "--pythonpath", str(HERE))


@pytest.fixture(scope="module", params=["auto", "asyncio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # Behind Starlette's BaseHTTPMiddleware nobody hears that a client has gone: the server ends that, after this time.
    options = ("--loop", request.param, "--asgi-disconnect-grace-period", "0.3")
    with Server(*APP, *options, directory=tmp_path_factory.mktemp("fastapi")) as running:
        yield running.ready(20)


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with client(server) as each:
        yield each


def client(server: Server) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=10)


def chat(server: Server, path: str) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}{path}", proxy=None, open_timeout=10, close_timeout=10)


@pytest.mark.smoke
def test_first_steps(http: httpx.Client) -> None:
    answer = http.get("/")
    assert (answer.json(), answer.headers["Content-Type"]) == ({"Hello": "World"}, "application/json")
    assert answer.headers["X-Process-Time"] == "0.1", "the middleware"
    created = http.post("/items/", json={"name": "Foo", "price": 50.5, "tags": ["\u20ac"]})
    assert (created.status_code, created.json()) == (201, {"name": "Foo", "price": 50.5, "tags": ["\u20ac"]})
    assert http.get("/items/foo").status_code == 422
    assert http.get("/openapi.json").json()["info"]["title"] == "FastAPI"
    assert "swagger-ui" in http.get("/docs").text
    assert http.get("/missing").status_code == 404
    assert http.delete("/").status_code == 405


def test_plain_functions_run_in_threads(http: httpx.Client) -> None:
    answer = http.get("/items/5?q=caf%C3%A9").json()
    assert (answer["item_id"], answer["q"]) == (5, "caf\u00e9")
    assert answer["thread"] != "MainThread"


def test_what_lifespan_leaves_is_in_every_request(http: httpx.Client, server: Server) -> None:
    assert http.get("/state").json() == {"model": "loaded", "modules": []}
    server.expect("^lifespan begins$", stream="stdout")


def test_context_does_not_leak_from_one_request_to_the_next(http: httpx.Client) -> None:
    assert {http.get(f"/caller/{name}").json() for name in ("ann", "bob", "eve")} == {"nobody"}


def test_background_tasks_do_not_keep_the_next_request_waiting(http: httpx.Client) -> None:
    """The task ends when a later request on the same connection tells it to."""
    answer = http.post("/send-notification/ann@example.com")
    assert answer.json() == {"message": "Notification sent in the background"}
    assert http.post("/release").json() == 0
    wait_for(lambda: "notification for ann@example.com: some notification" in http.get("/notes").json())


@pytest.mark.smoke
@pytest.mark.parametrize("size", [10, 3 << 20], ids=["small", "large"])
def test_an_upload_as_a_form(http: httpx.Client, size: int) -> None:
    data = os.urandom(size)
    answer = http.post("/uploadfile/", files={"file": ("photo.png", data)}, data={"token": "mine"})
    assert answer.json() == {
        "filename": "photo.png",
        "size": size,
        "digest": hashlib.sha256(data).hexdigest(),
        "token": "mine",
    }
    assert http.post("/files/", files={"file": data}).json() == {"file_size": size}


def test_a_download(http: httpx.Client) -> None:
    answer = http.get("/download")
    assert answer.content == SOURCE
    assert answer.headers["Content-Length"] == str(len(SOURCE))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="source.py"'
    assert http.head("/download").status_code == 405  # it is FastAPI's way
    part = http.get("/download", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, SOURCE[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(SOURCE)}"
    several = http.get("/download", headers={"Range": "bytes=0-4, 10-14"})
    assert several.status_code == 206
    assert several.headers["Content-Type"].startswith("multipart/byteranges")
    assert http.get("/download", headers={"Range": "bytes=999999999-"}).status_code == 416


def test_streams(http: httpx.Client) -> None:
    answer = http.get("/video")
    assert (answer.content, answer.headers["Transfer-Encoding"]) == (SOURCE, "chunked")
    pieces = [os.urandom(70_000) for _ in range(20)]
    data = b"".join(pieces)
    for content in (data, iter(pieces)):
        assert http.post("/stream-in", content=content).json() == {
            "size": len(data),
            "digest": hashlib.sha256(data).hexdigest(),
        }


def test_server_sent_events(server: Server) -> None:
    since = len(server.stdout)
    with client(server) as http, http.stream("GET", "/events") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(6)] == ["data: 0", "", "data: 1", "", "data: 2", ""]
        server.expect("^waiting$", since=since, stream="stdout")
    server.expect("^nobody listens any more$", since=since, stream="stdout")


def test_curl_listens_to_events(server: Server) -> None:
    command = ["curl", "-sN", f"http://127.0.0.1:{server.port}/events"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        assert curl.stdout
        assert curl.stdout.read(18) == b"data: 0\n\ndata: 1\n\n"
        curl.kill()


def test_a_dependency_with_yield(http: httpx.Client) -> None:
    assert http.get("/query?name=first").json() == "FIRST"
    assert http.get("/query?name=second&fail=yes").status_code == 500
    teapot = http.get("/query?name=third&fail=http")
    assert (teapot.status_code, teapot.json(), teapot.headers["X-Error"]) == (418, {"detail": "a teapot"}, "teapot")
    notes = http.get("/notes").json()
    for name in ("first", "second", "third"):
        assert notes.index(f"open {name}") < notes.index(f"close {name}")


def test_an_application_that_fails(http: httpx.Client, server: Server) -> None:
    since, before = len(server.stderr), server.workers()
    answer = http.get("/query?fail=yes")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    server.expect(r"\[ERROR\] Exception in ASGI application", since=since)
    server.expect("^RuntimeError: broken with DB$", since=since)
    assert http.get("/").status_code == 200
    assert server.workers() == before


@pytest.mark.smoke
def test_a_chat(server: Server) -> None:
    with chat(server, "/ws/1") as ann:
        with chat(server, "/ws/2") as bob:
            ann.send("hello")
            assert ann.recv(5) == "You wrote: hello"
            assert ann.recv(5) == bob.recv(5) == "Client #1 says: hello"
            bob.send("\u20ac" * 100_000)
            assert bob.recv(5) == "You wrote: " + "\u20ac" * 100_000
            assert ann.recv(5) == bob.recv(5) == "Client #2 says: " + "\u20ac" * 100_000
        assert ann.recv(5) == "Client #2 left the chat"


def test_a_chat_that_is_refused_or_fails(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        chat(server, "/nowhere").close()
    assert refused.value.response.status_code == 403
    with chat(server, "/broken") as connection, pytest.raises(ConnectionClosedError) as broken:
        connection.recv(5)
    assert broken.value.rcvd
    assert broken.value.rcvd.code == 1011


def test_who_asks_and_where(http: httpx.Client, server: Server) -> None:
    here = f"http://127.0.0.1:{server.port}"
    answer = http.get("/where/a?c=d").json()
    assert (answer["url"], answer["url_for"]) == (f"{here}/where/a?c=d", f"{here}/where/x")
    assert answer["client"][0] == "127.0.0.1"
    assert http.get("/sub/where/y").json() == {"url_for": f"{here}/sub/where/x", "root_path": "/sub"}
    assert http.get("/sub/openapi.json").json()["servers"] == [{"url": "/sub"}]


PROXIED = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "example.com"}


def test_behind_a_proxy_that_is_trusted(http: httpx.Client) -> None:
    answer = http.get("/where/a", headers=PROXIED).json()
    assert answer["url"] == "https://example.com/where/a"
    assert answer["url_for"] == "https://example.com/where/x"
    assert answer["client"][0] == "203.0.113.7"
    # What stands left of the last address is what a client said to the proxy.
    forged = http.get("/where/a", headers={**PROXIED, "X-Forwarded-For": "1.2.3.4, 203.0.113.7"}).json()
    assert forged["client"][0] == "203.0.113.7"


def test_behind_nobody_who_is_trusted(serve: Callable[..., Server]) -> None:
    server = serve(*APP, "--forwarded-allow-ips", "10.0.0.1").ready(20)
    with client(server) as http:
        answer = http.get("/where/a", headers=PROXIED).json()
    assert answer["url"] == f"http://127.0.0.1:{server.port}/where/a"
    assert answer["client"][0] == "127.0.0.1"


def test_a_root_path(serve: Callable[..., Server]) -> None:
    server = serve(*APP, "--root-path", "/api/v1").ready(20)
    here = f"http://127.0.0.1:{server.port}/api/v1"
    with client(server) as http:
        # Whether the proxy takes the prefix off or leaves it.
        for path in ("/where/a", "/api/v1/where/a"):
            answer = http.get(path).json()
            assert (answer["root_path"], answer["url_for"]) == ("/api/v1", f"{here}/where/x")
            assert answer["url"] == f"{here}/where/a"
        assert http.get("/sub/where/a").json()["root_path"] == "/api/v1/sub"
        assert http.get("/openapi.json").json()["servers"] == [{"url": "/api/v1"}]
        assert "/api/v1/openapi.json" in http.get("/docs").text
        said = {"X-Forwarded-Prefix": "/other"}
        assert http.get("/where/a", headers=said).json()["root_path"] == "/other"


def test_what_is_too_large(serve: Callable[..., Server]) -> None:
    server = serve(*APP, "--limit-request-body", "100000").ready(20)
    with client(server) as http:
        assert http.post("/stream-in", content=b"x" * 100_000).json()["size"] == 100_000
        assert http.post("/stream-in", content=b"x" * 100_001).status_code == 413
        assert http.post("/stream-in", content=iter([b"x" * 50_000] * 3)).status_code == 413
        assert http.post("/files/", files={"file": b"x" * 200_000}).status_code == 413
        assert http.get("/").status_code == 200


def test_lifespan_ends_with_the_server(serve: Callable[..., Server]) -> None:
    server = serve(*APP).ready(20)
    with client(server) as http:
        assert http.get("/").status_code == 200
    assert server.stop() == 0
    assert server.stdout == "lifespan begins\nlifespan ends\n"
