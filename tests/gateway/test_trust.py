"""Which peer may say what: a table of what peers send, and what is believed of it."""

from __future__ import annotations

import ipaddress
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.middleware.proxy_fix import ProxyFix

from gateway.test_environ import Client
from monoceros.gateway.trust import Decision, Policy
from monoceros.settings.table import Settings
from monoceros.settings.values import Networks
from monoceros.wire.events import Limits, RemoteError
from monoceros.wire.fields import FieldBlock

PROXY = ("10.0.0.1", 4000)
STRANGER = ("192.0.2.7", 4000)
UNIX = ("", 0)

BEHIND_PROXY = Settings(forwarded_allow_ips=Networks("10.0.0.0/8"))
AS_GUNICORN = Settings(forwarded_allow_ips=Networks("10.0.0.0/8"), proxy_headers=False)


def ask(*lines: str, peer: tuple[str, int] = PROXY, using: Settings = BEHIND_PROXY, path: str = "/") -> dict[str, Any]:
    """The environ of a request with these header lines."""
    head = "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *lines, "", ""])
    return Client(using, peer=peer).ask(head.encode("latin-1"))


def refused(*lines: str, **options: Any) -> str:
    with pytest.raises(RemoteError) as caught:
        ask(*lines, **options)
    assert caught.value.status == 400
    return str(caught.value)


# The scheme


@pytest.mark.parametrize(
    ("line", "scheme"),
    [
        ("X-Forwarded-Proto: https", "https"),
        ("x-forwarded-proto: https", "https"),
        ("X-Forwarded-Protocol: ssl", "https"),
        ("X-Forwarded-Ssl: on", "https"),
        ("X-Forwarded-Proto: http", "http"),
        ("X-Forwarded-Ssl: off", "http"),
        ("X-Forwarded-Proto: HTTPS", "https"),
        ("X-Forwarded-Proto: wss", "https"),
        ("X-Forwarded-Proto: WS", "http"),
        ("X-Forwarded-Proto: https, http", "http"),  # what the nearest proxy says
        ("X-Forwarded-Proto: http,https", "https"),
        ("X-Forwarded-Proto: https,", "http"),
        ("X-Forwarded-Proto: javascript", "http"),
        ("X-Forwarded-Proto:", "http"),
        ("X-Forwarded-Protocol: SSL", "http"),  # only the one name has values in common use
        ("X-Forwarded-Ssl: https", "http"),
        ("X-Forwarded-Protocol: https", "http"),
        ("X_Forwarded_Proto: https", "http"),
        ("X-Forwarded-Scheme: https", "http"),
        ("Forwarded: proto=https", "https"),
        ("Forwarded: for=_x;Proto=WSS", "https"),
        ('Forwarded: proto="https"', "https"),
        ("Forwarded: proto=https, proto=http", "http"),
        ("Forwarded: proto=https, for=10.0.0.9", "http"),
        ("Forwarded: proto=ssl", "http"),
    ],
)
def test_the_scheme_a_proxy_names(line: str, scheme: str) -> None:
    assert ask(line)["wsgi.url_scheme"] == scheme
    assert ask(line, peer=UNIX)["wsgi.url_scheme"] == scheme  # who can open the socket is trusted
    assert ask(line, peer=STRANGER)["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize(
    ("line", "scheme"),
    [
        ("X-Forwarded-Proto: https", "https"),
        ("X-Forwarded-Protocol: ssl", "https"),
        ("X-Forwarded-Proto: HTTPS", "http"),
        ("X-Forwarded-Proto: wss", "http"),
        ("X-Forwarded-Proto: http, https", "http"),
        ("Forwarded: proto=https", "http"),
    ],
)
def test_the_scheme_as_gunicorn_has_it(line: str, scheme: str) -> None:
    assert ask(line, using=AS_GUNICORN)["wsgi.url_scheme"] == scheme
    assert ask(line, using=AS_GUNICORN, peer=STRANGER)["wsgi.url_scheme"] == "http"


def test_without_such_a_field_the_scheme_is_our_own() -> None:
    block = FieldBlock(b"Host: a", "HTTP/1.1", Limits())
    assert Policy(BEHIND_PROXY, "https").apply(block, PROXY[0]).scheme == "https"
    block = FieldBlock(b"Host: a\r\nX-Forwarded-Proto: http", "HTTP/1.1", Limits())
    assert Policy(BEHIND_PROXY, "https").apply(block, STRANGER[0]).scheme == "https"
    block = FieldBlock(b"Host: a\r\nX-Forwarded-Proto: http", "HTTP/1.1", Limits())
    assert Policy(BEHIND_PROXY, "https").apply(block, PROXY[0]).scheme == "http"


