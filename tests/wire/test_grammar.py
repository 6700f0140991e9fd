"""The grammar, rule by rule: what is in, what is out."""

from __future__ import annotations

import re
import string

import pytest

from monoceros.wire import grammar

EVERY_BYTE = [bytes([code]) for code in range(256)]
TCHAR = set("!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters)


def bytes_that_match(rule: re.Pattern[bytes], form: bytes = b"%b") -> set[str]:
    """Which single bytes may stand in this place."""
    return {one.decode("latin-1") for one in EVERY_BYTE if rule.fullmatch(form % one)}


def test_token() -> None:
    """RFC 9110 §5.6.2."""
    assert bytes_that_match(grammar.token) == TCHAR
    assert not grammar.token.fullmatch(b"")


def test_field_name_is_a_token() -> None:
    assert bytes_that_match(grammar.field_line, b"%b: x") == TCHAR


def test_field_value() -> None:
    """RFC 9110 §5.5: visible bytes and obs-text; blanks inside; no other control byte, and no DEL."""
    visible = {chr(code) for code in range(0x21, 0x7F)} | {chr(code) for code in range(0x80, 0x100)}
    assert bytes_that_match(grammar.field_line, b"X: a%bb") == visible | {" ", "\t"}
    assert bytes_that_match(grammar.field_line, b"X: %b") == visible | {" ", "\t"}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"X:", None),
        (b"X: \t ", None),
        (b"X:y", b"y"),
        (b"X: y ", b"y"),
        (b"X:\ty  z\t\t", b"y  z"),
        (b"X: :", b":"),
    ],
)
def test_field_line(line: bytes, value: bytes | None) -> None:
    match = grammar.field_line.fullmatch(line)
    assert match
    assert match.groups() == (b"X", value)


@pytest.mark.parametrize("line", [b"", b":", b": y", b"X", b"X : y", b" X: y", b"X: y\r", b"X: y\n", b"X: y\r\n z"])
def test_not_a_field_line(line: bytes) -> None:
    assert not grammar.field_line.fullmatch(line)


def test_request_line() -> None:
    match = grammar.request_line.fullmatch(b"GET /a?b HTTP/1.1")
    assert match
    assert match.groups() == (b"GET", b"/a?b", b"1", b"1")


def test_target_is_visible_ascii_without_fragment() -> None:
    assert bytes_that_match(grammar.request_line, b"GET /%b HTTP/1.1") == {chr(c) for c in range(0x21, 0x7F)} - {"#"}


def test_version_is_two_digits() -> None:
    """RFC 9112 §2.3. Unicode has more digits than ten; bytes do not."""
    assert bytes_that_match(grammar.request_line, b"GET / HTTP/%b.1") == set(string.digits)
    assert bytes_that_match(grammar.request_line, b"GET / HTTP/1.%b") == set(string.digits)


def test_blanks_of_the_request_line() -> None:
    assert bytes_that_match(grammar.request_line, b"GET%b/ HTTP/1.1") == {" "}
    assert bytes_that_match(grammar.request_line, b"GET /%bHTTP/1.1") == {" "}


@pytest.mark.parametrize("good", [b"GET", b"M-SEARCH", b"X_Y", b"A" * 20, b"123"])
def test_method(good: bytes) -> None:
    assert grammar.method.fullmatch(good)


@pytest.mark.parametrize("bad", [b"", b"GO", b"A" * 21, b"get", b"GEt", b"G#T", b"G T", b"GET\n"])
def test_not_a_method(bad: bytes) -> None:
    assert not grammar.method.fullmatch(bad)


@pytest.mark.parametrize(
    ("target", "authority", "rest"),
    [
        (b"http://a", b"a", None),
        (b"http://a/", b"a", b"/"),
        (b"http://a?b", b"a", b"?b"),
        (b"https://a:1/b?c", b"a:1", b"/b?c"),
        (b"x-y+z.1://a", b"a", None),
    ],
)
def test_absolute_form(target: bytes, authority: bytes, rest: bytes | None) -> None:
    match = grammar.absolute_form.fullmatch(target)
    assert match
    assert match.groups() == (authority, rest)


@pytest.mark.parametrize(
    "bad", [b"http:/a", b"http://", b"http:///a", b"http://u@a/", b"://a", b"1http://a", b"a", b"a:1"]
)
def test_not_absolute_form(bad: bytes) -> None:
    assert not grammar.absolute_form.fullmatch(bad)


