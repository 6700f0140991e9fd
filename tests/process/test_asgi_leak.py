"""After thousands of clients that went away at every stage of a request, a worker is as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from process.apps import rss
from process.leak import FILES, GRACE, STAGES, abort, at_rest
from server import Server, wait_for

Serve = Callable[..., Server]

WARM = 500
MANY = 3000


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_nothing_stays_behind(serve: Serve, loop: str) -> None:
    server = serve("app:app", "--asgi-loop", loop, "--asgi-disconnect-grace-period", GRACE, files=FILES).ready()
    (worker,) = server.workers()
    before = 0
    for number in range(WARM + MANY):
        if number == WARM:
            wait_for(lambda: at_rest(server), what="the worker to forget the first ones")
            before = rss(worker)
        abort(server, number)
    wait_for(lambda: at_rest(server), what="the worker to forget them all")
    # Heaps breathe: 4 MB are 1.4 KB for each of them, less than the smallest connection takes.
    assert rss(worker) - before < 4_000_000
    assert server.workers() == [worker]
    assert "ERROR" not in server.stderr
    assert server.stop() == 0
    assert MANY % (2 * len(STAGES)) == 0  # as many of each kind
