"""Django over ASGI: `asgi.py` as `startproject` makes it, with views that wait and views that block."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server import Server

pytest.importorskip("django")

VIEWS = """
import asyncio
import hashlib
import threading
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

def plain(request):
    return JsonResponse({"main": threading.current_thread() is threading.main_thread(), "async": False})

async def waiting(request):
    await asyncio.sleep(0)
    return JsonResponse({"main": threading.current_thread() is threading.main_thread(), "async": True})

@csrf_exempt
async def upload(request):
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "digest": hashlib.sha256(file.read()).hexdigest()})

@csrf_exempt
def body(request):
    return HttpResponse(hashlib.sha256(request.body).hexdigest())

async def stream(request):
    async def rows():
        for number in range(1000):
            yield f"row {number}\\n"
    return StreamingHttpResponse(rows(), content_type="text/plain")

async def endless(request):
    async def rows():
        try:
            while True:
                yield "tick\\n"
                await asyncio.sleep(0.001)
        finally:
            print("nobody listens any more", flush=True)
    return StreamingHttpResponse(rows(), content_type="text/event-stream")

def file(request):
    return FileResponse(open(__file__, "rb"))

async def url(request):
    return JsonResponse({
        "url": request.build_absolute_uri(), "secure": request.is_secure(), "client": request.META["REMOTE_ADDR"],
        "prefix": request.META["SCRIPT_NAME"],
    })

async def broken(request):
    raise RuntimeError("broken on purpose")
"""

URLS = """
from . import views
urlpatterns += [path(f"{name}/", getattr(views, name)) for name in (
    "plain", "waiting", "upload", "body", "stream", "endless", "file", "url", "broken"
)]
"""

SETTINGS = """
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
"""


def run(command: list[str | Path], directory: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("django-asgi")
    run([Path(sys.executable).with_name("django-admin"), "startproject", "myproject", "."], directory)
    (directory / "myproject" / "views.py").write_text(VIEWS)
    for name, more in (("urls", URLS), ("settings", SETTINGS)):
        with (directory / "myproject" / f"{name}.py").open("a") as module:
            module.write(more)
    run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], directory)
    with Server("myproject.asgi", "--workers", "2", directory=directory) as running:
        yield running.ready(20)


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as client:
        yield client


@pytest.mark.smoke
def test_the_page_of_a_new_project(http: httpx.Client, server: Server) -> None:
    login = http.get("/admin/", follow_redirects=True)
    assert login.url.path == "/admin/login/"
    assert "Django administration" in login.text
    server.expect("'lifespan' protocol appears unsupported")


def test_views_that_block_and_views_that_wait(http: httpx.Client) -> None:
    assert http.get("/plain/").json() == {"main": False, "async": False}
    assert http.get("/waiting/").json() == {"main": True, "async": True}


@pytest.mark.parametrize("size", [10_000, 4 << 20], ids=["in memory", "in a file"])
def test_uploads(http: httpx.Client, size: int) -> None:
    data = os.urandom(size)
    answer = http.post("/upload/", files={"file": ("a.bin", data)}).json()
    assert answer == {"name": "a.bin", "digest": hashlib.sha256(data).hexdigest()}
    pieces = iter([data[: size // 4], data[size // 4 :]])
    assert http.post("/body/", content=data[:1_000_000]).text == hashlib.sha256(data[:1_000_000]).hexdigest()
    if size <= 1_000_000:  # DATA_UPLOAD_MAX_MEMORY_SIZE
        assert http.post("/body/", content=pieces).text == hashlib.sha256(data).hexdigest()


def test_streams_and_files(http: httpx.Client, server: Server) -> None:
    assert http.get("/stream/").text == "".join(f"row {number}\n" for number in range(1000))
    source = (server.directory / "myproject" / "views.py").read_bytes()
    answer = http.get("/file/")
    assert (answer.content, answer.headers["Content-Length"]) == (source, str(len(source)))
    assert http.head("/file/").headers["Content-Length"] == str(len(source))


def test_a_listener_who_leaves(http: httpx.Client, server: Server) -> None:
    since = len(server.stdout)
    with http.stream("GET", "/endless/") as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(10)] == ["tick"] * 10
    server.expect("^nobody listens any more$", since=since, stream="stdout")


def test_where_we_are(http: httpx.Client, server: Server) -> None:
    here = f"http://127.0.0.1:{server.port}"
    assert http.get("/url/?a=b").json() == {
        "url": f"{here}/url/?a=b",
        "secure": False,
        "client": "127.0.0.1",
        "prefix": "",
    }
    proxied = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Prefix": "/app"}
    assert http.get("/url/", headers=proxied).json() == {
        "url": f"https://127.0.0.1:{server.port}/app/url/",
        "secure": True,
        "client": "203.0.113.7",
        "prefix": "/app",
    }


def test_errors(http: httpx.Client, server: Server) -> None:
    since = len(server.stderr)
    assert http.get("/broken/").status_code == 500
    server.expect("RuntimeError: broken on purpose", since=since)
    assert http.get("/missing/").status_code == 404
    assert http.get("/plain").status_code == 301
    assert http.get("/plain/").status_code == 200
