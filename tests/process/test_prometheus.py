"""Applications that use prometheus_client, with several workers: one scrape shows the sum, whoever has died."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from process.admin import Admin
from process.load import Load
from server import Server, wait_for

Serve = Callable[..., Server]

METRICS = """
import os, sys
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

HITS = Counter("hits", "Requests.", ["path"])
SIZES = Histogram("sizes", "Sizes.", buckets=(1, 10))
UP = Gauge("up_workers", "Living workers.", multiprocess_mode="livesum")
UP.set(1)

def answer(path):
    HITS.labels(path).inc()
    SIZES.observe(5)
    if path == "/metrics":  # as the library's documentation says it
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return generate_latest(registry)
    return str(os.getpid()).encode()
"""
WSGI = (
    METRICS
    + """
def app(environ, start_response):
    body = answer(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""
)
ASGI = (
    METRICS
    + """
async def app(scope, receive, send):
    if scope["type"] == "http":
        body = answer(scope["path"])
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
"""
)

KINDS = pytest.mark.parametrize(
    ("args", "app"),
    [
        (["-k", "sync"], WSGI),
        (["-k", "gthread", "--threads", "4"], WSGI),
        (["-k", "gevent"], WSGI),
        (["-k", "asgi"], ASGI),
    ],
    ids=["sync", "gthread", "gevent", "asgi"],
)


def directory_of(server: Server) -> Path:
    """Where the workers keep their metrics."""
    environ = Path(f"/proc/{server.workers()[0]}/environ").read_bytes()  # that of the start: ours is not in it
    assert b"PROMETHEUS_MULTIPROC_DIR" not in environ
    files = [path for pid in server.workers() for path in Path(f"/proc/{pid}/map_files").iterdir()]
    return next(path.readlink().parent for path in files if path.readlink().suffix == ".db")


@KINDS
def test_one_scrape_shows_the_sum(serve: Serve, args: list[str], app: str) -> None:
    """Over workers that serve, were killed, recycled and replaced by a reload; of the site, and the application's."""
    admin = Admin()
    server = serve("app:app", "-w", "3", *args, "--max-requests", "300", *admin.flags, files={"app.py": app})
    server.ready(workers=3)
    admin.ready()
    with Load(server, 6) as load:
        load.more(600)
        victim = next(each["pid"] for each in admin.stats()["each"] if each["state"] == "ready")
        server.signal(signal.SIGKILL, victim)
        load.more(300)
        server.signal(signal.SIGHUP)
        server.expect("Generation 2 serves", seconds=30)
        load.more(300)
    server.expect("Autorestarting")
    lost = len(load.errors)  # to whom the killed worker may have counted what it did not send any more
    wait_for(lambda: admin.samples()["hits_total,path=/"] >= load.total, what="all to be counted")
    samples = admin.samples()
    assert load.total <= samples["hits_total,path=/"] <= load.total + lost
    assert samples["sizes_count"] == samples["sizes_bucket,le=10.0"] == samples["hits_total,path=/"]
    admin.expect(lambda told: len(told["each"]) == 3, "three workers")
    assert admin.samples()["up_workers"] == 3
    text = server.get("/metrics").text
    theirs = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
    assert theirs["up_workers"] == 3
    assert f'hits_total{{path="/"}} {samples["hits_total,path=/"]}' in text


def test_the_directory_does_not_grow_and_is_removed(serve: Serve) -> None:
    """With dozens of recycled workers: each goes on with the files of one that has gone."""
    server = serve("app:app", "-w", "2", "--max-requests", "20", files={"app.py": WSGI}).ready(workers=2)
    path = directory_of(server)
    with Load(server, 2) as load:
        server.expect("Autorestarting", times=20, seconds=60)
    assert load.errors == []
    pids = {file.stem.rpartition("_")[2] for file in path.iterdir()}
    assert 2 <= len(pids) <= 5, sorted(file.name for file in path.iterdir())
    hits = re.search(r'hits_total\{path="/"\} (\S+)', server.get("/metrics").text)
    assert hits
    assert float(hits[1]) == load.total
    assert server.stop() == 0
    assert not path.exists()


def test_it_can_be_switched_off(serve: Serve) -> None:
    app = """
import os
def app(environ, start_response):
    start_response("200 OK", [])
    return [os.environ.get("PROMETHEUS_MULTIPROC_DIR", "none").encode()]
"""
    files = {"app.py": app, "gunicorn.conf.py": "workers = 2\nprometheus_multiproc = False\n"}
    assert serve("app:app", files=files).ready().get("/").text == "none"


def test_a_directory_of_the_users(serve: Serve) -> None:
    files = {"app.py": WSGI}
    server = serve("app:app", "-w", "2", files=files, env={"PROMETHEUS_MULTIPROC_DIR": "mine"}).ready(workers=2)
    assert server.get("/").status == 200
    assert server.stop() == 0
    assert [file.name for file in (server.directory / "mine").glob("counter_*.db")]


def test_a_scrape_that_takes_longer_than_the_stop(serve: Serve, tmp_path: Path) -> None:
    """Its client hears that nobody is there any more; it is no error of an application."""
    admin = Admin()
    mine = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    code = "from prometheus_client import Counter; c = Counter('hits', 'Hits.', ['number'])\n"
    code += "for number in range(1000): c.labels(str(number)).inc()"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **mine})
    (made,) = tmp_path.glob("counter_*.db")
    for number in range(1000):  # some seconds' work
        (tmp_path / f"counter_{10_000_000 + number}.db").symlink_to(made)
    server = serve("app:app", *admin.flags, files={"app.py": WSGI}, env=mine).ready()
    admin.ready()
    with socket.create_connection(("127.0.0.1", admin.port), timeout=20) as scrape:
        scrape.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: admin.stats(), what="the next request to be answered")
        assert server.stop() == 0
        assert scrape.recv(1000).startswith(b"HTTP/1.1 503")
    assert "Traceback" not in server.stderr
