"""The scoreboard as families of Prometheus' metrics, and an application's own beside them.

Counters are sums over all workers there have ever been, so that they never go back; a worker's own numbers are gauges,
under the number of its place and not under its pid, so that there are no more of them than workers.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

import monoceros
from monoceros.ops import multiproc, stats
from monoceros.scoreboard import (
    ACCEPTED,
    BUSY,
    CONNECTIONS,
    CPU,
    DIED,
    DURATION,
    ERRORS,
    FAILED,
    LAG,
    MEMORY,
    NOW_GENERATION,
    NUMBER,
    OVERDUE,
    PARTS,
    REFUSED,
    RELOADS,
    SENT,
    SPAWNED,
    STATE,
    STATES,
    TARGET,
    Reading,
    edge,
)

if TYPE_CHECKING:
    from prometheus_client import Metric

EXTRA: Final = "Metrics for Prometheus need a package: pip install 'monoceros[metrics]'"

# The bounds of the histograms, from 2^-10 s, a millisecond, to 2^6 s, a minute: powers of two, where our own buckets
# begin, so that what is counted below a bound is exactly that. The first buckets begin at 2^-20 s.
BOUNDS: Final = range(10 * PARTS, 27 * PARTS, PARTS)


class Missing(Exception):
    """The library is not installed. The text says what to do."""


class Total(NamedTuple):
    """A counter: a sum over all workers, or a word of the server's own."""

    name: str
    help: str
    value: Callable[[Reading], float]


class Each(NamedTuple):
    """A gauge of each worker."""

    name: str
    help: str
    value: Callable[[Sequence[int]], float]


TOTALS: Final = (
    Total("connections", "Connections accepted.", lambda now: now.totals[ACCEPTED]),
    Total("application_errors", "Requests that the application has failed.", lambda now: now.totals[ERRORS]),
    Total("refused_requests", "Requests that broke the rules of HTTP or a limit.", lambda now: now.totals[REFUSED]),
    Total("response_content_bytes", "Bytes of content in responses.", lambda now: now.totals[SENT]),
    Total("cpu_seconds", "Processor time of the workers.", lambda now: now.totals[CPU] / 1e6),
    Total("workers_spawned", "Workers started.", lambda now: now.server[SPAWNED]),
    Total("workers_died", "Workers that have ended without being told to.", lambda now: now.server[DIED]),
    Total("workers_timed_out", "Workers killed for missing their deadline.", lambda now: now.server[OVERDUE]),
    Total("reloads", "Reloads asked for.", lambda now: now.server[RELOADS]),
    Total("reloads_failed", "Reloads that failed: the generation before served on.", lambda now: now.server[FAILED]),
)

EACH: Final = (
    Each("worker_connections", "Connections open.", lambda slot: slot[CONNECTIONS]),
    Each("worker_requests_in_flight", "Requests with the application.", lambda slot: slot[BUSY]),
    Each("worker_memory_bytes", "Resident memory.", lambda slot: slot[MEMORY]),
    Each(
        "worker_loop_lag_seconds",
        "How late the loop was, at the worst of a second.",
        lambda slot: slot[LAG] / 1e3,
    ),
)


def available() -> bool:
    """Is the library installed?"""
    return importlib.util.find_spec("prometheus_client") is not None


def render(reading: Reading, accept: str, told: set[str]) -> tuple[bytes, str]:
    """The metrics as text in the format that `accept` (an HTTP field) prefers, and its content type. Raises `Missing`.

    Beside ours stand those of the application, if it uses prometheus_client. Of files of it that cannot be read, the
    error log says so, and `told` remembers it.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
    except ImportError:
        raise Missing(EXTRA) from None
    registry = CollectorRegistry()
    registry.register(Ours(reading))
    directory = os.environ.get(multiproc.VARIABLE)
    if directory:
        registry.register(multiproc.Reader(directory, told))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class Ours:
    """Our own metrics, as prometheus_client asks for them."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def describe(self) -> "list[Metric]":
        """Nothing: else it would be collected twice."""
        return []

    def collect(self) -> "Iterator[Metric]":
        """All families."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        now, totals = self._reading, self._reading.totals
        yield _gauge("info", "The server, and its version.", "version", {monoceros.__version__: 1})
        yield GaugeMetricFamily("monoceros_generation", "How many reloads have begun.", now.server[NOW_GENERATION])
        yield GaugeMetricFamily("monoceros_workers_wanted", "Workers that there should be.", now.server[TARGET])
        states = dict.fromkeys((state.lower() for state in STATES[1:]), 0.0)
        for slot in now.slots:
            states[STATES[slot[STATE]].lower()] += 1
        yield _gauge("workers", "Workers by state.", "state", states)
        responses = CounterMetricFamily("monoceros_responses", "Responses by class of status.", labels=["code"])
        for digit, count in stats.by_class(totals).items():
            if 1 <= digit <= 5 or count:
                responses.add_metric([f"{digit}xx"], count)
        yield responses
        for total in TOTALS:
            yield CounterMetricFamily(f"monoceros_{total.name}", total.help, total.value(now))
        yield _histogram(
            "request_duration_seconds", "How long requests took.", stats.latencies(totals), totals[DURATION] / 1e6
        )
        waits = stats.waits(totals)
        yield _histogram("request_queue_seconds", "How long requests had waited.", waits, stats.waited(totals))
        for each in EACH:
            yield _gauge(each.name, each.help, "worker", {str(slot[NUMBER]): each.value(slot) for slot in now.slots})


def _gauge(name: str, help: str, label: str, values: Mapping[str, float]) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"monoceros_{name}", help, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _histogram(name: str, help: str, histogram: Sequence[int], seconds: float) -> "Metric":
    """A histogram of ours with Prometheus' few bounds. `seconds` is the sum of all times."""
    from prometheus_client.core import HistogramMetricFamily

    below = [0, *accumulate(histogram)]
    buckets = [(repr(edge(bound)), below[bound]) for bound in BOUNDS]
    return HistogramMetricFamily(f"monoceros_{name}", help, [*buckets, ("+Inf", below[-1])], seconds)
