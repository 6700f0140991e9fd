"""Workers share the work: nobody gets the lion's share of kept-alive connections, whatever happens meanwhile."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from process.apps import ASGI, FILES
from process.load import Client, Load
from server import Server

Serve = Callable[..., Server]

CLIENTS = 64
WORKERS = 4
AT_MOST = 1.5  # times the mean

OPTIONS = {
    "sync": ["-k", "sync"],
    "gthread": ["-k", "gthread", "--threads", "4"],
    "gevent": ["-k", "gevent"],
    "asgi": ["-k", "asgi"],
}

WORK = """
async def at_work(scope, receive, send):
    await asyncio.sleep(float(scope["query_string"]))
    await answer(send, os.getpid())
"""


def start(serve: Serve, *args: str) -> Server:
    files = {"app.py": ASGI + WORK} if "asgi" in args else FILES
    return serve("-w", str(WORKERS), "app:app", *args, files=files).ready(20, workers=WORKERS)


def imbalance(shares: Counter[int], workers: int = WORKERS) -> float:
    return max(shares.values()) * workers / sum(shares.values())


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("kind", "seconds"), [("sync", "0.005"), ("gthread", "0.02"), ("gevent", "0.05"), ("asgi", "0.05")]
)
def test_connections_and_requests_are_spread(serve: Serve, kind: str, seconds: str) -> None:
    """Each call takes its time, so that the workers' shares are not those that the kernel gives them of two cores."""
    server = start(serve, *OPTIONS[kind])
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


@pytest.mark.parametrize("kind", list(OPTIONS))
def test_one_connection_at_a_time(serve: Serve, kind: str) -> None:
    """Nobody has more connections than another, so they take turns."""
    server = start(serve, *OPTIONS[kind], "--keep-alive", "0")
    shares = Counter(server.get("/").text for _ in range(2000))
    assert len(shares) == WORKERS
    assert max(shares.values()) * WORKERS / 2000 <= AT_MOST, shares


@pytest.mark.parametrize("kind", list(OPTIONS))
def test_a_port_for_each_worker(serve: Serve, kind: str) -> None:
    """With `reuse_port` the kernel draws lots, by the client's address and port: all that is sure is some for each.

    That one of four gets none of 100 connections happens to one run in a million million.
    """
    server = start(serve, *OPTIONS[kind], "--reuse-port")
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(100)]
        shares = Counter(client.ask().answer()[1] for client in clients)
    assert len(shares) == WORKERS, shares
