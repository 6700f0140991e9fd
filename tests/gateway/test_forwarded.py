"""What proxies say, value by value: hops, the elements of Forwarded, hosts, ports and prefixes."""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monoceros.gateway import forwarded
from monoceros.settings.values import Networks
from monoceros.wire.events import RemoteError

INSIDE = Networks("10.0.0.0/8", "fd00::/8")

# One hop


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (b"1.2.3.4", ("1.2.3.4", 0)),
        (b"1.2.3.4:567", ("1.2.3.4", 567)),
        (b"1.2.3.4:0", ("1.2.3.4", 0)),
        (b"255.255.255.255:65535", ("255.255.255.255", 65535)),
        (b"0.0.0.0", ("0.0.0.0", 0)),
        (b"2001:db8::1", ("2001:db8::1", 0)),
        (b"[2001:db8::1]", ("2001:db8::1", 0)),
        (b"[2001:db8::1]:567", ("2001:db8::1", 567)),
        (b"2001:DB8:0:0:0:0:0:0001", ("2001:db8::1", 0)),
        (b"1:2:3:4:5:6:7:8", ("1:2:3:4:5:6:7:8", 0)),
        (b"::", ("::", 0)),
        (b"::ffff:10.1.2.3", ("10.1.2.3", 0)),
        (b"[::ffff:a01:203]:5", ("10.1.2.3", 5)),
    ],
)
def test_an_address(text: bytes, address: tuple[str, int]) -> None:
    assert forwarded.node(text) == address


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"unknown",
        b"_hidden",
        b"_hidden:80",
        b"localhost",
        b"1.2.3",
        b"1.2.3.4.5",
        b"1.2.3.256",
        b"01.2.3.4",
        b"1.2.3.4:",
        b"1.2.3.4:65536",
        b"1.2.3.4:123456",
        b"1.2.3.4:_p",
        b"1.2.3.4:-1",
        b"1.2.3.4 ",
        b" 1.2.3.4",
        b"1.2.3.4\n",
        b"[1.2.3.4]",
        b"[1.2.3.4]:5",
        b"[::1",
        b"::1]",
        b"[]",
        b"[::1]5",
        b":::",
        b"12345::",
        b"fe80::1%eth0",
        b"[fe80::1%25eth0]",
        b"::1%<script>",
        b"1.2.3.4, 5.6.7.8",
        b"1.2.3.0/24",
        b"0x7f000001",
        b"2130706433",
        b"\xb2.2.3.4",
        b"1.2.3.4\x00",
        b"1" * 5000,
        b":" * 5000,
    ],
)
def test_what_is_no_address(text: bytes) -> None:
    assert forwarded.node(text) is None


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_address_is_one(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    host = f"[{ip}]" if ip.version == 6 else str(ip)
    plain = str((ip.ipv4_mapped if ip.version == 6 else None) or ip)
    assert forwarded.node(str(ip).encode()) == (plain, 0)
    assert forwarded.node(host.encode()) == (plain, 0)
    assert forwarded.node(f"{host}:{port}".encode()) == (plain, port)


@given(st.text("0123456789abcdefABCDEF.:[]%_\"' ", max_size=50))
def test_nothing_else_is_one(text: str) -> None:
    found = forwarded.node(text.encode())
    if found is not None:
        assert str(ipaddress.ip_address(found[0])) == found[0]
        assert "%" not in found[0]
        assert 0 <= found[1] <= 65535


# The way of hops


def client(*lines: bytes, trusted: Networks = INSIDE) -> str | None:
    found = forwarded.client(forwarded.hops(lines), trusted)
    return found and found[0]


@pytest.mark.parametrize(
    ("lines", "seen"),
    [
        ([b"1.1.1.1"], "1.1.1.1"),
        ([b"9.9.9.9, 1.1.1.1"], "1.1.1.1"),  # a client made up what is before
        ([b"9.9.9.9, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
        ([b"9.9.9.9", b"1.1.1.1", b"10.0.0.2"], "1.1.1.1"),
        ([b"9.9.9.9,1.1.1.1", b"10.0.0.3,\t10.0.0.2"], "1.1.1.1"),
        ([b"10.0.0.9, 10.0.0.2"], "10.0.0.9"),
        ([b"10.0.0.2, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
        ([b"1.1.1.1:99, [fd00::1]:88, 10.0.0.2:77"], "1.1.1.1"),
        ([b'"1.1.1.1", "[fd00::1]:88"'], "1.1.1.1"),
        ([b"2001:db8::1, ::ffff:10.0.0.2"], "2001:db8::1"),
        ([b"unknown, 10.0.0.2"], "10.0.0.2"),
        ([b"1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ([b"1.1.1.1, , 10.0.0.2"], "10.0.0.2"),
        ([b"", b"10.0.0.2"], "10.0.0.2"),
        ([b"1.1.1.1", b""], None),
        ([b"1.1.1.1,"], None),
        ([b"1.1.1.1, unknown"], None),
        ([b"1.1.1.1, _hidden"], None),
        ([b"1.1.1.1, <script>"], None),
        ([b'1.1.1.1, "10.0.0.2'], None),
        ([b"1.1.1.1 10.0.0.2"], None),
        ([b'"'], None),
        ([b'""'], None),
        ([b","], None),
        ([b""], None),
        ([], None),
    ],
)
def test_the_client_is_the_first_who_is_not_trusted(lines: list[bytes], seen: str | None) -> None:
    assert client(*lines) == seen


def test_where_everyone_is_trusted_the_client_is_the_leftmost() -> None:
    everyone = Networks("*")
    assert client(b"9.9.9.9, 1.1.1.1, 10.0.0.2", trusted=everyone) == "9.9.9.9"
    assert client(b"unknown, 9.9.9.9, 10.0.0.2", trusted=everyone) == "9.9.9.9"
    assert client(b"<b>, 1.1.1.1", trusted=everyone) == "1.1.1.1"


def test_a_port_is_that_of_the_client() -> None:
    assert forwarded.client(forwarded.hops([b"1.1.1.1:5, 10.0.0.1:6"]), INSIDE) == ("1.1.1.1", 5)
    assert forwarded.client(forwarded.hops([b"1.1.1.1, 10.0.0.1:6"]), INSIDE) == ("1.1.1.1", 0)


def test_only_the_last_hops_are_looked_at() -> None:
    assert client(b"1.1.1.1, " + b"10.0.0.3, " * 62 + b"10.0.0.2") == "1.1.1.1"
    assert client(b"1.1.1.1, " + b"10.0.0.3, " * 63 + b"10.0.0.2") == "10.0.0.3"
    assert len(list(forwarded.hops([b"," * 60_000]))) == forwarded.MOST_HOPS


@pytest.mark.parametrize("blanks", range(12))
def test_half_an_address_is_none(blanks: int) -> None:
    """The list is cut at some byte, wherever in "199.99.99.99" that is."""
    lines = [b"199.99.99.99," + b" " * (forwarded.LONGEST_LIST - 10 - blanks) + b"10.0.0.2"]
    assert client(*lines) in ("199.99.99.99", "10.0.0.2")
    assert client(*lines[:0], b"199.99.99.99" + b" " * 5000 + b",10.0.0.2") == "10.0.0.2"


def test_one_endless_entry() -> None:
    assert client(b"1" * 60_000) is None
    assert client(b"1" * 60_000 + b", 10.0.0.2") == "10.0.0.2"


# Forwarded


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"for=1.2.3.4", [{b"for": b"1.2.3.4"}]),
        (b"FOR=1.2.3.4;Proto=https", [{b"for": b"1.2.3.4", b"proto": b"https"}]),
        (b'for="[2001:db8::1]:4711"', [{b"for": b"[2001:db8::1]:4711"}]),
        (b"for=[2001:db8::1]:4711", [{b"for": b"[2001:db8::1]:4711"}]),
        (b"for=1.2.3.4:80;host=a:81", [{b"for": b"1.2.3.4:80", b"host": b"a:81"}]),
        (b"for=unknown, for=_x", [{b"for": b"unknown"}, {b"for": b"_x"}]),
        (b"for=a;proto=http,for=b", [{b"for": b"a", b"proto": b"http"}, {b"for": b"b"}]),
        (b"for=a ; proto=http \t,\t for=b ", [{b"for": b"a", b"proto": b"http"}, {b"for": b"b"}]),
        (b"for=a;", [{b"for": b"a"}]),
        (b";;for=a;;by=b", [{b"for": b"a", b"by": b"b"}]),
        (b"for=a,,for=b", [{b"for": b"a"}, {}, {b"for": b"b"}]),
        (b"", [{}]),
        (b",", [{}, {}]),
        (b'host="a,b;c=\\"d\\\\"', [{b"host": b'a,b;c="d\\'}]),
        (b'for=""', [{b"for": b""}]),
        (b"secret=x;for=a", [{b"secret": b"x", b"for": b"a"}]),
    ],
)
def test_the_elements_of_forwarded(line: bytes, found: list[dict[bytes, bytes]]) -> None:
    assert forwarded.elements([line]) == found


def test_the_elements_of_two_lines() -> None:
    assert forwarded.elements([b"for=a, for=b", b"for=c"]) == [{b"for": b"a"}, {b"for": b"b"}, {b"for": b"c"}]
    assert forwarded.elements([]) == []


@pytest.mark.parametrize(
    "lines",
    [
        [b'for="1.2.3.4'],
        [b'for="'],
        [b'for="a\\"'],
        [b'for="1.2.3.4, for=5.6.7.8'],
        [b'for="9.9.9.9, for="[2001:db8::1]"'],  # an open quote, and what a proxy appended
        [b'for="a', b'b";for=c'],  # a quote does not go on in the next line
        [b"for"],
        [b"for="],
        [b"=1.2.3.4"],
        [b"for =a"],
        [b"for= a"],
        [b"for=a b"],
        [b'for=a"b"'],
        [b'for="a"b'],
        [b"for=a;for=b"],
        [b"for=a;For=a"],
        [b"p=1;p=1"],
        [b"for=a/b"],
        [b"for=<b>"],
        [b"1.2.3.4"],
        [b"for=\xe9"],
    ],
)
def test_what_cannot_be_read_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(RemoteError, match="malformed Forwarded field") as caught:
        forwarded.elements(lines)
    assert caught.value.status == 400


def test_too_many_elements_are_refused() -> None:
    assert len(forwarded.elements([b"for=a," * 31 + b"for=a"] * 2)) == forwarded.MOST_HOPS
    with pytest.raises(RemoteError, match="over 64 elements"):
        forwarded.elements([b"for=a," * 31 + b"for=a"] * 2 + [b"for=b"])
    with pytest.raises(RemoteError, match="over 4096 bytes"):
        forwarded.elements([b"for=" + b"a" * 2048, b"for=" + b"a" * 2048])


@pytest.mark.parametrize("hostile", [b" ", b"\t", b"a", b'for="\\', b'for="a'])
def test_no_list_takes_long(hostile: bytes) -> None:
    """Steps that grow with the square of 60000 would take seconds. The limit alone would hide them in milliseconds."""
    began = time.process_time()
    assert forwarded._pair.match(hostile[:-1] + hostile[-1:] * 60_000 + b"!") is None
    assert time.process_time() - began < 0.5


@given(st.lists(st.text(' \t,;="\\fFor1.[]:', max_size=30).map(str.encode), max_size=3))
@example([b'for="\\', b'"'])
def test_any_text_has_elements_or_is_refused(lines: list[bytes]) -> None:
    try:
        found = forwarded.elements(lines)
    except RemoteError:
        return
    assert len(found) >= len(lines)
    assert all(name == name.lower() != b"" for element in found for name in element)


@given(st.lists(st.dictionaries(st.sampled_from([b"for", b"host", b"by"]), st.binary(max_size=9)), min_size=1))
def test_what_is_quoted_is_read_as_it_was(found: list[dict[bytes, bytes]]) -> None:
    clean = [{k: bytes(c for c in v if 32 <= c < 127) for k, v in element.items()} for element in found][:64]
    pairs = [[b'%b="%b"' % (k, v.replace(b"\\", b"\\\\").replace(b'"', b'\\"')) for k, v in e.items()] for e in clean]
    line = b", ".join(b";".join(each) for each in pairs)
    if len(line) <= forwarded.LONGEST_LIST:
        assert forwarded.elements([line]) == clean


# Single values


@pytest.mark.parametrize(
    ("lines", "value"),
    [([b"a"], b"a"), ([b"a, b "], b"b"), ([b"a", b"b"], b"b"), ([b"a,"], b""), ([b"a", b""], b""), ([], b"")],
)
def test_the_last_value(lines: list[bytes], value: bytes) -> None:
    assert forwarded.last(lines) == value


@pytest.mark.parametrize(
    ("value", "scheme"),
    [
        (b"http", "http"),
        (b"https", "https"),
        (b"HTTPS", "https"),
        (b"ws", "http"),
        (b"Wss", "https"),
        (b"", ""),
        (b"ssl", ""),
        (b"https ", ""),
        (b"javascript", ""),
    ],
)
def test_a_scheme(value: bytes, scheme: str) -> None:
    assert forwarded.scheme(value) == scheme


@pytest.mark.parametrize("value", ["example.com", "example.com:8443", "a:", "[::1]", "[::1]:1", "10.0.0.1:65535", "A"])
def test_a_host(value: str) -> None:
    assert forwarded.host(value.encode()) == value


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b":80",
        b"a:0",
        b"a:65536",
        b"[::1]:99999",
        b"a b",
        b"a/b",
        b"a@b",
        b"a#b",
        b"a?b",
        b"a\\b",
        b"<b>",
        b"http://a",
        b"a:b",
        b"::1",
        b'"a"',
        b"\xe9",
        b"a\x00",
    ],
)
def test_what_is_no_host(value: bytes) -> None:
    assert forwarded.host(value) is None


@pytest.mark.parametrize(
    ("value", "port"),
    [
        (b"1", 1),
        (b"443", 443),
        (b"65535", 65535),
        (b"0", None),
        (b"65536", None),
        (b"000443", None),
        (b"", None),
        (b"-1", None),
        (b"+1", None),
        (b"1_0", None),
        (b"0x50", None),
        (b"\xb2", None),
        (b"9" * 5000, None),
    ],
)
def test_a_port(value: bytes, port: int | None) -> None:
    assert forwarded.port(value) == port


@pytest.mark.parametrize(
    ("value", "prefix"),
    [
        (b"/api", "/api"),
        (b"/api/", "/api"),
        (b"/a/b", "/a/b"),
        (b"/a//b", "/a//b"),
        (b"/a b", "/a b"),
        (b"/caf\xc3\xa9", "/caf\xc3\xa9"),
        (b"/caf%C3%A9", "/caf%C3%A9"),
        (b"/", ""),
        (b"", ""),
        (b"api", ""),
        (b"//evil.example", ""),
        (b"/\\evil.example", ""),
        (b"/a\\b", ""),
        (b"http://evil.example", ""),
        (b"/a\tb", ""),
        (b"/a\x00b", ""),
        (b"/a\x7fb", ""),
        (b"/\x01", ""),
    ],
)
def test_a_prefix(value: bytes, prefix: str) -> None:
    assert forwarded.prefix(value) == prefix
