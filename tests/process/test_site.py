"""Health, metrics and statistics, as probes and scrapers get them from a running server."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise

import httpx
import pytest

from monoceros.arbiter.annex import CONNECTIONS
from process.admin import Admin, site_of
from process.apps import FILES, asgi, make_gate, open_gate
from process.load import Load, wrk
from server import Server, wait_for

Serve = Callable[..., Server]

KINDS = pytest.mark.parametrize(
    ("args", "files"),
    [
        (["-k", "sync"], FILES),
        (["-k", "gthread", "--threads", "4"], FILES),
        (["-k", "gevent"], FILES),
        (["-k", "asgi"], asgi()),
    ],
    ids=["sync", "gthread", "gevent", "asgi"],
)


@pytest.fixture
def admin() -> Admin:
    return Admin()


@pytest.mark.smoke
def test_what_there_is(serve: Serve, admin: Admin) -> None:
    server = serve("app:app", "-w", "2", *admin.flags, files=FILES).ready(workers=2)
    admin.ready()
    assert admin.get("/health/live").text == admin.get("/health/ready").text == "ok\n"
    missing = admin.get("/")
    assert (missing.status_code, "/health/ready" in missing.text) == (404, True)
    refused = httpx.post(f"http://127.0.0.1:{admin.port}/health/live", trust_env=False)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    head = httpx.head(f"http://127.0.0.1:{admin.port}/stats", trust_env=False)
    assert (head.status_code, head.content, int(head.headers["content-length"]) > 100) == (200, b"", True)
    assert admin.get("/metrics").headers["content-type"].startswith("text/plain; version=")
    openmetrics = admin.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")
    told = admin.stats()
    assert (told["pid"], told["state"], told["generation"]) == (server.pid, "serving", 1)
    assert [each["pid"] for each in told["each"]] == sorted(set(server.workers()) - {site_of(server)})
    assert server.stop() == 0
    assert "ERROR" not in server.stderr
    with pytest.raises(httpx.TransportError):
        admin.get("/health/live")


def test_by_curl(serve: Serve, admin: Admin) -> None:
    serve("app:app", *admin.flags, files=FILES).ready()
    admin.ready()
    output = subprocess.run(
        ["curl", "-fsS", f"http://127.0.0.1:{admin.port}/stats"], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(output)["workers"]["ready"] == 1


def test_operators_are_not_clients(serve: Serve, admin: Admin) -> None:
    """They are in no access log, no count, and no list of workers; hooks are not told of their worker."""
    hook = "def pre_fork(server, worker): server.log.info('forking %s of %s', worker.age, server.num_workers)"
    files = {**FILES, "gunicorn.conf.py": hook}
    server = serve("app:app", "--access-logfile", "-", *admin.flags, files=files).ready()
    admin.ready()
    server.get("/seen")
    admin.expect(lambda told: told["totals"]["requests"] == 1, "one request")
    assert admin.stats()["totals"]["requests"] == 1
    assert len(admin.stats()["each"]) == admin.stats()["workers"]["spawned"] == 1
    assert server.stop() == 0
    assert "/seen" in server.stdout
    assert "/stats" not in server.stdout
    assert server.stderr.count("forking") == 1


def test_it_has_no_application(serve: Serve, admin: Admin) -> None:
    app = "import os, sys; print('imported by', os.getpid(), file=sys.stderr)\n" + FILES["app.py"]
    server = serve("app:app", *admin.flags, files={"app.py": app}).ready()
    admin.ready()
    assert str(site_of(server)) not in re.findall(r"imported by (\d+)", server.stderr)


def test_too_few_workers(serve: Serve, admin: Admin) -> None:
    server = serve("app:app", "--min-ready-workers", "2", *admin.flags, files=FILES).ready()
    wait_for(lambda: admin.status("/health/ready") == 503, what="an answer")
    assert admin.get("/health/ready").text == "1 workers are ready, 2 are wanted\n"
    assert admin.status("/health/live") == 200
    server.signal(signal.SIGTTIN)
    admin.ready()


@KINDS
def test_not_ready_while_it_drains(serve: Serve, admin: Admin, args: list[str], files: dict[str, str]) -> None:
    """A load balancer hears of the stop while clients are still served, and until the last of them has gone."""
    server = serve("app:app", "-w", "2", *args, "--drain-delay", "60", *admin.flags, files=files).ready(workers=2)
    admin.ready()
    make_gate(server)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"GET /gate HTTP/1.1\r\nHost: a\r\n\r\n")
        server.expect("at the gate")
        server.signal(signal.SIGTERM)
        server.expect("Serving on for 60 s")
        assert admin.get("/health/ready").text == "leaving\n"
        assert server.get("/").status == 200
        server.signal(signal.SIGTERM)
        admin.expect(lambda told: len(told["each"]) == 1, "one worker to be left")
        assert admin.status("/health/ready") == 503
        assert admin.status("/health/live") == 200
        open_gate(server)
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert server.wait() == 0


def test_a_failed_reload_is_told_of(serve: Serve, admin: Admin) -> None:
    server = serve("app:app", *admin.flags, files=FILES).ready()
    admin.ready()
    (server.directory / "app.py").write_text("this is no Python")
    server.signal(signal.SIGHUP)
    told = admin.expect(lambda told: told["reloads"]["failed"] == 1, "the reload to fail")
    assert "Reload failed" in told["reloads"]["last_failure"]
    assert (told["generation"], told["workers"]["ready"], admin.status("/health/ready")) == (1, 1, 200)
    (server.directory / "app.py").write_text(FILES["app.py"])
    server.signal(signal.SIGHUP)
    told = admin.expect(lambda told: told["generation"] == 3 and not told["reloads"]["last_failure"], "a good one")
    assert told["reloads"] == {"asked": 2, "failed": 1, "last_failure": None}


def test_there_is_room_for_a_probe(serve: Serve, admin: Admin) -> None:
    """Though others have come before it, more than there is room for, who begin a request and do not end it."""
    server = serve("app:app", *admin.flags, files=FILES).ready()
    admin.ready()
    with ExitStack() as others:
        for number in range(CONNECTIONS + 20):
            other = others.enter_context(socket.create_connection(("127.0.0.1", admin.port), timeout=10))
            other.sendall(b"GET /stats HTTP/1.1\r\n"[: number % 8])
        with httpx.Client(trust_env=False, timeout=5) as probe:
            assert probe.get(f"http://127.0.0.1:{admin.port}/health/ready").status_code == 200
    assert server.stop() == 0


def test_no_websocket(serve: Serve, admin: Admin) -> None:
    """Whoever asks for one gets the page, as HTTP has it."""
    server = serve("app:app", *admin.flags, files=FILES).ready()
    admin.ready()
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert admin.get("/health/live", **upgrade).text == "ok\n"
    assert server.stop() == 0
    assert "ERROR" not in server.stderr


def test_it_is_replaced_when_it_dies(serve: Serve, admin: Admin) -> None:
    server = serve("app:app", *admin.flags, files=FILES).ready()
    admin.ready()
    server.signal(signal.SIGKILL, site_of(server))
    server.expect(r"Site \(pid:\d+\) was sent SIGKILL!")
    server.expect(r"Booting site with pid: (\d+)", times=2)
    admin.ready()
    assert admin.stats()["workers"]["died"] == 0
    assert server.get("/").status == 200


def test_a_stopped_one_is_killed(serve: Serve, admin: Admin) -> None:
    """As any worker that misses its deadline; that of the site is the default."""
    server = serve("app:app", "--graceful-timeout", "1", *admin.flags, files=FILES).ready()
    admin.ready()
    server.signal(signal.SIGSTOP, site_of(server))
    assert server.stop() == 0


def test_when_the_master_is_killed(serve: Serve, admin: Admin) -> None:
    server = serve("app:app", *admin.flags, files=FILES).ready()
    admin.ready()
    server.signal(signal.SIGKILL)
    wait_for(lambda: not server.tree(), what="all to leave")


def test_a_reload_moves_it(serve: Serve, admin: Admin) -> None:
    elsewhere = Admin()
    conf = f"admin_bind = '127.0.0.1:{admin.port}'"
    server = serve("app:app", files={**FILES, "gunicorn.conf.py": conf}).ready()
    admin.ready()
    (server.directory / "gunicorn.conf.py").write_text(f"admin_bind = ':{elsewhere.port}'\nmin_ready_workers = 3\n")
    server.signal(signal.SIGHUP)
    wait_for(lambda: elsewhere.status("/health/ready") == 503, what="the new site")
    wait_for(lambda: admin.status("/health/live") == 0, what="the old one to leave")
    (server.directory / "gunicorn.conf.py").write_text("")
    server.signal(signal.SIGHUP)
    wait_for(lambda: elsewhere.status("/health/live") == 0, what="the site to leave")
    assert server.get("/").status == 200
    assert server.stop() == 0


def test_on_a_unix_socket(serve: Serve) -> None:
    server = serve("app:app", "--admin-bind", "unix:admin.sock", files=FILES).ready()
    path = server.directory / "admin.sock"

    def ask() -> str:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            try:
                return client.get("http://localhost/health/ready").text
            except httpx.TransportError:
                return ""

    wait_for(lambda: ask() == "ok\n", what="the site")
    assert server.stop() == 0
    assert not path.exists()


def test_where_clients_come_is_no_place_for_operators(serve: Serve) -> None:
    server = serve("app:app", "--admin-bind", "127.0.0.1:{port}", files=FILES)
    assert server.wait() == 1
    assert "admin_bind = '127.0.0.1:" in server.stderr
    assert "operators need a place of their own" in server.stderr


def test_a_port_in_use(serve: Serve, admin: Admin) -> None:
    with socket.create_server(("127.0.0.1", admin.port)):
        server = serve("app:app", *admin.flags, files=FILES)
        server.expect(f"Connection in use: .*{admin.port}")
        assert server.wait() == 1


def test_an_upgrade_hands_it_over(serve: Serve, admin: Admin) -> None:
    """The old master's site answers until the new workers are ready."""
    server = serve("app:app", "-p", "pid", *admin.flags, files=FILES).ready()
    admin.ready()
    server.signal(signal.SIGUSR2)
    server.expect("Booting site with pid", times=2)
    new = int((server.directory / "pid.2").read_text())
    assert admin.status("/health/ready") == 200
    assert server.stop(signal.SIGTERM) == 0
    admin.expect(lambda told: told["pid"] == new and told["state"] == "serving", "the new master's answer")
    server.signal(signal.SIGTERM, new)
    wait_for(lambda: not server.tree(), what="all to leave")


