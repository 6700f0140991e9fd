"""What is counted of each request, and where it stands."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from monoceros.scoreboard import (
    CALM,
    DURATION,
    LATENCY,
    QUEUE,
    SENT,
    WAITED,
    WORDS,
    Scoreboard,
    bucket,
    magnitudes,
    requests,
)
from monoceros.worker.tally import FEW, Tally


def one(seconds: float) -> int:
    return bucket(magnitudes([seconds])[0])


def test_a_response() -> None:
    slot = Scoreboard(1).slots[0]
    tally = Tally(slot)
    tally.add(200, 13, 0.25, 0.0)
    tally.add(503, 7, 0.5, 0.125)
    assert requests(slot) == 0
    tally.flush()
    tally.flush()
    assert (slot[CALM + 2], slot[WAITED + 5], slot[SENT], slot[DURATION]) == (1, 1, 20, 750_000)
    assert (slot[LATENCY + one(0.25)], slot[LATENCY + one(0.5)], slot[QUEUE + one(0.125)]) == (1, 1, 1)
    assert requests(slot) == 2
    assert sum(slot[LATENCY:QUEUE]) == 2
    assert sum(slot[QUEUE:WORDS]) == 1


def test_how_long_a_websocket_was_open_is_no_latency() -> None:
    slot = Scoreboard(1).slots[0]
    tally = Tally(slot)
    tally.add(101, 0, 3600.0, 0.0)
    tally.flush()
    assert requests(slot) == 1
    assert sum(slot[LATENCY:QUEUE]) == slot[DURATION] == 0


def test_many_at_once() -> None:
    slot = Scoreboard(1).slots[0]
    tally = Tally(slot)
    for number in range(4 * FEW):
        tally.add(200 if number % 4 else 404, 1, 0.01 if number % 2 else 0.02, 0.5 if number % 8 == 0 else 0.0)
    tally.flush()
    assert (slot[CALM + 2], slot[CALM + 4], slot[WAITED + 4]) == (3 * FEW, FEW // 2, FEW // 2)
    assert slot[LATENCY + one(0.01)] == slot[LATENCY + one(0.02)] == 2 * FEW
    assert slot[QUEUE + one(0.5)] == FEW // 2


def test_who_is_to_flush_is_told_once() -> None:
    slot = Scoreboard(1).slots[0]
    told: list[Callable[[], None]] = []
    tally = Tally(slot, told.append)
    tally.add(200, 1, 0.01, 0.0)
    tally.add(200, 1, 0.01, 0.0)
    assert len(told) == 1
    told[0]()
    assert requests(slot) == 2
    tally.add(200, 1, 0.01, 0.0)
    assert len(told) == 2


@pytest.fixture
def _eager() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_eager")
def test_several_threads() -> None:
    slot = Scoreboard(1).slots[0]
    tally = Tally(slot)
    threads = [threading.Thread(target=lambda: [tally.add(200, 1, 0.01, 0.0) for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        tally.flush()
    tally.flush()
    assert (requests(slot), slot[SENT], slot[LATENCY + one(0.01)]) == (20_000, 20_000, 20_000)