@pytest.mark.parametrize(
    ("peer", "networks", "trusted"),
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("127.0.0.2", None, False),
        ("10.9.9.9", ("10.0.0.0/8",), True),
        ("11.0.0.1", ("10.0.0.0/8",), False),
        ("::ffff:10.0.0.1", ("10.0.0.0/8",), True),
        ("2001:db8::1", ("2001:db8::/32",), True),
        ("2001:db9::1", ("2001:db8::/32",), False),
        ("192.0.2.7", ("*",), True),
        ("", (), True),
        ("192.0.2.7", (), False),
    ],
)
def test_who_is_trusted(peer: str, networks: tuple[str, ...] | None, trusted: bool) -> None:
    using = Settings() if networks is None else Settings(forwarded_allow_ips=Networks(*networks))
    seen = ask("X-Forwarded-Proto: https", peer=(peer, 1), using=using)
    assert seen["wsgi.url_scheme"] == ("https" if trusted else "http")


def test_an_unknown_scheme_in_forwarded_says_nothing() -> None:
    block = FieldBlock(b"Host: a\r\nForwarded: proto=gopher", "HTTP/1.1", Limits())
    assert Policy(BEHIND_PROXY, "https").apply(block, PROXY[0]).scheme == "https"


def test_the_fields_themselves_reach_the_application_unchanged() -> None:
    sent = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "9.9.9.9, 198.51.100.1",
        "X-Forwarded-Host": "example.com",
        "X-Forwarded-Port": "444",
        "X-Forwarded-Prefix": "/pre",
        "Forwarded": "for=198.51.100.1",
    }
    for peer in (PROXY, STRANGER, UNIX):
        seen = ask(*(f"{name}: {value}" for name, value in sent.items()), peer=peer)
        for name, value in sent.items():
            assert seen["HTTP_" + name.upper().replace("-", "_")] == value


@pytest.mark.parametrize(
    "lines",
    [
        ("X-Forwarded-Proto: https", "X-Forwarded-Ssl: off"),
        ("X-Forwarded-Proto: http", "X-Forwarded-Protocol: ssl"),
        ("X-Forwarded-Proto: https", "X-Forwarded-Proto: http"),
        ("X-Forwarded-Ssl: on", "X-Forwarded-Proto: javascript"),
        ("X-Forwarded-Ssl: on", "X-Forwarded-Proto: https, http"),
        ("X-Forwarded-Proto: https", "Forwarded: for=_x;proto=http"),
        ("X-Forwarded-Proto: http", "Forwarded: proto=https"),
        ("X-Forwarded-Ssl: off", "Forwarded: proto=wss"),
    ],
)
def test_fields_that_contradict_each_other(lines: tuple[str, ...]) -> None:
    assert refused(*lines) == "contradictory scheme headers"
    assert refused(*reversed(lines), peer=UNIX) == "contradictory scheme headers"
    assert ask(*lines, peer=STRANGER)["wsgi.url_scheme"] == "http"


def test_fields_that_contradict_each_other_as_gunicorn_has_it() -> None:
    lines = ("X-Forwarded-Ssl: on", "X-Forwarded-Proto: HTTPS")
    assert refused(*lines, using=AS_GUNICORN) == "contradictory scheme headers"
    assert ask(*lines)["wsgi.url_scheme"] == "https"


def test_fields_that_agree() -> None:
    lines = ("X-Forwarded-Proto: https", "X-Forwarded-Ssl: on", "X-Forwarded-Protocol: ssl", "Forwarded: proto=https")
    assert ask(*lines)["wsgi.url_scheme"] == "https"


def test_other_scheme_headers_replace_the_usual_ones() -> None:
    using = Settings(forwarded_allow_ips=Networks("*"), secure_scheme_headers={"X-TLS": "yes"})
    assert ask("X-Tls: yes", using=using)["wsgi.url_scheme"] == "https"
    assert ask("X-Tls: no", using=using)["wsgi.url_scheme"] == "http"
    assert ask("X-Forwarded-Proto: https", using=using)["wsgi.url_scheme"] == "http"


# The client


def client(*lines: str, **options: Any) -> tuple[str, str | None]:
    seen = ask(*lines, **options)
    return seen["REMOTE_ADDR"], seen.get("REMOTE_PORT")


