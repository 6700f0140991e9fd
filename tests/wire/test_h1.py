"""A connection from the side of whoever drives it: what it waits for, and when it may go on."""

from __future__ import annotations

import pytest

from monoceros.wire.events import CONTINUE, END, NEED_DATA, PAUSED, AppError, Closed, Data, RemoteError, Request
from monoceros.wire.h1 import WORTH_READING, H1Connection
from monoceros.wire.response import Response
from wire.corpus import EMPTY, wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OTHER = b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n"


def post(*lines: bytes) -> bytes:
    return b"\r\n".join((b"POST / HTTP/1.1", b"Host: a", *lines)) + b"\r\n\r\n"


CHUNKED = post(b"Transfer-Encoding: chunked")
CONTINUE_5 = post(b"Expect: 100-continue", b"Content-Length: 5")


def received(*data: bytes) -> H1Connection:
    """A connection that has received this, with the head of the first request taken."""
    connection = wire()
    for one in data:
        connection.receive_data(one)
    assert isinstance(connection.next_event(), Request)
    return connection


def answered(connection: H1Connection) -> bytes:
    return connection.send(EMPTY) + connection.send(END)


# The last head is remembered


def test_same_head_is_parsed_once() -> None:
    """Each in a packet of its own, as clients send them that wait for the answer."""
    connection = received(GET)
    first = connection.request
    for raw, same in ((GET, True), (OTHER, False), (GET, False), (GET, True)):
        assert connection.next_event() is END
        answered(connection)
        assert connection.next_cycle()
        connection.receive_data(raw)
        event = connection.next_event()
        assert isinstance(event, Request)
        assert event.line.target == raw.split()[1].decode()
        assert (event is first) is same
        first = event


@pytest.mark.parametrize("cut", range(1, len(GET)))
def test_same_head_in_pieces(cut: int) -> None:
    connection = received(GET)
    assert connection.next_event() is END
    answered(connection)
    assert connection.next_cycle()
    connection.receive_data(GET[:cut])
    assert connection.next_event() is NEED_DATA
    connection.receive_data(GET[cut:] + OTHER)
    for target in ("/", "/other"):
        event = connection.next_event()
        assert isinstance(event, Request)
        assert event.line.target == target
        assert connection.next_event() is END
        answered(connection)
        assert connection.next_cycle()


def test_same_head_has_its_own_content() -> None:
    """What is remembered is the head: how much of the content was read, and what was promised, begins anew."""
    connection = received(CONTINUE_5)
    for content in (b"hello", b"world"):
        assert connection.awaits_continue
        connection.send(CONTINUE)
        connection.receive_data(content + CONTINUE_5)
        assert connection.next_event() == Data(content)
        assert connection.next_event() is END
        answered(connection)
        assert connection.next_cycle()
        assert isinstance(connection.next_event(), Request)


# Waiting


def test_nothing_yet() -> None:
    connection = wire()
    assert connection.next_event() is NEED_DATA
    connection.receive_data(GET[:-1])
    assert connection.next_event() is NEED_DATA
    assert connection.next_event() is NEED_DATA
    connection.receive_data(GET[-1:])
    assert isinstance(connection.next_event(), Request)
    assert connection.next_event() is END


def test_pipelined_request_waits_for_its_turn() -> None:
    connection = received(GET + OTHER)
    assert connection.next_event() is END
    assert connection.next_event() is PAUSED
    connection.send(EMPTY)
    assert connection.next_event() is PAUSED
    connection.send(END)
    assert connection.next_event() is PAUSED
    assert connection.next_cycle()
    event = connection.next_event()
    assert isinstance(event, Request)
    assert event.line.target == "/other"
    assert connection.request is event


def test_pipelined_requests_that_come_while_the_first_is_served() -> None:
    connection = received(GET)
    assert connection.next_event() is END
    for start in range(len(OTHER)):
        connection.receive_data(OTHER[start : start + 1])
        assert connection.next_event() is PAUSED
    answered(connection)
    assert connection.next_cycle()
    assert isinstance(connection.next_event(), Request)


