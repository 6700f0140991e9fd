"""A day of operations under load: reloads, recycling, upgrades, mistakes and deaths. No request fails for them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from process.apps import APP, ASGI
from process.load import Load, wrk
from server import Server, wait_for

Serve = Callable[..., Server]

CLIENTS = 16
ROUNDS = 10

OPTIONS = {
    "sync": ["-k", "sync"],
    "gthread": ["-k", "gthread", "--threads", "4"],
    "gevent": ["-k", "gevent"],
    "asgi": ["-k", "asgi"],
}
KINDS = pytest.mark.parametrize("kind", list(OPTIONS))
# Two workers, and four; but ten generations of four on gevent, each of which imports and patches, are half a minute.
CREWS = pytest.mark.parametrize(
    ("kind", "workers"), [(kind, workers) for workers in (2, 4) for kind in OPTIONS if (kind, workers) != ("gevent", 4)]
)


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


def hup(server: Server, said: str, seconds: float = 20.0) -> None:
    """A reload, and what it is to end with."""
    since = len(server.stderr)
    server.signal(signal.SIGHUP)
    server.expect(said, since=since, seconds=seconds)


@CREWS
def test_reloads(start: Callable[..., Server], kind: str, workers: int) -> None:
    server = start(kind, workers)
    with wrk(server, CLIENTS):
        for number in range(2, ROUNDS + 2):
            before = server.workers()
            hup(server, rf"Generation {number} serves after")
            assert set(before).isdisjoint(server.workers())
            assert len(server.workers()) == workers
    assert "ERROR" not in server.stderr
    assert server.stderr.count("Booting worker") == (ROUNDS + 1) * workers


@KINDS
def test_reloads_in_a_hurry(start: Callable[..., Server], kind: str) -> None:
    """Each comes before the one before is done."""
    server = start(kind, 2)
    with wrk(server, CLIENTS):
        for times in range(1, 11):
            server.signal(signal.SIGHUP)
            server.expect("Hang up: Master", times=times)
        server.expect(r"Generation \d+ serves after", seconds=20)
        wait_for(lambda: len(server.workers()) == 2, seconds=20, what="the old workers to leave")


@CREWS
def test_recycling(start: Callable[..., Server], kind: str, workers: int) -> None:
    server = start(kind, workers, "--max-requests", "1000", "--max-requests-jitter", "100")
    with wrk(server, CLIENTS):
        server.expect(r"Autorestarting worker after current request\.", times=ROUNDS, seconds=30)
        server.expect(r"Worker exiting", times=ROUNDS, seconds=20)
    assert "ERROR" not in server.stderr
    assert server.stop() == 0


@CREWS
def test_an_upgrade(start: Callable[..., Server], kind: str, workers: int) -> None:
    """To the new master and its workers, until the old one has left."""
    server = start(kind, workers)
    old = set(server.tree())
    with wrk(server, CLIENTS):
        server.signal(signal.SIGUSR2)
        server.ready(20, workers=2 * workers)
        server.signal(signal.SIGWINCH)
        server.expect("Worker exiting", times=workers, seconds=20)
        assert server.stop(signal.SIGQUIT if workers == 2 else signal.SIGTERM) == 0
        server.expect("Master has been promoted")
    assert old.isdisjoint(server.tree())
    assert len(server.serving()) == workers
    assert "ERROR" not in server.stderr


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
    with wrk(server, CLIENTS):
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