@pytest.mark.parametrize("peer", [PROXY, UNIX])
@pytest.mark.parametrize(
    ("lines", "address", "port"),
    [
        (["X-Forwarded-For: 198.51.100.1"], "198.51.100.1", None),
        (["X-Forwarded-For: 198.51.100.1:567"], "198.51.100.1", "567"),
        (["x-forwarded-for: [2001:DB8::1]:567"], "2001:db8::1", "567"),
        (["X-Forwarded-For: 2001:db8::1"], "2001:db8::1", None),
        (["X-Forwarded-For: 127.0.0.1, 198.51.100.1"], "198.51.100.1", None),
        (["X-Forwarded-For: 198.51.100.1, 10.0.0.2"], "198.51.100.1", None),
        (
            ["X-Forwarded-For: 9.9.9.9", "X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 10.0.0.2"],
            "198.51.100.1",
            None,
        ),
        (["X-Forwarded-For: 10.0.0.3, 10.0.0.2"], "10.0.0.3", None),
        (["X-Forwarded-For: 198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2", None),
        (["Forwarded: for=198.51.100.1"], "198.51.100.1", None),
        (["Forwarded: for=198.51.100.1, for=10.0.0.2;proto=http"], "198.51.100.1", None),
        (["Forwarded: for=9.9.9.9, for=198.51.100.1", "Forwarded: for=10.0.0.2"], "198.51.100.1", None),
        (['Forwarded: for="[2001:db8::1]:4711";by=_a'], "2001:db8::1", "4711"),
        (["Forwarded: for=10.0.0.3, for=10.0.0.2"], "10.0.0.3", None),
        (["Forwarded: for=198.51.100.1, for=_hidden, for=10.0.0.2"], "10.0.0.2", None),
        (["Forwarded: for=198.51.100.1, proto=http, for=10.0.0.2"], "10.0.0.2", None),
        (["Forwarded: for=198.51.100.1:5", "X-Forwarded-For: 198.51.100.1"], "198.51.100.1", "5"),
        (["Forwarded: proto=http", "X-Forwarded-For: 198.51.100.1"], "198.51.100.1", None),
        (["Forwarded:", "X-Forwarded-For: 198.51.100.1"], "198.51.100.1", None),
        (["Forwarded: for=198.51.100.1", "X-Forwarded-For:"], "198.51.100.1", None),
    ],
)
def test_the_client_a_proxy_names(lines: list[str], address: str, port: str | None, peer: tuple[str, int]) -> None:
    assert client(*lines, peer=peer) == (address, port)
    assert client(*lines, peer=STRANGER) == ("192.0.2.7", "4000")
    assert client(*lines, peer=peer, using=AS_GUNICORN) == ((peer[0], str(peer[1])) if peer[0] else ("", None))


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["X-Forwarded-For:"],
        ["X-Forwarded-For: unknown"],
        ["X-Forwarded-For: 198.51.100.1, unknown"],
        ["X-Forwarded-For: 198.51.100.1,"],
        ["X-Forwarded-For: <script>"],
        ["X-Forwarded-For: 198.51.100.1%eth0"],
        ["X-Forwarded-For: localhost"],
        ["X-Forwarded-For: " + "1" * 8000],
        ["X-Forwarded-For: " + "198.51.100.1 " * 500],
        ["X_Forwarded_For: 198.51.100.1"],
        ["X-Forwarded_For: 198.51.100.1"],
        ["X-Real-Ip: 198.51.100.1"],
        ["Client-Ip: 198.51.100.1"],
        ["Remote-Addr: 198.51.100.1"],
        ["REMOTE_ADDR: 198.51.100.1"],
        ["Forwarded: for=unknown"],
        ["Forwarded: for=198.51.100.1, for=_hidden"],
        ["Forwarded: for=198.51.100.1, proto=http"],
        ["Forwarded: by=198.51.100.1"],
        ["Forwarded: for=localhost"],
        ["Forwarded: for=unknown", "X-Forwarded-For: unknown"],
    ],
)
def test_where_no_address_is_named_the_client_is_the_peer(lines: list[str]) -> None:
    assert client(*lines) == ("10.0.0.1", "4000")
    assert client(*lines, peer=UNIX) == ("", None)
    assert ask(*lines)["SERVER_NAME"] == ask()["SERVER_NAME"]


def test_where_everyone_is_trusted_the_leftmost_is_the_client() -> None:
    using = Settings(forwarded_allow_ips=Networks("*"))
    for peer in (PROXY, STRANGER, UNIX):
        assert client("X-Forwarded-For: 9.9.9.9:1, 198.51.100.1", peer=peer, using=using) == ("9.9.9.9", "1")
        assert client("Forwarded: for=9.9.9.9, for=198.51.100.1", peer=peer, using=using) == ("9.9.9.9", None)


