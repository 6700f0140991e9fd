"""The order of ASGI's websocket messages: what is legal when, what becomes of it, and what the application is told."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from gateway.play import DEFAULTS, Answer, parse
from monoceros.gateway.websocket import KINDS, LEGAL, State, WebSocketExchange
from monoceros.wire.events import END, AppError, Data, Limits, PeerGone, Request, Sendable
from monoceros.wire.h1 import H1Connection
from monoceros.wire.response import Response
from monoceros.wire.ws import Handshake, WSConnection

RAW = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat, other\r\n\r\n"
)

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}
CONNECT = {"type": "websocket.connect"}


def text(data: str) -> dict[str, Any]:
    return {"type": "websocket.send", "text": data}


def start(status: int = 401, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "websocket.http.response.start", "status": status, "headers": headers}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "websocket.http.response.body", "body": data, "more_body": more}


def disconnect(code: int, reason: str = "") -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


class Sink:
    """A connection without a socket: bytes and events are collected. A client that is `gone` takes nothing."""

    def __init__(self) -> None:
        self.wire = H1Connection(Limits(), DEFAULTS)
        self.wire.receive_data(RAW)
        request = self.wire.next_event()
        assert isinstance(request, Request)
        self.wire.next_event()
        self.handshake = Handshake(request, deflate=False, max_size=1 << 20)
        self.connection: WSConnection | None = None
        self.events: list[Sendable] = []
        self.pieces: list[bytes] = []
        self.gone = False

    def accept(self, subprotocol: str | None, fields: Any) -> None:
        head, self.connection = self.handshake.accept(subprotocol, fields, DEFAULTS)
        self._write(head)

    def send(self, data: str | bytes) -> None:
        assert self.connection is not None
        self.connection.send(data)
        self._write(self.connection.outgoing())

    def close(self, code: int, reason: str) -> None:
        assert self.connection is not None
        self.connection.close(code, reason)
        self._write(self.connection.outgoing())

    def emit(self, *events: Sendable) -> None:
        self._write(b"".join([self.wire.send(event) for event in events]))
        self.events += events

    def respond(self, response: Response, content: bytes) -> None:
        self._write(self.wire.respond(response, content))
        self.events += (response, content)  # type: ignore[arg-type]

    def _write(self, data: bytes) -> None:
        if self.gone:
            raise PeerGone("cannot send: Broken pipe")
        self.pieces.append(data)

    @property
    def answer(self) -> Answer:
        """The one response that was sent. Fails if it is not a whole one."""
        return parse(b"".join(self.pieces))

    def frames(self) -> list[bytes]:
        """What was sent after the head of the 101."""
        assert self.pieces[0].startswith(b"HTTP/1.1 101 ")
        return self.pieces[1:]


def played(*messages: dict[str, Any]) -> tuple[WebSocketExchange, Sink]:
    """An exchange whose application has sent these, and has seen its websocket.connect."""
    sink = Sink()
    exchange = WebSocketExchange(sink)
    assert exchange.message() == CONNECT
    for message in messages:
        exchange.take(message)
    return exchange, sink


# A conversation


def test_before_anything_is_sent() -> None:
    exchange, sink = played()
    assert exchange.message() is None, "connect comes once"
    assert (exchange.accepted, exchange.status, exchange.started, exchange.finished) == (False, None, False, False)
    assert sink.pieces == []


def test_accept() -> None:
    exchange, sink = played(ACCEPT)
    assert b"".join(sink.pieces).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert (exchange.accepted, exchange.status, exchange.started, exchange.finished) == (True, 101, True, False)
    assert exchange.response is None
    assert exchange.message() is None


@pytest.mark.parametrize("headers", [[(b"x-a", b"1"), (b"x-b", b"2")], ([b"x-a", b"1"], [b"x-b", b"2"])])
def test_accept_with_subprotocol_and_headers(headers: Any) -> None:
    _, sink = played({"type": "websocket.accept", "subprotocol": "other", "headers": headers})
    assert b"\r\nSec-WebSocket-Protocol: other\r\nx-a: 1\r\nx-b: 2\r\n" in sink.pieces[0]


def test_accept_with_headers_that_come_one_by_one() -> None:
    _, sink = played({"type": "websocket.accept", "headers": (pair for pair in [(b"x-a", b"1")])})
    assert b"\r\nx-a: 1\r\n" in sink.pieces[0]


@pytest.mark.parametrize("message", [{"subprotocol": None}, {"headers": None}, {"headers": []}])
def test_accept_with_nothing_special(message: dict[str, Any]) -> None:
    assert played(ACCEPT | message)[1].pieces == played(ACCEPT)[1].pieces


def test_messages_in_their_order() -> None:
    exchange, _ = played(ACCEPT)
    for data in ("one", b"two", "", b""):
        exchange.received(data)
    exchange.closed(1001, "bye")
    assert [exchange.message() for _ in range(6)] == [
        {"type": "websocket.receive", "text": "one"},
        {"type": "websocket.receive", "bytes": b"two"},
        {"type": "websocket.receive", "text": ""},
        {"type": "websocket.receive", "bytes": b""},
        disconnect(1001, "bye"),
        disconnect(1001, "bye"),
    ]


def test_a_message_is_the_applications_to_change() -> None:
    exchange, _ = played(ACCEPT)
    exchange.closed(1001, "bye")
    first = exchange.message()
    assert first is not None
    first.clear()
    assert exchange.message() == disconnect(1001, "bye")


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        ({"text": "hi"}, b"\x81\x02hi"),
        ({"text": "hi", "bytes": None}, b"\x81\x02hi"),
        ({"bytes": b"hi"}, b"\x82\x02hi"),
        ({"bytes": b"hi", "text": None}, b"\x82\x02hi"),
        ({"bytes": bytearray(b"hi")}, b"\x82\x02hi"),
        ({"bytes": memoryview(b"hxi")[::2]}, b"\x82\x02hi"),
        ({"text": ""}, b"\x81\x00"),
        ({"bytes": b""}, b"\x82\x00"),
        ({"text": "\u20ac"}, b"\x81\x03\xe2\x82\xac"),
    ],
)
def test_send(message: dict[str, Any], frame: bytes) -> None:
    exchange, sink = played(ACCEPT, {"type": "websocket.send"} | message)
    assert sink.frames() == [frame]
    assert exchange.sent == len(frame) - 2


def test_queued() -> None:
    """Empty messages count, too: a million of them is no small matter."""
    exchange, _ = played(ACCEPT)
    assert exchange.queued == 0
    exchange.received("*" * 1000)
    exchange.received(bytes(1000))
    assert 2000 <= exchange.queued < 2200
    for _ in range(100):
        exchange.received("")
    assert exchange.queued == sys.getsizeof("*" * 1000) + sys.getsizeof(bytes(1000)) + 100 * sys.getsizeof("") > 4000
    while exchange.message():
        pass
    assert exchange.queued == 0


# The end of a conversation


@pytest.mark.parametrize(
    ("message", "frame", "told"),
    [
        ({}, b"\x88\x02\x03\xe8", disconnect(1000)),
        ({"code": 1000, "reason": None}, b"\x88\x02\x03\xe8", disconnect(1000)),
        ({"code": None, "reason": ""}, b"\x88\x02\x03\xe8", disconnect(1000)),
        ({"code": 4000, "reason": "bye"}, b"\x88\x05\x0f\xa0bye", disconnect(4000, "bye")),
    ],
)
def test_application_closes(message: dict[str, Any], frame: bytes, told: dict[str, Any]) -> None:
    """As with Uvicorn, it is told of its own close."""
    exchange, sink = played(ACCEPT)
    exchange.received("before")
    exchange.take(CLOSE | message)
    exchange.received("after")
    assert sink.frames() == [frame]
    assert exchange.finished
    assert exchange.status == 101
    exchange.closed(1001, "the answer to it")
    assert [exchange.message() for _ in range(3)] == [{"type": "websocket.receive", "text": "before"}, told, told]


def test_client_is_gone() -> None:
    exchange, sink = played(ACCEPT)
    exchange.closed(1006, "")
    exchange.closed(1000, "later")
    assert exchange.finished
    for message in (text("a"), {"type": "websocket.send", "bytes": b"a"}, ACCEPT, start(), body()):
        with pytest.raises(PeerGone, match=str(message["type"])) as raised:
            exchange.take(message)
        assert isinstance(raised.value, OSError)
    exchange.take(CLOSE)  # as applications do that tidy up
    assert sink.frames() == []
    assert exchange.message() == disconnect(1006)


def test_client_is_gone_before_it_was_accepted() -> None:
    sink = Sink()
    exchange = WebSocketExchange(sink)
    exchange.closed(1006, "")
    assert [exchange.message() for _ in range(2)] == [CONNECT, disconnect(1006)]
    with pytest.raises(PeerGone):
        exchange.take(ACCEPT)
    exchange.take(CLOSE)
    exchange.abandon()
    exchange.fail()
    assert sink.pieces == []
    assert exchange.status is None


def test_client_goes_while_we_send() -> None:
    exchange, sink = played(ACCEPT)
    sink.gone = True
    with pytest.raises(PeerGone):
        exchange.take(text("a"))


# The order


EVERY = {
    "websocket.accept": ACCEPT,
    "websocket.send": text("a"),
    "websocket.close": CLOSE,
    "websocket.http.response.start": start(),
    "websocket.http.response.body": body(b"no"),
}
BEFORE = {
    State.CONNECTING: [],
    State.OPEN: [ACCEPT],
    State.DENYING: [start()],
    State.CLOSED: [ACCEPT, CLOSE],
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_message_in_every_state(state: State, kind: str) -> None:
    exchange, sink = played(*BEFORE[state])
    if kind in LEGAL[state]:
        exchange.take(EVERY[kind])
        return
    already = list(sink.pieces)
    with pytest.raises(AppError) as raised:
        exchange.take(EVERY[kind])
    assert str(raised.value) == f"{kind} was sent {state.value}"
    assert sink.pieces == already


@pytest.mark.parametrize("end", [[CLOSE], [start(), body()]])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_nothing_after_a_denial(end: list[dict[str, Any]], kind: str) -> None:
    exchange, sink = played(*end)
    with pytest.raises(AppError, match=f"^{kind} was sent after"):
        exchange.take(EVERY[kind])
    assert sink.answer.status == exchange.status


def test_words_for_the_wrong_order() -> None:
    exchange, _ = played()
    with pytest.raises(AppError, match=r"^websocket\.send was sent before websocket\.accept$"):
        exchange.take(text("a"))


@pytest.mark.parametrize(
    "message",
    [
        None,
        "websocket.accept",
        {},
        {"type": None},
        {"type": []},
        {"type": "http.response.start"},
        {"type": "websocket.receive"},
        {"type": "websocket.disconnect", "code": 1000},
    ],
)
def test_not_a_message(message: Any) -> None:
    exchange, sink = played()
    with pytest.raises(AppError, match="no message for a websocket"):
        exchange.take(message)
    assert sink.pieces == []


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ([], ACCEPT | {"subprotocol": b"chat"}),
        ([], ACCEPT | {"subprotocol": "not offered"}),
        ([], ACCEPT | {"headers": [("x", "1")]}),
        ([], ACCEPT | {"headers": [(b"x", "1")]}),
        ([], ACCEPT | {"headers": [(b"x",)]}),
        ([], ACCEPT | {"headers": {b"x-a": b"1"}}),
        ([], ACCEPT | {"headers": 1}),
        ([], ACCEPT | {"headers": [(b"sec-websocket-protocol", b"chat")]}),
        ([], ACCEPT | {"headers": [(b"x", b"1\r\ny: 2")]}),
        ([], start() | {"status": "401"}),
        ([], start() | {"status": True}),
        ([], {"type": "websocket.http.response.start"}),
        ([], start(101)),
        ([], start(99)),
        ([], start(401, (b"x y", b"1"))),
        ([], start(401, ("x", "1"))),  # type: ignore[arg-type]
        ([ACCEPT], {"type": "websocket.send"}),
        ([ACCEPT], {"type": "websocket.send", "text": None, "bytes": None}),
        ([ACCEPT], {"type": "websocket.send", "text": "a", "bytes": b"a"}),
        ([ACCEPT], {"type": "websocket.send", "text": b"a"}),
        ([ACCEPT], {"type": "websocket.send", "bytes": "a"}),
        ([ACCEPT], {"type": "websocket.send", "bytes": 5}),
        ([ACCEPT], {"type": "websocket.send", "text": "\ud800"}),
        ([ACCEPT], CLOSE | {"code": "1000"}),
        ([ACCEPT], CLOSE | {"code": True}),
        ([ACCEPT], CLOSE | {"code": 1005}),
        ([ACCEPT], CLOSE | {"code": 200}),
        ([ACCEPT], CLOSE | {"reason": b"bye"}),
        ([ACCEPT], CLOSE | {"reason": "*" * 124}),
        ([start()], body("no")),  # type: ignore[arg-type]
        ([start()], body(None)),  # type: ignore[arg-type]
    ],
)
def test_broken_messages_send_nothing_and_change_nothing(before: list[dict[str, Any]], message: Any) -> None:
    exchange, sink = played(*before)
    already, status = list(sink.pieces), exchange.status
    with pytest.raises(AppError):
        exchange.take(message)
    assert sink.pieces == already
    assert (exchange.status, exchange.finished) == (status, False)
    for message in [CLOSE] if before != [start()] else [body()]:
        exchange.take(message)
    assert exchange.finished


# No, thank you


def test_close_before_accept() -> None:
    exchange, sink = played(CLOSE | {"code": 4001, "reason": "no place for that"})
    assert (sink.answer.status, sink.answer.body) == (403, b"")
    assert sink.answer.headers["Content-Length"] == "0"
    assert (exchange.accepted, exchange.status, exchange.finished) == (False, 403, True)
    assert exchange.message() == disconnect(1006)


def test_denial_in_one_piece() -> None:
    exchange, sink = played(start(401, (b"www-authenticate", b"Basic"), (b"content-type", b"text/plain")))
    assert sink.pieces == [], "the head waits for the content"
    assert not exchange.started
    exchange.take(body(b"who are you?"))
    answer = sink.answer
    assert (answer.status, answer.body) == (401, b"who are you?")
    assert (answer.headers["www-authenticate"], answer.headers["Content-Length"]) == ("Basic", "12")
    assert (exchange.status, exchange.sent, exchange.finished, exchange.accepted) == (401, 12, True, False)
    assert exchange.response is not None
    assert exchange.response.status == 401
    assert exchange.message() == disconnect(1006)


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"6")]])
def test_denial_in_pieces(headers: list[tuple[bytes, bytes]]) -> None:
    exchange, sink = played(start(404, *headers), body(b"", more=True))
    assert len(sink.pieces) == 1, "an empty piece sends the head"
    for message in (body(b"no", more=True), body(b"", more=True), body(b"pe", more=True)):
        exchange.take(message)
        assert not exchange.finished
    exchange.take(body(b"!!"))
    assert (sink.answer.status, sink.answer.body) == (404, b"nope!!")
    assert (exchange.status, exchange.sent, exchange.finished) == (404, 6, True)
    assert len([event for event in sink.events if isinstance(event, Data)]) == 3


@pytest.mark.parametrize("last", [body(), {"type": "websocket.http.response.body"}, body(bytearray())])  # type: ignore
def test_denial_without_content(last: dict[str, Any]) -> None:
    _, sink = played(start(404), last)
    assert (sink.answer.status, sink.answer.body, sink.answer.headers["Content-Length"]) == (404, b"", "0")


@pytest.mark.parametrize("status", [204, 304])
def test_denial_that_cannot_have_content(status: int) -> None:
    for pieces in ([body(b"dropped")], [body(b"dropped", more=True), body()]):
        _, sink = played(start(status), *pieces)
        assert (sink.answer.status, sink.answer.body) == (status, b"")
        assert "Content-Length" not in sink.answer.headers
        assert sink.wire.sending.name == "DONE"


@pytest.mark.parametrize(
    "pieces",
    [
        [body(b"1234")],
        [body(b"123456")],
        [body(b"123456", more=True)],
        [body(b"12345", more=True), body(b"6")],
        [body(b"12", more=True), body(b"34")],
    ],
)
def test_content_that_does_not_fit_its_length(pieces: list[dict[str, Any]]) -> None:
    *first, last = pieces
    exchange, sink = played(start(404, (b"content-length", b"5")), *first)
    already = list(sink.pieces)
    with pytest.raises(AppError, match="of a Content-Length of 5"):
        exchange.take(last)
    assert sink.pieces == already
    exchange.fail()
    if first:
        assert not exchange.finished, "it is for the worker to cut off"
    else:
        assert sink.answer.status == exchange.status == 500


def test_client_goes_while_it_is_denied() -> None:
    exchange, sink = played(start(404), body(b"no", more=True))
    exchange.closed(1006, "")
    with pytest.raises(PeerGone):
        exchange.take(body(b"pe"))
    exchange.abandon()
    assert END not in sink.events


# An application that leaves


@pytest.mark.parametrize("before", [[], [start()]])
@pytest.mark.parametrize("leave", [WebSocketExchange.abandon, WebSocketExchange.fail])
def test_leaving_without_an_answer(before: list[dict[str, Any]], leave: Any) -> None:
    exchange, sink = played(*before)
    leave(exchange)
    assert sink.answer.status == exchange.status == 500
    assert sink.answer.headers["Connection"] == "close"
    assert exchange.finished
    assert exchange.message() == disconnect(1006)


@pytest.mark.parametrize(("leave", "code"), [(WebSocketExchange.abandon, 1000), (WebSocketExchange.fail, 1011)])
def test_leaving_what_is_open(leave: Any, code: int) -> None:
    exchange, sink = played(ACCEPT, text("a"))
    leave(exchange)
    leave(exchange)
    assert sink.frames() == [b"\x81\x01a", b"\x88\x02" + code.to_bytes(2, "big")]
    assert exchange.finished
    assert exchange.message() == disconnect(code)


@pytest.mark.parametrize("leave", [WebSocketExchange.abandon, WebSocketExchange.fail])
def test_leaving_an_answer_unfinished(leave: Any) -> None:
    exchange, sink = played(start(404), body(b"no", more=True))
    already = list(sink.pieces)
    leave(exchange)
    assert sink.pieces == already
    assert not exchange.finished


@pytest.mark.parametrize("messages", [[ACCEPT, CLOSE], [CLOSE], [start(), body(b"no")]])
@pytest.mark.parametrize("leave", [WebSocketExchange.abandon, WebSocketExchange.fail])
def test_leaving_when_all_is_said(messages: list[dict[str, Any]], leave: Any) -> None:
    exchange, sink = played(*messages)
    already = list(sink.pieces)
    leave(exchange)
    assert sink.pieces == already
    assert exchange.finished
