"""Who is measured: one entry a server.

Comparable means: one worker process, keep-alive on and long, no access log unless the row is about it, quiet error
log, the same number of threads, and for ASGI an event loop of uvloop's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .rows import Row

APPS = Path(__file__).parent / "apps"

# What everybody with a pool gets where the row leaves it open. Their own defaults are 1 (gunicorn), 4 (waitress) and
# 512 (granian). Granian on one core, with 1 and with 4: no difference beyond the noise, in hello and in flask-json.
THREADS = 4


@dataclass(frozen=True)
class Place:
    """Where a server is to run, and what."""

    bin: Path
    """The directory of the peers' environment with `python` in it."""
    home: Path
    """An empty directory: its working directory."""
    port: int
    row: Row
    admin_port: int = 0
    """Where the server tells of itself, in the rows that are about that."""

    @property
    def python(self) -> str:
        return str(self.bin / "python")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def access_log(self) -> Path | None:
        return self.home / "access.log" if "access-log" in self.row.needs else None

    @property
    def threads(self) -> str:
        return str(self.row.threads or THREADS)


@dataclass(frozen=True)
class Server:
    name: str
    command: Callable[[Place], list[str]]
    can: frozenset[str]
    package: str | None = None
    """The distribution it comes in; None for a program of the system."""
    only: frozenset[str] | None = None
    """Rows it takes part in; None for all that it can do."""

    def joins(self, row: Row) -> bool:
        """Is this row any of its business? If so it has a cell there, be it an empty one."""
        if self.only is not None:
            return row.name in self.only
        return row.interface in self.can

    def lacks(self, row: Row) -> str | None:
        """Why it cannot do this row."""
        missing = sorted(row.needs - self.can) if self.only is None else []
        return f"has no {' and no '.join(missing)}" if missing else None


WSGI = frozenset({"wsgi", "threads", "access-log"})
ASGI = frozenset({"asgi", "access-log"})
OURS = WSGI | ASGI | {"json-log", "stats"}


def gunicorn_like(module: str, **kinds: str) -> Callable[[Place], list[str]]:
    """Monoceros takes Gunicorn's command line, so the two are started by the same words.

    `kinds` are worker classes, by the interface they serve.
    """

    def command(place: Place) -> list[str]:
        kind = kinds[place.row.interface]
        words = [place.python, "-m", module, "-k", kind, "-w", "1", "-b", place.address]
        words += ["--keep-alive", "75", "--worker-connections", "4000", "--log-level", "warning"]
        if kind == "gthread":
            words += ["--threads", place.threads]
        if module == "gunicorn" and kind == "asgi":
            words += ["--asgi-loop", "uvloop"]
        if place.access_log:
            words += ["--access-logfile", str(place.access_log)]
        if "json-log" in place.row.needs:
            words += ["--log-format", "json"]
        if "stats" in place.row.needs:
            words += ["--admin-bind", str(place.admin_port)]
        return [*words, place.row.app]

    return command


def granian(place: Place) -> list[str]:
    # It writes its access log to stdout only, which `process.py` sends to a file.
    log = ["--log", "--log-level", "info", "--access-log"] if place.access_log else ["--no-log"]
    words = [str(place.bin / "granian"), "--interface", place.row.interface, "--http", "1", "--workers", "1"]
    words += ["--host", "127.0.0.1", "--port", str(place.port), "--runtime-threads", "1"]
    # Whoever serves ASGI would serve WebSockets too, so there it stays on for all.
    words += ["--loop", "uvloop"] if place.row.interface == "asgi" else ["--no-ws", "--blocking-threads", place.threads]
    return [*words, *log, place.row.app]


def uvicorn(place: Place) -> list[str]:
    # It writes its access log to stdout only, as granian does, and at level info.
    log = ["--access-log", "--log-level", "info"] if place.access_log else ["--no-access-log", "--log-level", "warning"]
    words = [place.python, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(place.port), "--workers", "1"]
    words += ["--http", "httptools", "--loop", "uvloop", "--timeout-keep-alive", "75"]
    return [*words, *log, place.row.app]