def test_end_of_the_connection_waits_for_the_answer() -> None:
    """A client that closes its side after the request still gets its answer."""
    connection = received(GET)
    connection.receive_data(b"")
    assert connection.next_event() is END
    assert connection.next_event() is PAUSED
    answered(connection)
    assert connection.next_cycle()
    assert connection.next_event() == Closed()
    assert connection.next_event() == Closed()


def test_no_further_cycle_before_the_answer() -> None:
    connection = received(GET + OTHER)
    assert connection.next_event() is END
    assert not connection.next_cycle()
    connection.send(EMPTY)
    assert not connection.next_cycle()
    connection.send(END)
    assert connection.next_cycle()
    assert not connection.next_cycle()


def test_leftover() -> None:
    """What is not ours begins behind the request: a successor gets every byte of it, once."""
    connection = received(GET + b"\x81\x00rest")
    assert connection.next_event() is END
    assert connection.leftover() == b"\x81\x00rest"
    connection.receive_data(b"more")
    assert connection.leftover() == b"\x81\x00restmore"
    assert received(GET).leftover() == b""


# A request that is answered before it is complete


def test_rest_of_the_content_is_passed_over() -> None:
    connection = received(post(b"Content-Length: 5") + b"hello" + OTHER)
    answered(connection)
    assert connection.next_cycle()
    event = connection.next_event()
    assert isinstance(event, Request)
    assert event.line.target == "/other"


