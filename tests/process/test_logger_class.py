"""Somebody's own logger class in a server: made from ours or from Gunicorn's, for every kind of worker."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from process.apps import ASGI, FILES
from process.ears import ear
from process.test_like_gunicorn import ASGI as ASGI_APP
from process.test_like_gunicorn import GUNICORN, WSGI
from server import MONOCEROS, Server, wait_for

# What people do: add handlers and filters, leave out health checks, add atoms, write the time in another way.
LOGS = """
import logging
{imports}

class NoSecrets(logging.Filter):
    def filter(self, record):
        record.msg = str(record.msg).replace("secret", "***")
        return True

class Mine(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        self.error_log.addFilter(NoSecrets())

    def access(self, resp, req, environ, request_time):
        if req.path != "/health":
            super().access(resp, req, environ, request_time)

    def atoms(self, resp, req, environ, request_time):
        atoms = super().atoms(resp, req, environ, request_time)
        timed = request_time.total_seconds() >= 0
        out = dict(resp.headers)["X-Out"]
        atoms["mine"] = f"{{type(self).__name__}} {{resp.status}} {{resp.sent}} {{out}} {{timed}}"
        return atoms

    def now(self):
        return "[now]"
"""

IMPORTS = {
    "ours": "from monoceros.ops.logger import Logger",
    "gunicorns": "from gunicorn.glogging import Logger",
}

CONF = """
bind = "127.0.0.1:{port}"
accesslog = "-"
errorlog = "error.log"
access_log_format = '%(t)s "%(r)s" %(s)s "%(a)s" %({x-in}i)s %({x-out}o)s %(mine)s %(h)s'

def when_ready(server):
    server.log.info("a secret of %s", type(server.log).__name__)

def post_fork(server, worker):
    worker.log.warning("worker.log is server.log: %s", worker.log is server.log)
"""

OUT = {
    "wsgi": WSGI.replace('[("Content-Length", "5")]', '[("Content-Length", "5"), ("X-Out", "7")]'),
    "asgi": ASGI_APP.replace('[(b"content-length", b"5")]', '[(b"content-length", b"5"), (b"X-Out", b"7")]'),
}


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent", "asgi"])
@pytest.mark.parametrize("base", ["ours", "gunicorns"])
def test_a_logger_class(tmp_path: Path, kind: str, base: str) -> None:
    """The same class writes the same lines as with Gunicorn."""
    ours = lines(MONOCEROS, kind, base, tmp_path / "monoceros")
    assert ours == [
        f'[now] "GET {path} HTTP/1.1" {status} "us" 1 7 Mine {said} 5 7 True 127.0.0.1'
        for path, status, said in (("/a?b=1", 200, "200 OK"), ("/missing", 404, "404 Not Found"))
    ]
    # The status is a number in Gunicorn's ASGI worker, and fields of requests are bytes.
    if base == "gunicorns" and kind != "asgi":
        assert lines(GUNICORN, kind, base, tmp_path / "gunicorn") == ours


def lines(command: tuple[str, ...], kind: str, base: str, place: Path) -> list[str]:
    place.mkdir()
    files = {
        "app.py": OUT["asgi" if kind == "asgi" else "wsgi"],
        "mylogs.py": LOGS.format(imports=IMPORTS[base]),
        "gunicorn.conf.py": CONF,
    }
    args = {"gthread": ["--threads", "2"], "asgi": ["--asgi-lifespan", "off"]}.get(kind, [])
    args += ["--no-control-socket"] if command == GUNICORN else []
    with Server(
        "app:app", "-k", kind, *args, "--logger-class", "mylogs.Mine", directory=place, files=files, bind=None,
        command=command,
    ) as server:  # fmt: skip
        server.ready(workers=0)
        for path in ("/a?b=1", "/health", "/missing"):
            server.get(path, User_Agent="us", X_In="1")
        assert server.stop() == 0
        log = (place / "error.log").read_text()
        assert log.count("a *** of Mine") == 1
        assert log.count("worker.log is server.log: True") == 1
        # Two threads may write in another order than they answer.
        return sorted(server.stdout.splitlines())


def test_a_class_that_only_sets_up_is_not_called(tmp_path: Path) -> None:
    """The lines are written in batches then, as by our own."""
    logs = "from monoceros.ops.logger import Logger\n\nclass Mine(Logger):\n    access_fmt = '> %(message)s'\n"
    args = ("--logger-class", "mylogs:Mine", "--access-logfile", "-", "--access-logformat", "%(r)s")
    with Server("app:app", *args, directory=tmp_path, files={**FILES, "mylogs.py": logs}) as server:
        server.ready()
        server.get("/a")
        server.expect(r"^> GET /a HTTP/1\.1$", stream="stdout")


def test_requests_that_are_refused_are_told_as_well(tmp_path: Path) -> None:
    """They have no environ from an application, but the class is given one."""
    files = {**FILES, "app.py": ASGI, "mylogs.py": LOGS.format(imports=IMPORTS["ours"]).replace('["X-Out"]', "")}
    args = ("-k", "asgi", "--logger-class", "mylogs.Mine", "--access-logfile", "-")
    format = "%(r)s %(s)s %({server_protocol}e)s %({http_x_in}e)s"
    with Server("app:app", *args, "--access-logformat", format, directory=tmp_path, files=files) as server:
        server.ready()
        server.ask(b"POST /a HTTP/1.1\r\nHost: a\r\nX-In: 1\r\nX-In: 2\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n")
        server.expect(r"^POST /a HTTP/1\.1 400 HTTP/1\.1 1,2$", stream="stdout")


@pytest.mark.parametrize(
    ("logs", "said"),
    [
        ("", "cannot be imported: no 'Mine' in module 'mylogs'"),
        ("Mine = 7\n", "must be a class, not int"),
        ("class Mine:\n    def __init__(self, cfg):\n        raise ValueError('no', cfg.workers)\n",
         "its setup has failed: ValueError: ('no', 1) ({directory}/mylogs.py:3)"),
    ],
)  # fmt: skip
def test_a_class_that_cannot_be_had(tmp_path: Path, logs: str, said: str) -> None:
    files = {**FILES, "mylogs.py": logs}
    with Server("app:app", "--logger-class", "mylogs.Mine", directory=tmp_path, files=files) as server:
        assert server.wait() == 1
        expected = f"logger_class = 'mylogs.Mine' (--logger-class): {said.format(directory=tmp_path)}"
        assert server.stderr == f"Error: {expected}\n"


def test_a_reload_takes_a_new_class_or_is_refused(tmp_path: Path) -> None:
    def logs(word: str, more: str = "") -> str:
        return (
            "from monoceros.ops.logger import Logger\n\nclass Mine(Logger):\n"
            f"    error_fmt = '{word} %(message)s'\n    def setup(self, cfg):\n        super().setup(cfg)\n{more}"
        )

    conf = "logger_class = 'mylogs.Mine'\n"
    files = {**FILES, "gunicorn.conf.py": conf, "mylogs.py": logs("one")}
    with Server("app:app", directory=tmp_path, files=files) as server:
        server.expect("^one Booting worker")
        server.ready()
        (tmp_path / "mylogs.py").write_text(logs("broken", "        raise ValueError('on purpose')\n"))
        server.signal(signal.SIGHUP)
        server.expect(
            r"^one Reload refused, generation 1 serves on: logger_class = 'mylogs.Mine' \(gunicorn.conf.py:1\): "
            r"its setup has failed: ValueError: on purpose \(.*mylogs.py:7\)$"
        )
        assert server.get("/").status == 200
        (tmp_path / "mylogs.py").write_text(logs("three, at last:"))
        server.signal(signal.SIGHUP)
        server.expect("^three, at last: Booting worker")
        server.expect("^three, at last: Generation 2 serves after")
        assert server.stop() == 0


@pytest.mark.parametrize("kind", ["sync", "asgi"])
def test_what_access_raises_is_logged(tmp_path: Path, kind: str) -> None:
    logs = (
        "from monoceros.ops.logger import Logger\n\nclass Mine(Logger):\n    def access(self, *arguments):\n"
        "        raise ValueError('on purpose')\n"
    )
    files = {"app.py": ASGI_APP if kind == "asgi" else WSGI, "mylogs.py": logs}
    with Server("app:app", "-k", kind, "--logger-class", "mylogs.Mine", directory=tmp_path, files=files) as server:
        server.ready()
        for _ in range(2):
            assert server.get("/").status == 200
        server.expect("Exception in the access log of the logger class", times=2)
        server.expect("^ValueError: on purpose", times=2)


def test_files_are_opened_again_by_the_class(tmp_path: Path) -> None:
    logs = (
        "from monoceros.ops.logger import Logger\n\nclass Mine(Logger):\n    def reopen_files(self):\n"
        "        super().reopen_files()\n        self.info('opened again')\n"
    )
    args = ("--logger-class", "mylogs.Mine", "--error-logfile", "error.log")
    with Server("app:app", *args, directory=tmp_path, files={**FILES, "mylogs.py": logs}) as server:
        server.ready()
        (tmp_path / "error.log").rename(tmp_path / "error.log.1")
        server.signal(signal.SIGUSR1)
        path = tmp_path / "error.log"
        wait_for(lambda: path.exists() and path.read_text().count("opened again") == 2)


# syslog and statsD, where they are not well


def test_a_syslog_that_hangs_keeps_nobody_from_being_served(tmp_path: Path) -> None:
    with ear("tcp", tmp_path) as syslog:
        syslog.deaf()
        args = ("--log-syslog", "--log-syslog-to", syslog.url)
        with Server("app:app", *args, directory=tmp_path, files=FILES) as server:
            server.ready()
            long = "/" + "x" * 3000
            for _ in range(2000):
                assert server.get(long).status == 200
            assert server.stop() == 0


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent", "asgi"])
def test_backlog(tmp_path: Path, kind: str) -> None:
    files = {"app.py": ASGI_APP if kind == "asgi" else WSGI}
    with ear("udp", tmp_path) as statsd:
        host = "{}:{}".format(*statsd.address)
        args = ("-k", kind, "--statsd-host", host, "--enable-backlog-metric", "--dogstatsd-tags", "a:b")
        with Server("app:app", *args, directory=tmp_path, files=files) as server:
            server.ready()
            server.get("/say")
            wait_for(lambda: statsd.heard().count(b"gunicorn.backlog:0|h|#a:b") >= 2)
            # Of the application, by the logger's name: not with Gunicorn.
            wait_for(lambda: b"gunicorn.log.error:1|c|@1.0|#a:b" in statsd.heard())
            wait_for(lambda: b"gunicorn.request.status.200:1|c|@1.0|#a:b" in statsd.heard())


def test_another_statsd_after_a_reload(tmp_path: Path) -> None:
    with ear("udp", tmp_path) as first, ear("dgram", tmp_path) as second:
        conf = tmp_path / "gunicorn.conf.py"
        conf.write_text("statsd_host = '{}:{}'\n".format(*first.address))
        with Server("app:app", directory=tmp_path, files=FILES) as server:
            server.ready()
            wait_for(lambda: b"gunicorn.workers:1|g" in first.heard())
            conf.write_text(f"statsd_host = 'unix://{second.address}'\n")
            server.signal(signal.SIGHUP)
            server.expect("Generation 2 serves after")
            before = first.heard()
            server.get("/")
            wait_for(lambda: b"gunicorn.requests:1|c|@1.0" in second.heard())
            assert b"gunicorn.workers:1|g" in second.heard()
            assert first.heard() == before
