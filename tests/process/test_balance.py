"""Workers share the work: nobody gets the lion's share of kept-alive connections, whatever happens meanwhile."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable

import pytest

from process.apps import FILES
from process.load import Load
from server import Server

Serve = Callable[..., Server]

CLIENTS = 64
WORKERS = 4
AT_MOST = 1.5  # times the mean


def start(serve: Serve, *args: str) -> Server:
    return serve("-w", str(WORKERS), "app:app", *args, files=FILES).ready(20, workers=WORKERS)


def imbalance(shares: Counter[int], workers: int = WORKERS) -> float:
    return max(shares.values()) * workers / sum(shares.values())


@pytest.mark.smoke
@pytest.mark.parametrize(("threads", "seconds"), [("1", "0.005"), ("4", "0.02")], ids=["sync", "gthread"])
def test_connections_and_requests_are_spread(serve: Serve, threads: str, seconds: str) -> None:
    """Each call takes its time, so that the workers' shares are not those that the kernel gives them of two cores."""
    server = start(serve, "--threads", threads)
    with Load(server, CLIENTS, path=f"/work?{seconds}") as load:
        load.more(2500, seconds=60)
    assert load.errors == []
    assert sum(load.connections.values()) == CLIENTS
    assert imbalance(load.connections) <= AT_MOST, load.connections
    assert imbalance(load.answers) <= AT_MOST, load.answers


def test_while_workers_come_and_go(serve: Serve) -> None:
    server = start(serve)
    with Load(server, CLIENTS) as load:
        for round in range(1, 4):
            load.more(500, seconds=60)
            server.signal(signal.SIGTTIN)
            server.expect("Handling signal: ttin", times=round)
            server.expect("Booting worker", times=WORKERS + round)
            load.more(500, seconds=60)
            server.signal(signal.SIGTTOU)
            server.expect("Worker exiting", times=round, seconds=20)
        load.more(500, seconds=60)
        server.expect("Worker exiting", times=3, seconds=20)
    assert load.errors == []
    assert load.refused == 0


def test_spread_again_afterwards(serve: Serve) -> None:
    """New connections go to those that have fewest."""
    server = start(serve)
    for number in range(1, 3):
        server.signal(signal.SIGTTIN)
        server.expect("Booting worker", times=WORKERS + number)
    server.ready(20, workers=WORKERS + 2)
    server.signal(signal.SIGTTOU)
    server.expect("Worker exiting", seconds=20)
    with Load(server, CLIENTS) as load:
        load.more(3000, seconds=60)
    assert load.errors == []
    assert len(load.connections) == WORKERS + 1
    assert imbalance(load.connections, WORKERS + 1) <= AT_MOST, load.connections


def test_a_stop_in_the_middle_loses_nothing(serve: Serve) -> None:
    server = start(serve)
    with Load(server, CLIENTS) as load:
        load.more(2000, seconds=60)
        assert server.stop() == 0
        load.join()
    assert load.errors == []
    assert load.refused == CLIENTS
    assert "ERROR" not in server.stderr


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_one_connection_at_a_time(serve: Serve, kind: str) -> None:
    """Nobody has more connections than another, so they take turns."""
    server = start(serve, "-k", kind, "--threads", "1" if kind == "sync" else "4", "--keep-alive", "0")
    shares = Counter(server.get("/").text for _ in range(2000))
    assert len(shares) == WORKERS
    assert max(shares.values()) * WORKERS / 2000 <= AT_MOST, shares
