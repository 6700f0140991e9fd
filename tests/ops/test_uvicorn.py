"""Access records in Uvicorn's manner: what they say, that nobody can forge one, and the formatters."""

from __future__ import annotations

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoceros.ops import uvicorn
from monoceros.ops.atoms import Facts
from monoceros.ops.uvicorn import AccessFormatter, AccessLine, DefaultFormatter, message

FACTS = Facts("192.0.2.7", "GET", "/a%20b?x=1", "/a b", "x=1", "HTTP/1.1", (), 200, (), 5, 0.25, None, 45822)


def record(level: int, msg: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("uvicorn.access", level, "x.py", 1, msg, args, None)
    made.__dict__.update(extra)
    return made


def of(facts: Facts) -> logging.LogRecord:
    return record(logging.INFO, uvicorn.MESSAGE, *message(facts).arguments)


# Records


def test_the_message_and_its_five_arguments() -> None:
    made = message(FACTS)
    assert made == '192.0.2.7:45822 - "GET /a%20b?x=1 HTTP/1.1" 200'
    assert tuple(made.arguments) == ("192.0.2.7:45822", "GET", "/a%20b?x=1", "1.1", 200)
    assert made.arguments.status_code == 200


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"peer": "", "port": 0}, ' - "GET /a%20b?x=1 HTTP/1.1" 200'),  # a Unix socket
        ({"peer": "::1"}, '::1:45822 - "GET /a%20b?x=1 HTTP/1.1" 200'),
        ({"port": 0}, '192.0.2.7:0 - "GET /a%20b?x=1 HTTP/1.1" 200'),  # as a proxy said it
        ({"protocol": "HTTP/2"}, '192.0.2.7:45822 - "GET /a%20b?x=1 HTTP/2" 200'),
        ({"status": 599}, '192.0.2.7:45822 - "GET /a%20b?x=1 HTTP/1.1" 599'),
    ],
)
def test_messages(facts: dict[str, object], expected: str) -> None:
    assert message(FACTS._replace(**facts)) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", "/"),
        ("/?", "/"),
        ("/?a=b?c", "/?a=b?c"),
        ("/caf%C3%A9", "/caf%C3%A9"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/%ff", "/%FF"),
        ("/~a/%7Eb/-._", "/~a/~b/-._"),
        ("/a:b@c,d", "/a%3Ab%40c%2Cd"),
        ("/http://x/", "/http%3A//x/"),
        ("http://example.com/z?q=http://x/", "/z?q=http://x/"),
        ("http://example.com", "/"),
        ("http://example.com?q", "/?q"),
        ("/" + "%41" * 200, "/" + "A" * 200),
    ],
)
def test_the_path_is_quoted_anew_and_the_query_is_not(target: str, expected: str) -> None:
    assert message(FACTS._replace(target=target)).arguments.full_path == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [("/x?y", "/api/x?y"), ("/api/x", "/api/x"), ("/api", "/api"), ("/apix", "/api/apix"), ("/", "/api/")],
)
def test_the_root_path_stands_in_front(target: str, expected: str) -> None:
    assert message(FACTS._replace(target=target), "/api").arguments.full_path == expected


@given(st.text(), st.text(), st.text(), st.text())
def test_no_message_can_be_forged(peer: str, method: str, target: str, protocol: str) -> None:
    made = message(FACTS._replace(peer=peer, method=method, target=target, protocol=protocol))
    assert made.isprintable()
    assert re.fullmatch(r'[^"\\]* - "[^"\\]* HTTP/[^"\\]*" 200', made)
    assert made == uvicorn.MESSAGE % made.arguments


def test_what_would_end_the_quotes_is_encoded() -> None:
    made = message(FACTS._replace(target='/?" 200\n\\'))
    assert made.arguments.full_path == "/?%22%20200%0A%5C"


def test_what_is_remembered_is_bounded() -> None:
    before = uvicorn.quoted.cache_info().currsize
    message(FACTS._replace(target="/long" * 1000))
    assert uvicorn.quoted.cache_info().currsize == before
    assert uvicorn.quoted.cache_info().maxsize == uvicorn.CACHED_PATHS


# Formatters


def test_a_line_as_uvicorn_prints_it() -> None:
    assert AccessLine(use_colors=False).format(of(FACTS)) == (
        'INFO:     192.0.2.7:45822 - "GET /a%20b?x=1 HTTP/1.1" 200 OK'
    )


def test_a_line_with_colours() -> None:
    assert AccessLine(use_colors=True).format(of(FACTS._replace(status=404))) == (
        '\33[32mINFO\33[0m:     192.0.2.7:45822 - "\33[1mGET /a%20b?x=1 HTTP/1.1\33[0m" \33[31m404 Not Found\33[0m'
    )


@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("status", [0, 101, 200, 204, 307, 404, 503, 599, 600, 999])
def test_a_line_without_a_record_is_the_same(colours: bool, status: int) -> None:
    shape = AccessLine(use_colors=colours)
    facts = FACTS._replace(status=status)
    for _ in "12":
        assert shape.line(message(facts)) == shape.format(of(facts))
    assert shape.line("100%") == shape.format(record(logging.INFO, "100%"))


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (logging.DEBUG, "DEBUG:    x"),
        (logging.INFO, "INFO:     x"),
        (logging.WARNING, "WARNING:  x"),
        (logging.CRITICAL, "CRITICAL: x"),
    ],
)
def test_level_prefixes(level: int, expected: str) -> None:
    assert DefaultFormatter("%(levelprefix)s %(message)s", use_colors=False).format(record(level, "x")) == expected


def test_a_coloured_message_is_for_colours() -> None:
    both = [DefaultFormatter("%(message)s", use_colors=colours) for colours in (False, True)]
    made = record(logging.INFO, "started %d", 7, color_message="*started* %d")
    assert [shape.format(made) for shape in both] == ["started 7", "*started* 7"]
    assert made.msg == "started %d"


def test_a_record_of_somebody_else() -> None:
    assert AccessLine(use_colors=False).format(record(logging.WARNING, "%s of %d", "one", 5)) == "WARNING:  one of 5"


@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("status", [100, 200, 302, 404, 500, 599])
def test_uvicorns_own_formatters_say_the_same(colours: bool, status: int) -> None:
    theirs = pytest.importorskip("uvicorn.logging")
    made = of(FACTS._replace(status=status))
    format = "%(levelprefix)s|%(client_addr)s|%(request_line)s|%(status_code)s|%(message)s"
    assert AccessFormatter(format, use_colors=colours).format(made) == theirs.AccessFormatter(
        format, use_colors=colours
    ).format(made)
    for level in (5, 10, 20, 30, 40, 50):
        told = record(level, "a %s", "b", color_message="c %s")
        format = "%(levelprefix)s %(message)s"
        assert DefaultFormatter(format, use_colors=colours).format(told) == theirs.DefaultFormatter(
            format, use_colors=colours
        ).format(told)
