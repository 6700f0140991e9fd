"""Header lines, header blocks, trailers, and what the caches behind them keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from monoceros.wire import fields
from monoceros.wire.events import (
    BodyTooLarge,
    ExpectationFailed,
    HeadTooLarge,
    Limits,
    NotImplementedHere,
    RemoteError,
    Request,
)
from monoceros.wire.fields import (
    CACHED_LENGTH,
    CACHED_LINES,
    NOT_IN_TRAILERS,
    SECRETS,
    FieldBlock,
    parse_line,
    parse_lines,
    parse_trailers,
)
from monoceros.wire.h1 import H1Connection
from wire.corpus import alone, drive, meaning, wire

LIMITS = Limits()


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    fields._fields.clear()
    yield
    fields._fields.clear()


def block(*lines: bytes, version: str = "HTTP/1.1", limits: Limits = LIMITS) -> FieldBlock:
    return FieldBlock(b"\r\n".join((b"Host: a", *lines)), version, limits)


def requests(connection: H1Connection, *raw: bytes) -> list[Request]:
    return [event for event in drive(connection, raw) if isinstance(event, Request)]


# One line


def test_line() -> None:
    field = parse_line(b"Content-Type: \t text/plain ")
    assert (field.name, field.value) == (b"content-type", b"text/plain")
    assert repr(field) == "b'content-type': b'text/plain'"


def test_line_without_value() -> None:
    assert parse_line(b"X:").value == parse_line(b"Y: ").value == b""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b" X: y", "obsolete line folding"),
        (b"\tX: y", "obsolete line folding"),
        (b"", "without a colon: b''"),
        (b"X", "without a colon: b'X'"),
        (b": y", "invalid header name: b''"),
        (b"X : y", "invalid header name: b'X '"),
        (b"X: \0", "invalid characters in the value of header 'X'"),
        (b"X: y\nz", "invalid characters in the value of header 'X'"),
    ],
)
def test_line_refused(line: bytes, words: str) -> None:
    with pytest.raises(RemoteError) as refused:
        parse_line(line)
    assert words in str(refused.value)
    assert line not in fields._fields


@pytest.mark.parametrize("name", [b"Authorization", b"Cookie", b"X-Api-Key"])
def test_message_does_not_show_the_value(name: bytes) -> None:
    with pytest.raises(RemoteError) as refused:
        parse_line(name + b": hunter2\0")
    assert "hunter2" not in str(refused.value)


# The cache of lines


def test_same_line_is_parsed_once() -> None:
    first = parse_lines(b"X: y\r\nZ: 1", LIMITS)
    second = parse_lines(b"Z: 1\r\nX: y", LIMITS)
    assert first[0] is second[1]
    assert first[1] is second[0]
    assert parse_lines(b"x: y", LIMITS)[0] is not first[0]


@pytest.mark.parametrize("name", [b"Authorization", b"authorization", b"COOKIE", b"Proxy-Authorization"])
def test_cache_holds_no_secrets(name: bytes) -> None:
    """What one client sends in confidence does not lie about while others are served."""
    assert name.lower() in SECRETS
    parse_lines(name + b": hunter2\r\nX: y", LIMITS)
    assert list(fields._fields) == [b"X: y"]


def test_cache_holds_no_secrets_of_requests() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: hunter2\r\nAuthorization: Basic hunter2\r\n\r\n"
    requests(wire(), head, head)
    assert list(fields._fields) == [b"Host: a"]


def test_cache_holds_no_long_lines() -> None:
    exact = b"X: " + b"y" * (CACHED_LENGTH - 3)
    parse_lines(exact + b"\r\n" + exact + b"y", LIMITS)
    assert list(fields._fields) == [exact]


def test_cache_is_bounded_and_starts_afresh() -> None:
    for number in range(3 * CACHED_LINES + 5):
        parse_lines(b"X: %d" % number, LIMITS)
        assert len(fields._fields) <= CACHED_LINES
    assert b"X: %d" % (3 * CACHED_LINES + 4) in fields._fields
    assert b"X: 0" not in fields._fields


def test_cached_lines_keep_their_rules() -> None:
    """A line that is known is not a line that is believed: its rule is applied to every block."""
    for _ in range(2):
        with pytest.raises(RemoteError, match="more than one host"):
            block(b"Host: a")
        with pytest.raises(RemoteError, match="invalid Content-Length"):
            block(b"Content-Length: x")
        assert block(b"Connection: close").keep_alive is False


# A block


def test_iterating_gives_names_and_values() -> None:
    assert list(block(b"X: y", b"x: z")) == [(b"host", b"a"), (b"x", b"y"), (b"x", b"z")]


def test_plain_block() -> None:
    plain = block()
    assert (plain.host, plain.content_length, plain.chunked, plain.has_body) == (b"a", None, False, False)
    assert (plain.expect, plain.upgrade, plain.keep_alive, plain.underscores) == (False, None, True, False)
    assert plain.connection == set()


def test_framing() -> None:
    assert block(b"Content-Length: 5").content_length == 5
    assert block(b"Content-Length: 5").has_body
    assert not block(b"Content-Length: 0").has_body
    assert block(b"Content-Length: 0").content_length == 0
    assert block(b"Transfer-Encoding: chunked").chunked
    assert block(b"Transfer-Encoding: chunked").has_body


@pytest.mark.parametrize(
    ("lines", "version", "keep_alive"),
    [
        ([], "HTTP/1.1", True),
        ([], "HTTP/1.0", False),
        ([b"Connection: keep-alive"], "HTTP/1.0", True),
        ([b"Connection: close"], "HTTP/1.1", False),
        ([b"Connection: x", b"Connection: CLOSE"], "HTTP/1.1", False),
        ([b"Connection: keep-alive", b"Connection: close"], "HTTP/1.0", False),
    ],
)
def test_keep_alive(lines: list[bytes], version: str, keep_alive: bool) -> None:
    assert block(*lines, version=version).keep_alive is keep_alive


def test_connection_options() -> None:
    assert block(b"Connection: Upgrade , x,", b"Connection: y").connection == {b"upgrade", b"x", b"", b"y"}
    assert block(b"Upgrade: WebSocket").upgrade == b"websocket"


@pytest.mark.parametrize("name", [b"X_Y", b"_", b"Content_Length"])
def test_underscores_are_noticed(name: bytes) -> None:
    assert block(name + b": 5").underscores
    assert block(name + b": 5").content_length is None
    assert not block(name.replace(b"_", b"-") + b": 5").underscores


def test_expect() -> None:
    assert block(b"Expect: 100-Continue", b"Content-Length: 1").expect
    assert not block(b"Expect: 100-continue").expect
    assert not block(b"Expect: 100-continue", b"Content-Length: 1", version="HTTP/1.0").expect
    assert not block(b"Expect: x", version="HTTP/1.0").expect
    with pytest.raises(ExpectationFailed):
        block(b"Expect: x")


@pytest.mark.parametrize(
    ("coding", "error"),
    [
        (b"gzip, chunked", NotImplementedHere),
        (b"x, chunked", NotImplementedHere),
        (b"chunked, x", NotImplementedHere),
        (b"gzip", RemoteError),
        (b"chunked, gzip", RemoteError),
        (b"chunked, chunked", RemoteError),
        (b"identity", RemoteError),
        (b"chunked;a=b", RemoteError),
        (b"", RemoteError),
    ],
)
def test_transfer_codings(coding: bytes, error: type[RemoteError]) -> None:
    with pytest.raises(error) as refused:
        block(b"Transfer-Encoding: " + coding)
    assert type(refused.value) is error


def test_limits() -> None:
    block(b"X: 1", limits=replace(LIMITS, fields=2))
    with pytest.raises(HeadTooLarge):
        block(b"X: 1", b"X: 2", limits=replace(LIMITS, fields=2))
    block(b"X: 45678", limits=replace(LIMITS, field_size=8))
    with pytest.raises(HeadTooLarge):
        block(b"X: 456789", limits=replace(LIMITS, field_size=8))
    block(b"Content-Length: 5", limits=replace(LIMITS, body=5))
    with pytest.raises(BodyTooLarge):
        block(b"Content-Length: 6", limits=replace(LIMITS, body=5))
    assert len(block(*[b"X: y"] * 500, limits=replace(LIMITS, fields=0)).fields) == 501


def test_cached_lines_are_under_the_limits_too() -> None:
    line = b"X: " + b"y" * 100
    parse_lines(line, LIMITS)
    assert line in fields._fields
    with pytest.raises(HeadTooLarge):
        parse_lines(line, replace(LIMITS, field_size=50))


# A connection remembers its last block


def head(*lines: bytes, version: bytes = b"1.1", target: bytes = b"/") -> bytes:
    return b"GET %b HTTP/%b\r\n" % (target, version) + b"\r\n".join((b"Host: a", *lines)) + b"\r\n\r\n"


def test_same_block_is_parsed_once() -> None:
    connection = wire()
    raw = head(b"X: y") + head(b"X: y", target=b"/other") + head(b"X: y")
    blocks = [request.fields for request in requests(connection, raw)]
    assert blocks[0] is blocks[1] is blocks[2]


def test_same_block_is_parsed_once_however_it_is_cut() -> None:
    raw = head(b"X: y") * 2
    blocks = [request.fields for request in requests(wire(), *(raw[i : i + 1] for i in range(len(raw))))]
    assert blocks[0] is blocks[1]


def test_other_block_is_parsed() -> None:
    blocks = [request.fields for request in requests(wire(), head(b"X: y") + head(b"X: z") + head(b"X: y"))]
    assert [one.fields[1].value for one in blocks] == [b"y", b"z", b"y"]
    assert blocks[0] is not blocks[2]


def test_same_block_in_another_version_is_parsed_again() -> None:
    """The same lines mean something else in HTTP/1.0."""
    connection = wire()
    keep = b"Connection: keep-alive"
    blocks = [request.fields for request in requests(connection, head(keep) + head(keep, version=b"1.0") + head(keep))]
    assert [one.version for one in blocks] == ["HTTP/1.1", "HTTP/1.0", "HTTP/1.1"]
    assert len({id(one) for one in blocks}) == 3


def test_block_is_not_shared_between_connections() -> None:
    """What hangs on a block is about one peer."""
    one, other = (requests(wire(), head(b"X: y"))[0].fields for _ in range(2))
    assert one is not other
    assert one.fields[1] is other.fields[1]


def cookies(*values: bytes) -> list[FieldBlock]:
    """The blocks of requests on one connection that differ in the value of a cookie."""
    raw = b"".join(head(b"X: y", b"Cookie: " + value, b"Z: 1") for value in values)
    return [request.fields for request in requests(wire(), raw)]


def following(first: FieldBlock, raw: bytes, limits: Limits = LIMITS) -> FieldBlock:
    return first.next(b"..%b.." % raw, 2, 2 + len(raw), "HTTP/1.1", limits)


def test_block_shares_what_it_has_in_common_with_an_earlier_one() -> None:
    first, second, third, again = blocks = cookies(b"a=1", b"a=2", b"a=3", b"a=1")
    assert {one.root for one in blocks} == {first}
    assert [field.value for field in third.overrides] == [b"a=3"]
    for one, value in ((first, b"a=1"), (second, b"a=2"), (third, b"a=3"), (again, b"a=1")):
        assert list(one) == [(b"host", b"a"), (b"x", b"y"), (b"cookie", value), (b"z", b"1")]
        assert meaning(one) == meaning(alone(one, LIMITS))


def test_overrides_stand_behind_each_other_from_the_first() -> None:
    for changed, at, values in ((b"A: 1\r\nB: 2\r\nC: 1\r\nD: 2", 2, [b"2", b"1", b"2"]), (b"A: 2", 1, [b"2"])):
        first = block(b"A: 1", b"B: 1", b"C: 1", b"D: 1")
        first.pinned = frozenset()
        raw = b"Host: a\r\n" + changed
        shared = following(first, raw + first.raw[len(raw) :])
        assert shared.first_override == at
        assert [field.value for field in shared.overrides] == values
        assert shared.fields[at : at + len(values)] == list(shared.overrides)


def test_same_override_is_the_same_block() -> None:
    _, second, same, other = cookies(b"a=1", b"a=2", b"a=2", b"a=3")
    assert second is same
    assert second is not other


def test_shared_blocks_do_not_lend_each_other_their_fields() -> None:
    """Whoever looks at a block late, after others on the same connection, sees what it was."""
    raw = head(b"X: 1", b"Y: 1", b"Z: 1") + head(b"X: 2", b"Y: 1", b"Z: 1") + head(b"X: 1", b"Y: 1", b"Z: 3")
    blocks = [request.fields for request in requests(wire(), raw + head(b"X: 1", b"Y: 1", b"Z: 1"))]
    seen = [b"".join(value for name, value in one if name != b"host") for one in reversed(blocks)]
    assert seen == [b"111", b"113", b"211", b"111"]


SIX = b"A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\nF: 1"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"Content-Length: 0", b"Content-Length: 1"),
        (b"Connection: x", b"Connection: close"),
        (b"X-Pinned: 1", b"X-Pinned: 2"),
        (b"X_Y: 1", b"X_Y: 2"),
        (b"X: 1", b"Y: 1"),
        (b"X: 1\r\nX: 2", b"X: 1\r\nX: 3"),
        (b"X: 1\r\nY: 2", b"X: 1"),
        (b"X: 1", b"X: 1\r\nY: 2"),
        (b"X: 1\r\nY: 2", b"Y: 2\r\nX: 1"),
        (b"X: 1", b"Content-Length: 0"),
        (b"X: 1", b"Transfer-Encoding: chunked"),
        (b"X: 1", b"X: 1\r\nHost: b"),
        (b"X: 1", b"X: 1\r\nX: 1"),
        (b"X: 1", b"Host: a\r\nX: 1"),
        (b"X: 1\r\nY: 1", b"X: 1\r\nHost: a\r\nX: 1\r\nY: 1"),
        (SIX, SIX.replace(b"1", b"2")),
    ],
)
def test_block_that_differs_where_it_matters_is_read_anew(one: bytes, other: bytes) -> None:
    """It means, or is refused for, what it would be alone; also if a harmless difference came before."""
    raw = b"Host: a\r\n" + other

    def said(read: Callable[[], FieldBlock]) -> object:
        try:
            return meaning(read())
        except RemoteError as error:
            return str(error)

    expected = said(lambda: FieldBlock(raw, "HTTP/1.1", LIMITS))
    first = block(one)
    first.pinned = frozenset((b"x-pinned",))
    harmless = following(first, first.raw.replace(b": 1", b": 7", 1))
    for last in (first, harmless, first, following(harmless, first.raw)):
        assert said(lambda last=last: following(last, raw)) == expected
    if not isinstance(expected, str):
        assert following(harmless, raw).root is not first


def test_block_with_underscores_is_not_shared() -> None:
    """`X-User` and `X_User` become one key of an environ: to change the first alone would take away the second."""
    first = block(b"X-User: 1", b"X_User: 2")
    first.pinned = frozenset()
    second = following(first, b"Host: a\r\nX-User: 3\r\nX_User: 2")
    assert second.root is second


def test_block_is_shared_only_after_the_gateway_has_looked() -> None:
    first = block(b"Cookie: 1")
    second = following(first, b"Host: a\r\nCookie: 2")
    assert second.root is second


def test_shared_block_is_under_the_rules_and_limits_too() -> None:
    limits = replace(LIMITS, field_size=20)
    first = FieldBlock(b"Host: a\r\nCookie: 1", "HTTP/1.1", limits)
    first.pinned = frozenset()
    for last in (first, following(first, b"Host: a\r\nCookie: 2", limits)):
        with pytest.raises(HeadTooLarge):
            following(last, b"Host: a\r\nCookie: " + b"1" * 20, limits)
        for bad in (b"Cookie: \0", b"Cookie : 2", b" Cookie: 2", b"Cookie: 1\n2", b"Cookie"):
            with pytest.raises(RemoteError):
                following(last, b"Host: a\r\n" + bad, limits)


def test_refused_block_is_forgotten() -> None:
    connection = wire()
    connection.receive_data(head(b"Content-Length: x"))
    for _ in range(2):
        with pytest.raises(RemoteError, match="invalid Content-Length"):
            connection.next_event()


# Trailers


def test_trailers() -> None:
    assert [(field.name, field.value) for field in parse_trailers(b"X: y\r\nZ: 1", LIMITS)] == [
        (b"x", b"y"),
        (b"z", b"1"),
    ]


@pytest.mark.parametrize("name", sorted(NOT_IN_TRAILERS))
def test_not_in_trailers(name: bytes) -> None:
    with pytest.raises(RemoteError, match="not allowed in trailers"):
        parse_trailers(b"X: y\r\n" + name.title() + b": 1", LIMITS)


def test_what_frames_or_authenticates_is_not_in_trailers() -> None:
    """RFC 9110 §6.5.1."""
    assert {b"content-length", b"transfer-encoding", b"host", b"connection", b"trailer"} <= NOT_IN_TRAILERS
    assert SECRETS <= NOT_IN_TRAILERS


def test_trailers_under_the_limits_of_a_head() -> None:
    parse_trailers(b"X: y\r\nZ: 1", replace(LIMITS, fields=2, field_size=4))
    with pytest.raises(HeadTooLarge):
        parse_trailers(b"X: y\r\nZ: 1", replace(LIMITS, fields=1))
    with pytest.raises(HeadTooLarge):
        parse_trailers(b"X: y\r\nZ: 1", replace(LIMITS, field_size=3))
