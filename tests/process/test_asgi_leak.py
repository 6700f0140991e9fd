"""After thousands of clients that went away at every stage of a request, a worker is as it was."""

from __future__ import annotations

from collections.abc import Callable

from process.apps import rss
from process.leak import FILES, GRACE, STAGES, abort, at_rest
from server import Server, wait_for

Serve = Callable[..., Server]

# So many fill the caches, and let the heap find its size; then as many of each kind.
WARM = 1000
MANY = 3000


def test_nothing_stays_behind(serve: Serve) -> None:
    server = serve("app:app", "--asgi-disconnect-grace-period", GRACE, files=FILES).ready()
    (worker,) = server.workers()
    assert MANY % (2 * len(STAGES)) == 0
    memory = objects = 0
    for number in range(WARM + MANY):
        if number % 1000 == 0:  # they do not pile up, which would cost memory for a while
            wait_for(lambda: at_rest(server), what="the worker to forget those before")
        if number == WARM:
            memory, objects = rss(worker), int(server.get("/objects").text)
        abort(server, number)
    wait_for(lambda: at_rest(server), what="the worker to forget them all")
    assert int(server.get("/objects").text) - objects < MANY / len(STAGES), "less than one of one kind"
    assert rss(worker) - memory < 20_000_000  # heaps breathe, and those that are served at once leave holes
    assert server.workers() == [worker]
    assert "ERROR" not in server.stderr
    assert server.stop() == 0