def test_where_nobody_is_trusted_a_unix_socket_is() -> None:
    using = Settings(forwarded_allow_ips=Networks())
    assert client("X-Forwarded-For: 9.9.9.9, 10.0.0.2", peer=UNIX, using=using) == ("10.0.0.2", None)
    assert client("X-Forwarded-For: 9.9.9.9, 10.0.0.2", peer=PROXY, using=using) == ("10.0.0.1", "4000")


@pytest.mark.parametrize(
    "lines",
    [
        ("Forwarded: for=9.9.9.9", "X-Forwarded-For: 198.51.100.1"),
        ("Forwarded: for=127.0.0.1", "X-Forwarded-For: 127.0.0.1, 198.51.100.1"),
        ("Forwarded: for=9.9.9.9, for=10.0.0.2", "X-Forwarded-For: 10.0.0.2"),
        ("Forwarded: for=_hidden", "X-Forwarded-For: 198.51.100.1"),
        ("Forwarded: for=198.51.100.1", "X-Forwarded-For: unknown"),
        ("Forwarded: for=198.51.100.1", "X-Forwarded-For: 198.51.100.1,"),
    ],
)
def test_a_client_that_speaks_for_itself_beside_its_proxy(lines: tuple[str, ...]) -> None:
    assert refused(*lines) == "contradictory forwarded clients"
    assert refused(*reversed(lines), peer=UNIX) == "contradictory forwarded clients"
    assert client(*lines, peer=STRANGER) == ("192.0.2.7", "4000")


@pytest.mark.parametrize(
    "line",
    [
        'Forwarded: for="198.51.100.1',
        'Forwarded: for="9.9.9.9, for=198.51.100.1',
        "Forwarded: for=a;for=b",
        "Forwarded: x",
    ],
)
def test_a_list_that_cannot_be_read(line: str) -> None:
    assert refused(line) == "malformed Forwarded field"
    assert refused(line, "X-Forwarded-For: 198.51.100.1", peer=UNIX) == "malformed Forwarded field"
    assert client(line, peer=STRANGER) == ("192.0.2.7", "4000")
    assert client(line, using=AS_GUNICORN) == ("10.0.0.1", "4000")


def test_endless_lists() -> None:
    hops = "X-Forwarded-For: " + "9.9.9.9, " * 800
    assert client(*[hops] * 5, "X-Forwarded-For: 198.51.100.1, 10.0.0.2") == ("198.51.100.1", None)
    assert "over 4096 bytes" in refused("Forwarded: " + "for=9.9.9.9, " * 400 + "for=198.51.100.1")
    assert "over 64 elements" in refused("Forwarded: " + ", " * 100 + "for=198.51.100.1")


