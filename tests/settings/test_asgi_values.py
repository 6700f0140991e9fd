"""Values of the settings that ASGI and Uvicorn's options brought along."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from monoceros.settings import asgi_values


@pytest.mark.parametrize(
    ("parse", "given", "value"),
    [
        (asgi_values.event_loop, "UVLOOP", "uvloop"),
        (asgi_values.event_loop, "asyncio", "asyncio"),
        (asgi_values.event_loop, "none", "auto"),
        (asgi_values.event_loop, "zuvloop", "auto"),
        (asgi_values.lifespan, "off", "off"),
        (asgi_values.websockets, "websockets", "auto"),
        (asgi_values.websockets, "websockets-sansio", "auto"),
        (asgi_values.websockets, "wsproto", "auto"),
        (asgi_values.websockets, "none", "none"),
        (asgi_values.seconds_or_never, None, 0.0),
        (asgi_values.seconds_or_never, "1.5", 1.5),
        (asgi_values.boolean_or_none, None, None),
        (asgi_values.boolean_or_none, "", None),
        (asgi_values.boolean_or_none, "no", False),
        (asgi_values.loglevel, "trace", "debug"),
        (asgi_values.loglevel, "Trace", "debug"),
        (asgi_values.loglevel, "all", "all"),
        (asgi_values.host, "localhost", "localhost"),
        (asgi_values.host, "::", "::"),
        (asgi_values.host, "[::1]", "::1"),
        (asgi_values.host, "0:0::1", "::1"),
        (asgi_values.host, "::1:8000", "::1:8000"),
        (asgi_values.host, "", None),
        (asgi_values.port, 0, 0),
        (asgi_values.port, "65535", 65535),
        (asgi_values.port, "", None),
        (asgi_values.socket_path, "/run/a.sock", "/run/a.sock"),
        (asgi_values.socket_path, None, None),
        (asgi_values.descriptor, "3", 3),
        (asgi_values.descriptor, None, None),
    ],
)
def test_values(parse: Callable[[object], object], given: object, value: object) -> None:
    assert parse(given) == value


@pytest.mark.parametrize(
    ("parse", "given", "right"),
    [
        (asgi_values.event_loop, "trio", "auto, asyncio or uvloop"),
        (asgi_values.event_loop, None, "auto, asyncio or uvloop"),
        (asgi_values.lifespan, True, "auto, on or off"),
        (asgi_values.websockets, "mine:Protocol", "auto or none"),
        (asgi_values.host, "a:80", "without a port"),
        (asgi_values.host, "a/b", "without a port"),
        (asgi_values.host, "[::1", "without a port"),
        (asgi_values.host, "a,b", "without a port"),
        (asgi_values.port, 65536, "a port from 0 to 65535"),
        (asgi_values.port, -1, "a port from 0 to 65535"),
        (asgi_values.port, "http", "a port from 0 to 65535"),
        (asgi_values.port, True, "a port from 0 to 65535"),
        (asgi_values.socket_path, "a" * 108, "1 to 107 bytes"),
        (asgi_values.descriptor, "-1", "0 or more"),
    ],
)
def test_what_is_no_value(parse: Callable[[object], object], given: object, right: str) -> None:
    with pytest.raises(ValueError, match=right):
        parse(given)


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (None, ()),
        ([], ()),
        ("", ()),
        (["X-A: 1", "x-b:2", "X-C:"], (("X-A", "1"), ("x-b", "2"), ("X-C", ""))),
        ([("X-A", "1"), ["X-B", " 2 "]], (("X-A", "1"), ("X-B", "2"))),
        ({"X-A": "1"}, (("X-A", "1"),)),
        ("X-A: 1, 2, X-B: 3,", (("X-A", "1, 2"), ("X-B", "3,"))),
        ("CSP: default-src https://a, http://b", (("CSP", "default-src https://a, http://b"),)),
        ("Expires: Thu, 01 Dec 1994 16:00:00 GMT", (("Expires", "Thu, 01 Dec 1994 16:00:00 GMT"),)),
        (["A: café"], (("A", "café"),)),
        (["X-A: 1, X-B: 2"], (("X-A", "1, X-B: 2"),)),
    ],
)
def test_fields(given: object, fields: tuple[tuple[str, str], ...]) -> None:
    assert asgi_values.fields(given) == fields


@pytest.mark.parametrize(
    "given",
    [
        5,
        ["X-A"],
        ["X A: 1"],
        [": 1"],
        ["X-A : \n1"],
        ["X-A: 1\r\nX-B: 2"],
        [("X-A", "1\n")],
        [("X-A\n", "1")],
        [("X-A", "1\0")],
        [("X-A", "\u20ac")],
        [("X-A", 1)],
        [("X-A", "1", "2")],
        [b"X-A: 1"],
    ],
)
def test_what_is_no_field(given: object) -> None:
    with pytest.raises(ValueError, match='header fields such as "Name: Value"'):
        asgi_values.fields(given)


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "Upgrade"])
def test_how_a_message_ends_is_not_for_a_setting_to_say(name: str) -> None:
    with pytest.raises(ValueError, match=f"without {name}"):
        asgi_values.fields([f"{name}: 5"])