# Counting.


@KINDS
def test_the_counts_are_what_a_client_counts(
    serve: Serve, admin: Admin, args: list[str], files: dict[str, str]
) -> None:
    """Across a reload, recycling and fewer workers; and no counter ever goes back."""
    server = serve("app:app", "-w", "2", *args, "--max-requests", "400", *admin.flags, files=files)
    server.ready(workers=2)
    admin.ready()
    seen = [admin.counters()]
    with Load(server, 8) as load:
        for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP):
            server.signal(number)
            for _ in range(3):
                load.more(150)
                seen.append(admin.counters())
        server.expect("Autorestarting", times=3, seconds=30)
    assert load.errors == []
    wait_for(lambda: admin.responses() >= load.total, what="all to be counted")
    seen.append(admin.counters())
    assert admin.responses() == load.total
    assert seen[-1]["monoceros_request_duration_seconds_count"] == load.total
    for before, after in pairwise(seen):
        assert [name for name in before if after[name] < before[name]] == []


@KINDS
def test_a_killed_worker_has_counted(serve: Serve, admin: Admin, args: list[str], files: dict[str, str]) -> None:
    """All but what it was busy with, which its clients have not got either, or just so."""
    server = serve("app:app", "-w", "2", *args, *admin.flags, files=files).ready(workers=2)
    admin.ready()
    with Load(server, 8) as load:
        load.more(500)
        before = admin.counters()
        for round in (1, 2):
            victim = next(each["pid"] for each in admin.stats()["each"] if each["state"] == "ready")
            server.signal(signal.SIGKILL, victim)
            server.expect("Perhaps out of memory|was sent SIGKILL", times=round)
            load.more(500)
    admin.expect(lambda told: told["totals"]["requests"] >= load.total - 16, "nearly all to be counted")
    assert load.total - 16 <= admin.responses() <= load.total + 16
    after = admin.counters()
    assert [name for name in before if after[name] < before[name]] == []
    assert admin.stats()["workers"]["died"] == 2


