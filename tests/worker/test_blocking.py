"""A connection served by a thread: how a request is collected without waiting, and what becomes of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from monoceros.scoreboard import ERRORS
from monoceros.wire.events import RemoteError
from worker.line import GET, Line, post

CLOSE = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = b"POST /page HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def ignore(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"not read"]


# Collecting


def test_a_head_is_collected_piece_by_piece(dial: Callable[..., Line]) -> None:
    line = dial()
    for at in range(len(GET) - 1):
        assert not line.send(GET[at : at + 1])
    assert line.send(GET[-1:])
    assert line.serve().endswith(b"\r\n\r\nGET ")
    assert line.connection.alive
    assert line.connection.request is None


def test_a_small_body_is_collected_before_the_application_runs(dial: Callable[..., Line]) -> None:
    line = dial()
    raw = post(b"hello, world")
    assert not line.send(raw[:-12])
    assert not line.send(b"hello, ")
    assert line.send(b"world")
    assert line.serve().endswith(b"POST hello, world")


def test_chunks_are_collected_until_they_are_too_many(dial: Callable[..., Line]) -> None:
    line = dial(request_buffer=10)
    assert not line.send(CHUNKED + b"5\r\nhello\r\n")
    assert line.send(b"6\r\n world\r\n"), "11 bytes are more than 10"
    line.client.sendall(b"1\r\n!\r\n0\r\n\r\n")
    assert line.serve().endswith(b"POST hello world!")
    assert line.connection.alive


def test_a_body_known_to_be_large_is_left_to_the_application(dial: Callable[..., Line]) -> None:
    line = dial(request_buffer=10)
    assert line.send(post(b"", length=11)), "the head is enough"
    line.client.sendall(b"hello")
    line.client.sendall(b" world")
    assert line.serve().endswith(b"POST hello world")
    assert line.connection.alive


@pytest.mark.parametrize(
    "end", [GET[:20], post(b"hell", length=5), CHUNKED + b"5\r\nhe"], ids=["head", "body", "chunk"]
)
def test_what_breaks_off_is_refused(dial: Callable[..., Line], end: bytes) -> None:
    line = dial()
    assert not line.send(end)
    line.connection.wire.receive_data(b"")
    with pytest.raises(RemoteError):
        line.connection.advance()


def test_the_end_between_requests_is_no_fault(dial: Callable[..., Line]) -> None:
    line = dial()
    assert line.send(GET)
    line.serve()
    line.connection.wire.receive_data(b"")
    assert not line.connection.advance()
    assert not line.connection.alive


# Expect: 100-continue


def test_a_small_body_is_asked_for_at_once(dial: Callable[..., Line]) -> None:
    line = dial()
    assert not line.send(post(b"", "Expect: 100-continue", length=5))
    assert line.got() == CONTINUE
    assert line.send(b"hello")
    assert line.serve().endswith(b"POST hello")


def test_a_large_body_is_asked_for_when_it_is_read(dial: Callable[..., Line]) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        before = line.got()
        line.client.sendall(b"hello")
        body: bytes = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [b"%d %b" % (len(before), body)]

    line = dial(app, request_buffer=1)
    assert line.send(post(b"", "Expect: 100-continue", length=5))
    assert line.got() == b""
    answer = line.serve()
    assert answer.startswith(CONTINUE + b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"0 hello"), "nothing was sent before the application read"
    assert line.connection.alive


def test_a_large_body_that_nobody_reads_is_not_asked_for(dial: Callable[..., Line]) -> None:
    line = dial(ignore, request_buffer=1)
    assert line.send(post(b"", "Expect: 100-continue", length=5))
    answer = line.serve()
    assert CONTINUE not in answer
    assert b"Connection: close\r\n" in answer
    assert not line.connection.alive
    assert line.connection.wary, "the client may send the body all the same"


# Time


def test_an_application_does_not_wait_for_ever(dial: Callable[..., Line]) -> None:
    line = dial(request_buffer=1, body_timeout=0.05)
    assert line.send(post(b"hel", length=5))
    assert line.serve().startswith(b"HTTP/1.1 408 ")
    assert not line.connection.alive


def test_bytes_that_come_put_off_the_workers_deadline(dial: Callable[..., Line]) -> None:
    line = dial(request_buffer=1, timeout=30)
    assert line.send(post(b"", length=5))
    before = line.worker.slot[1:].tolist()
    line.client.sendall(b"hello")
    line.connection.serve()
    assert line.worker.slot[1:].tolist() != before


# Several requests


def test_requests_that_came_together_are_served_together(dial: Callable[..., Line]) -> None:
    line = dial()
    assert line.send(GET + post(b"two") + GET + CLOSE)
    answers = line.serve()
    assert answers.count(b"HTTP/1.1 200 OK") == 4
    assert answers.index(b"POST two") > answers.index(b"\r\n\r\nGET ")
    assert not line.connection.alive
    assert not line.connection.wary


def test_the_beginning_of_the_next_request_is_kept(dial: Callable[..., Line]) -> None:
    line = dial()
    assert line.send(GET + GET[:10])
    assert line.serve().count(b"HTTP/1.1 200 OK") == 1
    assert line.connection.alive
    assert line.connection.wire.has_begun
    assert line.send(GET[10:])
    assert line.serve().count(b"HTTP/1.1 200 OK") == 1


def test_the_next_request_waits_for_a_client_that_does_not_read(dial: Callable[..., Line]) -> None:
    def large(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x" * (32 << 20)]

    line = dial(large)
    assert line.send(GET + GET)
    line.connection.serve()
    assert line.connection.unsent
    assert line.connection.alive
    assert line.connection.wire.has_begun, "the second request is not begun while the first answer is under way"


def test_a_request_that_is_refused_after_a_good_one(dial: Callable[..., Line]) -> None:
    line = dial()
    assert line.send(GET + b"GET / HTTP/1.1\r\n\r\n")
    answers = line.serve()
    assert answers.count(b"HTTP/1.1 200 OK") == 1
    assert answers.count(b"HTTP/1.1 400 Bad Request") == 1
    assert not line.connection.alive


def test_a_connection_that_is_to_close_says_so(dial: Callable[..., Line]) -> None:
    line = dial()
    line.connection.wire.closing = True
    assert line.send(GET + GET)
    answer = line.serve()
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"Connection: close\r\n" in answer
    assert not line.connection.alive
    assert line.connection.wary, "there are bytes that were not read: closing now would reset the client"


@pytest.mark.parametrize(("size", "alive"), [(100, True), (1_000_000, False)])
def test_a_body_that_nobody_reads(dial: Callable[..., Line], size: int, alive: bool) -> None:
    line = dial(ignore, request_buffer=1)
    assert line.send(post(b"x" * 100, length=size))
    assert b"not read" in line.serve()
    assert line.connection.alive is alive
    assert line.connection.wary is not alive


# Whose fault it was


class Broken(BaseException):
    """No Exception, as gevent's Timeout."""