def test_rest_of_the_chunks_is_passed_over() -> None:
    connection = received(CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n\r\n" + OTHER)
    answered(connection)
    assert connection.next_cycle()
    assert isinstance(connection.next_event(), Request)


def test_rest_that_has_not_come_ends_the_connection() -> None:
    connection = received(post(b"Content-Length: 5") + b"hell")
    answered(connection)
    assert not connection.next_cycle()


def test_rest_with_a_fault() -> None:
    connection = received(CHUNKED + b"5\r\nhelloX")
    answered(connection)
    with pytest.raises(RemoteError, match="longer than its size"):
        connection.next_cycle()


def test_rest_with_a_fault_does_not_matter_when_the_connection_ends() -> None:
    connection = received(CHUNKED + b"5\r\nhelloX")
    connection.closing = True
    answered(connection)
    assert not connection.next_cycle()


@pytest.mark.parametrize(("left", "keep"), [(WORTH_READING, True), (WORTH_READING + 1, False)])
def test_much_unread_content_costs_the_connection(left: int, keep: bool) -> None:
    """The head says so, before the client sends another request that nobody would read."""
    connection = received(post(b"Content-Length: %d" % left))
    assert (b"Connection: close" not in answered(connection)) is keep
    assert connection.keep_alive is keep


def test_content_that_was_read_does_not_count() -> None:
    connection = received(post(b"Content-Length: %d" % (WORTH_READING + 1)), b"x")
    assert connection.next_event() == Data(b"x")
    assert b"Connection: close" not in answered(connection)


# 100 Continue


def test_client_waits() -> None:
    connection = received(CONTINUE_5)
    assert connection.awaits_continue
    connection.send(CONTINUE)
    assert not connection.awaits_continue


@pytest.mark.parametrize("request_", [GET, post(b"Content-Length: 5"), post(b"Expect: 100-continue"), CHUNKED])
def test_client_does_not_wait(request_: bytes) -> None:
    assert not received(request_).awaits_continue
    assert not wire().awaits_continue


def test_client_did_not_wait() -> None:
    """RFC 9110 §10.1.1: one that sends its content anyway need not be asked for it, not even for the rest."""
    connection = received(CONTINUE_5 + b"he")
    assert not connection.awaits_continue
    assert connection.next_event() == Data(b"he")
    assert connection.next_event() is NEED_DATA
    assert not connection.awaits_continue


def test_client_that_waits_in_vain() -> None:
    """It may send the content or not: what comes next could be either, so nothing may come next."""
    connection = received(CONTINUE_5)
    assert b"\r\nConnection: close\r\n" in answered(connection)
    assert not connection.next_cycle()


def test_client_that_was_asked_may_go_on() -> None:
    connection = received(CONTINUE_5)
    connection.send(CONTINUE)
    connection.receive_data(b"hello")
    assert connection.next_event() == Data(b"hello")
    assert connection.next_event() is END
    assert b"Connection: close" not in answered(connection)
    assert connection.next_cycle()
    connection.receive_data(CONTINUE_5)
    assert isinstance(connection.next_event(), Request)
    assert connection.awaits_continue


# A whole response at once


def ok(content: bytes, *fields: tuple[bytes, bytes], status: int = 200) -> Response:
    return Response(status, [*fields, (b"Content-Length", b"%d" % len(content))])


GET_1_0 = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
REQUESTS = [
    GET,
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    GET_1_0,
    GET_1_0.replace(b"keep-alive", b"close"),
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    post(b"Content-Length: 5") + b"hello",
    post(b"Content-Length: 5"),
    post(b"Content-Length: 5000000"),
    CONTINUE_5,
]
RESPONSES = [
    (ok(b"hello"), b"hello"),
    (ok(b""), b""),
    (Response(200), b"hello"),
    (Response(200), b""),
    (Response(204), b""),
    (Response(304, [(b"Content-Length", b"5")]), b""),
    (ok(b"hello", status=204), b"hello"),
    (ok(b"hello", status=304), b"hello"),
    (ok(b"hello", (b"Connection", b"close")), b"hello"),
    (ok(b"hello", (b"Date", b"yesterday")), b"hello"),
    (ok(b"hello", (b"Server", b"other")), b"hello"),
    (ok(b"hello", (b"X", b"y"), status=404), b"hello"),
]


@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize(("response", "content"), RESPONSES)
def test_whole_response(request_: bytes, response: Response, content: bytes, closing: bool) -> None:
    """It is what its three events would be, for whatever request."""
    whole, pieces = received(request_), received(request_)
    whole.closing = pieces.closing = closing
    expected = pieces.send(response) + pieces.send(Data(content)) + pieces.send(END)
    assert whole.respond(response, content) == expected
    assert whole.keep_alive is pieces.keep_alive
    assert whole.sending is pieces.sending
    assert whole.next_cycle() is pieces.next_cycle()


@pytest.mark.parametrize("content", [b"hell", b"hello!"])
def test_whole_response_of_another_length(content: bytes) -> None:
    with pytest.raises(AppError, match="than its Content-Length"):
        received(GET).respond(ok(b"hello"), content)


def test_whole_response_has_its_place() -> None:
    connection = received(GET)
    connection.respond(ok(b"hello"), b"hello")
    with pytest.raises(AppError, match="cannot send Response in state DONE"):
        connection.respond(ok(b"hello"), b"hello")
    with pytest.raises(AppError, match="cannot send Data in state DONE"):
        connection.send(Data(b"x"))


# The buffer


def test_what_was_parsed_is_not_kept() -> None:
    """A long content passes through: none of it stays in the buffer."""
    connection = received(post(b"Content-Length: 1000000"))
    for _ in range(100):
        connection.receive_data(b"x" * 10000)
        assert connection.next_event() == Data(b"x" * 10000)
        assert connection.leftover() == b""
        assert len(connection._buffer) <= 10000


def test_chunks_that_were_parsed_are_not_kept() -> None:
    connection = received(CHUNKED)
    for _ in range(100):
        connection.receive_data(b"2\r\nab\r\n1\r\nc\r")
        assert connection.next_event() == Data(b"abc")
        connection.receive_data(b"\n")
        assert connection.next_event() is NEED_DATA
        assert len(connection._buffer) <= 30


def test_pending_is_what_was_received_but_not_parsed() -> None:
    connection = wire()
    assert connection.pending == 0
    for data, pending in ((GET[:10], 10), (GET[10:] + OTHER, len(GET + OTHER)), (b"GET", len(GET + OTHER) + 3)):
        connection.receive_data(data)
        assert connection.pending == pending == len(connection.leftover())
    connection.next_event()
    assert connection.pending == len(OTHER) + 3
    assert connection.next_event() is END
    answered(connection)
    assert connection.next_cycle()
    connection.next_event()
    assert connection.pending == 3 == len(connection.leftover())
