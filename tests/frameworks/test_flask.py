"""Flask, served as it is; and as people run it in the background, with their config file."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from server import Server, wait_for

pytest.importorskip("flask")

HERE = Path(__file__).parent


@pytest.fixture(scope="module", params=["1", "4"], ids=["sync", "gthread"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    arguments = ("flask_app:app", "--pythonpath", str(HERE), "--threads", request.param)
    with Server(*arguments, directory=tmp_path_factory.mktemp("flask")) as running:
        yield running.ready(20)


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as client:
        yield client


@pytest.mark.smoke
def test_a_page(http: httpx.Client) -> None:
    answer = http.get("/")
    assert (answer.status_code, answer.text) == (200, "<p>Hello, World!</p>")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Length"] == str(len(answer.content))


def test_urls(http: httpx.Client, server: Server) -> None:
    here = f"http://127.0.0.1:{server.port}"
    assert http.get("/url?a=%C3%A9").json() == {
        "url": f"{here}/url?a=\u00e9",
        "root": f"{here}/",
        "remote": "127.0.0.1",
    }
    behind = {"Host": "example.com", "X-Forwarded-Proto": "https"}
    assert http.get("/url", headers=behind).json()["root"] == "https://example.com/"


def test_forms_json_and_uploads(http: httpx.Client) -> None:
    assert http.post("/form", data={"name": "\u00c9mile", "x": "1 & 2"}).json() == {"name": "\u00c9mile", "x": "1 & 2"}
    assert http.post("/json", json={"a": [1, None, "\u20ac"]}).json() == {"a": [1, None, "\u20ac"]}
    data = os.urandom(1 << 20)
    answer = http.post("/upload", files={"file": ("photo.png", data)}, data={"note": "mine"}).json()
    assert answer == {"name": "photo.png", "digest": hashlib.sha256(data).hexdigest(), "note": "mine"}


def test_a_chunked_upload(http: httpx.Client) -> None:
    """Flask reads it because the environ says that the input ends by itself."""
    pieces = [os.urandom(50_000) for _ in range(5)]
    assert http.post("/raw", content=iter(pieces)).text == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_streams_and_files(http: httpx.Client) -> None:
    with http.stream("GET", "/stream") as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert answer.read() == b"/stream 0\n/stream 1\n/stream 2\n"
    source = (HERE / "flask_app.py").read_bytes()
    answer = http.get("/file")
    assert answer.content == source
    assert http.get("/file", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    part = http.get("/file", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, source[10:20])
    assert http.get("/memory").text == "from memory"


def test_a_session(http: httpx.Client) -> None:
    assert [http.get("/count").text for _ in range(3)] == ["1", "2", "3"]
    http.cookies.clear()
    assert http.get("/count").text == "1"


def test_statuses(http: httpx.Client, server: Server) -> None:
    assert http.get("/redirect", follow_redirects=True).text == "<p>Hello, World!</p>"
    assert http.get("/missing").status_code == 404
    assert http.post("/").status_code == 405
    empty = http.get("/empty")
    assert (empty.status_code, empty.content) == (204, b"")
    head = http.head("/")
    assert (head.content, head.headers["Content-Length"]) == (b"", "20")
    since = len(server.stderr)
    assert http.get("/broken").status_code == 500
    server.expect("RuntimeError: broken on purpose", since=since)
    assert http.get("/").status_code == 200


# In the background, with a config file: as people have it, but for the port, which is one that is free.

CONFIG = """
bind = "0.0.0.0:{port}"
workers = 1
accesslog = "gunicorn/access.log"
errorlog = "gunicorn/error.log"
capture_output = True
loglevel = "all"
"""

WSGI = """
import json
from flask import Flask, request

app = Flask(__name__)

@app.post("/predict")
def predict():
    print("predicting", request.form["model_type"], request.form["img_file"])
    answer = {"error": "no such model", "model": request.form["model_type"]}
    return app.response_class(response=json.dumps(answer), status=500, mimetype="application/json")
"""

FILES = {"gunicorn/gunicorn_cfg.py": CONFIG, "wsgi.py": WSGI}


@pytest.fixture
def service(serve: Callable[..., Server]) -> Server:
    running = serve("wsgi:app", "-c", "gunicorn/gunicorn_cfg.py", bind=None, files=FILES)
    return running.ready(20)


def log(server: Server, name: str) -> str:
    return (server.directory / "gunicorn" / name).read_text()


def predict(server: Server) -> httpx.Response:
    return httpx.post(
        f"http://127.0.0.1:{server.port}/predict", data={"model_type": "strawberry", "img_file": "a.png"}, timeout=10
    )


def test_a_service_with_a_config_file(service: Server) -> None:
    answer = predict(service)
    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.text) == {"error": "no such model", "model": "strawberry"}
    [worker] = service.workers()
    assert service.stop(signal.SIGTERM) == 0
    lines = log(service, "error.log")
    assert f"[INFO] Listening at: http://0.0.0.0:{service.port} ({service.pid})" in lines
    assert f"[{worker}] [INFO] Booting worker with pid: {worker}" in lines
    assert f"[{worker}] [INFO] Worker exiting (pid: {worker})" in lines
    assert "predicting strawberry a.png" in lines, "capture_output"
    assert "all" in next(line for line in lines.splitlines() if "loglevel" in line or "log level" in line.lower())
    [line] = log(service, "access.log").splitlines()
    assert '"POST /predict HTTP/1.1" 500' in line


def free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def test_a_service_whose_master_is_killed(service: Server) -> None:
    assert predict(service).status_code == 500
    assert not free(service.port)
    service.signal(signal.SIGKILL)
    wait_for(lambda: not service.tree(), what="the worker to leave after its master")
    assert free(service.port)
    assert "Parent changed, shutting down" in log(service, "error.log")