@KINDS
def test_as_wrk_counts(serve: Serve, admin: Admin, args: list[str], files: dict[str, str]) -> None:
    """Those that were on their way when it ended, one a connection, it does not count."""
    server = serve("app:app", "-w", "2", *args, *admin.flags, files=files).ready(workers=2)
    admin.ready()
    with wrk(server, 16) as run:
        admin.expect(lambda told: told["totals"]["requests"] > 2000, "some requests")
    admin.expect(lambda told: told["totals"]["requests"] >= run.requests, "all to be counted")
    assert run.requests <= admin.responses() <= run.requests + 16


def test_classes_errors_and_refusals(serve: Serve, admin: Admin) -> None:
    app = """
def app(environ, start_response):
    status = environ["PATH_INFO"][1:]
    if status == "raise":
        raise RuntimeError
    start_response(status + " So", [("Content-Length", "4")])
    return [b"body"]
"""
    server = serve("app:app", *admin.flags, files={"app.py": app}).ready()
    admin.ready()
    for path in ("/200", "/201", "/302", "/404", "/503", "/raise"):
        server.get(path)
    server.ask(b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
    told = admin.expect(lambda told: told["totals"]["requests"] == 6, "all to be counted")["totals"]
    assert told["responses"] == {"1xx": 0, "2xx": 2, "3xx": 1, "4xx": 1, "5xx": 2}
    assert (told["errors"], told["refused"]) == (1, 1)
    assert told["accepted"] >= 7


def test_how_long_requests_wait(serve: Serve, admin: Admin) -> None:
    """Behind one that takes its time, in a worker that serves one at a time."""
    server = serve("app:app", "-k", "sync", *admin.flags, files=FILES).ready()
    admin.ready()
    make_gate(server)
    with server.connect() as first, server.connect() as second:
        first.sendall(b"GET /gate HTTP/1.1\r\nHost: a\r\n\r\n")
        server.expect("at the gate")
        wait_for(lambda: admin.stats()["each"][0]["in_flight"] == 1, what="the request to be seen in flight")
        second.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        # What is waited for is that some time passes, by the server's own clock.
        begun = admin.stats()["uptime"]
        wait_for(lambda: admin.stats()["uptime"] > begun + 0.3, what="some time to pass")
        open_gate(server)
        assert second.recv(1000).startswith(b"HTTP/1.1 200")
    told = admin.expect(lambda told: told["totals"]["requests"] == 2, "both to be counted")
    assert told["totals"]["queue"]["p99"] >= 0.25
    assert told["totals"]["latency"]["p99"] >= 0.25