@pytest.mark.parametrize(
    "fault", [ValueError("x"), SystemExit(1), asyncio.CancelledError(), Broken("x"), KeyboardInterrupt()], ids=repr
)
def test_the_applications(dial: Callable[..., Line], caplog: pytest.LogCaptureFixture, fault: BaseException) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise fault

    line = dial(app)
    assert line.send(GET)
    assert line.serve().startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert not line.connection.alive
    assert line.worker.slot[ERRORS] == 1
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage() == "Error handling request GET /page"
    assert record.exc_info is not None
    assert record.exc_info[1] is fault


def test_the_applications_breach_of_contract(dial: Callable[..., Line], caplog: pytest.LogCaptureFixture) -> None:
    line = dial(lambda environ, start_response: [b"x"])
    assert line.send(GET)
    assert line.serve().startswith(b"HTTP/1.1 500 ")
    assert line.worker.slot[ERRORS] == 1
    assert "Error handling request GET /page: the application has sent content without" in caplog.text


def test_the_applications_too_late(dial: Callable[..., Line]) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun"
        raise ValueError

    line = dial(app)
    assert line.send(GET)
    answer = line.serve()
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"5\r\nbegun\r\n"), "without the last chunk"
    assert not line.connection.alive


def test_the_clients(dial: Callable[..., Line], caplog: pytest.LogCaptureFixture) -> None:
    line = dial()
    assert line.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n\r\n")
    assert line.serve().startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert not line.connection.alive
    assert line.connection.wary
    assert line.worker.slot[ERRORS] == 0
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == "Invalid request from ip=127.0.0.1: contradictory scheme headers"


def test_the_clients_while_the_application_reads(dial: Callable[..., Line]) -> None:
    line = dial(request_buffer=1)
    assert line.send(CHUNKED + b"5\r\nhello\r\n")
    line.client.sendall(b"zero\r\n")
    assert line.serve().startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert not line.connection.alive


def test_nobodys(dial: Callable[..., Line], caplog: pytest.LogCaptureFixture) -> None:
    """A client that is gone is not worth a line."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        line.reset()
        start_response("200 OK", [])
        yield b"x"
        yield b"y"

    line = dial(app)
    assert line.send(GET)
    with caplog.at_level(logging.INFO):
        line.connection.serve()
    assert not line.connection.alive
    assert line.worker.slot[ERRORS] == 0
    assert caplog.text == ""


def test_ours(dial: Callable[..., Line], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is none of these is an error of the server: it is not taken for one of the application."""
    line = dial()

    def count(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(line.worker, "count", count)
    assert line.send(GET)
    with pytest.raises(ZeroDivisionError):
        line.connection.serve()
    assert line.worker.slot[ERRORS] == 0


# Early hints


def test_early_hints_go_out_before_the_answer(dial: Callable[..., Line]) -> None:
    seen: list[bytes] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.early_hints"]([("Link", "</a>")])
        seen.append(line.got())
        start_response("200 OK", [])
        return [b""]

    line = dial(app)
    assert line.send(GET)
    assert line.serve().startswith(b"HTTP/1.1 200 OK\r\n")
    assert seen == [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]
