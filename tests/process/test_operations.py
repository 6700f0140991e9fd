"""A day of operations under load: reloads, recycling, mistakes and deaths, and no request that fails for them."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from process.apps import APP, ASGI
from process.load import Load
from server import Server, wait_for

Serve = Callable[..., Server]

CLIENTS = 16

OPTIONS = {"sync": ["-k", "sync"], "gthread": ["-k", "gthread", "--threads", "4"], "asgi": ["-k", "asgi"]}
KINDS = pytest.mark.parametrize("kind", list(OPTIONS))


def module(kind: str) -> str:
    """The application, which cannot be imported while there is a file called broken."""
    return "import os\nassert not os.path.exists('broken'), 'the flag is set'\n" + (ASGI if kind == "asgi" else APP)


@pytest.fixture
def start(serve: Serve) -> Callable[..., Server]:
    def start(kind: str, workers: int, *args: str) -> Server:
        files = {"app.py": module(kind), "conf.py": f"bind = '127.0.0.1:{{port}}'\nworkers = {workers}\n"}
        server = serve("-c", "conf.py", *OPTIONS[kind], "app:app", *args, bind=None, files=files)
        return server.ready(workers=workers)

    return start


@contextmanager
def wrk(server: Server) -> Iterator[subprocess.Popen[str]]:
    """wrk until the end of the block; none of its requests may have failed."""
    command = ["wrk", "-t1", f"-c{CLIENTS}", "-d60s", f"http://127.0.0.1:{server.port}/"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
            assert process.poll() is None, "all of this was to be under load"
        finally:
            process.send_signal(signal.SIGINT)  # then it says what it has seen so far
            report, _ = process.communicate(timeout=30)
    assert int(re.findall(r"(\d+) requests in", report)[0]) > 500
    assert re.findall(r".*(?:Socket errors|Non-2xx).*", report) == []


def hup(server: Server, said: str, seconds: float = 20.0) -> None:
    """A reload, and what it is to end with."""
    since = len(server.stderr)
    server.signal(signal.SIGHUP)
    server.expect(said, since=since, seconds=seconds)


@pytest.mark.parametrize(("kind", "workers", "rounds"), [("sync", 2, 10), ("gthread", 4, 10), ("asgi", 4, 5)])
def test_reloads(start: Callable[..., Server], kind: str, workers: int, rounds: int) -> None:
    server = start(kind, workers)
    with wrk(server):
        for number in range(2, rounds + 2):
            before = server.workers()
            hup(server, rf"Generation {number} serves after")
            assert set(before).isdisjoint(server.workers())
            assert len(server.workers()) == workers
    assert "ERROR" not in server.stderr
    assert server.stderr.count("Booting worker") == (rounds + 1) * workers


@KINDS
def test_reloads_in_a_hurry(start: Callable[..., Server], kind: str) -> None:
    """Each comes before the one before is done."""
    server = start(kind, 2)
    with wrk(server):
        for times in range(1, 11):
            server.signal(signal.SIGHUP)
            server.expect("Hang up: Master", times=times)
        server.expect(r"Generation \d+ serves after", seconds=20)
        wait_for(lambda: len(server.workers()) == 2, seconds=20, what="the old workers to leave")


@pytest.mark.parametrize(("kind", "workers"), [("sync", 4), ("gthread", 2), ("asgi", 4)])
def test_ten_rounds_of_recycling(start: Callable[..., Server], kind: str, workers: int) -> None:
    server = start(kind, workers, "--max-requests", "1000", "--max-requests-jitter", "100")
    with wrk(server):
        server.expect(r"Autorestarting worker after current request\.", times=10, seconds=30)
        server.expect(r"Worker exiting", times=10, seconds=20)
    assert "ERROR" not in server.stderr
    assert server.stop() == 0


@KINDS
def test_reloads_that_fail_and_one_that_does_not(start: Callable[..., Server], serve: Serve, kind: str) -> None:
    other = serve("app:app", files={"app.py": APP}).ready()
    server = start(kind, 2, *(["--lifespan", "on"] if kind == "asgi" else []))
    old = sorted(server.workers())
    startup = "\nasync def lifespan(receive, send):\n    await receive()\n    raise RuntimeError('no database')\n"
    boots = "Generation {} called off, generation 1 serves on: .* could not boot: it exited with code 3"
    refused = "Reload refused, generation 1 serves on: .*"
    taken = f"bind = ['127.0.0.1:{server.port}', '127.0.0.1:{other.port}']"
    mistakes = [
        ("app.py", "def app(:", boots, "SyntaxError: invalid syntax"),
        ("app.py", "import nothing_there", boots, "No module named 'nothing_there'"),
        ("app.py", module(kind) + (startup if kind == "asgi" else "\n1 / 0"), boots, "no database|ZeroDivisionError"),
        ("conf.py", taken, refused, f"127.0.0.1:{other.port}: Address already in use"),
        ("conf.py", f"bind = '127.0.0.1:{server.port}'\nworkers = 'many'", refused, "workers = 'many'"),
        ("conf.py", "import nothing_there", refused, "No module named 'nothing_there'"),
    ]
    generation = 1
    with wrk(server):
        for name, text, outcome, why in mistakes:
            generation += outcome == boots
            before, since = (server.directory / name).read_text(), len(server.stderr)
            (server.directory / name).write_text(text)
            hup(server, outcome.format(generation))
            server.expect(why, since=since)
            (server.directory / name).write_text(before)
            assert sorted(server.workers()) == old
        hup(server, rf"Generation {generation + 1} serves after")
        assert set(old).isdisjoint(server.workers())
    assert server.stop() == 0


@pytest.mark.parametrize("kind", ["gthread", "asgi"])
def test_one_of_four_dies_while_nobody_can_boot(start: Callable[..., Server], tmp_path: Path, kind: str) -> None:
    """Three serve on, and the fourth comes back when it can."""
    server = start(kind, 4)
    (tmp_path / "broken").touch()
    with Load(server, CLIENTS) as load:
        load.more(200)
        victim, *others = server.workers()
        mine = load.connections[victim]
        server.signal(signal.SIGKILL, victim)
        server.expect(rf"Worker \(pid:{victim}\) was sent SIGKILL!")
        server.expect("could not boot, next try in 1 s; 3 others serve")
        errors = len(load.errors)
        assert errors <= mine
        server.expect("could not boot, next try in 2 s; 3 others serve")
        assert set(others) <= set(server.workers())
        (tmp_path / "broken").unlink()
        server.ready(workers=4)
        load.more(200)
        assert len(load.errors) == errors
    assert all(error.startswith("later request") for error in load.errors), load.errors
    assert load.refused == 0
    assert set(others) < set(server.workers())
    assert server.stop() == 0
