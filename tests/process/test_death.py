"""Workers that die, of whatever cause: what it costs, and what the log says."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest

from process.apps import APP, FILES, make_gate, open_gate
from process.load import Broken, Client, Load
from server import Server, wait_for

Serve = Callable[..., Server]


@pytest.mark.smoke
@pytest.mark.parametrize("threads", [1, 4])
def test_kill_9_costs_at_most_what_was_being_served(serve: Serve, threads: int) -> None:
    """Clients whose connection the dead worker had find it closed; no other has an error."""
    server = serve("-w", "2", "--threads", str(threads), "app:app", files=FILES).ready(workers=2)
    clients = 8
    with Load(server, clients) as load:
        for times in range(1, 4):
            load.more(100)
            load.settle()
            victim = server.workers()[0]
            before = len(load.errors)
            mine = clients  # it may have any share of the connections
            server.signal(signal.SIGKILL, victim)
            server.expect(rf"\[ERROR\] Worker \(pid:{victim}\) was sent SIGKILL!", times=1)
            server.expect("Booting worker", times=2 + times)
            load.more(100)
            assert len(load.errors) - before <= mine
    assert load.refused == 0
    assert all(error.startswith("later request: ") for error in load.errors), load.errors
    assert load.total >= 600


def test_kill_9_of_an_idle_worker_costs_nothing(serve: Serve) -> None:
    """One request at a time, on a connection of its own: it may only fail if it was being served."""
    server = serve("-w", "2", "app:app", "--keep-alive", "0", files=FILES).ready(workers=2)
    with Load(server, 2) as load:
        for times in range(1, 6):
            load.more(50)
            before = len(load.errors)
            server.signal(signal.SIGKILL, server.workers()[0])
            server.expect("was sent SIGKILL!", times=times)
            load.more(50)
            # A sync worker serves one request at a time, and may have accepted the other client's connection.
            assert len(load.errors) - before <= 2
    assert load.refused == 0


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/exit?7", r"\[ERROR\] Worker \(pid:{pid}\) exited with code 7\."),
        ("/exit?3", r"\[ERROR\] Worker \(pid:{pid}\) exited with code 3\."),  # not a failed boot: it was ready
        ("/exit?4", r"\[ERROR\] Worker \(pid:{pid}\) exited with code 4\."),
        (f"/kill?{signal.SIGSEGV:d}", r"\[WARNING\] Worker \(pid:{pid}\) was sent SIGSEGV!"),
        (f"/kill?{signal.SIGBUS:d}", r"\[WARNING\] Worker \(pid:{pid}\) was sent SIGBUS!"),
        (f"/kill?{signal.SIGKILL:d}", r"\[ERROR\] Worker \(pid:{pid}\) was sent SIGKILL!"),
    ],
)
def test_what_the_log_says(serve: Serve, path: str, said: str) -> None:
    server = serve("app:app", files=FILES).ready()
    pid = server.get("/").text
    with Client(server) as client:
        client.ask(path)
        with pytest.raises((Broken, ConnectionError)):
            client.answer()
    server.expect(said.replace("{pid}", pid))
    assert server.get("/").text != pid
    assert server.stop() == 0


def test_a_scout_that_somebody_ends(serve: Serve) -> None:
    """It says nothing about the new code, but it is the end of this reload."""
    server = serve("app:app", files=FILES).ready()
    (old,) = server.workers()
    make_gate(server)
    (server.directory / "app.py").write_text("print('importing', flush=True)\nopen('gate').close()\n" + APP)
    server.signal(signal.SIGHUP)
    server.expect("importing", stream="stdout")
    scout = server.workers()[-1]
    server.signal(signal.SIGTERM, scout)
    server.expect(rf"\[INFO\] Worker \(pid:{scout}\) was sent SIGTERM!")
    server.expect("Generation 2 called off, generation 1 serves on: .* could not boot: it was sent SIGTERM")
    assert server.get("/").text == str(old)


def test_a_crash_shows_where_it_was(serve: Serve) -> None:
    server = serve("app:app", files=FILES).ready()
    server.ask(f"GET /kill?{signal.SIGSEGV:d} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    server.expect("Fatal Python error: Segmentation fault")
    line = APP.splitlines().index("        os.kill(os.getpid(), int(query))") + 1
    server.expect(rf'File "{server.directory}/app.py", line {line} in app')
    server.expect("was sent SIGSEGV!")


def test_leaving_in_order_is_not_worth_a_line(serve: Serve) -> None:
    server = serve("app:app", files=FILES).ready()
    pid = server.get("/").text
    server.ask(b"GET /exit?0 HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_for(lambda: server.workers() not in ([], [int(pid)]), what="another worker")
    assert server.get("/").text != pid
    assert "exited" not in server.stderr


def test_a_worker_that_cannot_boot_while_others_serve(serve: Serve) -> None:
    """It is tried again with growing pauses, until it can."""
    module = "import os\nassert not os.path.exists('broken'), 'the flag is set'\n" + APP
    server = serve("-w", "2", "app:app", files={"app.py": module}).ready(workers=2)
    (server.directory / "broken").touch()
    survivor, victim = server.workers()
    server.signal(signal.SIGKILL, victim)
    for pause in (1, 2):
        last = server.expect(rf"\[ERROR\] worker=\d gen=1 pid=\d+ could not boot, next try in {pause} s")
        assert server.get("/").text == str(survivor)
    said = last.string[: last.end()]  # by now there may have been a third try
    assert said.count("AssertionError: the flag is set") == 2
    assert said.count("could not boot") == 2
    (server.directory / "broken").unlink()
    server.ready(20, workers=2)
    # Once recovered, the next failure starts with a short pause again.
    (server.directory / "broken").touch()
    server.signal(signal.SIGKILL, server.workers()[1])
    server.expect("could not boot, next try in 1 s", times=2)
    assert server.stop() == 0


FORK = """
import errno, os

