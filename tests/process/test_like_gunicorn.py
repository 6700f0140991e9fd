"""What arrives at a syslog and at a statsD, compared with what the real Gunicorn sends there, in the same run."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from process.ears import Ear, ear
from server import MONOCEROS, Server

GUNICORN = (sys.executable, "-m", "gunicorn")

KINDS = ("sync", "gthread", "asgi")

WSGI = """
import logging
log = logging.getLogger("gunicorn.error")

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/say":
        log.error("from the application: %s", "gr\\u00fc\\u00dfe")
    elif path == "/fail":
        raise ValueError("on purpose")
    status = "404 Not Found" if path == "/missing" else "200 OK"
    start_response(status, [("Content-Length", "5")])
    return [b"hello"]
"""

ASGI = """
import logging
log = logging.getLogger("gunicorn.error")

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/say":
        log.error("from the application: %s", "gr\\u00fc\\u00dfe")
    elif scope["path"] == "/fail":
        raise ValueError("on purpose")
    status = 404 if scope["path"] == "/missing" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})
"""

# Hooks, to which both give what they call a logger.
CONF = r"""
bind = "127.0.0.1:{port}"

def when_ready(server):
    server.log.info("ready: %s", "yes")
    server.log.info("", extra={"metric": "my.gauge", "value": 1.5, "mtype": "gauge"})
    server.log.info("counted", extra={"metric": "my.count", "value": 3, "mtype": "counter"})
    server.log.debug("too quiet to see", extra={"metric": "my.time", "value": 12, "mtype": "timer"})
    server.log.log("info", "shown", extra={"metric": "my.sizes", "value": 7, "mtype": "histogram"})
    server.log.info("of no type", extra={"metric": "my.other", "value": 7, "mtype": "set"})

def post_worker_init(worker):
    worker.log.warning("two\nlines")
    worker.log.critical("critical")
    worker.log.debug("not seen")
    try:
        1 / 0
    except ZeroDivisionError:
        worker.log.exception("an exception")
"""


def run(command: tuple[str, ...], kind: str, place: Path, *args: str, paths: tuple[str, ...]) -> list[str]:
    """A server from its start to its end, asked for these paths. Returns its error log."""
    place.mkdir()
    files = {"app.py": ASGI if kind == "asgi" else WSGI, "gunicorn.conf.py": CONF}
    threads = {"gthread": ["--threads", "2"], "asgi": ["--asgi-lifespan", "off"]}.get(kind, [])
    extra = ["--no-control-socket"] if command == GUNICORN else []
    with Server(
        "app:app", "-k", kind, *threads, *extra, *args, directory=place, files=files, bind=None, command=command
    ) as server:
        server.expect("an exception", times=2 if "--workers" in args else 1)
        server.ready(workers=0)
        for path in paths:
            server.get(path, User_Agent="us", Authorization="Basic dXNlcjpzZWNyZXQ=")
        assert server.stop() == 0
        return server.stderr.splitlines()


# syslog

# What is different in each run, or is a server's own name.
VARIABLE = (
    (r"\[\d+\]", "[PID]"),
    (r"(pid:? |\()\d+", r"\1PID"),
    (r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", "[TIME]"),
    (r"127\.0\.0\.1:\d+", "HERE"),
    (r"Starting (gunicorn|monoceros) [\w.]+", "Starting"),
    (r'File "[^"]*gunicorn.conf.py"', 'File "gunicorn.conf.py"'),
)

# What only one of them says of itself: Gunicorn's ASGI worker, and who would name processes without setproctitle.
OF_ITS_OWN = re.compile("Worker shutting down|ASGI server listening on|proc_name has no effect")


def normal(message: bytes) -> str:
    text = message.decode()
    for pattern, name in VARIABLE:
        text = re.sub(pattern, name, text)
    return text


def syslogged(command: tuple[str, ...], kind: str, place: Path, socket: str, *args: str) -> list[str]:
    with ear(socket, place) as syslog:
        address = syslog.url
        run(command, kind, place / command[-1], "--log-syslog", "--log-syslog-to", address, *args, paths=("/", "/say"))
        lines = [normal(message) for message in syslog.last_heard()]
    return sorted(line for line in lines if not OF_ITS_OWN.search(line))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("socket", "args"),
    [
        ("udp", ()),
        ("tcp", ("--log-syslog-prefix", "my.prefix", "--log-syslog-facility", "LOCAL3")),
        ("dgram", ("--name", "a:b", "--access-logfile", "-")),
        ("stream", ("--disable-redirect-access-to-syslog", "--log-syslog-facility", "daemon")),
    ],
)
def test_syslog(tmp_path: Path, kind: str, socket: str, args: tuple[str, ...]) -> None:
    theirs = syslogged(GUNICORN, kind, tmp_path, socket, *args)
    ours = syslogged(MONOCEROS, kind, tmp_path, socket, *args)
    assert ours == theirs
    assert any("from the application: grüße" in line for line in ours)
    assert any('"GET /say HTTP/1.1" 200 5' in line for line in ours) is not ("--disable-redirect" in " ".join(args))


# statsD


def told(command: tuple[str, ...], kind: str, place: Path, socket: str, *args: str) -> Counter[str]:
    with ear(socket, place) as statsd:
        host = f"unix://{statsd.address}" if socket == "dgram" else "{}:{}".format(*statsd.address)
        paths = ("/", "/missing", "/fail")
        # Without an access log, Gunicorn's ASGI worker tells nothing of requests.
        run(command, kind, place / command[-1], "--statsd-host", host, "--access-logfile", "a.log", *args, paths=paths)
        return metrics(statsd)


def metrics(statsd: Ear) -> Counter[str]:
    lines = [message.decode() for message in statsd.last_heard()]
    return Counter(re.sub(r"(request\.duration:)\d+(\.\d+)?(e-\d+)?\|", r"\1N|", line) for line in lines)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("socket", "args"),
    [
        ("udp", ("--workers", "2")),
        ("dgram", ("--statsd-prefix", "my.app..", "--dogstatsd-tags", "env:prod,zone:1", "--statsd-prefix", "my.app.")),
        ("udp", ("--statsd-prefix", "a", "--log-level", "warning")),
    ],
)
def test_statsd(tmp_path: Path, kind: str, socket: str, args: tuple[str, ...]) -> None:
    theirs = told(GUNICORN, kind, tmp_path, socket, *args)
    ours = told(MONOCEROS, kind, tmp_path, socket, *args)
    assert ours == theirs