def hypercorn(place: Place) -> list[str]:
    # It closes a connection after 1,000 requests, and only a file can say otherwise.
    config = place.home / "hypercorn.toml"
    config.write_text("keep_alive_timeout = 75\nkeep_alive_max_requests = 1000000000\n")
    words = [place.python, "-m", "hypercorn", "-c", str(config), "-k", "uvloop", "-w", "1", "-b", place.address]
    # One level for both logs, and the lines of the access log are info.
    log = ["--access-logfile", str(place.access_log)] if place.access_log else ["--log-level", "warning"]
    return [*words, *log, place.row.app]


def waitress(place: Place) -> list[str]:
    # select() ends at descriptor 1023; its default of 100 connections well before.
    words = [str(place.bin / "waitress-serve"), f"--listen={place.address}", "--asyncore-use-poll"]
    words += ["--connection-limit=4000", f"--threads={place.threads}"]
    return [*words, place.row.app]


def bjoern(place: Place) -> list[str]:
    return [place.python, str(APPS / "run_bjoern.py"), str(place.port), place.row.app]


NGINX = """
daemon off; worker_processes 1; pid {home}/nginx.pid; error_log stderr error;
events {{ worker_connections 4000; }}
http {{
    access_log off; keepalive_timeout 75; keepalive_requests 1000000000;
    client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
    uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
    server {{ listen {address}; default_type text/plain; location / {{ return 200 "Hello, World!"; }} }}
}}
"""


def nginx(place: Place) -> list[str]:
    config = place.home / "nginx.conf"
    config.write_text(NGINX.format(home=place.home, address=place.address))
    return ["nginx", "-e", "stderr", "-c", str(config), "-p", str(place.home)]


BASE = "monoceros"

SERVERS = [
    Server(BASE, gunicorn_like("monoceros", wsgi="gthread", asgi="asgi"), OURS, "monoceros"),
    # The same code without a spare thread: two rows are enough to see what the spares cost.
    Server("monoceros-sync", gunicorn_like("monoceros", wsgi="sync"), WSGI, "monoceros",
           only=frozenset({"hello", "hello-browser"})),
    # Green workers where it is told what they cost, and where they pay.
    Server("monoceros-gevent", gunicorn_like("monoceros", wsgi="gevent"), WSGI, "monoceros",
           only=frozenset({"hello", "sleep"})),
    Server("granian", granian, WSGI | ASGI, "granian"),
    Server("bjoern", bjoern, frozenset({"wsgi"}), "bjoern"),
    Server("gunicorn-sync", gunicorn_like("gunicorn", wsgi="sync"), frozenset({"wsgi", "access-log"}), "gunicorn"),
    Server("gunicorn-gthread", gunicorn_like("gunicorn", wsgi="gthread"), WSGI, "gunicorn"),
    Server("gunicorn-gevent", gunicorn_like("gunicorn", wsgi="gevent"), WSGI, "gunicorn",
           only=frozenset({"hello", "sleep"})),
    Server("waitress", waitress, frozenset({"wsgi", "threads"}), "waitress"),
    Server("uvicorn", uvicorn, ASGI, "uvicorn"),
    Server("gunicorn-uvicorn", gunicorn_like("gunicorn", asgi="uvicorn_worker.UvicornWorker"), ASGI, "uvicorn-worker"),
    Server("gunicorn-asgi", gunicorn_like("gunicorn", asgi="asgi"), ASGI, "gunicorn"),
    Server("hypercorn", hypercorn, ASGI, "hypercorn"),
    # The limit: what one core can do if nothing has to be done.
    Server("nginx", nginx, frozenset(), only=frozenset(
        {"hello", "hello-browser", "idle-1000", "asgi-hello", "asgi-hello-browser", "asgi-idle-1000"})),
]  # fmt: skip