hop = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(
        ["10.0.0.1", "10.0.0.2:80", "[::1]:8", "unknown", "", "_x", '"', "[", "fe80::1%a", "1.2.3.4:99999"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
)


@given(
    st.lists(
        st.one_of(
            st.lists(hop, max_size=4).map(lambda hops: "X-Forwarded-For: " + ", ".join(hops)),
            st.lists(hop, max_size=4).map(lambda hops: "Forwarded: " + ", ".join(f'for="{hop}"' for hop in hops)),
        ),
        max_size=3,
    ),
    st.sampled_from([PROXY, STRANGER, UNIX]),
    st.sampled_from(["*", "10.0.0.0/8", "::/0"]),
)
def test_remote_addr_is_always_an_address(lines: list[str], peer: tuple[str, int], trusted: str) -> None:
    try:
        seen = ask(*lines, peer=peer, using=Settings(forwarded_allow_ips=Networks(trusted)))
    except RemoteError:
        return
    address, port = seen["REMOTE_ADDR"], seen.get("REMOTE_PORT", "1")
    assert address == peer[0] or str(ipaddress.ip_address(address)) == address
    assert "%" not in address
    assert 0 < int(port) <= 65535


# Host, port and prefix


def server(*lines: str, **options: Any) -> tuple[str, str, str]:
    seen = ask(*lines, **options)
    return seen["HTTP_HOST"], seen["SERVER_NAME"], seen["SERVER_PORT"]


@pytest.mark.parametrize("peer", [PROXY, UNIX])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["X-Forwarded-Host: example.com"], ("example.com", "example.com", "80")),
        (["X-Forwarded-Host: example.com", "X-Forwarded-Proto: https"], ("example.com", "example.com", "443")),
        (["X-Forwarded-Host: example.com:8443"], ("example.com:8443", "example.com", "8443")),
        (["X-Forwarded-Host: [::1]:81"], ("[::1]:81", "[::1]", "81")),
        (["X-Forwarded-Host: evil.example, example.com"], ("example.com", "example.com", "80")),
        (["X-Forwarded-Host: evil.example", "X-Forwarded-Host: example.com"], ("example.com", "example.com", "80")),
        (["X-Forwarded-Host: example.com", "X-Forwarded-Port: 444"], ("example.com", "example.com", "444")),
        (["X-Forwarded-Host: example.com:1", "X-Forwarded-Port: 2, 3"], ("example.com:1", "example.com", "3")),
        (["X-Forwarded-Host: example.com", "X-Forwarded-Port: 0"], ("example.com", "example.com", "80")),
        (["Forwarded: host=example.com"], ("example.com", "example.com", "80")),
        (['Forwarded: for=_x;host="example.com:81";proto=https'], ("example.com:81", "example.com", "81")),
        (["Forwarded: host=evil.example, host=example.com"], ("example.com", "example.com", "80")),
        (["Forwarded: host=Example.com", "X-Forwarded-Host: example.com"], ("Example.com", "Example.com", "80")),
        (["Forwarded: host=/", "X-Forwarded-Host: example.com"], None),
        (['Forwarded: host="/"', "X-Forwarded-Host: example.com"], ("example.com", "example.com", "80")),
        (["Forwarded: host=example.com", "X-Forwarded-Host: a/b"], ("example.com", "example.com", "80")),
    ],
)
def test_the_host_a_proxy_names(lines: list[str], expected: tuple[str, str, str] | None, peer: tuple[str, int]) -> None:
    if expected is None:
        refused(*lines, peer=peer)
        return
    assert server(*lines, peer=peer) == expected
    assert server(*lines, peer=STRANGER) == server(peer=STRANGER)
    assert server(*lines[:1], peer=peer, using=AS_GUNICORN) == server(peer=peer)


@pytest.mark.parametrize(
    "value", ["", "a/b", "a b", "http://a", "a@b", "<b>", "example.com,", ":80", "a:99999", "caf\xe9"]
)
def test_a_host_that_is_none_is_ignored(value: str) -> None:
    assert server(f"X-Forwarded-Host: {value}") == server()
    assert server(f'Forwarded: host="{value}"'.replace(",", "/")) == server()  # quoted, a comma is legal (RFC 3986)


def test_hosts_that_contradict_each_other() -> None:
    lines = ("X-Forwarded-For: 1.1.1.1", "X-Forwarded-Host: a.example", "Forwarded: for=1.1.1.1;host=evil.example")
    assert refused(*lines) == "contradictory forwarded hosts"
    assert server(*lines, peer=STRANGER)[0] == "a"


def test_a_port_alone() -> None:
    assert server("X-Forwarded-Port: 444") == ("a", "127.0.0.1", "444")
    assert server("X-Forwarded-Port: 444", peer=UNIX) == ("a", "a", "444")
    for value in ("", "0", "65536", "-1", "http", "44 4", "444,"):
        assert server(f"X-Forwarded-Port: {value}") == server()
    assert server("X-Forwarded-Port: 444", peer=STRANGER) == server("X-Forwarded-Port: 444", using=AS_GUNICORN)


def test_a_host_that_a_proxy_names_goes_before_that_in_the_target() -> None:
    for peer, host in ((PROXY, "example.com"), (UNIX, "example.com"), (STRANGER, "b:81")):
        seen = ask("X-Forwarded-Host: example.com", path="http://b:81/x", peer=peer)
        assert (seen["HTTP_HOST"], seen["PATH_INFO"]) == (host, "/x")
    assert ask("X-Forwarded-For: 1.1.1.1", path="http://b:81/x")["HTTP_HOST"] == "b:81"


def test_a_host_for_a_request_without_one() -> None:
    client = Client(BEHIND_PROXY, peer=PROXY)
    seen = client.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nX-Forwarded-Host: example.com\r\n\r\n")
    assert (seen["HTTP_HOST"], seen["SERVER_NAME"]) == ("example.com", "example.com")


