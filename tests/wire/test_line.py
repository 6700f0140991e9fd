"""The request line and its cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from monoceros.wire import line
from monoceros.wire.events import NotImplementedHere, RemoteError, VersionUnknown
from monoceros.wire.line import CACHED_LENGTH, CACHED_LINES, request_line


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    line._lines.clear()
    yield
    line._lines.clear()


@pytest.mark.parametrize(
    ("raw", "method", "target", "path", "query", "version", "authority"),
    [
        (b"GET / HTTP/1.1", "GET", "/", "/", "", "HTTP/1.1", None),
        (b"GET /a%20b?c=d?e HTTP/1.0", "GET", "/a%20b?c=d?e", "/a%20b", "c=d?e", "HTTP/1.0", None),
        (b"GET //a//b HTTP/1.1", "GET", "//a//b", "//a//b", "", "HTTP/1.1", None),
        (b"GET /http://b/ HTTP/1.1", "GET", "/http://b/", "/http://b/", "", "HTTP/1.1", None),
        (b"PUT http://b:1/c?d HTTP/1.1", "PUT", "http://b:1/c?d", "/c", "d", "HTTP/1.1", "b:1"),
        (b"PUT http://b?d HTTP/1.1", "PUT", "http://b?d", "/", "d", "HTTP/1.1", "b"),
        (b"OPTIONS * HTTP/1.1", "OPTIONS", "*", "*", "", "HTTP/1.1", None),
        (b"GET / HTTP/1.7", "GET", "/", "/", "", "HTTP/1.1", None),
    ],
)
def test_parts(
    raw: bytes, method: str, target: str, path: str, query: str, version: str, authority: str | None
) -> None:
    parsed = request_line(raw)
    assert (parsed.method, parsed.target, parsed.path, parsed.query) == (method, target, path, query)
    assert (parsed.version, parsed.authority) == (version, authority)
    assert str(parsed) == f"{method} {target} {version}"


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", RemoteError),
        (b"GET /", RemoteError),
        (b"get / HTTP/1.1", RemoteError),
        (b"GET * HTTP/1.1", RemoteError),
        (b"GET a HTTP/1.1", RemoteError),
        (b"GET http://u@a/ HTTP/1.1", RemoteError),
        (b"CONNECT a:1 HTTP/1.1", NotImplementedHere),
        (b"GET / HTTP/2.0", VersionUnknown),
        (b"GET / HTTP/0.9", VersionUnknown),
    ],
)
def test_refused_and_not_cached(raw: bytes, error: type[RemoteError]) -> None:
    for _ in range(2):
        with pytest.raises(error) as refused:
            request_line(raw)
        assert type(refused.value) is error
    assert not line._lines


def test_message_is_of_bounded_length() -> None:
    """The log gets an idea of what came, not all of it."""
    for raw in (b"\xff" * 5000, b"A" * 5000 + b" / HTTP/1.1", b"GET " + b"a" * 5000 + b" HTTP/1.1"):
        with pytest.raises(RemoteError) as refused:
            request_line(raw)
        assert len(str(refused.value)) < 500


def test_same_line_is_parsed_once() -> None:
    """What the gateways hang on a line is there when it comes again, from whichever connection."""
    first = request_line(b"GET /a HTTP/1.1")
    first.environ = {"PATH_INFO": "/a"}
    assert request_line(b"%b /a HTTP/1.1" % b"GET") is first
    assert request_line(b"GET /b HTTP/1.1") is not first
    assert request_line(b"GET /a HTTP/1.0") is not first


def test_long_lines_are_not_kept() -> None:
    exact = b"GET /" + b"a" * (CACHED_LENGTH - 14) + b" HTTP/1.1"
    assert len(exact) == CACHED_LENGTH
    assert request_line(exact) is request_line(exact)
    longer = exact.replace(b"/", b"/a", 1)
    assert request_line(longer) is not request_line(longer)
    assert list(line._lines) == [exact]


def test_cache_is_bounded_and_starts_afresh() -> None:
    """It neither grows for ever nor stays full of what some stranger put in first."""
    for number in range(3 * CACHED_LINES + 5):
        request_line(b"GET /%d HTTP/1.1" % number)
        assert len(line._lines) <= CACHED_LINES
    last = b"GET /%d HTTP/1.1" % (3 * CACHED_LINES + 4)
    assert request_line(last) is request_line(last)


@pytest.mark.parametrize("raw", [b"GET http://me:hunter2@b/c HTTP/1.1", b"GET http://me:hunter2@b/ c HTTP/1.1"])
def test_a_refusal_shows_no_password(raw: bytes) -> None:
    with pytest.raises(RemoteError, match=r"http://\[redacted\]@b/") as refused:
        request_line(raw)
    assert "hunter2" not in str(refused.value)
