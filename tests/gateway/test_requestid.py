"""What a request is called, and who may say so."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from monoceros.gateway.requestid import RequestIds, put_in_scope, wanted
from monoceros.settings.table import Settings
from monoceros.wire.events import Limits
from monoceros.wire.fields import FieldBlock

DEFAULTS = Settings()
OURS = re.compile(r"[0-9a-f]{32}")
PROXY, STRANGER, UNIX = "127.0.0.1", "192.0.2.7", ""


def block(*lines: str) -> FieldBlock:
    return FieldBlock("\r\n".join(["Host: a", *lines]).encode("latin-1"), "HTTP/1.1", Limits())


@pytest.mark.parametrize("peer", [PROXY, UNIX])
@pytest.mark.parametrize("given", ["abc-1", "a" * 128, '{"a":"\\"}', "!~"])
def test_what_a_proxy_says(peer: str, given: str) -> None:
    assert RequestIds(DEFAULTS).decide(block(f"X-Request-ID: {given}"), peer) == given


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("X-Request-ID:",),
        ("X-Request-ID: " + "a" * 129,),
        ("X-Request-ID: a b",),
        ("X-Request-ID: caf\xe9",),
        ("X-Request-ID: a", "X-Request-ID: b"),
        ("X-Request-ID: a", "X_Request_ID: b"),
        ("X_Request_ID: b",),
    ],
)
def test_what_is_no_id(lines: tuple[str, ...]) -> None:
    assert OURS.fullmatch(RequestIds(DEFAULTS).decide(block(*lines), PROXY))


def test_a_stranger_is_not_asked() -> None:
    ids = RequestIds(DEFAULTS)
    assert OURS.fullmatch(ids.decide(block("X-Request-ID: abc-1"), STRANGER))


def test_no_two_requests_have_the_same() -> None:
    one, other, same = RequestIds(DEFAULTS), RequestIds(DEFAULTS), block()
    assert len({ids.decide(same, PROXY) for ids in (one, other) for _ in range(1000)}) == 2000


def test_blocks_that_share_what_was_parsed_do_not_share_an_id() -> None:
    ids = RequestIds(DEFAULTS)
    last = block("X-Request-ID: 0", "Accept: x")
    last.pinned = frozenset()
    assert ids.decide(last, PROXY) == "0"
    for number in ("1", "2", "2", "3"):
        raw = f"Host: a\r\nX-Request-ID: {number}\r\nAccept: x".encode()
        last = last.next(raw, 0, len(raw), "HTTP/1.1", Limits())
        assert last.overrides
        assert ids.decide(last, PROXY) == number


@pytest.mark.parametrize("given", [(), ("",), ("1",), ("1", "2")])
def test_in_a_scope_it_takes_the_place_of_all_there_are(given: tuple[str, ...]) -> None:
    fields = block("Accept: x", *[f"X-Request-ID: {each}" for each in given])
    RequestIds(DEFAULTS).decide(fields, STRANGER)
    shared = list(fields)
    scope = {"headers": shared}
    put_in_scope(scope, "abc", fields)
    assert scope["headers"] == [(b"host", b"a"), (b"accept", b"x"), (b"x-request-id", b"abc")]
    assert shared == list(fields)


def test_in_a_scope_it_takes_the_place_of_one_that_differs_with_each_request() -> None:
    ids = RequestIds(DEFAULTS)
    first = block("X-Request-ID: 0", "Accept: x")
    first.pinned = frozenset()
    ids.decide(first, STRANGER)
    raw = b"Host: a\r\nX-Request-ID: 1\r\nAccept: x"
    fields = first.next(raw, 0, len(raw), "HTTP/1.1", Limits())
    assert fields.overrides
    scope = {"headers": list(fields)}
    put_in_scope(scope, ids.decide(fields, STRANGER), fields)
    assert [name for name, _ in scope["headers"]] == [b"host", b"accept", b"x-request-id"]
    assert OURS.fullmatch(scope["headers"][-1][1].decode())


def test_who_wants_ids() -> None:
    assert not wanted(DEFAULTS)
    assert wanted(replace(DEFAULTS, log_format="json"))
    assert wanted(replace(DEFAULTS, request_id=True))
    assert not wanted(replace(DEFAULTS, log_format="json", request_id=False))
