"""What the scoreboard says in seconds, bytes and percentiles."""

from __future__ import annotations

import json
import random

import pytest

from monoceros.ops import stats
from monoceros.scoreboard import (
    ACCEPTED,
    BORN,
    BUCKETS,
    DRAINING,
    GENERATION,
    LATENCY,
    LEAVING,
    NOW_GENERATION,
    NUMBER,
    PID,
    READY,
    STARTED,
    STATE,
    TARGET,
    Scoreboard,
    bucket,
    magnitudes,
)
from monoceros.worker.tally import Tally


def board() -> Scoreboard:
    """Two workers of generation 3, of which one is about to leave."""
    board = Scoreboard(4)
    for number, state in ((2, READY), (1, DRAINING)):
        slot = board.take()
        assert slot is not None
        slot[NUMBER], slot[STATE], slot[PID], slot[GENERATION], slot[BORN] = number, state, 100 + number, 3, 5_000
        slot[ACCEPTED] = number
        tally = Tally(slot)
        tally.add(200, 1000, 0.010, 0.0)
        tally.add(404, 10, 0.020, 0.100)
        tally.flush()
    server = board.server
    server[STARTED], server[TARGET], server[NOW_GENERATION] = 1_000, 2, 3
    return board


def test_all_of_it() -> None:
    told = stats.of(board().read(), 99, 11_000)
    assert json.loads(json.dumps(told)) == told
    assert (told["pid"], told["state"], told["uptime"], told["generation"]) == (99, "serving", 10.0, 3)
    assert told["workers"] == {"wanted": 2, "ready": 1, "spawned": 0, "died": 0, "timed_out": 0}
    totals = told["totals"]
    assert (totals["accepted"], totals["requests"], totals["bytes"]) == (3, 4, 2020)
    assert totals["responses"] == {"1xx": 0, "2xx": 2, "3xx": 0, "4xx": 2, "5xx": 0}
    assert totals["latency"]["count"] == 4
    assert totals["latency"]["mean"] == pytest.approx(0.015)
    assert totals["queue"]["count"] == 4
    assert totals["queue"]["p50"] == 0.0
    assert totals["queue"]["p99"] == pytest.approx(0.1, rel=0.05)
    assert totals["queue"]["mean"] == pytest.approx(0.05, rel=0.05)
    first, second = told["each"]
    assert (first["worker"], first["state"], second["worker"], second["state"]) == (1, "draining", 2, "ready")
    assert (second["pid"], second["age"], second["requests"]) == (102, 6.0, 2)


def test_what_state_it_is_in() -> None:
    empty = Scoreboard(1)
    assert stats.of(empty.read(), 1, 0)["state"] == "starting"
    assert stats.of(empty.read(), 1, 0)["totals"]["latency"]["p99"] is None
    leaving = board()
    leaving.server[LEAVING] = 1
    assert stats.of(leaving.read(), 1, 0)["state"] == "leaving"


def test_why_a_reload_has_failed() -> None:
    failed = board()
    failed.remark = "Reload refused: no such file"
    assert stats.of(failed.read(), 1, 0)["reloads"]["last_failure"] == "Reload refused: no such file"


@pytest.mark.parametrize("scale", [1e-5, 1e-3, 0.1, 10.0])
def test_percentiles_are_right_within_five_percent(scale: float) -> None:
    chance = random.Random(1)
    durations = sorted(chance.lognormvariate(0, 1) * scale for _ in range(10_000))
    slot = Scoreboard(1).slots[0]
    for magnitude in magnitudes(durations):
        slot[LATENCY + bucket(magnitude)] += 1
    histogram = stats.latencies(slot)
    assert len(histogram) == BUCKETS
    for share in stats.PERCENTILES.values():
        right = durations[round(share * len(durations)) - 1]
        assert stats.percentile(histogram, share) == pytest.approx(right, rel=0.05)
