"""Workers that are replaced for what they have done or become: the successor serves before they leave."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from process.apps import FILES
from process.load import Load
from server import Server, wait_for

Serve = Callable[..., Server]

KINDS = pytest.mark.parametrize("kind", [["-k", "sync"], ["-k", "gthread", "--threads", "4"]], ids=["sync", "gthread"])


@KINDS
def test_max_requests(serve: Serve, kind: list[str]) -> None:
    server = serve("-w", "2", "app:app", *kind, "--max-requests", "50", "--max-requests-jitter", "20", files=FILES)
    server.ready(workers=2)
    with Load(server, 4) as load:
        server.expect(r"\[INFO\] Autorestarting worker after current request\.", times=6, seconds=30)
    server.expect(r"Worker exiting \(pid: \d+\)", times=6)
    assert load.errors == []
    assert load.refused == 0
    gone = set(load.answers) - set(server.workers())
    assert all(load.answers[pid] >= 50 for pid in gone)
    assert "ERROR" not in server.stderr


def test_the_successor_serves_before_the_tired_one_leaves(serve: Serve) -> None:
    server = serve("app:app", "--max-requests", "10", files=FILES).ready()
    (first,) = server.workers()
    with Load(server, 1) as load:
        server.expect("Autorestarting")
        server.expect(rf"Worker exiting \(pid: {first}\)")
    lines = server.stderr
    successor = lines.index("Booting worker", lines.index("Autorestarting"))
    assert successor < lines.index("Worker exiting")
    assert load.errors == []
    assert load.refused == 0


def test_with_one_worker_nobody_notices(serve: Serve) -> None:
    server = serve("app:app", "--max-requests", "10", files=FILES).ready()
    with Load(server, 4) as load:
        server.expect("Autorestarting", times=5, seconds=30)
    assert load.errors == []
    assert load.refused == 0
    assert server.stop() == 0


def test_one_at_a_time(serve: Serve) -> None:
    """All are tired at once, but not all leave at once."""
    server = serve("-w", "4", "app:app", "--max-requests", "1", files=FILES).ready(workers=4)
    with Load(server, 8) as load:
        server.expect("Autorestarting", times=8, seconds=30)
        assert len(server.workers()) <= 6  # four, one more, and one that is leaving
    assert load.errors == []
    assert load.refused == 0


def test_a_successor_that_cannot_boot_is_waited_for(serve: Serve) -> None:
    module = "import os\nassert not os.path.exists('broken'), 'the flag is set'\n" + FILES["app.py"]
    server = serve("app:app", "--max-requests", "5", files={"app.py": module}).ready()
    (server.directory / "broken").touch()
    with Load(server, 2) as load:
        server.expect("could not boot, next try in 2 s", seconds=20)
        load.more(50)
        (server.directory / "broken").unlink()
        server.expect("Worker exiting", seconds=20)
    assert load.errors == []
    assert load.refused == 0


def test_max_worker_lifetime(serve: Serve) -> None:
    server = serve("app:app", "--max-worker-lifetime", "1.5", files=FILES).ready()
    (first,) = server.workers()
    server.expect(r"\[INFO\] Autorestarting worker: it has lived for 1\.5 s\.", seconds=20)
    wait_for(lambda: first not in server.workers(), what="the old worker to leave")
    assert server.get("/").status == 200


GROWING = """
kept = []

def app(environ, start_response):
    kept.append(b"x" * (16 << 20))
    start_response("200 OK", [])
    return [b"more"]
"""


def test_max_worker_memory(serve: Serve) -> None:
    server = serve("app:app", "--max-worker-memory", "128M", files={"app.py": GROWING}).ready()
    (first,) = server.workers()
    for _ in range(8):
        assert server.get("/").status == 200
    server.expect(r"\[INFO\] Autorestarting worker: it has grown to \d+ MiB\.")
    wait_for(lambda: first not in server.workers(), what="the old worker to leave")
    assert server.get("/").status == 200


def test_who_is_tired_can_still_be_stopped(serve: Serve) -> None:
    module = "import os\nassert not os.path.exists('broken')\n" + FILES["app.py"]
    server = serve("app:app", "--max-requests", "1", files={"app.py": module}).ready()
    (server.directory / "broken").touch()
    server.get("/")
    server.expect("could not boot")
    assert server.stop(signal.SIGTERM) == 0
