"""The environ, key by key; and that a connection's later requests get what a fresh connection would give them."""

from __future__ import annotations

import io
import socket
from typing import Any
from wsgiref.validate import check_environ

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import monoceros
from gateway.play import ADDRESS, PEER, environ_of
from monoceros.gateway import environ as environs
from monoceros.gateway.trust import Policy
from monoceros.gateway.wsgi import FileWrapper
from monoceros.settings.table import Settings
from monoceros.settings.values import Networks
from monoceros.wire.events import END, Limits, Request
from monoceros.wire.h1 import H1Connection
from monoceros.wire.response import Defaults, Response

EMPTY = Response(200, [(b"Content-Length", b"0")])


class Client:
    """A connection that turns one request after the other into environs, as a worker does."""

    def __init__(
        self,
        using: Settings | None = None,
        *,
        peer: tuple[str, int] = PEER,
        address: tuple[str, int | None] = ADDRESS,
    ) -> None:
        using = using or Settings()
        self.peer = peer
        self.policy = Policy(using)
        self.wire = H1Connection(Limits(), Defaults(lambda: 0))
        server = environs.server_part(using, "errors", FileWrapper)
        self.connection = environs.connection_part(server, address, peer, None)

    def ask(self, raw: bytes) -> dict[str, Any]:
        """The environ of one request without content."""
        self.wire.receive_data(raw)
        request = self.wire.next_event()
        assert isinstance(request, Request), request
        decision = request.fields.trust or self.policy.apply(request.fields, self.peer[0])
        environ = environs.build(self.connection, request, decision)
        environ.pop("wsgi.input", None)  # each request has its own
        assert self.wire.next_event() is END
        self.wire.respond(EMPTY, b"")
        assert self.wire.next_cycle()
        return environ


def environ(head: str | bytes, **options: Any) -> dict[str, Any]:
    """The environ of one request; LF stands for CR LF, and a Host is added where the head has none."""
    raw = head.encode("latin-1") if isinstance(head, str) else head
    raw = raw.replace(b"\n", b"\r\n").rstrip(b"\r\n") + b"\r\n"
    if b"host:" not in raw.lower() and b"HTTP/1.0" not in raw:
        raw += b"Host: a\r\n"
    wire = H1Connection(Limits(), Defaults(lambda: 0))
    wire.receive_data(raw + b"\r\n")
    request = wire.next_event()
    assert isinstance(request, Request), request
    return environ_of(request, **options)


# Key by key


def test_every_key_of_a_request() -> None:
    errors = io.StringIO()
    seen = environ(
        "POST /caf%C3%A9/x?q=%20&r HTTP/1.1\nHost: example.com:8000\nContent-Type: text/x\nContent-Length: 3\n"
        "User-Agent: tester\nX-One: 1\n",
        errors=errors,
    )
    seen.pop("wsgi.input", None)  # the connection's to set
    assert seen == {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": errors,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        "SERVER_SOFTWARE": f"monoceros/{monoceros.__version__}",
        "gunicorn.socket": None,
        "REQUEST_METHOD": "POST",
        "QUERY_STRING": "q=%20&r",
        "RAW_URI": "/caf%C3%A9/x?q=%20&r",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "50000",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "PATH_INFO": "/caf\xc3\xa9/x",
        "SCRIPT_NAME": "",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "3",
        "HTTP_HOST": "example.com:8000",
        "HTTP_USER_AGENT": "tester",
        "HTTP_X_ONE": "1",
    }


def test_the_standard_librarys_validator_accepts_it() -> None:
    seen = environ("GET / HTTP/1.1")
    seen["wsgi.input"] = io.BytesIO()
    check_environ(seen)


def test_what_was_not_sent_is_not_there() -> None:
    seen = environ("GET / HTTP/1.0\n")
    assert not {"CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_HOST", "HTTP_CONTENT_TYPE", "HTTPS"} & set(seen)
    assert seen["QUERY_STRING"] == ""
    assert seen["SERVER_PROTOCOL"] == "HTTP/1.0"


