"""Django: a project as `startproject` makes it, and some views of the kind that people add."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server import Server

pytest.importorskip("django")

VIEWS = """
import hashlib
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect

def form(request):
    if request.method == "POST":
        return JsonResponse({"name": request.POST["name"]})
    return HttpResponse(f'<form method="post"><input name="csrfmiddlewaretoken" value="{get_token(request)}"></form>')

def upload(request):
    if request.method == "POST":
        file = request.FILES["file"]
        digest = hashlib.sha256()
        for chunk in file.chunks():
            digest.update(chunk)
        return JsonResponse({"name": file.name, "size": file.size, "digest": digest.hexdigest()})
    return HttpResponse(get_token(request))

def stream(request):
    return StreamingHttpResponse((f"row {n}\\n" for n in range(1000)), content_type="text/plain")

def file(request):
    return FileResponse(open(__file__, "rb"))

def count(request):
    request.session["count"] = request.session.get("count", 0) + 1
    return HttpResponse(str(request.session["count"]))

def url(request):
    return JsonResponse({"url": request.build_absolute_uri(), "secure": request.is_secure()})

def broken(request):
    raise RuntimeError("broken on purpose")
"""

URLS = """
from . import views
urlpatterns += [path(f"{name}/", getattr(views, name)) for name in (
    "form", "upload", "stream", "file", "count", "url", "broken"
)]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("django")
    admin = Path(sys.executable).with_name("django-admin")
    run([admin, "startproject", "myproject", "."], directory)
    (directory / "myproject" / "views.py").write_text(VIEWS)
    with (directory / "myproject" / "urls.py").open("a") as urls:
        urls.write(URLS)
    run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], directory)
    superuser = {"DJANGO_SUPERUSER_PASSWORD": "not a secret"}
    options = ("--noinput", "--username", "ann", "--email", "ann@example.com")
    run([sys.executable, "manage.py", "createsuperuser", *options], directory, superuser)
    return directory


def run(command: list[str | Path], directory: Path, more: dict[str, str] | None = None) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **(more or {})}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=["1", "4"], ids=["sync", "gthread"])
def server(request: pytest.FixtureRequest, project: Path) -> Iterator[Server]:
    with Server("myproject.wsgi", "--workers", "2", "--threads", request.param, directory=project) as running:
        yield running.ready(20)


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as client:
        yield client


def token_in(page: str) -> str:
    match = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert match
    return match[1]


def test_the_admins_login(http: httpx.Client) -> None:
    page = http.get("/admin/", follow_redirects=True)
    assert page.url.path == "/admin/login/"
    assert "Django administration" in page.text
    wrong = {"username": "ann", "password": "wrong", "csrfmiddlewaretoken": token_in(page.text)}
    assert "Please enter the correct username" in http.post("/admin/login/", data=wrong).text
    right = {**wrong, "password": "not a secret", "next": "/admin/"}
    inside = http.post("/admin/login/", data=right, follow_redirects=True)
    assert inside.status_code == 200
    assert "Site administration" in inside.text


def test_a_form_with_csrf(http: httpx.Client) -> None:
    assert http.post("/form/", data={"name": "x"}).status_code == 403
    token = token_in(http.get("/form/").text)
    assert http.post("/form/", data={"name": "\u00c9mile", "csrfmiddlewaretoken": token}).json() == {
        "name": "\u00c9mile"
    }


@pytest.mark.parametrize("size", [10_000, 4 << 20], ids=["in memory", "in a file"])
def test_an_upload(http: httpx.Client, size: int) -> None:
    headers = {"X-CSRFToken": http.get("/upload/").text}
    data = os.urandom(size)
    answer = http.post("/upload/", files={"file": ("a.bin", data)}, headers=headers).json()
    assert answer == {"name": "a.bin", "size": size, "digest": hashlib.sha256(data).hexdigest()}


def test_a_stream_and_a_file(http: httpx.Client, project: Path) -> None:
    answer = http.get("/stream/")
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.text == "".join(f"row {n}\n" for n in range(1000))
    answer = http.get("/file/")
    assert answer.content == (project / "myproject" / "views.py").read_bytes()
    assert answer.headers["Content-Length"] == str(len(answer.content))


def test_a_session_that_both_workers_share(http: httpx.Client) -> None:
    seen = []
    for _ in range(4):
        seen.append(http.get("/count/", headers={"Connection": "close"}).text)
    assert seen == ["1", "2", "3", "4"]


def test_urls_and_errors(http: httpx.Client, server: Server) -> None:
    assert http.get("/url/?x=1").json() == {"url": f"http://127.0.0.1:{server.port}/url/?x=1", "secure": False}
    assert http.get("/url").status_code == 301
    assert http.get("/missing/").status_code == 404
    assert http.head("/form/").content == b""
    since = len(server.stderr)
    assert http.get("/broken/").status_code == 500
    server.expect("RuntimeError: broken on purpose", since=since)


@pytest.mark.smoke
def test_the_page_of_a_new_project(tmp_path: Path) -> None:
    run([Path(sys.executable).with_name("django-admin"), "startproject", "fresh", "."], tmp_path)
    with Server("fresh.wsgi", directory=tmp_path) as running:
        answer = running.ready(20).get("/")
    assert answer.status == 200
    assert "The install worked successfully" in answer.text