GOOD_HOSTS = [
    *(b"", b"a", b"a.example", b"a.example.", b"a:80", b"a:", b":80", b"127.0.0.1:65535", b"a_b", b"a-b", b"%C3%A9"),
    *(b"[::1]", b"[::1]:80", b"[::ffff:1.2.3.4]", b"[v1.a:b]"),
]
BAD_HOSTS = [
    *(b"a b", b"a/b", b"u@a", b"a?b", b"a#b", b"a\\b", b"a:b", b"a:1:2", b"a:123456", b"::1", b"[::1", b"::1]", b"[]"),
    *(b"[::1]a", b"[::1%25eth0]", b"[g::1]", b"\xe9", b"a\n", b"a\0", b"<a>", b'"a"', b"a|b", b"a^b", b"{a}"),
]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_host(host: bytes) -> None:
    assert grammar.host.fullmatch(host)


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_not_a_host(host: bytes) -> None:
    assert not grammar.host.fullmatch(host)


@pytest.mark.parametrize(
    "bad", [b"", b" 1", b"1 ", b"+1", b"-1", b"1,1", b"1_0", b"0x1", b"1.0", b"\xb2", b"1\n", b"a"]
)
def test_content_length(bad: bytes) -> None:
    assert grammar.content_length.fullmatch(b"0123456789")
    assert not grammar.content_length.fullmatch(bad)


GOOD_CHUNK_LINES = [
    *(b"0", b"000", b"aF09", b"f" * 15, b"1;a", b"1;a=b", b"1;a;b=c;d", b"1 ; a = b", b"1\t;\ta\t=\tb"),
    *(b'1;a=""', b'1;a="b;c"', b'1;a="\\""', b'1;a="\\\\"', b'1;a="\\\\";b="c"', b'1;a="\xff\t "'),
]
BAD_CHUNK_LINES = [
    *(
        b"",
        b" 1",
        b"1 ",
        b"+1",
        b"-1",
        b"0x1",
        b"1_0",
        b"g",
        b"f" * 16,
        b"1,1",
        b"1;",
        b"1;;a",
        b"1;a=",
        b"1;=b",
        b"1a;",
    ),
    *(b"1;a=b c", b"1;a b", b'1;a="', b'1;a="\\"', b'1;a="b"c', b'1;"a"', b'1;a="\x7f"', b'1;a="\0"', b"1;a\0", b"1 2"),
    *(b"1;a\n", b"1;a\rb", b'1;a="\n"', b'1;a="\\\n"', b'1;a="\r"', b"1;a ", b"1;a=b ", b"\xb2", b"1;\xff"),
]


@pytest.mark.parametrize("line", GOOD_CHUNK_LINES)
def test_chunk_line(line: bytes) -> None:
    match = grammar.chunk_line.fullmatch(line + b"\r\n")
    assert match
    assert line.startswith(match[1])


@pytest.mark.parametrize("line", BAD_CHUNK_LINES)
def test_not_a_chunk_line(line: bytes) -> None:
    assert not grammar.chunk_line.match(line + b"\r\n")


@pytest.mark.parametrize("end", [b"", b"\r", b"\n", b"\n\r", b"\r\r\n"])
def test_chunk_line_ends_in_crlf(end: bytes) -> None:
    assert not grammar.chunk_line.match(b"1" + end)


@pytest.mark.parametrize(
    "text", [b"\n", b"a\nb", b"a\rb", b"\r\r", b"\r\ra", b"\n\r", b"\r\n\n", b"\r\r\n", b"a\r\n\rb"]
)
def test_bare_newline(text: bytes) -> None:
    assert grammar.bare_newline.search(text)


@pytest.mark.parametrize("text", [b"", b"a", b"\r\n", b"a\r\nb\r\n\r\n", b"\r", b"a\r", b"\r\n\r"])
def test_no_bare_newline(text: bytes) -> None:
    """A CR at the end may still get its LF."""
    assert not grammar.bare_newline.search(text)


def test_bare_newline_is_looked_for_behind_a_position() -> None:
    """What stands before the position counts: an LF there may be the end of a CR LF that was cut in two."""
    assert not grammar.bare_newline.search(b"a\r\nb", 2)
    assert grammar.bare_newline.search(b"a\n\nb", 2)


@pytest.mark.parametrize("rule", [grammar.sendable_value, grammar.reason])
def test_what_may_be_sent(rule: re.Pattern[bytes]) -> None:
    assert bytes_that_match(rule) == {chr(c) for c in (9, *range(0x20, 0x7F), *range(0x80, 0x100))}
    assert rule.fullmatch(b"")
