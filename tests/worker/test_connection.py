"""What all connections have: a name, patience with their client, and an answer to whoever breaks the rules."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from monoceros.scoreboard import ERRORS, NEVER
from monoceros.wire.events import AppError, BodyTooLarge, FileSpan
from monoceros.wire.response import Response
from monoceros.worker import connection as module
from monoceros.worker.connection import HEAD, LINGERING, SENDING
from monoceros.worker.transport import LEAST_RATE
from worker.line import GET, Line, post


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# Time


def test_content_must_keep_coming(dial: Callable[..., Line], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000
    monkeypatch.setattr(module, "clock", lambda: now)
    line = dial(body_timeout=30)
    assert not line.send(post(b"", length=50_000))
    deadline = line.connection.content_deadline
    assert deadline(0) == now + 30_000
    now += 25_000
    assert deadline(5000) == 1_000_000 + 30_000 + 5000 * 1000 // LEAST_RATE, "what came earns time"
    now += 10_000
    assert deadline(20_000) == now + 30_000, "but no more patience than with a byte"
    now += 100_000
    assert deadline(1) < now + 30_000, "one byte now and then is too slow"


def test_without_a_limit_content_may_take_for_ever(dial: Callable[..., Line]) -> None:
    line = dial(body_timeout=0)
    assert not line.send(post(b"", length=5))
    assert line.connection.content_deadline(0) == NEVER


def test_what_the_application_takes_is_not_the_clients_time(
    dial: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000
    monkeypatch.setattr(module, "clock", lambda: now)
    connection = dial(body_timeout=30).connection
    connection.begin_content()
    now += 20_000
    connection.pause_content()
    assert connection.content_deadline(0) == now + 30_000


@pytest.mark.parametrize(("timeout", "patience"), [(30, 30_000), (0, NEVER)])
def test_a_client_that_is_awaited_for_taking(
    dial: Callable[..., Line], monkeypatch: pytest.MonkeyPatch, timeout: int, patience: int
) -> None:
    monkeypatch.setattr(module, "clock", lambda: 1_000_000)
    connection = dial(body_timeout=timeout).connection
    connection.begin_sending()
    assert connection.phase is SENDING
    assert connection.deadline == (NEVER if patience == NEVER else 1_000_000 + patience)


# What is watched, and what is there


def test_only_a_client_that_takes_is_watched_for_that(dial: Callable[..., Line]) -> None:
    connection = dial().connection
    watched = {}
    for phase in (HEAD, SENDING, LINGERING):
        connection.phase = phase
        watched[phase] = connection.wanted
    assert watched == {HEAD: select.EPOLLIN, SENDING: select.EPOLLOUT, LINGERING: select.EPOLLIN}


def test_silent_is_a_client_of_whom_nothing_waits_to_be_read(dial: Callable[..., Line]) -> None:
    line = dial()
    assert line.connection.silent
    line.client.sendall(b"G")
    assert not line.connection.silent
    assert not line.connection.silent, "looking takes nothing away"
    assert line.connection.sock.recv(10) == b"G"
    assert line.connection.silent
    line.client.shutdown(socket.SHUT_WR)
    assert line.connection.silent, "an end is nothing to read"


def test_owed_is_what_was_sent_behind_the_request(dial: Callable[..., Line]) -> None:
    line = dial()
    assert line.send(GET)
    assert not line.connection.owed
    line.client.sendall(b"G")
    assert line.connection.owed
    line.connection.wire.receive_data(line.connection.sock.recv(10))
    assert line.connection.silent
    assert line.connection.owed


# Whose fault it was


def test_a_refusal_has_the_status_of_its_kind(dial: Callable[..., Line]) -> None:
    line = dial()
    assert not line.send(GET[:10])
    line.connection.refuse(BodyTooLarge("too large"))
    assert line.got().startswith(b"HTTP/1.1 413 ")
    assert line.connection.answer is not None
    assert line.connection.answer.status == 413


def test_an_apology_is_for_who_has_got_nothing_yet(dial: Callable[..., Line]) -> None:
    line = dial()
    assert line.send(GET)
    line.connection.apologise()
    assert line.got().startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert not line.connection.alive
    assert line.worker.slot[ERRORS] == 1
    line.connection.apologise()
    assert line.got() == b"", "not behind another response"
    assert line.worker.slot[ERRORS] == 2


def test_a_dismissal_of_somebody_who_is_gone(dial: Callable[..., Line]) -> None:
    line = dial()
    assert line.send(GET)
    line.connection.sock.shutdown(socket.SHUT_WR)
    line.connection.dismiss(503)
    assert not line.connection.alive
    assert line.connection.wary


# Files


def test_a_file_is_sent_with_a_descriptor_of_its_own(dial: Callable[..., Line], tmp_path: Path) -> None:
    line = dial()
    assert line.send(GET)
    (tmp_path / "file").write_bytes(b"0123456789")
    before = descriptors()
    with (tmp_path / "file").open("rb") as file:
        line.connection.emit_file(Response(200, [(b"Content-Length", b"5")]), FileSpan(file.fileno(), 2, 5))
    assert line.got().endswith(b"\r\n\r\n23456")
    assert descriptors() == before


def test_a_file_that_may_not_be_sent_leaves_no_descriptor_behind(dial: Callable[..., Line], tmp_path: Path) -> None:
    line = dial()
    assert line.send(GET)
    (tmp_path / "file").write_bytes(b"0123456789")
    with (tmp_path / "file").open("rb") as file:
        before = descriptors()
        with pytest.raises(AppError):
            line.connection.emit_file(Response(200, [(b"Content-Length", b"5")]), FileSpan(file.fileno(), 0, 6))
        assert descriptors() == before
    assert line.got() == b""


# The log


def test_what_it_is_called_in_the_log(dial: Callable[..., Line]) -> None:
    line = dial()
    where = "{}:{}".format(*line.client.getsockname())
    assert str(line.connection) == where
    assert line.send(GET)
    assert str(line.connection) == f"{where} GET /page HTTP/1.1"
