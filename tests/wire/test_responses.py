"""What goes out: the order of events, the framing of content, and what no application may send."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from monoceros.wire.events import (
    CONTINUE,
    END,
    AppError,
    Closed,
    Data,
    EndOfMessage,
    FileSpan,
    Informational,
    Limits,
    RemoteError,
    Sendable,
)
from monoceros.wire.fields import Field
from monoceros.wire.h1 import SENDING, H1Connection
from monoceros.wire.response import PHRASES, Defaults, Response, refusal

NOW = 784111777  # the example of RFC 9110 §5.6.7
DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
OWN = b"Server: monoceros\r\n" + DATE

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"
GET_1_0_KEEP = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
HEAD_1_0_KEEP = b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
POST_CONTINUE = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"

Fields = Sequence[tuple[bytes, bytes]]


def length(count: int) -> tuple[bytes, bytes]:
    return b"Content-Length", b"%d" % count


def asked(request: bytes = GET, defaults: Defaults | None = None) -> H1Connection:
    """A connection that has received the head of this request."""
    connection = H1Connection(Limits(), defaults or Defaults(lambda: NOW))
    connection.receive_data(request)
    connection.next_event()
    return connection


def said(connection: H1Connection, *events: Sendable) -> bytes:
    return b"".join(map(connection.send, events))


def head_of(request: bytes, *fields: tuple[bytes, bytes], status: int = 200) -> bytes:
    """What goes out for a response head, less what the server adds on its own account."""
    head = asked(request).send(Response(status, fields))
    assert head.count(OWN) == 1
    return head.replace(OWN, b"")


# The order of events


EVENTS: list[Sendable] = [
    Informational(103),
    Response(200, [length(0)]),
    Data(b""),
    FileSpan(0, 0, 0),
    END,
]
LEADING_TO: dict[str, list[Sendable]] = {
    "HEAD": [],
    "BODY": [Response(200, [length(0)])],
    "DONE": [Response(200, [length(0)]), END],
}
LEGAL = {
    ("HEAD", "Informational"): "HEAD",
    ("HEAD", "Response"): "BODY",
    ("BODY", "Data"): "BODY",
    ("BODY", "FileSpan"): "BODY",
    ("BODY", "EndOfMessage"): "DONE",
}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("state", LEADING_TO)
def test_order(state: str, event: Sendable) -> None:
    """Every event in every state: it leads on, or is refused by name and changes nothing."""
    connection = asked()
    said(connection, *LEADING_TO[state])
    assert str(connection.sending) == state
    kind = type(event).__name__
    if after := LEGAL.get((state, kind)):
        connection.send(event)
        assert str(connection.sending) == after
    else:
        with pytest.raises(AppError) as refused:
            connection.send(event)
        assert str(refused.value) == f"cannot send {kind} in state {state}"
        assert str(connection.sending) == state


def test_order_table_has_no_other_rows() -> None:
    rows = {(str(state), kind.__name__): str(after) for state, row in SENDING.items() for kind, after in row.items()}
    assert rows == LEGAL


@pytest.mark.parametrize("state", LEADING_TO)
def test_what_is_only_received_is_never_sent(state: str) -> None:
    connection = asked()
    said(connection, *LEADING_TO[state])
    with pytest.raises(AppError, match=f"cannot send Closed in state {state}"):
        connection.send(Closed())  # type: ignore[arg-type]


def test_response_before_the_request_is_complete() -> None:
    """A refusal or an impatient application may answer early; what is left of the request is still read."""
    connection = asked(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")
    said(connection, Response(200, [length(0)]), END)
    connection.receive_data(b"lo")
    assert connection.next_cycle()


def test_response_without_a_request() -> None:
    """A client may be answered that has sent no request: 408, 503."""
    connection = H1Connection(Limits(), Defaults(lambda: NOW))
    head, body = refusal(408)
    answer = said(connection, head, Data(body), END)
    assert answer == (
        b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\n"
        + OWN
        + b"Connection: close\r\n\r\n408 Request Timeout\n"
    )


# How content is framed


def test_content_length() -> None:
    assert said(asked(), Response(200, [length(5)]), Data(b"hel"), Data(b"lo"), END) == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + OWN + b"\r\nhello"
    )


def test_chunked_where_no_length_is_known() -> None:
    assert said(asked(), Response(200), Data(b"hello"), Data(b"x" * 26), END) == (
        b"HTTP/1.1 200 OK\r\n"
        + OWN
        + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1a\r\n"
        + b"x" * 26
        + b"\r\n0\r\n\r\n"
    )


def test_empty_data_does_not_end_chunked_content() -> None:
    connection = asked()
    connection.send(Response(200))
    assert connection.send(Data(b"")) == b""
    assert connection.send(Data(b"x")) == b"1\r\nx\r\n"
    assert connection.send(END) == b"0\r\n\r\n"


def test_chunked_and_close() -> None:
    assert head_of(GET_CLOSE) == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


def test_1_0_content_until_close() -> None:
    connection = asked(GET_1_0_KEEP)
    answer = said(connection, Response(200), Data(b"he"), Data(b""), Data(b"llo"), END)
    assert answer == b"HTTP/1.1 200 OK\r\n" + OWN + b"Connection: close\r\n\r\nhello"
    connection.next_event()
    assert not connection.next_cycle()


def test_1_0_keep_alive_with_a_length() -> None:
    connection = asked(GET_1_0_KEEP)
    answer = said(connection, Response(200, [length(2)]), Data(b"ok"), END)
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + OWN + b"Connection: keep-alive\r\n\r\nok"
    connection.next_event()
    assert connection.next_cycle()


def test_1_0_closes_unless_asked_otherwise() -> None:
    assert head_of(GET_1_0, length(0)) == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "fields", "head"),
    [
        (HEAD, [], b"HTTP/1.1 200 OK\r\n\r\n"),
        (HEAD, [length(5)], b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (HEAD_1_0_KEEP, [], b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"),
        (HEAD_1_0_KEEP, [length(5)], b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n"),
    ],
)
def test_head_has_no_content(request_: bytes, fields: Fields, head: bytes) -> None:
    connection = asked(request_)
    answer = said(connection, Response(200, fields), Data(b"hello"), Data(b"and more"), END)
    assert answer.replace(OWN, b"") == head
    connection.next_event()
    assert connection.next_cycle()


@pytest.mark.parametrize(
    ("status", "fields", "head"),
    [
        (204, [], b"HTTP/1.1 204 No Content\r\n\r\n"),
        (204, [length(5)], b"HTTP/1.1 204 No Content\r\n\r\n"),  # RFC 9110 §8.6
        (304, [], b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        (304, [length(5)], b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ],
)
def test_status_without_content(status: int, fields: Fields, head: bytes) -> None:
    connection = asked()
    assert said(connection, Response(status, fields), Data(b"hello"), END).replace(OWN, b"") == head
    connection.next_event()
    assert connection.next_cycle()


@pytest.mark.parametrize("pieces", [[b"hello!"], [b"hello", b"!"], [b"x" * 1000]])
def test_content_over_its_length(pieces: list[bytes]) -> None:
    """What is too much is not sent: the client would take it for the next response."""
    connection = asked()
    connection.send(Response(200, [length(5)]))
    for piece in pieces[:-1]:
        connection.send(Data(piece))
    with pytest.raises(AppError, match="longer than its Content-Length"):
        connection.send(Data(pieces[-1]))
    assert str(connection.sending) == "BODY"
    connection.next_event()
    assert not connection.next_cycle()


@pytest.mark.parametrize("pieces", [[], [b""], [b"hell"]])
def test_content_under_its_length(pieces: list[bytes]) -> None:
    connection = asked()
    connection.send(Response(200, [length(5)]))
    for piece in pieces:
        connection.send(Data(piece))
    with pytest.raises(AppError, match="shorter than its Content-Length"):
        connection.send(END)
    connection.next_event()
    assert not connection.next_cycle()


def test_file_counts_as_content() -> None:
    connection = asked()
    connection.send(Response(200, [length(5)]))
    assert connection.send(FileSpan(0, 0, 3)) == b""
    with pytest.raises(AppError, match="longer than its Content-Length"):
        connection.send(FileSpan(0, 3, 3))
    connection = asked()
    said(connection, Response(200, [length(5)]), FileSpan(0, 0, 3), Data(b"lo"), END)
    assert str(connection.sending) == "DONE"


def test_file_needs_a_framing_that_leaves_it_whole() -> None:
    chunked = asked()
    chunked.send(Response(200))
    with pytest.raises(AppError, match="chunks"):
        chunked.send(FileSpan(0, 0, 1))
    empty = asked(HEAD)
    empty.send(Response(200, [length(1)]))
    with pytest.raises(AppError, match="without content"):
        empty.send(FileSpan(0, 0, 1))
    until_close = asked(GET_1_0)
    assert said(until_close, Response(200), FileSpan(0, 0, 1), END).endswith(b"\r\n\r\n")


def test_a_head_is_framed_for_its_request() -> None:
    """One Response object serves all clients; nothing of the first one sticks to it."""
    response = Response(200)
    assert b"Transfer-Encoding" in asked(GET).send(response)
    assert b"Transfer-Encoding" not in asked(GET_1_0).send(response)
    assert b"Connection: close" in asked(GET_CLOSE).send(response)
    assert b"Connection" not in asked(GET).send(response)


# Fields of our own


def test_date_and_server_are_added_once() -> None:
    assert asked().send(Response(200, [length(0)])) == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + OWN + b"\r\n"


@pytest.mark.parametrize(
    ("fields", "own"),
    [
        ([(b"date", b"yesterday")], [b"Server: monoceros"]),
        ([(b"SERVER", b"other")], [DATE.strip()]),
        ([(b"Server", b"other"), (b"Date", b"yesterday")], []),
        ([(b"x-date", b"1")], [b"Server: monoceros", DATE.strip()]),
    ],
)
def test_date_and_server_of_the_application_stand(fields: Fields, own: list[bytes]) -> None:
    lines = asked().send(Response(204, fields)).removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
    assert lines == [b"%b: %b" % field for field in fields] + own


def test_no_server_field() -> None:
    defaults = Defaults(lambda: NOW, b"")
    assert asked(defaults=defaults).send(Response(204)) == b"HTTP/1.1 204 No Content\r\n" + DATE + b"\r\n"
    assert b"Date" not in asked(defaults=defaults).send(Response(204, [(b"X", b"y")])).replace(DATE, b"")
    own_date = Response(204, [(b"Date", b"yesterday")])
    assert asked(defaults=defaults).send(own_date) == b"HTTP/1.1 204 No Content\r\nDate: yesterday\r\n\r\n"


def test_date_follows_the_clock() -> None:
    times = iter([NOW, NOW + 0.9, NOW + 1, NOW - 3600])
    defaults = Defaults(lambda: next(times))
    assert [defaults.lines().split()[-2] for _ in range(4)] == [b"08:49:37", b"08:49:37", b"08:49:38", b"07:49:37"]


OWNERS = ((b"X-Frame-Options", b"DENY"), (b"x-served-by", b"a b"))
OWNERS_LINES = b"X-Frame-Options: DENY\r\nx-served-by: a b\r\n"


@pytest.mark.parametrize(
    ("defaults", "lines"),
    [
        (Defaults(lambda: NOW), OWN),
        (Defaults(lambda: NOW, b"other"), b"Server: other\r\n" + DATE),
        (Defaults(lambda: NOW, date=False), b"Server: monoceros\r\n"),
        (Defaults(lambda: NOW, b"", date=False), b""),
        (Defaults(lambda: NOW, fields=OWNERS), b"Server: monoceros\r\n" + OWNERS_LINES + DATE),
        (Defaults(lambda: NOW, b"", date=False, fields=OWNERS), OWNERS_LINES),
        (Defaults(lambda: NOW, fields=[(b"SERVER", b"theirs"), *OWNERS]), b"Server: theirs\r\n" + OWNERS_LINES + DATE),
        (Defaults(lambda: NOW, b"", fields=[(b"Server", b"theirs")]), b"Server: theirs\r\n" + DATE),
        (Defaults(lambda: NOW, fields=[(b"server", b"")]), DATE),
    ],
)
def test_what_the_server_adds(defaults: Defaults, lines: bytes) -> None:
    for _ in range(2):
        assert defaults.lines() == lines
    assert asked(defaults=defaults).send(Response(204)) == b"HTTP/1.1 204 No Content\r\n" + lines + b"\r\n"


@pytest.mark.parametrize(
    ("fields", "own"),
    [
        ([(b"server", b"app")], OWNERS_LINES + DATE),
        ([(b"date", b"today")], b"Server: monoceros\r\n" + OWNERS_LINES),
        ([(b"Date", b"today"), (b"Server", b"app")], OWNERS_LINES),
    ],
)
def test_what_the_operator_wants_is_added_beside_what_the_application_says(fields: Fields, own: bytes) -> None:
    head = asked(defaults=Defaults(lambda: NOW, fields=OWNERS)).send(Response(204, fields))
    said = b"".join(b"%b: %b\r\n" % field for field in fields)
    assert head == b"HTTP/1.1 204 No Content\r\n" + said + own + b"\r\n"


# What the application says about the connection


HOP_BY_HOP = [
    (b"Keep-Alive", b"timeout=5"),
    (b"proxy-connection", b"keep-alive"),
    (b"TE", b"trailers"),
    (b"Transfer-Encoding", b"chunked"),
    (b"transfer-encoding", b"gzip, chunked"),
    (b"Upgrade", b"h2c"),
    (b"CONNECTION", b"keep-alive"),
    (b"Connection", b"upgrade"),
]


@pytest.mark.parametrize("field", HOP_BY_HOP, ids=str)
def test_hop_by_hop_fields_are_dropped(field: tuple[bytes, bytes]) -> None:
    assert head_of(GET, field, length(0)) == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("value", [b"close", b"Close", b"x, close", b"keep-alive, CLOSE"])
def test_application_closes(value: bytes) -> None:
    connection = asked()
    answer = said(connection, Response(200, [(b"Connection", value), length(0)]), END)
    assert answer.count(b"Connection: close\r\n") == answer.lower().count(b"connection:") == 1
    connection.next_event()
    assert not connection.next_cycle()


def test_driver_closes() -> None:
    connection = asked()
    connection.closing = True
    assert said(connection, Response(204), END).endswith(b"\r\nConnection: close\r\n\r\n")
    connection.next_event()
    assert not connection.next_cycle()


def test_repeated_fields_keep_their_order() -> None:
    cookies = [(b"Set-Cookie", b"a=1"), (b"X", b"y"), (b"Set-Cookie", b"b=2")]
    assert head_of(GET, *cookies, status=204) == (
        b"HTTP/1.1 204 No Content\r\nSet-Cookie: a=1\r\nX: y\r\nSet-Cookie: b=2\r\n\r\n"
    )


# What is not sent


BAD_NAMES = [b"", b" X", b"X ", b"X:", b"X\r\nY", b"X\n", b"X\rY", b"X\0", b"X Y", b"\xe9", b"(X)", b"X\t", b"X\x7f"]
BAD_VALUES = [
    b"y\r\nSet-Cookie: a=b",
    b"y\r\n\r\n<html>",
    b"y\nz",
    b"y\rz",
    b"y\n",
    b"\ny",
    b"y\r",
    b"y\r\n z",
    b"y\0",
    b"\x1b[2J",
    b"y\x7f",
    b"y\x0b",
    b"y\x0c",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_header_injection_by_name(name: bytes) -> None:
    with pytest.raises(AppError, match="invalid header name"):
        Response(200, [(name, b"y")])


@pytest.mark.parametrize("value", BAD_VALUES)
def test_header_injection_by_value(value: bytes) -> None:
    with pytest.raises(AppError, match="value of header X"):
        Response(200, [(b"X", value)])


@pytest.mark.parametrize("value", BAD_VALUES)
@pytest.mark.parametrize("name", [b"Connection", b"Transfer-Encoding", b"Content-Length", b"Upgrade"])
def test_header_injection_by_fields_that_are_dropped(name: bytes, value: bytes) -> None:
    with pytest.raises(AppError):
        Response(200, [(name, value)])


@pytest.mark.parametrize("reason", [b"OK\r\nX: y", b"OK\n", b"\r", b"a\0"])
def test_header_injection_by_reason(reason: bytes) -> None:
    with pytest.raises(AppError, match="invalid reason phrase"):
        Response(200, reason=reason)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_header_injection_by_interim_name(name: bytes) -> None:
    with pytest.raises(AppError, match="invalid header name"):
        asked().send(Informational(103, ((name, b"y"),)))


@pytest.mark.parametrize("value", BAD_VALUES)
def test_header_injection_by_interim_value(value: bytes) -> None:
    with pytest.raises(AppError, match="value of header X"):
        asked().send(Informational(103, ((b"X", value),)))


@pytest.mark.parametrize(("name", "value"), [*((name, b"y") for name in BAD_NAMES), *((b"X", y) for y in BAD_VALUES)])
def test_header_injection_by_trailer(name: bytes, value: bytes) -> None:
    connection = asked()
    connection.send(Response(200))
    with pytest.raises(AppError):
        connection.send(EndOfMessage([Field(name, value)]))


@pytest.mark.parametrize("value", [b"", b"x", b"-1", b"+1", b"1, 1", b"1 1", b"0x1", b"1.0", b"9" * 19, b"\xb2"])
def test_invalid_content_length(value: bytes) -> None:
    with pytest.raises(AppError, match="invalid Content-Length"):
        Response(200, [(b"Content-Length", value)])


def test_two_content_lengths() -> None:
    assert head_of(GET, length(5), length(5)) == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    with pytest.raises(AppError, match="two different Content-Length fields: 5 and 6"):
        Response(200, [length(5), length(6)])


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 199, 1000])
def test_status_that_is_not_final(status: int) -> None:
    with pytest.raises(AppError, match=f"status {status} "):
        Response(status)


def test_status_line() -> None:
    assert head_of(GET, length(0), status=404).startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert head_of(GET, length(0), status=299).startswith(b"HTTP/1.1 299 \r\n")
    assert Response(404, reason=b"Gone fishing").raw == b"HTTP/1.1 404 Gone fishing\r\n"
    assert Response(404, reason=b"").raw == b"HTTP/1.1 404 \r\n"


def test_values_are_stripped_and_may_be_empty() -> None:
    assert Response(200, [(b"X", b" \ty z\t "), (b"Y", b""), (b"Z", b"\xff")]).raw == (
        b"HTTP/1.1 200 OK\r\nX: y z\r\nY: \r\nZ: \xff\r\n"
    )


def test_with_length_makes_one_head_for_pages_of_one_length() -> None:
    response = Response(200, [(b"X", b"y"), (b"Connection", b"close")])
    sized = response.with_length(5)
    assert (sized.length, sized.close, sized.status) == (5, True, 200)
    assert sized.raw == b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n"
    assert response.with_length(5) is sized
    assert response.with_length(6).raw == b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 6\r\n"
    assert response.length is None


# Interim responses


def test_continue() -> None:
    connection = asked(POST_CONTINUE)
    assert connection.awaits_continue
    assert connection.send(CONTINUE) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert not connection.awaits_continue
    assert str(connection.sending) == "HEAD"


def test_early_hints() -> None:
    hints = Informational(103, ((b"Link", b"</a.css>; rel=preload"),))
    connection = asked()
    answer = said(connection, hints, hints, Response(204), END)
    assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n" * 2 + b"HTTP/1.1 204 ")


@pytest.mark.parametrize("request_", [GET_1_0, GET_1_0_KEEP, POST_CONTINUE.replace(b"HTTP/1.1", b"HTTP/1.0")])
@pytest.mark.parametrize("event", [CONTINUE, Informational(103)])
def test_interim_responses_are_not_for_1_0(request_: bytes, event: Informational) -> None:
    """RFC 9110 §15.2."""
    connection = asked(request_)
    assert connection.send(event) == b""
    assert str(connection.sending) == "HEAD"


def test_interim_responses_need_a_request() -> None:
    assert H1Connection(Limits(), Defaults(lambda: NOW)).send(CONTINUE) == b""


# Trailers


def test_trailers_of_chunked_content() -> None:
    connection = asked()
    connection.send(Response(200, [(b"Trailer", b"X")]))
    connection.send(Data(b"x"))
    trailers = [Field(b"X", b"1"), Field(b"y", b"2")]
    assert connection.send(EndOfMessage(trailers)) == b"0\r\nX: 1\r\ny: 2\r\n\r\n"


@pytest.mark.parametrize("request_", [HEAD, GET_1_0])
def test_trailers_have_no_place_without_chunks(request_: bytes) -> None:
    connection = asked(request_)
    connection.send(Response(200))
    assert connection.send(EndOfMessage([Field(b"X", b"1")])) == b""


def test_trailers_have_no_place_behind_a_length() -> None:
    connection = asked()
    said(connection, Response(200, [length(1)]), Data(b"x"))
    assert connection.send(EndOfMessage([Field(b"X", b"1")])) == b""


# Refusals


@pytest.mark.parametrize("error", [RemoteError, *RemoteError.__subclasses__()])
def test_refusals_have_a_phrase_and_say_nothing_else(error: type[RemoteError]) -> None:
    response, body = refusal(error.status)
    assert body == b"%d %b\n" % (error.status, PHRASES[error.status])
    assert 400 <= response.status == error.status <= 599
    assert response.length == len(body)
    assert response.close
