"""One WSGI application with a path for each thing that the contract asks about."""

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from urllib.parse import parse_qs

BLOCK = bytes(range(256)) * 256  # 64 KiB
HERE = Path(__file__).parent


class Cancelled(BaseException):
    """As gevent's Timeout, or asyncio's CancelledError: no Exception."""


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/").replace("-", "_") or "hello"
    page = globals().get(f"on_{name}")
    if page is None:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"no such page"]
    return page(environ, start_response)


def ok(start_response, *headers):
    return start_response("200 OK", [("Content-Type", "text/plain"), *headers])


def argument(environ, name, default=""):
    return parse_qs(environ["QUERY_STRING"]).get(name, [default])[0]


def on_hello(environ, start_response):
    ok(start_response)
    return [b"Hello, World!\n"]


def on_method(environ, start_response):
    ok(start_response)
    return [environ["REQUEST_METHOD"].encode()]


def on_pid(environ, start_response):
    ok(start_response)
    return [str(os.getpid()).encode()]


def on_environ(environ, start_response):
    ok(start_response)
    return [json.dumps({key: value for key, value in environ.items() if isinstance(value, str | bool)}).encode()]


def on_echo(environ, start_response):
    body = environ["wsgi.input"].read()
    ok(start_response)
    return [body]


def on_digest(environ, start_response):
    digest, size = hashlib.sha256(), 0
    while piece := environ["wsgi.input"].read(100_000):
        digest.update(piece)
        size += len(piece)
    ok(start_response)
    return [f"{size} {digest.hexdigest()}".encode()]


def on_ignore(environ, start_response):
    ok(start_response)
    return [b"not read"]


def on_part(environ, start_response):
    part = environ["wsgi.input"].read(10)
    ok(start_response)
    return [part]


def on_swallow(environ, start_response):
    """Takes half a body for a whole one, if it is let."""
    try:
        size = len(environ["wsgi.input"].read())
    except Exception as error:
        print("swallowed", type(error).__name__, file=sys.stderr)
        size = -1
    ok(start_response)
    return [f"all is well: {size}".encode()]


def on_large(environ, start_response):
    ok(start_response)
    return [BLOCK * (int(argument(environ, "mib", "20")) * 16)]


def on_stream(environ, start_response):
    count = int(argument(environ, "count", "3"))
    ok(start_response)
    return (f"chunk {number}\n".encode() for number in range(count))


def on_stream_large(environ, start_response):
    ok(start_response)
    return (BLOCK for _ in range(320))


def on_file(environ, start_response):
    file = (HERE / "pages.py").open("rb")
    file.seek(int(argument(environ, "from", "0")))
    length = argument(environ, "length")
    ok(start_response, *([("Content-Length", length)] if length else []))
    return environ["wsgi.file_wrapper"](file)


def on_large_file(environ, start_response):
    ok(start_response)
    return environ["wsgi.file_wrapper"](open(argument(environ, "path"), "rb"))


def on_long(environ, start_response):
    ok(start_response, ("Content-Length", "5"))
    return iter([b"hel", b"lo, ", b"world"])


def on_short(environ, start_response):
    ok(start_response, ("Content-Length", "10"))
    return iter([b"hel", b"lo"])


def on_nothing(environ, start_response):
    ok(start_response, ("Content-Length", "10"))
    return []


def on_no_content(environ, start_response):
    start_response("204 No Content", [])
    return [b"not to be sent"]


def on_not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"x"')])
    return []


def on_endless(environ, start_response):
    ok(start_response)
    while True:
        yield b"tick\n"


def on_raise(environ, start_response):
    raise ValueError("the application is broken")


def on_raise_late(environ, start_response):
    ok(start_response)
    yield b"begun\n"
    raise ValueError("broken in the middle")


def on_exit(environ, start_response):
    sys.exit(3)


def on_cancelled(environ, start_response):
    raise Cancelled("timed out")


def on_asyncio(environ, start_response):
    raise asyncio.CancelledError


def on_inject(environ, start_response):
    ok(start_response, ("X-Value", "1\r\nX-Forged: 2"))
    return [b"never sent"]


def on_text(environ, start_response):
    ok(start_response)
    return ["text"]


def on_none(environ, start_response):
    ok(start_response)


def on_silent(environ, start_response):
    return [b"start_response was not called"]


def on_write(environ, start_response):
    write = ok(start_response)
    write(b"written, ")
    return [b"returned"]


def on_hints(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload")])
    environ["wsgi.early_hints"]([("Link", "</script.js>; rel=preload")])
    ok(start_response)
    return [b"final"]


def on_headers(environ, start_response):
    start_response(
        "299 Odd but mine",
        [
            ("x-lower", "1"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("Connection", "keep-alive"),
            ("Transfer-Encoding", "gzip"),
            ("X-Latin", "caf\xe9"),
        ],
    )
    return [b"x"]


def on_close(environ, start_response):
    ok(start_response, ("Connection", "close"))
    return [b"the application wants it closed"]


def on_errors(environ, start_response):
    environ["wsgi.errors"].write("a line from the application\n")
    environ["wsgi.errors"].flush()
    ok(start_response)
    return [b"told"]


def on_wait(environ, start_response):
    """Waits until somebody opens the pipe at this path for writing, and answers what was written."""
    with open(argument(environ, "path"), "rb") as pipe:
        ok(start_response)
        return [pipe.read()]
