"""What is told to statsD, one datagram each while they are few, and what becomes of it if nobody listens."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from monoceros.ops import statsd
from monoceros.ops.statsd import StatsD, Teller, full_prefix, packed
from monoceros.settings.values import Address


@pytest.fixture
def ear() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", 0))
        ear.setblocking(False)
        yield ear


def heard(ear: socket.socket) -> list[str]:
    """What has come: over loopback it is there at once."""
    found = []
    try:
        while True:
            found.append(ear.recv(65536).decode())
    except BlockingIOError:
        return found


@pytest.fixture
def told(ear: socket.socket) -> Iterator[StatsD]:
    made = StatsD(Address("tcp", *ear.getsockname()))
    yield made
    made.close()


def test_a_request(ear: socket.socket, told: StatsD) -> None:
    told.request(204, 1.2345)
    assert told.waiting
    assert heard(ear) == []
    told.flush()
    assert heard(ear) == [
        "gunicorn.request.duration:1234.5|ms",
        "gunicorn.requests:1|c|@1.0",
        "gunicorn.request.status.204:1|c|@1.0",
    ]
    assert not told.waiting
    told.flush()
    assert heard(ear) == []


def test_a_websocket_is_no_request(told: StatsD) -> None:
    told.request(101, 3600)
    assert not told.waiting


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0.0"), (0.000532, "0.532"), (0.25, "250.0"), (86400.000001, "86400000.001")]
)
def test_a_duration(ear: socket.socket, told: StatsD, seconds: float, text: str) -> None:
    told.request(200, seconds)
    told.flush()
    assert heard(ear)[0] == f"gunicorn.request.duration:{text}|ms"


def test_many_share_datagrams(ear: socket.socket, told: StatsD) -> None:
    for _ in range(10):
        told.request(200, 0.001)
    told.flush()
    assert len(heard(ear)) == 30
    for _ in range(100):
        told.request(200, 0.001)
    told.flush()
    datagrams = heard(ear)
    assert len(datagrams) < 10
    assert max(map(len, datagrams)) <= statsd.DATAGRAM
    assert sorted(line for datagram in datagrams for line in datagram.split("\n")) == sorted(
        ["gunicorn.request.duration:1.0|ms", "gunicorn.requests:1|c|@1.0", "gunicorn.request.status.200:1|c|@1.0"] * 100
    )


def test_a_line_longer_than_a_datagram_goes_alone() -> None:
    long = b"x" * 2000
    assert list(packed([b"a", long, b"b", b"c"])) == [b"a", long, b"b\nc"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [("gauge", "7|g"), ("counter", "7|c|@1.0"), ("histogram", "7|h"), ("timer", "7|ms"), ("set", None)],
)
def test_types(ear: socket.socket, told: StatsD, kind: str, text: str | None) -> None:
    told.metric("my.metric", 7, kind)
    assert heard(ear) == ([f"my.metric:{text}"] if text else [])


@pytest.mark.parametrize(
    ("given", "full"),
    [("", ""), ("app", "app."), ("app.", "app."), ("app..", "app."), ("my.app", "my.app."), ("a", "a")],
)
def test_prefix(given: str, full: str) -> None:
    assert full_prefix(given) == full


def test_prefix_and_tags(ear: socket.socket) -> None:
    told = StatsD(Address("tcp", *ear.getsockname()), "app", "env:prod,zone:1")
    told.metric("gunicorn.workers", 2, "gauge")
    assert heard(ear) == ["app.gunicorn.workers:2|g|#env:prod,zone:1"]
    told.close()


def test_a_unix_socket_that_comes_and_goes(tmp_path: Path) -> None:
    path = str(tmp_path / "statsd.sock")
    told = StatsD(Address("unix", path=path))
    told.metric("lost", 1, "gauge")
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            ear.bind(path)
            ear.setblocking(False)
            told.metric("heard", 1, "gauge")
            assert heard(ear) == ["heard:1|g"]
        os.unlink(path)
        told.metric("lost", 1, "gauge")
    told.close()


def test_who_does_not_listen_is_not_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "statsd.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(path)
        told = StatsD(Address("unix", path=path))
        for number in range(10_000):
            told.metric("a", number, "gauge")
        told.close()


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(OSError):
        StatsD(Address("tcp", "no-such-host.invalid", 8125))


def test_what_records_say(ear: socket.socket, told: StatsD) -> None:
    log = logging.Logger("a")
    log.addHandler(Teller(told))
    log.critical("a")
    log.error("a")
    log.warning("a")
    log.info("a")
    log.debug("a")
    try:
        raise ValueError
    except ValueError:
        log.exception("a")
    log.info("", extra={"metric": "my.count", "value": 0, "mtype": "counter"})
    log.info("", extra={"metric": "my.count", "value": None, "mtype": "counter"})
    log.info("", extra={"metric": "my.count", "value": 1})
    assert heard(ear) == [
        "gunicorn.log.critical:1|c|@1.0",
        "gunicorn.log.error:1|c|@1.0",
        "gunicorn.log.warning:1|c|@1.0",
        "gunicorn.log.exception:1|c|@1.0",
        "my.count:0|c|@1.0",
    ]
