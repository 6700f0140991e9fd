"""WSGI exchanges by the letter of PEP 3333: what applications do, and what clients get for it."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import logging
import lzma
import os
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from gateway.play import GET, HEAD, OLD, Seen, Sink, play
from monoceros.gateway import wsgi
from monoceros.gateway.input import Input
from monoceros.gateway.wsgi import CACHED_HEADS, CACHED_SIZE, FileWrapper, early_hints, head
from monoceros.wire.events import END, AppError, Data, EndOfMessage, Informational, PeerGone, RemoteError
from monoceros.wire.response import Response

TEXT = [("Content-Type", "text/plain")]

StartResponse = Callable[..., Any]
App = Callable[[dict[str, Any], StartResponse], Any]


class Body:
    """An iterable that says whether it was closed, and how far it was read."""

    def __init__(self, *chunks: Any, fails: BaseException | None = None, close_fails: bool = False) -> None:
        self.chunks = chunks
        self.fails = fails
        self.close_fails = close_fails
        self.given = 0
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        for chunk in self.chunks:
            self.given += 1
            yield chunk
        if self.fails:
            raise self.fails

    def close(self) -> None:
        self.closed += 1
        if self.close_fails:
            raise OSError("close failed")


def giving(body: Any, status: str = "200 OK", headers: Iterable[tuple[str, str]] = TEXT) -> App:
    """An application that answers with this body."""

    def app(environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response(status, list(headers))
        return body

    return app


def sink_of(start_response: StartResponse) -> Sink:
    """Where the exchange that gave this `start_response` sends to."""
    sink: Sink = start_response.__self__._sink  # type: ignore[attr-defined]
    return sink


def length(size: int) -> list[tuple[str, str]]:
    return [*TEXT, ("Content-Length", str(size))]


# How many chunks, and what kind of iterable


@pytest.mark.parametrize("wrap", [list, tuple, iter, lambda chunks: (chunk for chunk in chunks), lambda c: Body(*c)])
@pytest.mark.parametrize(
    "chunks",
    [[], [b""], [b"one"], [b"one", b"two"], [b"", b"one"], [b"one", b"", b"two", b""], [b"", b""]],
    ids=lambda chunks: str(len(chunks)) + ":" + b"|".join(chunks).decode(),
)
def test_the_chunks_of_any_iterable_arrive_in_order(wrap: Callable[[list[bytes]], Any], chunks: list[bytes]) -> None:
    seen = play(giving(wrap(chunks)))
    assert seen.answer.body == b"".join(chunks)
    assert seen.complete
    assert seen.exchange.sent == len(b"".join(chunks))


@pytest.mark.parametrize(("chunks", "size"), [([b"hello"], "5"), ([b""], "0"), ([], "0"), ([b"", b""], "0")])
def test_a_body_known_at_once_gets_a_length(chunks: list[bytes], size: str) -> None:
    headers = play(giving(chunks)).answer.headers
    assert headers["Content-Length"] == size
    assert "Transfer-Encoding" not in headers


def test_a_body_of_many_chunks_is_sent_chunk_by_chunk() -> None:
    seen = play(giving([b"one", b"", b"two"]))
    assert seen.answer.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in seen.answer.headers
    # The head leaves with the first chunk; an empty chunk is nothing, in chunked coding it would be the end.
    assert [type(event) for event in seen.sink.events] == [Response, Data, Data, EndOfMessage]
    assert len(seen.sink.pieces) == 3


def test_a_chunk_leaves_before_the_next_is_asked_for() -> None:
    sent: list[bytes] = []

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"first"
        sent.append(sink_of(start_response).sent)
        yield b"second"

    play(app)
    assert b"first" in sent[0]
    assert b"second" not in sent[0]


def test_http_1_0_without_a_length_ends_with_the_connection() -> None:
    seen = play(giving([b"one", b"two"]), OLD)
    assert seen.sent.endswith(b"\r\n\r\nonetwo")
    assert b"Connection: close\r\n" in seen.sent
    assert b"chunked" not in seen.sent
    assert not seen.sink.wire.keep_alive


# start_response


def test_nothing_is_sent_before_the_first_chunk_that_has_something() -> None:
    sent: list[bytes] = []

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        sink = sink_of(start_response)
        sent.append(sink.sent)
        yield b""
        sent.append(sink.sent)
        yield b"x"
        sent.append(sink.sent)

    play(app)
    assert sent[0] == sent[1] == b""
    assert sent[2].startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_generator_calls_start_response_when_it_is_first_asked() -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
        start_response("202 Accepted", TEXT)
        yield b"lazy"

    answer = play(app).answer
    assert (answer.status, answer.reason, answer.body) == (202, "Accepted", b"lazy")


def test_content_without_start_response_is_an_error() -> None:
    for body in ([b"x"], [b"x", b"y"], [], [b""], (b"",), iter([b"x"])):
        seen = play(lambda environ, start_response, body=body: body, raises=AppError)
        assert isinstance(seen.error, AppError), body
        assert "start_response" in str(seen.error)
        assert seen.sent == b""


def test_start_response_twice_is_an_error() -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", TEXT)
        start_response("404 Not Found", TEXT)
        return [b"x"]

    seen = play(app, raises=AppError)
    assert "second time" in str(seen.error)
    assert seen.sent == b""


def test_exc_info_replaces_a_head_that_was_not_sent() -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [*TEXT, ("X-First", "1")])
        try:
            raise ValueError("no")
        except ValueError:
            start_response("503 Later", [("X-Second", "2")], sys.exc_info())
        return [b"sorry"]

    answer = play(app).answer
    assert (answer.status, answer.reason, answer.body) == (503, "Later", b"sorry")
    assert "X-First" not in answer.headers
    assert answer.headers["X-Second"] == "2"


def test_exc_info_in_the_first_call_is_like_none() -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        try:
            raise ValueError("no")
        except ValueError:
            start_response("500 Oops", TEXT, sys.exc_info())
        return [b"sorry"]

    assert play(app).answer.status == 500


def test_exc_info_after_the_head_was_sent_is_raised_again() -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"half"
        try:
            raise ValueError("too late")
        except ValueError:
            start_response("500 Oops", TEXT, sys.exc_info())
        yield b"never"

    seen = play(app, raises=ValueError)
    assert str(seen.error) == "too late"
    assert b"half" in seen.sent
    assert b"never" not in seen.sent
    assert b"500" not in seen.sent
    assert not seen.complete  # no last chunk: the client sees that something is missing


def test_exc_info_leaves_no_reference_cycle() -> None:
    class Marker:
        pass

    alive: list[weakref.ref[Marker]] = []

    def app(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        marker = Marker()
        alive.append(weakref.ref(marker))
        try:
            raise ValueError(marker)
        except ValueError:
            start_response("500 Oops", TEXT, sys.exc_info())
        return [b"sorry"]

    gc.disable()
    try:
        play(app)
        assert alive[0]() is None
    finally:
        gc.enable()


def test_start_response_gives_write() -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"one, ")
        write(b"")
        write(b"two, ")
        return [b"three"]

    seen = play(app)
    assert seen.answer.body == b"one, two, three"
    assert seen.exchange.sent == 15


def test_write_alone_and_an_empty_iterable() -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", length(5))(b"hello")
        return []

    assert play(app).answer.body == b"hello"


def test_write_takes_bytes_only() -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", TEXT)("text")
        return []

    seen = play(app, raises=AppError)
    assert "must be bytes, not str" in str(seen.error)
    assert seen.sent == b""


@pytest.mark.parametrize("status", [b"200 OK", 200, None, ("200", "OK")])
def test_a_status_is_a_str(status: Any) -> None:
    seen = play(giving([b"x"], status), raises=AppError)
    assert "str" in str(seen.error)
    assert seen.sent == b""


@pytest.mark.parametrize(
    "status",
    [
        "",
        "OK",
        "20 OK",
        "2000 OK",
        "abc OK",
        "200OK",
        " 200 OK",
        "-20 OK",
        "\u0662\u0660\u0660 OK",
        "200 OK\r\nX-Forged: 1",
        "200 OK\n",
        "200 \x00",
        "200 caf\u20ac",
        "100 Continue",
        "101 Switching Protocols",
        "199 Odd",
    ],
    ids=ascii,
)
def test_a_status_that_cannot_be_sent(status: str) -> None:
    seen = play(giving([b"x"], status), raises=AppError)
    assert isinstance(seen.error, AppError)
    assert seen.sent == b""


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("200 OK", b"HTTP/1.1 200 OK\r\n"),
        ("200 ", b"HTTP/1.1 200 \r\n"),
        ("200", b"HTTP/1.1 200 \r\n"),
        ("404 No such thing here", b"HTTP/1.1 404 No such thing here\r\n"),
        ("299 Caf\u00e9", b"HTTP/1.1 299 Caf\xe9\r\n"),
        ("999 Last", b"HTTP/1.1 999 Last\r\n"),
    ],
    ids=ascii,
)
def test_the_status_is_sent_as_it_is(status: str, line: bytes) -> None:
    assert play(giving([b"x"], status)).sent.startswith(line)


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Text", 1)],
        [("X-Bytes", b"1")],
        [(b"X-Bytes", "1")],
        [("X-None", None)],
        [["X-List", "1"]],
        [("X-Three", "1", "2")],
        [("X-One",)],
        ["X-Str: 1"],
        [("X-Euro", "\u20ac")],
        [("X-\u00e9", "1")],
        [("", "1")],
        [("X Blank", "1")],
        [("X:", "1")],
        [("X\r\nY", "1")],
        [("X-Split", "1\r\nX-Forged: 2")],
        [("X-Split", "1\nX-Forged: 2")],
        [("X-Split", "1\r")],
        [("X-Nul", "a\x00b")],
        [("X-Escape", "\x1b[2J")],
        [("X-Delete", "\x7f")],
        [("Content-Length", "1.5")],
        [("Content-Length", "-1")],
        [("Content-Length", "")],
        [("Content-Length", "1, 1")],
        [("Content-Length", "1" * 30)],
        [("Content-Length", "1"), ("Content-Length", "2")],
    ],
    ids=ascii,
)
def test_headers_that_cannot_be_sent(headers: Any) -> None:
    seen = play(giving([b"x"], headers=headers), raises=AppError)
    assert isinstance(seen.error, AppError)
    assert seen.sent == b""


@pytest.mark.parametrize("headers", [None, 5, "X-Y"])
def test_headers_are_a_list(headers: Any) -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", headers)
        return [b"x"]

    seen = play(app, raises=(AppError, TypeError))
    assert seen.error is not None
    assert seen.sent == b""


@pytest.mark.parametrize("wrap", [iter, tuple, lambda headers: dict(headers).items()])
def test_headers_in_another_iterable_are_not_lost(wrap: Callable[[list[tuple[str, str]]], Any]) -> None:
    """PEP 3333 asks for a list; what is none may be refused, but not sent in part."""

    def app(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", wrap([("X-A", "1"), ("X-B", "2")]))
        return [b"x"]

    seen = play(app, raises=AppError)
    assert seen.error or (seen.answer.headers["X-A"], seen.answer.headers["X-B"]) == ("1", "2")


def test_headers_are_sent_in_their_order_and_their_spelling() -> None:
    headers = [
        ("x-b", "1"),
        ("X-A", "2"),
        ("Set-Cookie", "a=1"),
        ("x-B", "3"),
        ("Set-Cookie", "b=2"),
        ("X-Caf", "\xe9"),
    ]
    sent = play(giving([b"x"], headers=headers)).sent
    lines = sent.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:7]
    assert lines == [b"x-b: 1", b"X-A: 2", b"Set-Cookie: a=1", b"x-B: 3", b"Set-Cookie: b=2", b"X-Caf: \xe9"]


def test_what_the_application_changes_later_is_not_sent() -> None:
    headers = [("X-Value", "1")]

    def app(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", headers)
        headers.append(("X-Late", "2"))
        return [b"x"]

    assert "X-Late" not in play(app).answer.headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Connection", "keep-alive"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Transfer-Encoding", "chunked"),
        ("transfer-encoding", "gzip"),
        ("Upgrade", "websocket"),
    ],
)
def test_hop_by_hop_fields_are_the_servers_to_say(name: str, value: str) -> None:
    for body in ([b"x"], [b"x", b"y"]):
        sent = play(giving(body, headers=[(name, value), ("X-Own", "1")])).sent
        own, framing, _ = sent.partition(b"Transfer-Encoding: chunked\r\n\r\n" if len(body) > 1 else b"\r\n\r\n")
        assert framing
        assert f"{name}: {value}".encode() not in own
        assert b"X-Own: 1\r\n" in sent
        assert sent.count(b"Transfer-Encoding") == (len(body) > 1)


def test_connection_close_is_heard() -> None:
    seen = play(giving([b"x"], headers=[("Connection", "close")]))
    assert seen.answer.headers["Connection"] == "close"
    assert not seen.sink.wire.keep_alive


def test_date_and_server_are_added_but_not_twice() -> None:
    answer = play(giving([b"x"])).answer
    assert answer.headers["Date"] == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert answer.headers["Server"] == "monoceros"
    sent = play(giving([b"x"], headers=[("date", "then"), ("Server", "mine")])).sent
    assert sent.lower().count(b"date: ") == sent.lower().count(b"server: ") == 1
    assert b"date: then\r\n" in sent
    assert b"Server: mine\r\n" in sent


# Content-Length


def test_content_longer_than_its_length_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    for body in ([b"hello, world"], [b"hel", b"lo, world"], [b"hello", b", world"], [b"hello", b",", b" world"]):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "gunicorn.error"):
            seen = play(giving(iter(body), headers=length(5)))
        assert seen.answer.body == b"hello"
        assert seen.exchange.sent == 5
        assert "GET /page: content is longer" in caplog.text
        assert "Content-Length of 5" in caplog.text


def test_content_of_length_0_is_cut_to_nothing() -> None:
    assert play(giving([b"hello"], headers=length(0))).answer.body == b""
    assert play(giving([b"he", b"llo"], headers=length(0))).answer.body == b""


def test_an_endless_body_ends_at_its_length() -> None:
    """PEP 3333: stop iterating over the response when enough data has been sent."""
    body = Body(*[b"x" * 10] * 1000)
    seen = play(giving(body, headers=length(25)))
    assert seen.answer.body == b"x" * 25
    assert body.given < 10
    assert body.closed == 1


def test_a_generator_whose_length_is_right_runs_to_its_end() -> None:
    ran: list[str] = []

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", length(5))
        yield b"hello"
        ran.append("what stands behind the last yield")
        yield b""
        ran.append("and behind an empty one")

    play(app)
    assert len(ran) == 2


@pytest.mark.parametrize("body", [[b"hell"], [b"he", b"l"], (b"hell",)])
def test_content_shorter_than_its_length_is_never_taken_for_whole(body: Iterable[bytes]) -> None:
    seen = play(giving(body, headers=length(5)), raises=AppError)
    assert "1 bytes shorter" in str(seen.error) or "2 bytes shorter" in str(seen.error)
    assert seen.sent.endswith(b"\r\n\r\n" + b"".join(body))
    assert not seen.complete


@pytest.mark.parametrize("body", [[], [b""], [b"", b""], iter([])], ids=["none", "empty", "two empty", "iterator"])
def test_a_length_without_any_content_can_still_be_answered_by_500(body: Iterable[bytes]) -> None:
    seen = play(giving(body, headers=length(5)), raises=AppError)
    assert "shorter" in str(seen.error)
    assert seen.sent == b""
    assert seen.sink.wire.sending.name == "HEAD"


def test_the_same_length_twice_is_sent_once() -> None:
    sent = play(giving([b"hello"], headers=[*length(5), ("content-length", "5")])).sent
    assert sent.lower().count(b"content-length: 5\r\n") == 1


# Answers without content


def test_head_has_the_headers_of_get_and_no_content() -> None:
    for body, headers in (
        ([b"hello"], TEXT),
        ([b"hello"], length(5)),
        ([b"he", b"llo"], length(5)),
        ([], length(5)),
        ([b""], length(5)),
    ):
        seen = play(giving(body, headers=headers), HEAD)
        assert seen.answer.headers["Content-Length"] == "5", (body, headers)
        assert seen.sent.endswith(b"\r\n\r\n")
        assert seen.complete
        assert seen.sink.wire.keep_alive


def test_head_of_many_chunks_says_nothing_of_a_length() -> None:
    seen = play(giving([b"he", b"llo"]), HEAD)
    assert "Content-Length" not in seen.answer.headers
    assert seen.sent.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("raw", [GET, HEAD])
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_content(raw: bytes, status: str) -> None:
    for body in ([], [b""], [b"oops"], [b"oo", b"ps"]):
        seen = play(giving(body, status), raw)
        assert seen.sent.endswith(b"\r\n\r\n"), body
        assert "Transfer-Encoding" not in seen.answer.headers
        assert "Content-Length" not in seen.answer.headers
        assert seen.sink.wire.keep_alive


def test_304_may_tell_the_length_but_204_may_not() -> None:
    assert play(giving([], "304 Not Modified", length(5))).answer.headers["Content-Length"] == "5"
    assert "Content-Length" not in play(giving([], "204 No Content", length(0))).answer.headers


@pytest.mark.parametrize(
    ("raw", "status"), [(HEAD, "200 OK"), (GET, "204 No Content"), (GET, "304 Not Modified")], ids=ascii
)
def test_an_endless_body_that_nobody_gets_is_not_iterated(raw: bytes, status: str) -> None:
    body = Body(*[b"tick"] * 1000)
    seen = play(giving(body, status), raw)
    assert seen.complete
    assert body.given < 10
    assert body.closed == 1


# close()


def test_close_is_called_once_when_all_is_sent() -> None:
    for chunks in ((), (b"",), (b"x",), (b"x", b"y")):
        body = Body(*chunks)
        play(giving(body))
        assert body.closed == 1


class ListWithClose(list[bytes]):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_close_of_a_list_of_ones_own_is_called() -> None:
    body = ListWithClose([b"x"])
    assert play(giving(body)).answer.body == b"x"
    assert body.closed == 1


def test_close_is_called_when_the_iterable_fails() -> None:
    body = Body(b"x", fails=ValueError("in the middle"))
    seen = play(giving(body), raises=ValueError)
    assert str(seen.error) == "in the middle"
    assert body.closed == 1
    assert not seen.complete


def test_close_is_called_when_a_chunk_is_refused() -> None:
    body = Body("text")
    play(giving(body), raises=AppError)
    assert body.closed == 1


def test_close_is_called_when_start_response_was_not() -> None:
    body = Body(b"x")
    play(lambda environ, start_response: body, raises=AppError)
    assert body.closed == 1


@pytest.mark.parametrize("patience", [0, 1, 2])
def test_close_is_called_when_the_client_is_gone(patience: int) -> None:
    body = Body(b"x", b"y", b"z")
    seen = play(giving(body), patience=patience, raises=PeerGone)
    assert isinstance(seen.error, PeerGone)
    assert body.closed == 1
    assert body.given == patience + 1  # not asked for more than the one that could not be sent


def test_close_that_fails_does_not_take_the_answer_back() -> None:
    body = Body(b"x", close_fails=True)
    seen = play(giving(body), raises=OSError)
    assert str(seen.error) == "close failed"
    assert seen.answer.body == b"x"


def test_a_generator_is_closed_when_the_client_is_gone() -> None:
    ended: list[str] = []

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        try:
            while True:
                yield b"x"
        finally:
            ended.append("cleaned up")

    play(app, patience=3, raises=PeerGone)
    assert ended == ["cleaned up"]


# What is no content, and applications that fail


@pytest.mark.parametrize("chunk", ["text", bytearray(b"x"), memoryview(b"x"), 5, None, ["x"]], ids=repr)
def test_chunks_are_bytes(chunk: Any) -> None:
    for body in ([chunk], (chunk,), [b"", chunk]):
        seen = play(giving(body), raises=(AppError, TypeError))
        assert seen.error is not None
        assert seen.sent == b"", "a 500 can still be sent"
    seen = play(giving([b"x", chunk]), raises=AppError)
    assert not seen.complete


def test_a_subclass_of_bytes_is_bytes() -> None:
    class Tagged(bytes):
        pass

    assert play(giving([Tagged(b"x")])).answer.body == b"x"
    assert play(giving((Tagged(b"x"), Tagged(b"y")))).answer.body == b"xy"


def test_an_application_may_return_bytes_which_are_no_chunks() -> None:
    """Iterating bytes gives numbers, which are no content (PEP 3333 asks for an iterable yielding bytestrings)."""
    assert isinstance(play(giving(b"hello"), raises=AppError).error, AppError)


def test_an_application_that_returns_none() -> None:
    seen = play(giving(None), raises=TypeError)
    assert isinstance(seen.error, TypeError)
    assert seen.sent == b""


class Odd(BaseException):
    """As gevent's Timeout: no Exception."""


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyError("x"), Odd("x")], ids=repr)
def test_what_an_application_raises_passes(error: BaseException) -> None:
    def at_once(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        raise error

    def started(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", TEXT)
        raise error

    for app in (at_once, started, giving(Body(fails=error))):
        seen = play(app, raises=BaseException)
        assert seen.error is error
        assert seen.sent == b""
        assert seen.sink.wire.sending.name == "HEAD", "a 500 can still be sent"
    seen = play(giving(Body(b"half", fails=error)), raises=BaseException)
    assert seen.error is error
    assert seen.sent.endswith(b"4\r\nhalf\r\n")
    assert not seen.complete


def test_what_the_input_met_is_not_the_applications_to_hide() -> None:
    """A framework may take a broken upload for an empty one: the client is told the truth all the same."""
    fault = RemoteError("connection closed in the middle of the content")

    def broken() -> Any:
        raise fault

    def app(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except Exception:
            start_response("200 OK", TEXT)
        return [b"all is well"]

    seen = play(app, input=Input(b"begun", broken), raises=RemoteError)
    assert seen.error is fault
    assert seen.sent == b""


# wsgi.file_wrapper


@pytest.fixture
def file(tmp_path: Path) -> Iterator[io.BufferedReader]:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 100)
    with path.open("rb") as opened:
        yield opened


def wrapped(file: Any, headers: list[tuple[str, str]] = TEXT, block: int = 1000) -> App:
    def app(environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("200 OK", headers)
        return environ["wsgi.file_wrapper"](file, block)

    return app


def by_kernel(seen: Seen) -> bool:
    return any(type(event).__name__ == "FileSpan" for event in seen.sink.events)


def test_a_file_is_sent_by_the_kernel_with_its_length(file: io.BufferedReader) -> None:
    seen = play(wrapped(file))
    assert by_kernel(seen)
    assert seen.answer.body == bytes(range(256)) * 100
    assert seen.answer.headers["Content-Length"] == "25600"
    assert seen.exchange.sent == 25600
    assert file.closed


def test_a_file_is_sent_from_where_it_stands(file: io.BufferedReader) -> None:
    file.seek(25000)
    file.read(100)
    seen = play(wrapped(file))
    assert by_kernel(seen)
    assert seen.answer.body == (bytes(range(256)) * 100)[25100:]


def test_of_a_file_no_more_is_sent_than_its_length_says(file: io.BufferedReader) -> None:
    seen = play(wrapped(file, length(300)))
    assert by_kernel(seen)
    assert seen.answer.body == (bytes(range(256)) * 2)[:300]


def test_a_file_shorter_than_its_length_is_never_taken_for_whole(file: io.BufferedReader) -> None:
    seen = play(wrapped(file, length(30000)), raises=AppError)
    assert "4400 bytes shorter" in str(seen.error)
    assert b"Content-Length: 30000\r\n" in seen.sent
    assert seen.sent.endswith(bytes(range(256)) * 100)
    assert not seen.complete
    assert file.closed


def test_head_of_a_file(file: io.BufferedReader) -> None:
    seen = play(wrapped(file, length(25600)), HEAD)
    assert not by_kernel(seen)
    assert seen.answer.headers["Content-Length"] == "25600"
    assert file.closed


def test_sendfile_can_be_turned_off(file: io.BufferedReader) -> None:
    seen = play(wrapped(file), sendfile=False)
    assert not by_kernel(seen)
    assert seen.answer.body == bytes(range(256)) * 100
    assert len([event for event in seen.sink.events if isinstance(event, Data)]) == 26
    assert file.closed


def test_what_is_no_file_is_read_in_blocks() -> None:
    file = io.BytesIO(b"abcdefg")
    seen = play(wrapped(file, block=3))
    assert seen.answer.body == b"abcdefg"
    assert [event.data for event in seen.sink.events if isinstance(event, Data)] == [b"abc", b"def", b"g"]
    assert file.closed


def test_a_thing_that_can_only_read_is_wrapped() -> None:
    class Reader:
        def __init__(self) -> None:
            self.rest = [b"one", b"two"]

        def read(self, size: int) -> bytes:
            return self.rest.pop(0) if self.rest else b""

    assert play(wrapped(Reader())).answer.body == b"onetwo"


def test_a_pipe_is_read_to_its_end() -> None:
    out, into = os.pipe()
    os.write(into, b"through a pipe")
    os.close(into)
    seen = play(wrapped(os.fdopen(out, "rb")))
    assert not by_kernel(seen)
    assert seen.answer.body == b"through a pipe"


@pytest.mark.parametrize("opener", [gzip.open, bz2.open, lzma.open])
def test_a_compressed_file_is_sent_as_it_reads(opener: Callable[..., Any], tmp_path: Path) -> None:
    with opener(tmp_path / "file", "wb") as file:
        file.write(b"plain text " * 100)
    seen = play(wrapped(opener(tmp_path / "file", "rb")))
    assert seen.answer.body == b"plain text " * 100


def test_a_temporary_file_is_sent_by_the_kernel() -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"written and read again")
        file.seek(8)
        seen = play(wrapped(file))
    assert by_kernel(seen)
    assert seen.answer.body == b"and read again"


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with path.open("rb") as file:
        answer = play(wrapped(file)).answer
    assert answer.body == b""
    assert answer.headers["Content-Length"] == "0"


def test_a_file_behind_written_content_is_not_sent_by_the_kernel(file: io.BufferedReader) -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("200 OK", TEXT)(b"before ")
        return environ["wsgi.file_wrapper"](file)

    assert play(app).answer.body == b"before " + bytes(range(256)) * 100


def test_a_wrapper_around_the_wrapper_is_an_iterable_like_others(file: io.BufferedReader) -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("200 OK", TEXT)
        return (block.upper() for block in environ["wsgi.file_wrapper"](file))

    assert play(app).answer.body == (bytes(range(256)) * 100).upper()


def test_the_wrapper_closes_what_can_be_closed() -> None:
    assert not hasattr(FileWrapper(object()), "close")
    file = io.BytesIO()
    FileWrapper(file).close()
    assert file.closed


# Early hints


def test_early_hints() -> None:
    hints = early_hints([("Link", "</style.css>; rel=preload")])
    assert hints == Informational(103, ((b"Link", b"</style.css>; rel=preload"),))
    for bad in ([("Link", "x\r\nX-Forged: 1")], [("Bad Name", "x")], [("Link", b"x")]):
        with pytest.raises(AppError):
            early_hints(bad)  # type: ignore[arg-type]


# The cache of heads


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    wsgi._heads.clear()
    yield
    wsgi._heads.clear()


def test_the_same_head_is_built_once() -> None:
    def built(status: str, headers: list[tuple[str, str]]) -> Response | None:
        return play(giving([b"x", b"y"], status, headers)).exchange.response

    assert built("200 OK", [("X-A", "1")]) is built("200 OK", [("X-A", "1")])
    assert built("200 OK", [("X-A", "1")]) is not built("200 OK", [("X-A", "2")])
    assert built("200 OK", [("X-A", "1")]) is not built("201 OK", [("X-A", "1")])


def test_the_cache_of_heads_is_bounded() -> None:
    for number in range(3 * CACHED_HEADS):
        head("200 OK", [("X-Number", str(number))])
    assert 0 < len(wsgi._heads) <= CACHED_HEADS


@pytest.mark.parametrize("name", ["Set-Cookie", "set-cookie", "SET-COOKIE"])
def test_what_is_one_users_is_not_kept(name: str) -> None:
    head("200 OK", [*TEXT, (name, "session=secret")])
    assert not wsgi._heads


def test_a_large_head_is_not_kept() -> None:
    head("200 OK", [("X-Large", "x" * CACHED_SIZE)])
    assert not wsgi._heads


def test_what_was_refused_is_not_kept() -> None:
    for _ in range(2):
        with pytest.raises(AppError):
            head("200 OK", [("X-Bad", "\n")])
    assert not wsgi._heads


def test_answers_of_different_lengths_do_not_mix() -> None:
    for body in (b"a", b"bb", b"a", b"", b"bb", b"ccc"):
        answer = play(giving([body])).answer
        assert answer.body == body
        assert answer.headers["Content-Length"] == str(len(body))
        assert play(giving([body]), HEAD).complete


# The standard's own check


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("raw", [GET, HEAD, OLD], ids=["GET", "HEAD", "HTTP/1.0"])
def test_the_validator_of_the_standard_library_has_no_complaint(raw: bytes) -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", length(5))
        assert environ["wsgi.input"].read(10) == b""
        return [b"hello"]

    seen = play(validator(app), raw)
    assert seen.answer.status == 200


def test_the_end_is_the_end() -> None:
    assert play(giving([b"x", b"y"])).sink.events[-1] is END
