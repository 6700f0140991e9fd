"""The scoreboard in the units that people read: seconds, bytes, percentiles."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import monoceros
from monoceros.scoreboard import (
    ACCEPTED,
    BORN,
    BUCKETS,
    BUSY,
    CALM,
    CLASSES,
    CONNECTIONS,
    CPU,
    DIED,
    DURATION,
    ERRORS,
    FAILED,
    GENERATION,
    LAG,
    LATENCY,
    LEAVING,
    MEMORY,
    NOW_GENERATION,
    NUMBER,
    OVERDUE,
    PID,
    QUEUE,
    READY,
    REFUSED,
    RELOADS,
    SENT,
    SPAWNED,
    STARTED,
    STATE,
    STATES,
    TARGET,
    TIRED,
    WAITED,
    Reading,
    edge,
    requests,
)

PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def of(reading: Reading, pid: int, now: int) -> dict[str, Any]:
    """All that the scoreboard tells of the server whose master is `pid`, ready for JSON. `now` is in milliseconds.

    Durations are in seconds, sizes in bytes.
    """
    server = reading.server
    ready = sum(slot[STATE] == READY for slot in reading.slots)
    return {
        "version": monoceros.__version__,
        "pid": pid,
        "state": "leaving" if server[LEAVING] else "serving" if ready else "starting",
        "uptime": (now - server[STARTED]) / 1000,
        "generation": server[NOW_GENERATION],
        "workers": {
            "wanted": server[TARGET],
            "ready": ready,
            "spawned": server[SPAWNED],
            "died": server[DIED],
            "timed_out": server[OVERDUE],
        },
        "reloads": {"asked": server[RELOADS], "failed": server[FAILED], "last_failure": reading.remark or None},
        "totals": counts(reading.totals),
        "each": [worker(slot, now) for slot in sorted(reading.slots, key=lambda slot: slot[NUMBER])],
    }


def worker(slot: Sequence[int], now: int) -> dict[str, Any]:
    """One worker."""
    return {
        "worker": slot[NUMBER],
        "pid": slot[PID],
        "generation": slot[GENERATION],
        "state": STATES[slot[STATE]].lower(),
        "age": (now - slot[BORN]) / 1000,
        "to_be_replaced": bool(slot[TIRED]),
        "connections": slot[CONNECTIONS],
        "in_flight": slot[BUSY],
        "loop_lag": slot[LAG] / 1000,
        "memory": slot[MEMORY],
        **counts(slot),
    }


def counts(words: Sequence[int]) -> dict[str, Any]:
    """What is counted, of a worker or of all."""
    return {
        "accepted": words[ACCEPTED],
        "requests": requests(words),
        "responses": {f"{digit}xx": count for digit, count in by_class(words).items() if 1 <= digit <= 5 or count},
        "errors": words[ERRORS],
        "refused": words[REFUSED],
        "bytes": words[SENT],
        "cpu": words[CPU] / 1e6,
        "latency": times(latencies(words), words[DURATION] / 1e6),
        "queue": times(waits(words), waited(words)),
    }


def by_class(words: Sequence[int]) -> dict[int, int]:
    """How many responses there were, by the first digit of their status."""
    return {digit: words[CALM + digit] + words[WAITED + digit] for digit in range(CLASSES)}


def latencies(words: Sequence[int]) -> list[int]:
    """How many requests took how long: a histogram with the buckets of the scoreboard."""
    return list(words[LATENCY : LATENCY + BUCKETS])


def waits(words: Sequence[int]) -> list[int]:
    """How many requests had waited how long; those that were served at once are in the first bucket."""
    histogram = list(words[QUEUE : QUEUE + BUCKETS])
    histogram[0] += sum(words[CALM : CALM + CLASSES])
    return histogram


def waited(words: Sequence[int]) -> float:
    """How many seconds requests have waited in all, as far as the buckets tell, which is within 3 %."""
    return sum(count * middle(number) for number, count in enumerate(words[QUEUE : QUEUE + BUCKETS]) if count)


def middle(number: int) -> float:
    """The time, in seconds, for which a bucket stands."""
    return (edge(number) + edge(number + 1)) / 2


def times(histogram: Sequence[int], seconds: float) -> dict[str, float | int | None]:
    """A histogram in numbers; `seconds` is the sum of what is in it."""
    count = sum(histogram)
    return {
        "count": count,
        "mean": seconds / count if count else None,
        **{name: percentile(histogram, share) for name, share in PERCENTILES.items()},
    }


def percentile(histogram: Sequence[int], share: float) -> float | None:
    """The time, in seconds, below which that share of requests stays, right within 3 %; None if there are none."""
    count = sum(histogram)
    for number, below in enumerate(accumulate(histogram)):
        if below and below >= share * count:
            return middle(number) if number else 0.0
    return None
