"""What is measured: one entry a row."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

MIB = 1024 * 1024
HELLO = b"Hello, World!"

INTERFACES = ("wsgi", "asgi")
"""What an application may be written for, in the order of the report. Each row needs exactly one of them."""


@dataclass(frozen=True)
class Answer:
    """What a server said before it was measured."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Row:
    name: str
    about: str
    app: str
    """`module:attribute` in bench/apps."""
    right: Callable[[bytes], bool]
    """Is this the body the application meant?"""
    needs: frozenset[str] = frozenset({"wsgi"})
    """What a server must be able to do; see `Server.can`."""
    threads: int | None = None
    """How many; None for as many as suit one core (`servers.THREADS`)."""
    script: str | None = None
    """A file in bench/wrk."""
    body: bytes | None = None
    """What the check sends by POST; `script` sends the same."""
    idle: int = 0
    """Keep-alive connections that are open and silent meanwhile."""
    than: str | None = None
    """The row that is this one without what it is about: the report says what that costs."""
    remark: Callable[[Answer], str | None] = lambda answer: None
    """What a reader should know about how this server did it."""

    @property
    def interface(self) -> str:
        return next(name for name in INTERFACES if name in self.needs)


def hello(body: bytes) -> bool:
    return body == HELLO


def hello_json(body: bytes) -> bool:
    return bool(json.loads(body) == {"message": "Hello, World!"})


def counted(body: bytes) -> bool:
    return body == b"%d" % MIB


def one_mib(body: bytes) -> bool:
    return body == b"x" * MIB


def without_wrapper(answer: Answer) -> str | None:
    if answer.headers.get("x-file-wrapper") == "yes":
        return None
    return "has no wsgi.file_wrapper; the application reads the file in blocks of 64 KiB"


def without_pathsend(answer: Answer) -> str | None:
    if answer.headers.get("x-pathsend") == "yes":
        return None
    return "does not announce http.response.pathsend; Starlette reads the file in blocks of 64 KiB, in a thread"


WSGI = frozenset({"wsgi"})
ASGI = frozenset({"asgi"})
THREADS = WSGI | {"threads"}

ROWS = [
    Row("hello", "13 bytes, the client's headers are always the same", "hello:app", hello),
    # What these are compared with stands next to them, for a machine is not the same all day.
    Row("hello-access-log", "a line per request in a file", "hello:app", hello, needs=WSGI | {"access-log"},
        than="hello"),
    Row("hello-json-log", "a line per request in a file, as JSON, and an id for each request", "hello:app", hello,
        needs=WSGI | {"access-log", "json-log"}, than="hello"),
    Row("hello-stats", "hello, while somebody reads /stats ten times a second", "hello:app", hello,
        needs=WSGI | {"stats"}, than="hello"),
    Row("hello-browser", "13 header lines as a browser's, the cookie differs on each request", "hello:app", hello,
        script="browser.lua"),
    Row("idle-1000", "hello, while 1,000 more keep-alive connections are open and silent", "hello:app", hello,
        idle=1000),
    Row("flask-json", "Flask, a small JSON answer", "flask_json:app", hello_json),
    Row("django-json", "Django without middleware, a small JSON answer", "django_json:app", hello_json),
    Row("sleep", "each request sleeps 10 ms; with 8 threads that is 800 a second at most", "waiting:sleep", hello,
        needs=THREADS, threads=8),
    Row("mixed", "one request in a hundred sleeps 100 ms; 8 threads", "waiting:mixed", hello,
        needs=THREADS, threads=8),
    Row("upload-1m", "POST of 1 MiB, read in blocks of 64 KiB", "large:upload", counted,
        script="upload.lua", body=b"x" * MIB),
    Row("download-1m", "1 MiB from memory in chunks of 64 KiB", "large:download", one_mib),
    Row("file-1m", "1 MiB from a file, by wsgi.file_wrapper", "large:file", one_mib, remark=without_wrapper),
    Row("asgi-hello", "13 bytes, the client's headers are always the same", "asgi_hello:app", hello, needs=ASGI),
    Row("asgi-hello-access-log", "a line per request in a file", "asgi_hello:app", hello, needs=ASGI | {"access-log"},
        than="asgi-hello"),
    Row("asgi-hello-json-log", "a line per request in a file, as JSON, and an id for each request", "asgi_hello:app",
        hello, needs=ASGI | {"access-log", "json-log"}, than="asgi-hello"),
    Row("asgi-hello-stats", "hello, while somebody reads /stats ten times a second", "asgi_hello:app", hello,
        needs=ASGI | {"stats"}, than="asgi-hello"),
    Row("asgi-hello-browser", "13 header lines as a browser's, the cookie differs on each request", "asgi_hello:app",
        hello, needs=ASGI, script="browser.lua"),
    Row("asgi-idle-1000", "hello, while 1,000 more keep-alive connections are open and silent", "asgi_hello:app", hello,
        needs=ASGI, idle=1000),
    Row("asgi-starlette-json", "Starlette, a small JSON answer", "starlette_json:app", hello_json, needs=ASGI),
    Row("fastapi-json", "FastAPI, a small JSON answer", "fastapi_json:app", hello_json, needs=ASGI),
    Row("asgi-sleep", "each request awaits a sleep of 10 ms, so 100 a second for each connection at most",
        "asgi_waiting:sleep", hello, needs=ASGI),
    Row("asgi-upload-1m", "POST of 1 MiB, in pieces as the server gives them", "asgi_large:upload", counted, needs=ASGI,
        script="upload.lua", body=b"x" * MIB),
    Row("asgi-download-1m", "1 MiB from memory in chunks of 64 KiB", "asgi_large:download", one_mib, needs=ASGI),
    Row("asgi-file-1m", "1 MiB from a file, by Starlette's FileResponse", "asgi_large:file", one_mib, needs=ASGI,
        remark=without_pathsend),
]  # fmt: skip
