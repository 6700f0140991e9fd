"""FastAPI and Flask under the commands, names and log configurations that people have."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest

from server import Server, wait_for

pytest.importorskip("fastapi")

Serve = Callable[..., Server]

MAIN = """
import sys
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
async def read_root():
    return {"Hello": "World"}

@app.get("/healthcheck")
def healthcheck():
    return "ok"

@app.get("/uvicorn")
async def imported():
    return [name for name in sys.modules if name.partition(".")[0] in ("uvicorn", "uvicorn_worker", "gunicorn")]
"""

WSGI = """
import sys

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr([name for name in sys.modules if name.partition(".")[0] in ("gevent", "gunicorn")]).encode()]
"""

# As on a machine without them: importing them fails.
WITHOUT = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("uvicorn", "uvicorn_worker", "gunicorn", "gevent", "eventlet"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Without())
"""

FILES = {"main.py": MAIN, "wsgi.py": WSGI, "without/sitecustomize.py": WITHOUT}


def bare(serve: Serve, *args: str, **options: object) -> Server:
    """The command where neither Gunicorn nor Uvicorn can be imported."""
    server = serve(*args, **{"files": FILES, **options})
    server.env["PYTHONPATH"] = str(server.directory / "without")
    return server


def ask(server: Server, path: str = "/") -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{server.port}{path}", timeout=10)


# The command as it is in people's scripts. What stands for a port is one that is free.


@pytest.mark.smoke
@pytest.mark.parametrize(
    "command",
    [
        "main:app --workers 4 --worker-class uvicorn.workers.UvicornWorker --bind 0.0.0.0:{port}",
        "main:app --host 0.0.0.0 --port {port} --workers 4",
    ],
)
def test_four_workers(serve: Serve, command: str) -> None:
    server = bare(serve, *command.split(), bind=None)
    server.expect("Application startup complete", times=4)
    pids = server.workers()
    assert len(pids) == 4
    assert ask(server).json() == {"Hello": "World"}
    assert ask(server, "/uvicorn").json() == []
    assert server.stop() == 0
    server.expect("Application shutdown complete", times=4)


def test_it_sees_that_the_application_speaks_asgi(serve: Serve) -> None:
    server = bare(serve, "main:app").ready(20)
    assert ask(server).json() == {"Hello": "World"}


def test_the_default_address(serve: Serve) -> None:
    """`monoceros main:app`, and nothing else; PORT stands for a port that is free."""
    server = bare(serve, "main:app", bind=None, env={"PORT": "{port}"})
    server.expect(rf"Listening at: http://0\.0\.0\.0:{server.port}")
    server.expect("Application startup complete")
    assert ask(server).json() == {"Hello": "World"}


@pytest.mark.parametrize(
    "name",
    [
        "uvicorn.workers.UvicornWorker",
        "uvicorn.workers.UvicornH11Worker",
        "uvicorn_worker.UvicornWorker",
        "uvicorn_worker.UvicornH11Worker",
        "asgi",
    ],
)
def test_names_of_asgi_workers(serve: Serve, name: str) -> None:
    server = bare(serve, "main:app", "-k", name).ready(20)
    assert ask(server, "/uvicorn").json() == []
    server.expect(rf"Using worker: {re.escape(name)}$")


@pytest.mark.parametrize(
    "name",
    [
        "sync",
        "gthread",
        "gunicorn.workers.sync.SyncWorker",
        "gunicorn.workers.gthread.ThreadWorker",
    ],
)
def test_names_of_wsgi_workers(serve: Serve, name: str) -> None:
    server = bare(serve, "wsgi:app", "-k", name).ready()
    assert ask(server).text == "[]"
    server.expect(rf"Using worker: {re.escape(name)}$")


# In a script of one's own.

SCRIPT = """
import monoceros
from main import app

if __name__ == "__main__":
    monoceros.run({call})
"""


@pytest.mark.parametrize(
    ("call", "workers", "path"),
    [
        ("app, host='127.0.0.1', port={port}", 1, "/"),
        ("'main:app', host='127.0.0.1', port={port}, workers=2", 2, "/"),
        ("app, port={port}, workers=2", 2, "/"),
        ("'main:app', port={port}, log_level='info', root_path='/api', lifespan='on'", 1, "/api/"),
    ],
)
def test_run(serve: Serve, call: str, workers: int, path: str) -> None:
    files = {**FILES, "script.py": SCRIPT.replace("{call}", call)}
    server = bare(serve, command=(sys.executable, "-W", "error", "script.py"), bind=None, files=files).ready(20)
    assert ask(server).json() == {"Hello": "World"}
    wait_for(lambda: len(server.workers()) == workers)
    server.expect(rf'^INFO: +127\.0\.0\.1:\d+ - "GET {path} HTTP/1\.1" 200 OK$', stream="stdout")
    assert server.stop() == 0


