"""One turn: a server is started, checked, warmed up, measured and stopped. A row: turns, interleaved.

Each turn has a fresh process. So no neighbour idles beside the one that is measured, and what is drawn by lot at the
start of a Python process (hash seed, addresses) is drawn anew for each round.
"""

from __future__ import annotations

import http.client
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import wrk
from .peers import BIN, say
from .process import Process, Unfit
from .rows import Answer, Row
from .servers import Place, Server

WARM_UP = 1
ANSWER_TIMEOUT = 15.0
IDLE_TIMEOUT = 30.0
READ_EVERY = 0.1


@dataclass(frozen=True)
class Plan:
    rounds: int
    seconds: int
    connections: int
    server_core: int
    client_core: int
    installed: frozenset[str]
    """Distributions in the peers' environment."""


@dataclass(frozen=True)
class Sample:
    """One round of one server."""

    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Of the server, for one request."""
    rss_mib: float
    errors: int
    requests: int


@dataclass
class Cell:
    server: str
    samples: list[Sample | None] = field(default_factory=list)
    """One a round, in the order of the rounds; None for one that failed."""
    notes: list[str] = field(default_factory=list)

    def note(self, text: str | None) -> None:
        if text and text not in self.notes:
            self.notes.append(text)


def measure(row: Row, servers: list[Server], plan: Plan) -> list[Cell]:
    """Rounds of A B C, A B C: a bad minute of the machine is everybody's."""
    cells = {server.name: Cell(server.name) for server in servers if server.joins(row)}
    for server in servers:
        if server.joins(row):
            cells[server.name].note(excuse(server, row, plan))
    for number in range(plan.rounds):
        for server in servers:
            if server.name not in cells or None in cells[server.name].samples:
                continue
            cell = cells[server.name]
            if not cell.samples and cell.notes:
                continue
            try:
                sample = turn(row, server, plan, cell)
            except Unfit as reason:
                cell.note(str(reason))
                cell.samples.append(None)
                say(f"bench: {row.name} {number + 1}/{plan.rounds} {server.name}: {reason}")
            else:
                cell.samples.append(sample)
                say(
                    f"bench: {row.name} {number + 1}/{plan.rounds} {server.name}: "
                    f"{sample.rps:.0f} requests/s, {sample.cpu_us:.1f} us CPU"
                )
    return list(cells.values())


def excuse(server: Server, row: Row, plan: Plan) -> str | None:
    """Why this server need not even be started."""
    if server.package and server.package not in plan.installed:
        return "is not in the peers' environment (see the end of requirements-optional.txt)"
    return server.lacks(row)


def turn(row: Row, server: Server, plan: Plan, cell: Cell) -> Sample:
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        place = Place(BIN, Path(home), free_port(), row, free_port())
        with Process(server, place, str(plan.server_core)) as process:
            cell.note(row.remark(check(row, place)))
            with silent(row.idle, place), reader(place):
                warm_up = load(row, place, plan, WARM_UP)
                before = process.usage()
                result = load(row, place, plan, plan.seconds)
                after = process.usage()
        # Only now: a server may keep lines back as long as it writes them before it exits.
        if place.access_log and (lines := process.logged()) < (expected := warm_up.requests + result.requests):
            raise Unfit(f"logged {lines} of {expected} requests")
    if not result.requests:
        raise Unfit("answered no request at all under load")
    return Sample(
        rps=result.rps,
        p50_ms=result.p50,
        p99_ms=result.p99,
        cpu_us=after.since(before) / 1000 / result.requests,
        rss_mib=after.rss / 2**20,
        errors=result.errors,
        requests=result.requests,
    )


def load(row: Row, place: Place, plan: Plan, seconds: int) -> wrk.Load:
    try:
        return wrk.run(
            f"http://{place.address}/",
            core=plan.client_core,
            connections=plan.connections,
            seconds=seconds,
            script=row.script,
        )
    except subprocess.SubprocessError as error:
        raise Unfit(f"the client gave up: {error}") from None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def check(row: Row, place: Place) -> Answer:
    """A fast wrong answer is not worth measuring."""
    client = http.client.HTTPConnection("127.0.0.1", place.port, timeout=ANSWER_TIMEOUT)
    try:
        client.request("POST" if row.body else "GET", "/", row.body)
        response = client.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(response.status, headers, response.read())
    except (OSError, http.client.HTTPException) as error:
        raise Unfit(f"did not answer: {error or type(error).__name__}") from None
    finally:
        client.close()
    if answer.status != 200 or not row.right(answer.body):
        raise Unfit(f"answered {answer.status} with {answer.body[:60]!r}")
    return answer


ASK = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@contextmanager
def silent(number: int, place: Place) -> Iterator[None]:
    """That many connections that had one answer and now say nothing. At the end they must still be open."""
    connections: list[socket.socket] = []
    deadline = time.monotonic() + IDLE_TIMEOUT
    try:
        try:
            for _ in range(number):
                if time.monotonic() > deadline:
                    raise Unfit(f"took {IDLE_TIMEOUT:.0f} s for {len(connections)} of {number} idle connections")
                connection = socket.create_connection(("127.0.0.1", place.port), timeout=ANSWER_TIMEOUT)
                connections.append(connection)
                connection.sendall(ASK)
                if b"\r\nconnection: close" in connection.recv(65536).lower():
                    raise Unfit("closes the connection after each answer")
        except OSError as error:
            raise Unfit(f"{len(connections)} idle connections, then: {error}") from None
        yield
        if closed := sum(not is_open(connection) for connection in connections):
            raise Unfit(f"closed {closed} of {number} idle connections")
    finally:
        for connection in connections:
            connection.close()


@contextmanager
def reader(place: Place) -> Iterator[None]:
    """Somebody who reads /stats, where the row is about that. At the end each answer must have been a good one."""
    if "stats" not in place.row.needs:
        yield
        return
    done = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, place, done)
        try:
            yield
        finally:
            done.set()
    if fault := reading.result():
        raise Unfit(fault)


def read(place: Place, done: threading.Event) -> str | None:
    """Read until done. What was wrong, if something was."""
    while not done.wait(READ_EVERY):
        client = http.client.HTTPConnection("127.0.0.1", place.admin_port, timeout=ANSWER_TIMEOUT)
        try:
            client.request("GET", "/stats")
            response = client.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            return f"did not tell of itself: {error or type(error).__name__}"
        finally:
            client.close()
        if response.status != 200 or not content:
            return f"answered {response.status} to who asked for /stats"
    return None


def is_open(connection: socket.socket) -> bool:
    """No end of stream in sight. What the first answer left over is read away."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