def test_content_type_and_length_have_no_prefix() -> None:
    seen = environ("POST / HTTP/1.1\ncontent-TYPE: a/b\ncontent-LENGTH: 0\n")
    assert seen["CONTENT_TYPE"] == "a/b"
    assert seen["CONTENT_LENGTH"] == "0"
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & set(seen)


def test_the_process_model() -> None:
    assert environ("GET / HTTP/1.1", using=Settings(threads=4))["wsgi.multithread"] is True
    assert environ("GET / HTTP/1.1", using=Settings(workers=2))["wsgi.multiprocess"] is True


def test_the_socket_is_there() -> None:
    with socket.socket() as sock:
        server = environs.server_part(Settings(), None, FileWrapper)
        assert environs.connection_part(server, ADDRESS, PEER, sock)["gunicorn.socket"] is sock


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("X-A: 1\nX-A: 2\n", "1,2"),
        ("X-A: 1\nX-B: 3\nx-a: 2, 4\n", "1,2, 4"),
        ("X-A:\nX-A: 2\n", ",2"),
        ("X-A: 1\n", "1"),
        ("X-A:\n", ""),
        ("X-A: caf\xe9\n", "caf\xe9"),
        ("X-A: a  b\n", "a  b"),
    ],
)
def test_the_value_of_a_field(sent: str, text: str) -> None:
    assert environ(f"GET / HTTP/1.1\n{sent}")["HTTP_X_A"] == text


def test_cookies_are_joined_by_semicolons() -> None:
    assert environ("GET / HTTP/1.1\nCookie: a=1\nX: y\nCookie: b=2; c=3\n")["HTTP_COOKIE"] == "a=1; b=2; c=3"


def test_a_dash_becomes_an_underscore_and_other_characters_stay() -> None:
    assert environ("GET / HTTP/1.1\nX-a.b!c: 1\n")["HTTP_X_A.B!C"] == "1"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a/b", "/a/b", ""),
        ("/a?", "/a", ""),
        ("/a?b?c", "/a", "b?c"),
        ("/a%2Fb", "/a/b", ""),
        ("/a%20b", "/a b", ""),
        ("/%C3%A9", "/\xc3\xa9", ""),
        ("/%E2%82%AC", "/\xe2\x82\xac", ""),
        ("/%ff%00", "/\xff\x00", ""),
        ("/100%", "/100%", ""),
        ("/%zz%4", "/%zz%4", ""),
        ("/a+b", "/a+b", ""),
        ("/a%3Fb?c%3D", "/a?b", "c%3D"),
        ("//a//b", "//a//b", ""),
        ("/a/../b/./c", "/a/../b/./c", ""),
        ("/a;b=c", "/a;b=c", ""),
    ],
)
def test_the_path_is_decoded_once_and_the_query_is_not(target: str, path: str, query: str) -> None:
    seen = environ(f"GET {target} HTTP/1.1\n")
    assert (seen["PATH_INFO"], seen["QUERY_STRING"], seen["RAW_URI"]) == (path, query, target)


def test_an_asterisk() -> None:
    seen = environ("OPTIONS * HTTP/1.1\n")
    assert (seen["PATH_INFO"], seen["RAW_URI"]) == ("*", "*")


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        ("http://b/c?d", "b", "/c", "d"),
        ("http://b:81", "b:81", "/", ""),
        ("https://b?d", "b", "/", "d"),
        ("http://[::1]:81/c", "[::1]:81", "/c", ""),
    ],
)
def test_an_absolute_target_overrides_the_host(target: str, host: str, path: str, query: str) -> None:
    seen = environ(f"GET {target} HTTP/1.1\nHost: a\n")
    assert seen["HTTP_HOST"] == host
    assert (seen["PATH_INFO"], seen["QUERY_STRING"], seen["RAW_URI"]) == (path, query, target)
    assert seen["wsgi.url_scheme"] == "http"  # how the client reached us, whatever it calls that
    assert environ(f"GET {target} HTTP/1.0\n")["HTTP_HOST"] == host


