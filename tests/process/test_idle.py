"""A server that nobody asks anything uses no processor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from process.apps import FILES
from process.load import Client, Load
from server import Server

Serve = Callable[..., Server]

# Long enough that a loop that turns ten times a second is seen.
SECONDS = 5.0


def used(pid: int) -> float:
    """Seconds of processor that it has had, see proc(5): user and system time in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("threads", ["1", "4"])
@pytest.mark.parametrize("connections", [0, 20])
def test_idle(serve: Serve, threads: str, connections: int) -> None:
    """Also after it had a lot to do, and with kept-alive connections."""
    server = serve("-w", "2", "app:app", "--threads", threads, "--keep-alive", "60", files=FILES).ready(workers=2)
    with Load(server, 8) as load:
        load.more(200)
    assert load.errors == []
    clients = [Client(server) for _ in range(connections)]
    for client in clients:
        assert client.ask().answer()[0] == 200
    pids = [server.pid, *server.workers()]
    rest = threading.Event()
    rest.wait(1.0)  # a sentinel looks for a while before it rests, and the collector may have a last turn
    before = [used(pid) for pid in pids]
    rest.wait(SECONDS)
    shares = [(used(pid) - then) / SECONDS for pid, then in zip(pids, before, strict=True)]
    for client in clients:
        client.sock.close()
    assert max(shares) <= 0.006, shares  # at most three ticks, of which noise may be two