# Logging as people set it up.

LOGGING = """
[loggers]
keys=root,gunicorn.access
[handlers]
keys=consoleHandler
[formatters]
keys=simpleFormatter
[logger_root]
level=INFO
handlers=consoleHandler
[logger_gunicorn.access]
level=INFO
handlers=consoleHandler
qualname=gunicorn.access
[handler_consoleHandler]
class=StreamHandler
level=INFO
formatter=simpleFormatter
args=(sys.stdout,)
[formatter_simpleFormatter]
format=%(asctime)s - %(levelname)s - %(name)s - %(message)s
"""

HEAD = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[(\d+)\] "
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"


def test_a_logging_configuration(serve: Serve) -> None:
    command = "main:app --bind 0.0.0.0:{port} --worker-class uvicorn.workers.UvicornWorker --log-config logging.conf"
    server = bare(serve, *command.split(), bind=None, files={**FILES, "logging.conf": LOGGING}).ready(20)
    assert ask(server).status_code == 200
    line = r'INFO - uvicorn\.access - 127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 200'
    server.expect(rf"^{STAMP} - {line}$", stream="stdout")
    # What the file does not name stays as it is: one line for a request, and the error log where it was.
    assert server.stdout.count("\n") == 1
    server.expect(rf"^{HEAD}\[INFO\] Application startup complete\.$")


SHARING = """
import logging
from fastapi import FastAPI
from fastapi.logger import logger as fastapi_logger

gunicorn_error_logger = logging.getLogger("gunicorn.error")
gunicorn_logger = logging.getLogger("gunicorn")
uvicorn_access_logger = logging.getLogger("uvicorn.access")
uvicorn_access_logger.handlers = gunicorn_error_logger.handlers
fastapi_logger.handlers = gunicorn_error_logger.handlers
if __name__ != "__main__":
    fastapi_logger.setLevel(gunicorn_logger.level)
else:
    fastapi_logger.setLevel(logging.DEBUG)

app = FastAPI()

@app.get("/healthcheck")
def healthcheck():
    fastapi_logger.warning("seen by FastAPI's logger")
    return "ok"
"""


def test_loggers_that_share_handlers(serve: Serve) -> None:
    options = ("-k", "uvicorn.workers.UvicornWorker")
    server = bare(serve, "shared:app", *options, files={**FILES, "shared.py": SHARING}).ready(20)
    assert ask(server, "/healthcheck").status_code == 200
    match = server.expect(rf'^{HEAD}\[INFO\] 127\.0\.0\.1:\d+ - "GET /healthcheck HTTP/1\.1" 200$')
    assert [int(match[1])] == server.workers()
    server.expect(rf"^{HEAD}\[WARNING\] seen by FastAPI's logger$")


MOMENT = r"\[\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
GUNICORNS = rf'127\.0\.0\.1 - - {MOMENT} "GET / HTTP/1\.1" 200 \d+ "-" "python-httpx/[\d.]+"'


@pytest.mark.parametrize(
    ("app", "kind", "line"),
    [
        ("main:app", "uvicorn.workers.UvicornWorker", r'127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 200'),
        ("main:app", "asgi", GUNICORNS),
        ("wsgi:app", "gthread", GUNICORNS),
        ("wsgi:app", "sync", GUNICORNS),
    ],
)
def test_access_lines_on_standard_output(serve: Serve, app: str, kind: str, line: str) -> None:
    server = bare(serve, app, "-k", kind, files={**FILES, "gunicorn.conf.py": 'accesslog = "-"\n'}).ready(20)
    assert ask(server).status_code == 200
    server.expect(f"^{line}$", stream="stdout")
    assert server.stdout.count("\n") == 1


def test_no_access_line_is_asked_for(serve: Serve) -> None:
    server = bare(serve, "main:app", "-k", "uvicorn.workers.UvicornWorker").ready(20)
    assert ask(server).status_code == 200
    assert server.stop() == 0
    assert server.stdout == ""


def test_an_application_that_cannot_start(serve: Serve) -> None:
    """One line says why, and the status is Uvicorn's."""
    failing = """
from contextlib import asynccontextmanager
from fastapi import FastAPI

@asynccontextmanager
async def lifespan(app):
    raise RuntimeError("the database is not there")
    yield

app = FastAPI(lifespan=lifespan)
"""
    server = bare(serve, "failing:app", "--workers", "2", files={**FILES, "failing.py": failing})
    assert server.wait() == 3
    assert "the database is not there" in server.stderr
    with suppress(OSError), server.connect():
        pytest.fail("it is still there")
