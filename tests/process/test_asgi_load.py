"""Workers for ASGI come and go under load, and only whom one was killed under notices."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from process.apps import asgi
from process.load import Load, wrk
from server import Server, wait_for

Serve = Callable[..., Server]

CLIENTS = 64


@pytest.mark.smoke
def test_workers_come_and_go(serve: Serve, tmp_path: Path) -> None:
    """More of them, fewer, a reload, and one that is told to leave: no error at all."""
    server = serve("-w", "4", "app:app", files=asgi()).ready()
    server.expect("Application startup complete", times=4)
    with wrk(server, CLIENTS):
        server.signal(signal.SIGTTIN)
        server.expect("Application startup complete", times=5)
        server.signal(signal.SIGTTOU)
        server.expect("Worker exiting", times=1)
        server.signal(signal.SIGTERM, server.workers()[-1])
        server.expect("Worker exiting", times=2)
        server.expect("Application startup complete", times=6)
        server.signal(signal.SIGHUP)
        server.expect("Worker exiting", times=6, seconds=20)
    assert "ERROR" not in server.stderr
    assert "Cancelling" not in server.stderr
    assert server.stop() == 0


def test_a_killed_worker_takes_only_its_own_requests(serve: Serve) -> None:
    server = serve("-w", "4", "app:app", files=asgi()).ready()
    server.expect("Application startup complete", times=4)
    with Load(server, 16) as load:
        load.more(400)
        killed = max(server.workers(), key=lambda pid: load.connections[pid])
        mine = load.connections[killed]
        assert mine
        server.signal(signal.SIGKILL, killed)
        server.expect(rf"Worker \(pid:{killed}\) was sent SIGKILL!")
        server.expect("Application startup complete", times=5)
        load.more(400)
        assert server.stop() == 0
        load.join()
    assert 0 < len(load.errors) <= mine
    assert not [error for error in load.errors if "status" in error]


def test_a_stop_under_load(serve: Serve) -> None:
    server = serve("-w", "4", "app:app", files=asgi()).ready()
    with Load(server, CLIENTS) as load:
        load.more(1000)
        assert server.stop() == 0
        load.join()
    assert load.errors == []
    assert load.refused == CLIENTS
    assert server.stderr.count("Worker exiting") == 4


def test_a_reload_under_load(serve: Serve) -> None:
    server = serve("-w", "2", "app:app", files=asgi()).ready()
    server.expect("Application startup complete", times=2)
    with Load(server, 16) as load:
        for times in (1, 2):
            before = server.workers()
            server.signal(signal.SIGHUP)
            server.expect("Worker exiting", times=2 * times)
            wait_for(lambda before=before: not set(before) & set(server.workers()), what="the old ones to leave")  # type: ignore[misc]
            load.more(100)
    assert load.errors == []
    assert load.refused == 0
