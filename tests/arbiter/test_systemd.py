"""Sockets from systemd, and news for it: this test is systemd, with a real socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from monoceros.arbiter.systemd import Notifier, listen_fds

US = str(os.getpid())


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that systemd reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.bind(str(tmp_path / "notify"))
        yield sock


@pytest.fixture
def notifier(manager: socket.socket) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname()})


def told(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_the_sockets_of_a_process_that_systemd_starts() -> None:
    code = """
import os, socket
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="a:b", LISTEN_PIDFDID="7", OTHER="x")
sock = socket.create_server(("127.0.0.1", 0))
os.dup2(sock.fileno(), 3), os.dup2(sock.fileno(), 4)
from monoceros.arbiter.systemd import listen_fds
from monoceros.listener import Listener
addresses = listen_fds(os.environ, os.getpid())
print([str(address) for address in addresses])
print([Listener.open(address, 1).bound == sock.getsockname() for address in addresses])
print([os.get_inheritable(fd) for fd in (3, 4)])
print(sorted(name for name in os.environ if name.startswith(("LISTEN", "OTHER"))))
print(listen_fds(os.environ, os.getpid()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert (done.stdout.splitlines(), done.stderr) == (
        ["['fd://3', 'fd://4']", "[True, True]", "[False, False]", "['OTHER']", "[]"],
        "",
    )


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": "nonsense", "LISTEN_FDS": "1"},
        {"LISTEN_PID": "", "LISTEN_FDS": "1"},
        {"LISTEN_PID": US, "LISTEN_FDS": "0"},
    ],
    ids=str,
)
def test_none_for_us(environ: dict[str, str]) -> None:
    assert listen_fds(environ, os.getpid()) == []
    assert environ == {}


@pytest.mark.parametrize("count", ["", "-1", "x", "1_0", "٣", "999999999999999999", "9" * 400])
def test_a_count_that_is_not_true(count: str) -> None:
    with pytest.raises(ValueError, match="LISTEN_FDS = "):
        listen_fds({"LISTEN_PID": US, "LISTEN_FDS": count}, os.getpid())


def test_what_is_told(manager: socket.socket, notifier: Notifier) -> None:
    notifier.ready("4 workers serve")
    assert told(manager) == ["READY=1", "STATUS=4 workers serve"]
    notifier.ready()
    assert told(manager) == ["READY=1"]
    notifier.stopping()
    assert told(manager) == ["STOPPING=1"]
    notifier.watchdog()
    assert told(manager) == ["WATCHDOG=1"]
    notifier.mainpid(77)
    assert told(manager) == ["MAINPID=77"]


def test_a_reload_says_when_it_begins(manager: socket.socket, notifier: Notifier) -> None:
    before = time.monotonic() * 1e6
    notifier.reloading()
    word, when = told(manager)
    assert word == "RELOADING=1"
    name, _, microseconds = when.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before - 1 <= int(microseconds) <= time.monotonic() * 1e6 + 1


def test_a_status_is_one_line(manager: socket.socket, notifier: Notifier) -> None:
    notifier.stopping("one\nMAINPID=1\r\ntwo\udcff")
    assert told(manager) == ["STOPPING=1", "STATUS=one MAINPID=1 two\\udcff"]


def test_an_abstract_socket() -> None:
    name = uuid.uuid4().hex
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.settimeout(10)
        Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert told(manager) == ["READY=1"]


def test_a_socket_that_has_vanished(tmp_path: Path, manager: socket.socket, notifier: Notifier) -> None:
    notifier.ready()
    os.unlink(tmp_path / "notify")
    notifier.watchdog()
    assert told(manager) == ["READY=1"]


@pytest.mark.parametrize("where", ["", "relative/path", "vsock:2:1234", "/" + "x" * 200, "/dev/null", "@"])
def test_nowhere_to_tell(where: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": where})
    notifier.ready("x")
    notifier.reloading()
    notifier.mainpid(1)


def test_systemd_does_not_read(manager: socket.socket, notifier: Notifier) -> None:
    """The queue is full: the master goes on after a second."""
    manager_address = manager.getsockname()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                filler.sendto(b"x", manager_address)
    before = time.monotonic()
    notifier.watchdog()
    assert 0.5 < time.monotonic() - before < 5


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": US}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
    ids=str,
)
def test_how_often_the_watchdog_wants_to_hear(environ: dict[str, str], interval: float | None) -> None:
    assert Notifier({**environ, "NOTIFY_SOCKET": "/run/x"}).watchdog_interval == interval
    assert Notifier(environ).watchdog_interval is None
