"""Which peer may say what: a table of what peers send, and what is believed of it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.test_environ import Client
from monoceros.gateway.trust import Policy
from monoceros.settings.table import Settings
from monoceros.settings.values import Networks
from monoceros.wire.events import Limits, RemoteError
from monoceros.wire.fields import FieldBlock

PROXY = ("10.0.0.1", 4000)
STRANGER = ("192.0.2.7", 4000)
UNIX = ("", 0)

BEHIND_PROXY = Settings(forwarded_allow_ips=Networks("10.0.0.0/8"))


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
        ("X-Forwarded-Proto: HTTPS", "http"),
        ("X-Forwarded-Proto: https, http", "http"),
        ("X-Forwarded-Proto:", "http"),
        ("X-Forwarded-Protocol: https", "http"),
        ("X_Forwarded_Proto: https", "http"),
        ("X-Forwarded-Scheme: https", "http"),
        ("Forwarded: proto=https", "http"),
    ],
)
def test_the_scheme_a_proxy_names(line: str, scheme: str) -> None:
    assert ask(line)["wsgi.url_scheme"] == scheme
    assert ask(line, peer=UNIX)["wsgi.url_scheme"] == scheme  # who can open the socket is trusted
    assert ask(line, peer=STRANGER)["wsgi.url_scheme"] == "http"


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


def test_the_fields_themselves_reach_the_application_unchanged() -> None:
    for peer in (PROXY, STRANGER):
        seen = ask("X-Forwarded-Proto: https", "X-Forwarded-For: 198.51.100.1", peer=peer)
        assert seen["HTTP_X_FORWARDED_PROTO"] == "https"
        assert seen["HTTP_X_FORWARDED_FOR"] == "198.51.100.1"
        assert seen["REMOTE_ADDR"] == peer[0]  # never rewritten, as with Gunicorn


@pytest.mark.parametrize(
    "lines",
    [
        ("X-Forwarded-Proto: https", "X-Forwarded-Ssl: off"),
        ("X-Forwarded-Proto: http", "X-Forwarded-Protocol: ssl"),
        ("X-Forwarded-Proto: https", "X-Forwarded-Proto: http"),
        ("X-Forwarded-Ssl: on", "X-Forwarded-Proto: HTTPS"),
    ],
)
def test_fields_that_contradict_each_other(lines: tuple[str, ...]) -> None:
    assert refused(*lines) == "contradictory scheme headers"
    assert refused(*reversed(lines), peer=UNIX) == "contradictory scheme headers"
    assert ask(*lines, peer=STRANGER)["wsgi.url_scheme"] == "http"


def test_fields_that_agree() -> None:
    assert ask("X-Forwarded-Proto: https", "X-Forwarded-Ssl: on", "X-Forwarded-Protocol: ssl")["wsgi.url_scheme"] == (
        "https"
    )


def test_other_scheme_headers_replace_the_usual_ones() -> None:
    using = Settings(forwarded_allow_ips=Networks("*"), secure_scheme_headers={"X-TLS": "yes"})
    assert ask("X-Tls: yes", using=using)["wsgi.url_scheme"] == "https"
    assert ask("X-Tls: no", using=using)["wsgi.url_scheme"] == "http"
    assert ask("X-Forwarded-Proto: https", using=using)["wsgi.url_scheme"] == "http"


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
    expected = ["https" if value == "https" else "http" for value in values]
    assert requests(Client(BEHIND_PROXY, peer=PROXY), *values) == expected


def test_contradictions_are_seen_in_later_requests_too() -> None:
    client = Client(BEHIND_PROXY, peer=PROXY)
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Ssl: on\r\n\r\n"
    assert client.ask(raw % b"https")["wsgi.url_scheme"] == "https"
    with pytest.raises(RemoteError, match="contradictory"):
        client.ask(raw % b"http")


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