@pytest.mark.parametrize("peer", [PROXY, UNIX])
@pytest.mark.parametrize(
    ("lines", "script_name", "path"),
    [
        (["X-Forwarded-Prefix: /pre"], "/pre", "/x"),
        (["X-Forwarded-Prefix: /pre/"], "/pre", "/x"),
        (["X-Forwarded-Prefix: /other"], "/other", "/pre/x"),
        (["X-Forwarded-Prefix: /evil, /pre"], "/pre", "/x"),
        (["X-Forwarded-Prefix: /evil", "X-Forwarded-Prefix: /pre"], "/pre", "/x"),
        (["X-Forwarded-Prefix: /"], "", "/pre/x"),
        (["X-Forwarded-Prefix: //evil.example"], "", "/pre/x"),
        (["X-Forwarded-Prefix: /\\evil.example"], "", "/pre/x"),
        (["X-Forwarded-Prefix: evil"], "", "/pre/x"),
        (["X-Forwarded-Prefix: /a\tb"], "", "/pre/x"),
        (["X_Forwarded_Prefix: /pre"], "", "/pre/x"),
        (["SCRIPT_NAME: /pre", "X-Forwarded-Prefix: /evil"], "/pre", "/x"),
        (["SCRIPT_NAME:", "X-Forwarded-Prefix: /evil"], "", "/pre/x"),
    ],
)
def test_the_prefix_a_proxy_names(lines: list[str], script_name: str, path: str, peer: tuple[str, int]) -> None:
    seen = ask(*lines, peer=peer, path="/pre/x")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == (script_name, path)
    assert ask(*lines, peer=STRANGER, path="/pre/x")["SCRIPT_NAME"] == ""
    assert ask(*lines, peer=peer, using=AS_GUNICORN)["SCRIPT_NAME"] == (script_name if "SCRIPT" in lines[0] else "")


def test_a_prefix_replaces_our_own() -> None:
    using = Settings(forwarded_allow_ips=Networks("10.0.0.1"), root_path="/ours")
    assert ask("X-Forwarded-Prefix: /theirs", using=using)["SCRIPT_NAME"] == "/theirs"
    assert ask("X-Forwarded-Prefix: //theirs", using=using)["SCRIPT_NAME"] == "/ours"


# What an application does by itself goes on working


