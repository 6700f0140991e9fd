"""Text to value: what is taken, and what is said about what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoceros.settings import values
from monoceros.settings.cpus import available_cpus
from monoceros.settings.values import Address, Networks

Parser = Callable[[object], object]

TAKEN: list[tuple[Parser, object, object]] = [
    (values.boolean, True, True),
    (values.boolean, "TRUE", True),
    (values.boolean, "on", True),
    (values.boolean, 1, True),
    (values.boolean, " no ", False),
    (values.boolean, "0", False),
    (values.count, "0", 0),
    (values.count, 7, 7),
    (values.count, " 12 ", 12),
    (values.count, "0x10", 16),
    (values.count, "0o17", 15),
    (values.count, "010", 10),
    (values.count, 8 / 2, 4),
    (values.positive, "1", 1),
    (values.workers, "4", 4),
    (values.workers, "Auto", available_cpus()),
    (values.seconds, "30", 30.0),
    (values.seconds, "1.5", 1.5),
    (values.seconds, 0, 0.0),
    (values.seconds, 9999999999, values.LONGEST),
    (values.seconds, "inf", values.LONGEST),
    (values.size, 65536, 65536),
    (values.size, "65536", 65536),
    (values.size, "64k", 65536),
    (values.size, "64 KiB", 65536),
    (values.size, "10M", 10 * 1024 * 1024),
    (values.size, "1.5MB", 1536 * 1024),
    (values.size, "2GiB", 2 * 1024**3),
    (values.text, " info ", "info"),
    (values.text, Path("/srv"), "/srv"),
    (values.text_or_blank, None, ""),
    (values.text_or_none, "", None),
    (values.text_or_none, None, None),
    (values.text_or_none, "-", "-"),
    (values.directory, Path("/srv"), "/srv"),
    (values.names, "a, b,,c", ("a", "b", "c")),
    (values.names, ["a", "b"], ("a", "b")),
    (values.names, None, ()),
    (values.header_names, "script_name,Path_Info", ("SCRIPT_NAME", "PATH_INFO")),
    (values.header_names, "*", ("*",)),
    (values.header_names, "", ()),
    (values.paths, ["/a", Path("/b")], "/a,/b"),
    (values.paths, None, ""),
    (values.worker_class, "gthread", "gthread"),
    (values.worker_class, Address, "monoceros.settings.values.Address"),
    (values.header_map, "Refuse", "refuse"),
    (values.environment, ["A=1,2", "B=x=y"], ("A=1,2", "B=x=y")),
    (values.environment, "A=1,2, B=x=y", ("A=1,2", "B=x=y")),
    (values.environment, None, ()),
    (values.mapping, {"x-proto": "https"}, MappingProxyType({"X-PROTO": "https"})),
]

REFUSED: list[tuple[Parser, object, str]] = [
    (values.boolean, "maybe", "true or false"),
    (values.boolean, 2, "true or false"),
    (values.boolean, None, "true or false"),
    (values.count, "-1", "a whole number, 0 or more"),
    (values.count, "four", "a whole number, 0 or more"),
    (values.count, True, "a whole number, 0 or more"),
    (values.count, 2.5, "a whole number, 0 or more"),
    (values.count, float("inf"), "a whole number, 0 or more"),
    (values.count, float("nan"), "a whole number, 0 or more"),
    (values.count, None, "a whole number, 0 or more"),
    (values.positive, 0, "a whole number, 1 or more"),
    (values.workers, 0, 'a whole number, 1 or more, or "auto"'),
    (values.workers, "many", 'a whole number, 1 or more, or "auto"'),
    (values.seconds, "soon", "a number of seconds, 0 or more"),
    (values.seconds, -1, "a number of seconds, 0 or more"),
    (values.seconds, "nan", "a number of seconds, 0 or more"),
    (values.seconds, True, "a number of seconds, 0 or more"),
    (values.seconds, 10**400, "a number of seconds, 0 or more"),
    (values.size, "64X", "a size in bytes, such as 65536, 64K or 10M"),
    (values.size, -1, "a size in bytes, such as 65536, 64K or 10M"),
    (values.text, 5, "a text"),
    (values.text, None, "a text"),
    (values.directory, "", "a directory"),
    (values.header_names, "a b", 'names of header fields, comma-separated, or "*"'),
    (values.names, [1], "names, comma-separated"),
    (values.worker_class, None, 'the name of a kind of worker, such as "sync" or "gthread"'),
    (values.header_map, "keep", "drop, refuse or dangerous"),
    (values.environment, ["A"], "NAME=VALUE"),
    (values.environment, ["=1"], "NAME=VALUE"),
    (values.environment, {"A": "1"}, "NAME=VALUE"),
    (values.mapping, "X-PROTO=https", "a dict of header names to texts, which only a config file can give"),
    (values.mapping, {"X-PROTO": 1}, "a dict of header names to texts, which only a config file can give"),
]


def called(case: object) -> str | None:
    return case.__name__ if callable(case) else None


@pytest.mark.parametrize(("parse", "given", "value"), TAKEN, ids=called)
def test_what_is_taken(parse: Parser, given: object, value: object) -> None:
    assert parse(given) == value
    assert type(parse(given)) is type(value)


@pytest.mark.parametrize(("parse", "given", "right"), REFUSED, ids=called)
def test_what_is_refused_and_what_would_be_right(parse: Parser, given: object, right: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(given)
    assert str(caught.value) == right


ADDRESSES = {
    "": Address("tcp", "0.0.0.0", 8000),
    ":9000": Address("tcp", "0.0.0.0", 9000),
    "9000": Address("tcp", "127.0.0.1", 9000),
    "127.0.0.1": Address("tcp", "127.0.0.1", 8000),
    "Example.org": Address("tcp", "example.org", 8000),
    "localhost:0": Address("tcp", "localhost", 0),
    "tcp://0.0.0.0:80": Address("tcp", "0.0.0.0", 80),
    "[::1]:80": Address("tcp", "::1", 80),
    "[::]:80": Address("tcp", "::", 80),
    "[::1]": Address("tcp", "::1", 8000),
    "::1": Address("tcp", "::1", 8000),
    "0:0:0:0:0:0:0:1": Address("tcp", "::1", 8000),
    "tcp://[fe80::1%eth0]:80": Address("tcp", "fe80::1%eth0", 80),
    "unix:/run/a.sock": Address("unix", path="/run/a.sock"),
    "unix:///run/a.sock": Address("unix", path="/run/a.sock"),
    "unix:a.sock": Address("unix", path="a.sock"),
    "unix:@a": Address("unix", path="\0a"),
    "unix:\0a": Address("unix", path="\0a"),
    "unix:./@a": Address("unix", path="./@a"),
    "fd://3": Address("fd", fd=3),
}


@pytest.mark.parametrize(("text", "expected"), ADDRESSES.items())
def test_address(text: str, expected: Address) -> None:
    assert values.address(text) == expected


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=str)
def test_an_address_understands_its_own_name(address: Address) -> None:
    assert values.address(address.name) == address


@pytest.mark.parametrize(
    ("text", "name"),
    {
        "[0:0::1]:080": "[::1]:80",
        "LOCALHOST": "localhost:8000",
        "unix://@a": "unix:@a",
        "unix:///a": "unix:/a",
        "fd://03": "fd://3",
    }.items(),
)
def test_equal_addresses_have_one_name(text: str, name: str) -> None:
    assert values.address(text).name == str(values.address(text)) == name


@pytest.mark.parametrize(
    "text",
    [
        "a:b",
        "a:",
        ":",
        "a:-1",
        "a b:80",
        "[::1]80",
        "[::1",
        "[a]:80",
        "1::2::3",
        "http://a:80",
        "http://a",
        "a/b",
        "fd://",
        "fd://x",
        None,
        True,
        b"a:80",
        ("a", 80),
    ],
)
def test_what_is_no_address(text: object) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT, PORT, \[IPV6\]:PORT, unix:PATH or fd://NUMBER"):
        values.address(text)


@pytest.mark.parametrize(
    ("text", "right"),
    {
        "::1:8000": "[::1]:8000 or [::1:8000]",
        "fe80::1%eth0:80": "[fe80::1%eth0]:80 or [fe80::1%eth0:80]",
        "tcp://2001:db8::1:443": "[2001:db8::1]:443 or [2001:db8::1:443]",
        ":::80": "[::]:80",
        "0:0:0:0:0:0:0:1:8000": "[0:0:0:0:0:0:0:1]:8000",
        "::1:80000": "[::1]:80000",
    }.items(),
)
def test_an_ipv6_address_with_a_port_goes_in_brackets(text: str, right: str) -> None:
    with pytest.raises(ValueError) as caught:
        values.address(text)
    assert str(caught.value) == f"{right}: an IPv6 address with a port goes in brackets"


@pytest.mark.parametrize("text", ["::", "::1", "::10", "::8000", "2001:db8::10", "fe80::1:a80", "1:2:3:4:5:6:7:8000"])
def test_an_ipv6_address_alone_needs_no_brackets(text: str) -> None:
    assert values.address(text) == values.address(f"[{text}]")


@pytest.mark.parametrize("text", ["a:65536", "a:100000", "99999999"])
def test_a_port_has_sixteen_bits(text: str) -> None:
    with pytest.raises(ValueError, match="a port from 0 to 65535"):
        values.address(text)


@pytest.mark.parametrize("path", ["", "@", "/" + "a" * 107, "@" + "a" * 107, "/a\0b"])
def test_what_the_kernel_does_not_take_for_a_path(path: str) -> None:
    with pytest.raises(ValueError, match="unix:PATH with a path of 1 to 107 bytes"):
        values.address(f"unix:{path}")


def test_addresses_come_in_lists_and_with_commas() -> None:
    expected = (Address("tcp", "127.0.0.1", 1), Address("unix", path="/a"))
    for text in ("127.0.0.1:1,unix:/a", " 127.0.0.1:1 , unix:/a,", ["127.0.0.1:1", "unix:/a"], ["1,unix:/a", 1]):
        assert values.addresses(text) == expected, text
    assert values.addresses("") == (Address("tcp", "0.0.0.0", 8000),)


@pytest.mark.parametrize("nothing", [[], ","])
def test_there_is_at_least_one_address(nothing: object) -> None:
    with pytest.raises(ValueError, match="at least one address"):
        values.addresses(nothing)


@pytest.mark.parametrize("given", ["10.0.0.0/8, ::1,192.168.1.1", ["10.0.0.0/8", "::1,192.168.1.1"]])
def test_networks(given: object) -> None:
    networks = values.networks(given)
    inside = ["10.0.0.0", "10.255.255.255", "::1", "0:0::1", "192.168.1.1", "::ffff:10.1.2.3"]
    outside = ["11.0.0.0", "::2", "192.168.1.2", "::ffff:11.0.0.0", "", "unix", "10.0.0.0/8", "10.1.2.3:80", "x" * 99]
    for _ in range(2):  # the second time from memory
        assert [ip for ip in inside if ip not in networks] == []
        assert [ip for ip in outside if ip in networks] == []
    assert not networks.everyone


def test_everyone() -> None:
    everyone = values.networks("127.0.0.1,*")
    assert everyone.everyone
    assert "8.8.8.8" in everyone
    assert "" in everyone
    assert str(everyone) == "*"


@pytest.mark.parametrize("nobody", ["", None, [], ","])
def test_nobody(nobody: object) -> None:
    networks = values.networks(nobody)
    assert "127.0.0.1" not in networks
    assert not networks.everyone


@pytest.mark.parametrize("junk", [None, 5, b"127.0.0.1", ("127.0.0.1", 80), []])
def test_networks_hold_no_junk(junk: object) -> None:
    assert junk not in Networks("0.0.0.0/0", "::/0")


@given(st.text())
def test_membership_never_raises(text: str) -> None:
    assert (text in Networks("10.0.0.0/8")) in (True, False)


def test_strangers_do_not_fill_the_memory() -> None:
    networks = Networks("10.0.0.0/8")
    for number in range(5000):
        assert f"172.16.{number // 256}.{number % 256}" not in networks
    assert networks._holds.cache_info().currsize <= 1024  # type: ignore[attr-defined]


def test_networks_are_values() -> None:
    assert values.networks("10.0.0.0/8, ::1/128") == Networks("10.0.0.0/8", "::1")
    assert len({Networks("::1"), values.networks("::1"), Networks("::2")}) == 2
    assert Networks("::1") != "::1"
    assert str(values.networks(str(Networks("10.0.0.0/8", "::1")))) == "10.0.0.0/8,::1"
    assert repr(Networks("::1")) == "Networks('::1')"


@pytest.mark.parametrize(("given", "why"), [("10.0.0.1/8", "has host bits set"), ("localhost", "'localhost'")])
def test_networks_say_what_is_wrong(given: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        values.networks(["127.0.0.1", given])
    assert 'IP addresses and networks such as 10.0.0.0/8, comma-separated, or "*"' in str(caught.value)
