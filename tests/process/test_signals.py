"""Signals to the master, and to its workers."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGINT, SIGQUIT, SIGTERM

import pytest

from process.apps import FILES, make_gate, open_gate
from process.load import Client, Load
from server import Server, descriptors, wait_for

Serve = Callable[..., Server]


@pytest.mark.smoke
@pytest.mark.parametrize("number", [SIGTERM, SIGINT, SIGQUIT])
def test_stopping(serve: Serve, number: int) -> None:
    server = serve("-w", "2", "app:app", files=FILES).ready(workers=2)
    assert server.get("/").status == 200
    assert server.stop(number) == 0
    server.expect(f"Handling signal: {signal.Signals(number).name.removeprefix('SIG').lower()}$")
    server.expect("Shutting down: Master$")
    assert "ERROR" not in server.stderr
    assert server.tree() == []
    with pytest.raises(ConnectionRefusedError):
        server.connect()


@pytest.mark.parametrize("number", [SIGTERM, SIGINT, SIGQUIT])
def test_stopping_while_workers_boot(serve: Serve, number: int) -> None:
    module = "print('importing', flush=True)\nopen('gate').close()\n" + FILES["app.py"]
    server = serve("-w", "2", "app:app", files={"app.py": module})
    make_gate(server)
    server.expect("importing", times=2, stream="stdout")
    assert server.stop(number) == 0
    assert server.tree() == []
    assert list(server.directory.glob("core*")) == []
    assert "SIGQUIT" not in server.stderr


@pytest.mark.parametrize("number", [SIGINT, SIGQUIT])
def test_a_hurry_waits_for_nobody(serve: Serve, number: int) -> None:
    server = serve("app:app", "--graceful-timeout", "60", files=FILES).ready()
    make_gate(server)
    with Client(server) as client:
        client.ask("/gate")
        server.expect("at the gate")
        assert server.stop(number) == 0


@pytest.mark.parametrize("second", [SIGINT, SIGQUIT, SIGTERM])
@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_second_signal_puts_an_end_to_patience(serve: Serve, threads: str, second: int) -> None:
    server = serve("app:app", "--graceful-timeout", "60", "--threads", threads, files=FILES).ready()
    make_gate(server)
    with Client(server) as client:
        client.ask("/gate")
        server.expect("at the gate")
        server.signal(SIGTERM)
        server.expect("Handling signal: term")
        assert server.stop(second) == 0
    server.expect("Quick shutdown requested")


def test_signals_to_the_very_end(serve: Serve) -> None:
    """Who asks for a stop again and again gets the status of a stop, not a process that died of a signal."""
    server = serve("app:app", files=FILES).ready()
    with suppress(ProcessLookupError):
        while server.running:
            server.signal(SIGTERM)
    assert server.wait() == 0


def test_what_comes_during_a_stop_changes_nothing(serve: Serve) -> None:
    server = serve("app:app", "--graceful-timeout", "60", files=FILES).ready()
    make_gate(server)
    with Client(server) as client:
        client.ask("/gate")
        server.expect("at the gate")
        server.signal(SIGTERM)
        server.expect("Handling signal: term")
        for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
            server.signal(number)
        open_gate(server)
        assert client.answer()[0] == 200
    assert server.wait() == 0
    assert server.stderr.count("Booting worker") == server.stderr.count("Starting monoceros") == 1
    assert not re.search("ERROR|CRITICAL|Traceback|Quick", server.stderr)


def test_each_has_its_line(serve: Serve) -> None:
    server = serve("app:app", "--log-level", "debug", files=FILES).ready()
    for number in (signal.SIGUSR1, signal.SIGWINCH, signal.SIGUSR2, signal.SIGHUP):
        server.signal(number)
        server.expect(rf"\[{server.pid}\] \[INFO\] Handling signal: {signal.Signals(number).name[3:].lower()}$")
    server.expect(rf"\[{server.pid}\] \[DEBUG\] Handling signal: chld$")


def test_a_reload_brings_the_number_of_workers_that_is_configured(serve: Serve) -> None:
    server = serve("app:app", files=FILES).ready()
    server.signal(signal.SIGTTIN)
    server.ready(workers=2)
    server.signal(signal.SIGHUP)
    server.expect("Generation 2 serves")
    assert len(server.workers()) == 1


def test_a_reload_that_takes_long_keeps_nobody_waiting(serve: Serve) -> None:
    """An old worker is still busy, and another one is wanted meanwhile."""
    server = serve("app:app", "--graceful-timeout", "60", files=FILES).ready()
    make_gate(server)
    with Client(server) as client:
        client.ask("/gate")
        server.expect("at the gate")
        server.signal(signal.SIGHUP)
        server.expect("Booting worker", times=2)
        server.signal(signal.SIGTTIN)
        server.expect("Booting worker", times=3)
        assert "Worker exiting" not in server.stderr
        open_gate(server)
        assert client.answer()[0] == 200
    server.expect("Generation 2 serves")


def test_more_and_fewer_workers(serve: Serve) -> None:
    server = serve("app:app", files=FILES).ready()
    (first,) = server.workers()
    server.signal(signal.SIGTTIN)
    server.expect("Handling signal: ttin")
    server.expect("Booting worker", times=2)
    server.signal(signal.SIGTTIN)
    server.expect("Booting worker", times=3)
    wait_for(lambda: len(server.workers()) == 3)
    server.signal(signal.SIGTTOU)
    server.expect("Handling signal: ttou")
    server.expect(rf"Worker exiting \(pid: {first}\)")  # the oldest goes
    wait_for(lambda: len(server.workers()) == 2)
    for times in (2, 3, 4):
        server.signal(signal.SIGTTOU)
        server.expect("Handling signal: ttou", times=times)
    wait_for(lambda: len(server.workers()) == 1)
    assert server.get("/").status == 200
    assert server.stop() == 0
    assert server.stderr.count("Booting worker") == 3
    assert server.stderr.count("Worker exiting") == 3


def test_signals_are_counted_even_if_they_come_at_once(serve: Serve) -> None:
    server = serve("app:app", files=FILES).ready()
    for times in range(1, 5):
        server.signal(signal.SIGTTIN)
        server.expect("Handling signal: ttin", times=times)
    server.expect("Booting worker", times=5)


def test_logs_are_opened_again(serve: Serve, tmp_path: Path) -> None:
    logs = ("--access-logfile", "access", "--error-logfile", "error")
    server = serve("-w", "2", "app:app", *logs, files=FILES).ready(workers=2)
    server.get("/?before")
    wait_for(lambda: "before" in (tmp_path / "access").read_text())
    os.rename(tmp_path / "access", tmp_path / "access.1")
    os.rename(tmp_path / "error", tmp_path / "error.1")
    server.signal(signal.SIGUSR1)
    wait_for(lambda: all(_writes_to(pid, tmp_path / "error") for pid in (server.pid, *server.workers())))
    wait_for(lambda: all(_writes_to(pid, tmp_path / "access") for pid in server.workers()))
    server.get("/?after")
    wait_for(lambda: "after" in (tmp_path / "access").read_text())
    assert server.stop() == 0
    assert (tmp_path / "error").read_text().count("Worker exiting") == 2
    assert "Handling signal: usr1" in (tmp_path / "error.1").read_text()
    assert "after" not in (tmp_path / "access.1").read_text()


def _writes_to(pid: int, path: Path) -> bool:
    """Has the process the file of this name open, and not one that had it before?"""
    open_files = descriptors(pid).values()
    return str(path) in open_files and f"{path}.1" not in open_files


def test_logs_are_opened_again_by_a_worker_that_boots(serve: Serve, tmp_path: Path) -> None:
    module = "print('importing', flush=True)\nopen('gate').close()\n" + FILES["app.py"]
    server = serve("app:app", "--error-logfile", "error", files={"app.py": module})
    make_gate(server)
    server.expect("importing", stream="stdout")
    os.rename(tmp_path / "error", tmp_path / "error.1")
    server.signal(signal.SIGUSR1)
    wait_for(lambda: all(_writes_to(pid, tmp_path / "error") for pid in (server.pid, *server.workers())))
    (tmp_path / "gate").unlink()
    assert server.stop() == 0


def test_winch_is_for_terminals(serve: Serve) -> None:
    server = serve("app:app", "--log-level", "debug", files=FILES).ready()
    server.signal(signal.SIGWINCH)
    server.expect("SIGWINCH ignored. Not daemonized")
    assert server.get("/").status == 200


def test_what_is_meant_for_the_master_does_not_hurt_a_worker(serve: Serve) -> None:
    server = serve("app:app", files=FILES).ready()
    (worker,) = server.workers()
    assert server.get("/").text == str(worker)
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH):
        server.signal(number, worker)
    assert server.get("/").text == str(worker)


@pytest.mark.parametrize("number", [SIGTERM, SIGINT, SIGQUIT])
def test_a_worker_told_to_leave_is_replaced(serve: Serve, number: int) -> None:
    server = serve("app:app", files=FILES).ready()
    worker = int(server.get("/").text)
    server.signal(number, worker)
    server.expect(rf"Worker exiting \(pid: {worker}\)")
    server.expect("Booting worker", times=2)
    assert int(server.get("/").text) != worker


def test_a_terminal_sends_int_to_all(serve: Serve) -> None:
    server = serve("-w", "2", "app:app", files=FILES).ready(workers=2)
    os.killpg(server.pid, SIGINT)
    assert server.wait() == 0
    assert not re.search("ERROR|CRITICAL|Traceback", server.stderr)


def test_the_dead_are_buried(serve: Serve) -> None:
    """Also those that a worker has left behind, where the master is the one who inherits them."""
    server = serve("-w", "2", "app:app", files=FILES).ready(workers=2)
    with Load(server, 4) as load:
        for times in range(1, 6):
            server.signal(signal.SIGKILL, server.workers()[0])
            server.expect("was sent SIGKILL!", times=times)
            load.more(20)
    assert _zombies(server.pid) == []


def _zombies(parent: int) -> list[str]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [pid for pid in children if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"]