@pytest.mark.parametrize("using", [BEHIND_PROXY, AS_GUNICORN])
def test_werkzeugs_proxy_fix_sees_what_it_saw(using: Settings) -> None:
    seen: list[tuple[str, str, str, str]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        names = ("REMOTE_ADDR", "wsgi.url_scheme", "HTTP_HOST", "SCRIPT_NAME")
        seen.append(tuple(environ[name] for name in names))  # type: ignore[arg-type]
        return []

    lines = (
        "X-Forwarded-For: 9.9.9.9, 198.51.100.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: example.com",
        "X-Forwarded-Prefix: /pre",
    )
    ProxyFix(app, x_for=1, x_proto=1, x_host=1, x_prefix=1)(ask(*lines, using=using), print)
    assert seen == [("198.51.100.1", "https", "example.com", "/pre")]


# Underscores


def test_names_with_an_underscore_are_dropped() -> None:
    for peer in (PROXY, STRANGER, UNIX):
        seen = ask("X_Forwarded_For: 1.2.3.4", "X-Real: 1", "X_Real: 2", peer=peer)
        assert "HTTP_X_FORWARDED_FOR" not in seen
        assert seen["HTTP_X_REAL"] == "1"


def test_names_with_an_underscore_can_be_refused() -> None:
    using = Settings(header_map="refuse", forwarded_allow_ips=Networks("10.0.0.1"))
    for peer in (PROXY, STRANGER, UNIX):
        assert "underscore: 'x_real'" in refused("X_Real: 2", peer=peer, using=using)
    assert ask("X-Real: 1", using=using)["HTTP_X_REAL"] == "1"
    assert ask("SCRIPT_NAME: /a", using=using)["SCRIPT_NAME"] == "/a"
    assert "script_name" in refused("SCRIPT_NAME: /a", using=using, peer=STRANGER)


def test_names_with_an_underscore_can_be_let_in() -> None:
    using = Settings(header_map="dangerous", forwarded_allow_ips=Networks("10.0.0.1"))
    for peer in (PROXY, STRANGER):
        assert ask("X-Real: 1", "X_Real: 2", peer=peer, using=using)["HTTP_X_REAL"] == "1,2"


def test_a_stranger_never_sets_the_prefix() -> None:
    for header_map in ("drop", "dangerous"):
        using = Settings(header_map=header_map, forwarded_allow_ips=Networks("10.0.0.1"))
        for spelling in ("SCRIPT_NAME", "Script_Name", "Script-Name"):
            assert ask(f"{spelling}: /evil", peer=STRANGER, using=using)["SCRIPT_NAME"] == "", spelling


@pytest.mark.parametrize("spelling", ["SCRIPT_NAME", "script_name", "Script_Name"])
@pytest.mark.parametrize("peer", [PROXY, UNIX])
def test_a_proxy_may_set_the_prefix(spelling: str, peer: tuple[str, int]) -> None:
    seen = ask(f"{spelling}: /pre", peer=peer, path="/pre/x")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/pre", "/x")
    assert ask("Script-Name: /pre", peer=peer)["SCRIPT_NAME"] == ""


def test_only_listed_names_are_the_proxys_to_set() -> None:
    using = Settings(forwarder_headers=("REMOTE_USER",), forwarded_allow_ips=Networks("10.0.0.1"))
    seen = ask("Remote_User: ann", "SCRIPT_NAME: /pre", "Remote_Group: g", using=using)
    assert seen["HTTP_REMOTE_USER"] == "ann"
    assert seen["SCRIPT_NAME"] == ""
    assert "HTTP_REMOTE_GROUP" not in seen
    assert "HTTP_REMOTE_USER" not in ask("Remote_User: ann", using=using, peer=STRANGER)


def test_all_names_may_be_the_proxys_to_set() -> None:
    using = Settings(forwarder_headers=("*",), forwarded_allow_ips=Networks("10.0.0.1"))
    seen = ask("Any_Name: 1", "Script_Name: /pre", using=using)
    assert (seen["HTTP_ANY_NAME"], seen["SCRIPT_NAME"]) == ("1", "/pre")
    assert "HTTP_ANY_NAME" not in ask("Any_Name: 1", using=using, peer=STRANGER)


def test_a_name_that_the_proxy_sets_with_underscores_does_not_count_with_hyphens() -> None:
    """A client may have sent it; and a name with underscores is not one of those that are believed."""
    using = Settings(
        forwarder_headers=("X_FORWARDED_FOR", "X_FORWARDED_PROTO"), forwarded_allow_ips=Networks("10.0.0.1")
    )
    lines = (
        "X_Forwarded_For: 1.1.1.1",
        "X-Forwarded-For: 9.9.9.9",
        "X_Forwarded_Proto: http",
        "X-Forwarded-Proto: https",
    )
    seen = ask(*lines, using=using)
    assert (seen["HTTP_X_FORWARDED_FOR"], seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == (
        "1.1.1.1",
        "10.0.0.1",
        "http",
    )


def test_names_with_an_underscore_never_name_the_client() -> None:
    for header_map in ("drop", "dangerous"):
        using = Settings(header_map=header_map, forwarded_allow_ips=Networks("10.0.0.1"))
        for peer, address in ((PROXY, "1.1.1.1"), (STRANGER, "192.0.2.7")):
            lines = ("X-Forwarded-For: 1.1.1.1", "X_Forwarded_For: 9.9.9.9", "X-Forwarded_For: 8.8.8.8")
            assert client(*lines, using=using, peer=peer)[0] == address


# From one request to the next of a connection


def requests(client: Client, *values: str) -> list[str]:
    raw = "GET / HTTP/1.1\r\nHost: a\r\nAccept: x\r\nX-Forwarded-Proto: {}\r\nCookie: {}\r\n\r\n"
    return [client.ask(raw.format(value, number).encode())["wsgi.url_scheme"] for number, value in enumerate(values)]


def test_a_scheme_that_changes_on_one_connection() -> None:
    """A proxy sends the requests of many clients over one connection."""
    assert requests(Client(BEHIND_PROXY, peer=PROXY), "https", "http", "https", "https", "", "http") == [
        "https",
        "http",
        "https",
        "https",
        "http",
        "http",
    ]
    assert set(requests(Client(BEHIND_PROXY, peer=STRANGER), "https", "http", "https")) == {"http"}


@given(st.lists(st.sampled_from(["https", "http", "", "HTTPS"]), min_size=1, max_size=8))
def test_any_sequence_of_schemes_on_one_connection(values: list[str]) -> None:
    expected = ["https" if value.lower() == "https" else "http" for value in values]
    assert requests(Client(BEHIND_PROXY, peer=PROXY), *values) == expected


def test_contradictions_are_seen_in_later_requests_too() -> None:
    client = Client(BEHIND_PROXY, peer=PROXY)
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Ssl: on\r\n\r\n"
    assert client.ask(raw % b"https")["wsgi.url_scheme"] == "https"
    with pytest.raises(RemoteError, match="contradictory"):
        client.ask(raw % b"http")


BELIEVED = {
    "X-Forwarded-For": ("1.1.1.1", "2.2.2.2", "unknown", "1.1.1.1, 10.0.0.9", "1.1.1.1:5"),
    "X-Forwarded-Host": ("b", "c:81", "a/b", ""),
    "X-Forwarded-Port": ("81", "82", "0", "x"),
    "X-Forwarded-Prefix": ("/p", "/q", "//r", ""),
    "X-Forwarded-Proto": ("http", "wss", "https", "http, https"),
    "Forwarded": ("for=1.1.1.1", "for=2.2.2.2;host=c", "proto=https", "for=unknown", ""),
}


@pytest.mark.parametrize("name", BELIEVED)
@pytest.mark.parametrize("peer", [PROXY, STRANGER, UNIX])
def test_requests_that_differ_in_one_field_only(name: str, peer: tuple[str, int]) -> None:
    """What was derived from the first must not serve the others, though their blocks resemble each other."""
    kept = Client(BEHIND_PROXY, peer=peer)
    seen = []
    for number, value in enumerate(BELIEVED[name] * 2):
        lines = ["GET / HTTP/1.1", "Host: a", "Accept: x", f"{name}: {value}", f"Cookie: {number}", "", ""]
        raw = "\r\n".join(lines).encode()
        seen.append(kept.ask(raw))
        assert seen[-1] == Client(BEHIND_PROXY, peer=peer).ask(raw)
    derived = [{key: value for key, value in each.items() if not key.startswith("HTTP_X_")} for each in seen[:2]]
    for each in derived:
        each.pop("HTTP_COOKIE")
        each.pop("HTTP_FORWARDED", None)
    assert (derived[0] == derived[1]) == (peer == STRANGER)


def test_the_block_of_a_stranger_is_shared_whatever_it_claims() -> None:
    """Nobody builds on what it says, so it need not be read anew; that of a proxy must."""
    for peer, shared in ((STRANGER, True), (PROXY, False)):
        policy = Policy(BEHIND_PROXY)
        raw = [b"Host: a\r\nX-Forwarded-For: 1.1.1.%d\r\nAccept: x" % number for number in range(3)]
        block = FieldBlock(raw[0], "HTTP/1.1", Limits())
        assert policy.apply(block, peer[0]).client == (None if shared else ("1.1.1.0", 0))
        for number in (1, 2):
            block = block.next(raw[number], 0, len(raw[number]), "HTTP/1.1", Limits())
            assert (block.trust is not None) == shared
            assert policy.apply(block, peer[0]).client == (None if shared else (f"1.1.1.{number}", 0))


def test_a_decision_of_three() -> None:
    decision = Decision("https", "/pre", frozenset())
    assert (decision.client, decision.host, decision.port) == (None, None, None)


def test_the_decision_itself() -> None:
    block = FieldBlock(
        b"Host: a\r\nForwarded: for=1.1.1.1;proto=https;host=b\r\nX-Forwarded-Port: 444\r\nX-Forwarded-Prefix: /p/",
        "HTTP/1.1",
        Limits(),
    )
    decision = Policy(BEHIND_PROXY).apply(block, PROXY[0])
    assert decision == Decision("https", "/p", frozenset(), ("1.1.1.1", 0), "b", 444)
    assert block.trust is decision


def test_a_prefix_that_changes_on_one_connection() -> None:
    client = Client(BEHIND_PROXY, peer=PROXY)
    raw = "GET /a/b HTTP/1.1\r\nHost: a\r\nSCRIPT_NAME: {}\r\nCookie: {}\r\n\r\n"
    seen = [client.ask(raw.format(prefix, cookie).encode()) for cookie, prefix in enumerate(("/a", "", "/a/b", "/a"))]
    assert [(each["SCRIPT_NAME"], each["PATH_INFO"]) for each in seen] == [
        ("/a", "/b"),
        ("", "/a/b"),
        ("/a/b", ""),
        ("/a", "/b"),
    ]


def test_a_secret_in_a_refused_name_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        message = refused("X_Token: hunter2", using=Settings(header_map="refuse"))
    assert "hunter2" not in message + caplog.text


def test_what_is_refused_is_not_quoted() -> None:
    for line in ('Forwarded: secret="hunter2', "Forwarded: secret=hunter2;secret=hunter2"):
        assert "hunter2" not in refused(line)
