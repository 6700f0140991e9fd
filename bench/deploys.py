"""python -m bench.deploys: does a client notice a reload, recycling or an upgrade? Stalls, beside an undisturbed run.

Exits with 1 if a request failed, or if at p99.9 there is a stall that the undisturbed run beside it does not have.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .clients import Clients, percentile
from .measure import free_port
from .peers import say
from .process import Process, Unfit
from .rows import ASGI, WSGI, Row, hello
from .servers import Place, Server

# What nobody may wait at p99.9 who does not wait as long in the undisturbed run, in milliseconds.
STALL = 100.0

WARM_UP = 1.0
TIMES = 10
PATIENCE = 60.0

# A worker says when it has imported its application. What is left to do until it is ready takes milliseconds.
CONFIG = 'def post_worker_init(worker):\n    worker.log.info("Has imported")\n'
MILLISECONDS = 0.3

KINDS = {
    "sync": (["-k", "sync"], Row("sync", "", "hello:app", hello, needs=WSGI)),
    "gthread": (["-k", "gthread", "--threads", "4"], Row("gthread", "", "hello:app", hello, needs=WSGI)),
    "asgi": (["-k", "asgi"], Row("asgi", "", "asgi_hello:app", hello, needs=ASGI)),
}


@dataclass
class Run:
    """A server that is about to be disturbed."""

    process: Process
    workers: int
    seconds: float

    def signal(self, number: int) -> None:
        os.kill(self.process.root.pid, number)

    def expect(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait until the log has that many lines like this, and return the last."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = list(re.finditer(pattern, self.process.output.read_text()))
            if len(found) >= times:
                return found[times - 1]
            time.sleep(0.02)
        raise Unfit(f"waited {PATIENCE:.0f} s for {times} times {pattern!r}: {self.process.last_words()}")


def undisturbed(run: Run) -> None:
    time.sleep(run.seconds)


def reloads(run: Run) -> None:
    for generation in range(2, TIMES + 2):
        run.signal(signal.SIGHUP)
        run.expect(rf"Generation {generation} serves after")


def recycling(run: Run) -> None:
    run.expect("Autorestarting worker", TIMES)
    run.expect("Worker exiting", TIMES)


def upgrade(run: Run) -> None:
    run.signal(signal.SIGUSR2)
    run.expect("Has imported", 2 * run.workers)
    time.sleep(MILLISECONDS)
    run.signal(signal.SIGWINCH)
    run.expect("Worker exiting", run.workers)
    run.signal(signal.SIGQUIT)
    run.expect("Master has been promoted")


DISTURBANCES: dict[str, Callable[[Run], None]] = {
    "undisturbed": undisturbed,
    f"{TIMES} HUPs": reloads,
    f"{TIMES} recycled": recycling,
    "USR2": upgrade,
}


@dataclass
class Result:
    """All rounds of one line of the table."""

    kind: str
    workers: int
    disturbance: str
    latencies: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def at(self, share: float) -> float:
        return percentile(sorted(self.latencies), share)

    @property
    def client(self) -> float:
        """How late the client itself was at p99.9."""
        return percentile(sorted(self.delays), 0.999)


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    results = [
        Result(kind, workers, disturbance)
        for kind in options.kinds
        for workers in options.workers
        for disturbance in DISTURBANCES
    ]
    for number in range(options.rounds):
        for result in results:
            try:
                measure(result, options)
            except Unfit as reason:
                result.errors.append(str(reason))
            say(f"bench: {number + 1}/{options.rounds} {result.kind}, {result.workers}, {result.disturbance}")
    print("\n".join(table(results)))
    bad = list(complaints(results))
    print("\n".join(["", *(bad or [f"No request failed, and no stall above {STALL:g} ms at p99.9."])]))
    return 1 if bad else 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.deploys", description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of workers (all)")
    parser.add_argument("--workers", nargs="+", type=int, default=[2, 4], help="how many (2 4)")
    parser.add_argument("--clients", type=int, default=32, help="kept-alive connections (%(default)s)")
    parser.add_argument(
        "--rate", type=float, default=1600, help="requests a second in all; 0 for as many as go (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=5, help="how long the undisturbed run is (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="how often all of it is done (%(default)s)")
    return parser


def measure(result: Result, options: argparse.Namespace) -> None:
    words, row = KINDS[result.kind]
    if result.disturbance.endswith("recycled"):
        # One about every half second, whatever the number of workers.
        most = int((options.rate or 4000) / 2)
        words = [*words, "--max-requests", str(most), "--max-requests-jitter", str(most // 5)]
    words = [*words, "-w", str(result.workers), "-c", "conf.py"]
    server = Server("monoceros", lambda place: command(place, words), row.needs)
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        Path(home, "conf.py").write_text(CONFIG)
        place = Place(Path(sys.executable).parent, Path(home), free_port(), row)
        with Process(server, place, ",".join(map(str, sorted(os.sched_getaffinity(0))))) as process:
            run = Run(process, result.workers, options.seconds)
            run.expect("Has imported", result.workers)
            time.sleep(WARM_UP)
            began = time.monotonic()
            with Clients(place.port, clients=options.clients, rate=options.rate) as clients:
                DISTURBANCES[result.disturbance](run)
            result.seconds += time.monotonic() - began
    result.latencies += clients.latencies
    result.delays += clients.delays
    result.errors += clients.errors


def command(place: Place, words: list[str]) -> list[str]:
    return [place.python, "-m", "monoceros", "-b", place.address, *words, place.row.app]


def table(results: Iterable[Result]) -> Iterable[str]:
    names = ["kind", "workers", "disturbance", "seconds", "requests", "failed", "p50 ms", "p99", "p99.9", "longest"]
    yield f"| {' | '.join([*names, 'client p99.9'])} |"
    yield "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for result in results:
        figures = ["-"] * 5
        if result.latencies:
            figures = [f"{figure:.1f}" for figure in (*map(result.at, (0.5, 0.99, 0.999, 1.0)), result.client)]
        cells = [result.kind, str(result.workers), result.disturbance, f"{result.seconds:.1f}"]
        yield f"| {' | '.join([*cells, str(len(result.latencies)), str(len(result.errors)), *figures])} |"


def complaints(results: Iterable[Result]) -> Iterable[str]:
    """What must not be: each is a line."""
    calm = {}
    for result in results:
        who = f"{result.kind}, {result.workers} workers, {result.disturbance}"
        if result.errors:
            yield f"{who}: {len(result.errors)} failed: {', '.join(sorted(set(result.errors)))}"
        if not result.latencies:
            continue
        late = result.at(0.999)
        if result.disturbance == "undisturbed":
            calm[result.kind, result.workers] = late
        elif late > STALL >= calm.get((result.kind, result.workers), 0.0):
            yield f"{who}: a stall of {late:.0f} ms at p99.9; the client itself was {result.client:.0f} ms late"


if __name__ == "__main__":
    sys.exit(main())