def test_an_absolute_target_is_forgotten_with_its_request() -> None:
    client = Client()
    assert client.ask(b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n")["HTTP_HOST"] == "b"
    assert client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")["HTTP_HOST"] == "a"
    assert Client().ask(b"GET http://b/ HTTP/1.1\r\nHost: c\r\n\r\n")["HTTP_HOST"] == "b"


# Who serves whom


def test_ipv6() -> None:
    seen = environ("GET / HTTP/1.1\n", peer=("2001:db8::7", 50000), address=("::1", 8000))
    assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == ("2001:db8::7", "50000")
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("::1", "8000")


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("example.com", "example.com", "80"),
        ("example.com:81", "example.com", "81"),
        ("example.com:", "example.com", "80"),
        ("[::1]", "[::1]", "80"),
        ("[::1]:81", "[::1]", "81"),
        ("", "/run/app.sock", "80"),
    ],
)
def test_over_a_unix_socket_the_server_is_named_as_by_the_client(host: str, name: str, port: str) -> None:
    seen = environ(f"GET / HTTP/1.1\nHost: {host}\n", peer=("", 0), address=("/run/app.sock", None))
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == (name, port)
    assert seen["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in seen


def test_over_a_unix_socket_behind_tls() -> None:
    unix: dict[str, Any] = {"peer": ("", 0), "address": ("/run/app.sock", None)}
    seen = environ("GET / HTTP/1.1\nHost: example.com\nX-Forwarded-Proto: https\n", **unix)
    assert (seen["wsgi.url_scheme"], seen["SERVER_PORT"]) == ("https", "443")
    assert environ("GET / HTTP/1.0\n", **unix)["SERVER_NAME"] == "/run/app.sock"


# Under a prefix


@pytest.mark.parametrize(
    ("prefix", "target", "script_name", "path"),
    [
        ("/pre", "/pre/x", "/pre", "/x"),
        ("/pre", "/pre", "/pre", ""),
        ("/pre", "/pre/", "/pre", "/"),
        ("/pre/", "/pre/x", "/pre", "/x"),
        ("/pre", "/%70re/x", "/pre", "/x"),
        ("/pre", "/prefix/x", "/pre", "/prefix/x"),
        ("/pre", "/x", "/pre", "/x"),
        ("/", "/x", "", "/x"),
        ("", "/x", "", "/x"),
        ("/a/b", "/a/b/c", "/a/b", "/c"),
    ],
)
@pytest.mark.parametrize("way", ["setting", "variable", "header"])
def test_script_name(
    way: str, prefix: str, target: str, script_name: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    using = Settings(root_path=prefix if way == "setting" else "", forwarded_allow_ips=Networks("192.0.2.7"))
    if way == "variable":
        monkeypatch.setenv("SCRIPT_NAME", prefix)
    sent = f"SCRIPT_NAME: {prefix}\n" if way == "header" else ""
    seen = environ(f"GET {target} HTTP/1.1\n{sent}", using=using)
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == (script_name, path)
    assert seen["RAW_URI"] == target


def test_the_proxys_prefix_goes_before_ours() -> None:
    using = Settings(root_path="/ours", forwarded_allow_ips=Networks("*"))
    assert environ("GET /theirs/x HTTP/1.1\nSCRIPT_NAME: /theirs\n", using=using)["PATH_INFO"] == "/x"
    assert environ("GET /ours/x HTTP/1.1\n", using=using)["PATH_INFO"] == "/x"


# One environ belongs to one request


def test_what_an_application_does_to_its_environ_is_not_seen_by_the_next() -> None:
    client = Client()
    for cookie in (b"a", b"b", b"b", b"c"):
        seen = client.ask(b"GET /x HTTP/1.1\r\nHost: a\r\nCookie: %b\r\n\r\n" % cookie)
        assert seen["HTTP_COOKIE"] == cookie.decode()
        assert seen["PATH_INFO"] == "/x"
        assert "left.behind" not in seen
        seen.update({"left.behind": 1, "PATH_INFO": "/changed", "HTTP_COOKIE": "changed", "HTTP_HOST": "changed"})


# A later request of a connection gets exactly what a fresh connection would give it

NAMES = [
    "Accept",
    "Cookie",
    "Referer",
    "X-Forwarded-Proto",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "Forwarded",
    "X-Request-Id",
    "X_Request_Id",
    "X-Request_Id",
    "If-None-Match",
    "Script_Name",
    "Content-Type",
]
VALUES = ["", "1", "2", "https", "http", "/pre", "a=b; c=d", "1.1.1.1", "for=1.1.1.1", "for=2.2.2.2;host=b"]
LINES = [
    "GET / HTTP/1.1",
    "GET /pre/x?y HTTP/1.1",
    "HEAD /%C3%A9 HTTP/1.1",
    "GET http://other:81/pre HTTP/1.1",
]
fields = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=5)
changes = st.lists(
    st.tuples(st.sampled_from(LINES), st.lists(st.tuples(st.integers(0, 4), st.sampled_from(VALUES)), max_size=2)),
    min_size=1,
    max_size=5,
)
DASHES_AND_UNDERSCORES = [("X_Request_Id", "1"), ("X-Request-Id", "2")]


def request(line: str, lines: list[tuple[str, str]]) -> bytes:
    return "\r\n".join([line, "Host: a", *(f"{name}: {value}" for name, value in lines), "", ""]).encode()


def answer(client: Client, raw: bytes) -> dict[str, Any] | str:
    try:
        return client.ask(raw)
    except Exception as error:
        return repr(error)


@pytest.mark.parametrize("peer", [("192.0.2.7", 50000), ("", 0)], ids=["tcp", "unix"])
@pytest.mark.parametrize("trusted", ["*", "127.0.0.1"])
@pytest.mark.parametrize("forwarders", [("SCRIPT_NAME", "PATH_INFO"), ("*",)], ids=["default", "all"])
@pytest.mark.parametrize("header_map", ["drop", "dangerous"])
@given(first=fields, later=changes)
@example(first=DASHES_AND_UNDERSCORES, later=[(LINES[0], [(1, "1")])])
def test_a_block_that_resembles_the_former_gives_the_environ_of_a_fresh_one(
    first: list[tuple[str, str]],
    later: list[tuple[str, list[tuple[int, str]]]],
    peer: tuple[str, int],
    trusted: str,
    forwarders: tuple[str, ...],
    header_map: str,
) -> None:
    using = Settings(forwarded_allow_ips=Networks(trusted), forwarder_headers=forwarders, header_map=header_map)
    address = ADDRESS if peer[0] else ("/run/app.sock", None)
    client = Client(using, peer=peer, address=address)
    lines = [*first]
    for line, changed in [(LINES[0], []), *later]:
        for position, value in changed:
            if position < len(lines):
                lines[position] = lines[position][0], value
        raw = request(line, lines)
        fresh = answer(Client(using, peer=peer, address=address), raw)
        assert answer(client, raw) == fresh
        if isinstance(fresh, str):
            return  # refused: the connection ends


def test_a_changing_cookie_really_is_an_override() -> None:
    """The property above would hold for a server that parses everything anew: this path is taken."""
    client = Client()
    for cookie in (b"a", b"b", b"c"):
        raw = b"GET /x HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nCookie: %b\r\nX-Last: 1\r\n\r\n" % cookie
        assert client.ask(raw) == Client().ask(raw)
        assert client.wire._request.fields.overrides or cookie == b"a"