fork = os.fork

def fork_if_there_is_room():
    if os.path.exists("full"):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

os.fork = fork_if_there_is_room
"""


def test_no_room_for_another_process(serve: Serve) -> None:
    server = serve("-w", "2", "-c", "conf.py", "app:app", files={**FILES, "conf.py": FORK}).ready(workers=2)
    (server.directory / "full").touch()
    server.signal(signal.SIGKILL, server.workers()[0])
    server.expect("Cannot fork: Resource temporarily unavailable, next try in 1 s")
    assert server.get("/").status == 200
    server.expect("next try in 2 s")
    (server.directory / "full").unlink()
    server.expect("Booting worker", times=3)
    wait_for(lambda: len(server.workers()) == 2)


def test_no_room_from_the_start(serve: Serve) -> None:
    files = {**FILES, "conf.py": FORK, "full": ""}
    server = serve("-w", "4", "-c", "conf.py", "app:app", files=files)
    server.expect("Cannot fork: Resource temporarily unavailable, next try in 1 s")
    (server.directory / "full").unlink()
    server.ready()
    server.expect("Booting worker", times=4)
    # The other three are not tried before the pause is over, so each try is of another second.
    tries = re.findall(r"^\[(.*?)\] .* Cannot fork", server.stderr, re.MULTILINE)
    assert 1 <= len(set(tries)) == len(tries)


def test_a_mistake_of_the_master_itself(serve: Serve) -> None:
    """Here a hook makes it. The server ends in order, with Gunicorn's status for that."""
    conf = "def child_exit(server, worker):\n    server.crew.act = None\n"
    server = serve("-w", "2", "-c", "conf.py", "app:app", files={**FILES, "conf.py": conf}).ready(workers=2)
    make_gate(server)
    with Client(server) as client:
        busy = int(client.ask().answer()[1])
        client.ask("/gate")
        server.expect("at the gate")
        (idle,) = {*server.workers()} - {busy}
        server.signal(signal.SIGKILL, idle)
        server.expect(r"\[ERROR\] Unhandled exception in main loop\nTraceback")
        open_gate(server)
        assert client.answer() == (200, str(busy))
    assert server.wait() == 255
    assert server.tree() == []
