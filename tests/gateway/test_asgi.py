"""ASGI by the letter of its specification: the scope key by key, and every order of messages."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.play import ADDRESS, DEFAULTS, GET, HEAD, OLD, PEER, Answer, Sink, parse
from monoceros.gateway import asgi
from monoceros.gateway.asgi import BODY, DONE, START, TRAILERS, HTTPExchange, Message, Scope, State, head
from monoceros.gateway.trust import Policy
from monoceros.gateway.wsgi import CACHED_HEADS, CACHED_SIZE
from monoceros.settings.table import Settings
from monoceros.settings.values import Networks
from monoceros.wire.events import END, AppError, Data, EndOfMessage, Limits, PeerGone, Request
from monoceros.wire.h1 import H1Connection
from monoceros.wire.response import Response

EMPTY = Response(200, [(b"Content-Length", b"0")])
POST = b"POST /page HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
UNIX: dict[str, Any] = {"peer": ("", 0), "address": ("/run/app.sock", None)}
ALL = Networks("*")


class Client:
    """A connection that turns one request after the other into scopes, as a worker does."""

    def __init__(
        self,
        using: Settings | None = None,
        *,
        peer: tuple[str, int] = PEER,
        address: tuple[str, int | None] = ADDRESS,
        state: dict[str, Any] | None = None,
    ) -> None:
        using = using or Settings()
        self.peer = peer
        self.policy = Policy(using)
        self.wire = H1Connection(Limits(), DEFAULTS)
        self.connection = asgi.connection_part(asgi.server_part(using, state), address, peer)
        self.request: Request | None = None

    def ask(self, raw: bytes, subprotocols: list[str] | None = None) -> Scope:
        """The scope of one request without content; of a WebSocket if subprotocols are given."""
        self.wire.receive_data(raw)
        request = self.request = self.wire.next_event()  # type: ignore[assignment]
        assert isinstance(request, Request), request
        decision = request.fields.trust or self.policy.apply(request.fields, self.peer[0])
        if subprotocols is None:
            scope = asgi.scope(self.connection, request, decision)
        else:
            scope = asgi.websocket_scope(self.connection, request, decision, subprotocols)
        if not request.fields.has_body:
            assert self.wire.next_event() is END
            self.wire.respond(EMPTY, b"")
            assert self.wire.next_cycle() or request.line.version == "HTTP/1.0"
        return scope


def scope(head: str, using: Settings | None = None, **options: Any) -> Scope:
    """The scope of one request; LF stands for CR LF, and a Host is added where the head has none."""
    lines = head.rstrip("\n").split("\n")
    if "host:" not in head.lower() and "HTTP/1.0" not in head:
        lines.append("Host: a")
    return Client(using, **options).ask("\r\n".join([*lines, "", ""]).encode("latin-1"))


# The scope, key by key


def test_every_key_of_a_request() -> None:
    seen = scope(
        "POST /caf%C3%A9/x?q=%20&r HTTP/1.1\nHost: example.com:8000\nContent-Length: 3\nUser-Agent: Tester\n"
        "X-One:  1 \nx-one: 2\n"
    )
    assert seen == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/caf\xe9/x",
        "raw_path": b"/caf%C3%A9/x",
        "query_string": b"q=%20&r",
        "root_path": "",
        "headers": [
            (b"host", b"example.com:8000"),
            (b"content-length", b"3"),
            (b"user-agent", b"Tester"),
            (b"x-one", b"1"),
            (b"x-one", b"2"),
        ],
        "client": ("192.0.2.7", 50000),
        "server": ("127.0.0.1", 8000),
        "extensions": {"http.response.pathsend": {}, "http.response.trailers": {}, "http.response.early_hint": {}},
    }


def test_http_1_0() -> None:
    seen = scope("GET / HTTP/1.0")
    assert seen["http_version"] == "1.0"
    assert seen["headers"] == []


def test_pathsend_is_not_offered_where_the_kernel_is_not_to_send_files() -> None:
    assert set(scope("GET / HTTP/1.1", Settings(sendfile=False))["extensions"]) == {
        "http.response.trailers",
        "http.response.early_hint",
    }
    assert "http.response.pathsend" in scope("GET / HTTP/1.1")["extensions"], "it was not taken from all servers"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", b""),
        ("/a?", "/a", b""),
        ("/a?b?c", "/a", b"b?c"),
        ("/a%2Fb", "/a/b", b""),
        ("/a%20b", "/a b", b""),
        ("/%E2%82%AC", "\u20ac", b""),
        ("/%ff", "\ufffd", b""),
        ("/%C3", "\ufffd", b""),
        ("/%00", "\0", b""),
        ("/100%", "100%", b""),
        ("/%zz%4", "%zz%4", b""),
        ("/a+b", "/a+b", b""),
        ("/a%3Fb?c%3D%ff", "/a?b", b"c%3D%ff"),
        ("//a//b", "//a//b", b""),
        ("/a/../b/./c", "/a/../b/./c", b""),
        ("/%2570", "/%70", b""),
    ],
)
def test_the_path_is_decoded_once_and_the_query_is_not(target: str, path: str, query: bytes) -> None:
    seen = scope(f"GET {target} HTTP/1.1")
    assert seen["path"] == (path if path.startswith("/") else f"/{path}")
    assert seen["raw_path"] == target.partition("?")[0].encode()
    assert seen["query_string"] == query


def test_an_asterisk() -> None:
    seen = scope("OPTIONS * HTTP/1.1")
    assert (seen["path"], seen["raw_path"]) == ("*", b"*")


@pytest.mark.parametrize(
    ("target", "host", "path", "raw_path", "query"),
    [
        ("http://b/c%20?d", b"b", "/c ", b"/c%20", b"d"),
        ("http://b:81", b"b:81", "/", b"/", b""),
        ("https://b?d", b"b", "/", b"/", b"d"),
    ],
)
def test_an_absolute_target_overrides_the_host(
    target: str, host: bytes, path: str, raw_path: bytes, query: bytes
) -> None:
    seen = scope(f"GET {target} HTTP/1.1\nX: 1\nHost: a\nY: 2")
    assert seen["headers"] == [(b"x", b"1"), (b"host", host), (b"y", b"2")]
    assert (seen["path"], seen["raw_path"], seen["query_string"]) == (path, raw_path, query)
    assert seen["scheme"] == "http"  # how the client reached us, whatever it calls that
    assert scope(f"GET {target} HTTP/1.0\nX: 1")["headers"] == [(b"x", b"1"), (b"host", host)]


def test_an_absolute_target_is_forgotten_with_its_request() -> None:
    client = Client()
    for target, host in ((b"http://b/", b"b"), (b"/", b"a"), (b"http://b/", b"b"), (b"/", b"a")):
        assert client.ask(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)["headers"] == [(b"host", host)]


def test_names_with_underscores_are_dropped() -> None:
    using = Settings(forwarded_allow_ips=Networks("203.0.113.1"))
    seen = scope("GET / HTTP/1.1\nHost: a\nX_Forwarded_For: 1\nX-Y: 2\nSCRIPT_NAME: /x", using)
    assert seen["headers"] == [(b"host", b"a"), (b"x-y", b"2")]
    assert seen["root_path"] == ""


# Who serves whom


def test_over_a_unix_socket_nobody_has_an_address() -> None:
    seen = scope("GET / HTTP/1.1", **UNIX)
    assert seen["client"] is None
    assert seen["server"] == ("/run/app.sock", None)


def test_ipv6() -> None:
    seen = scope("GET / HTTP/1.1", peer=("2001:db8::7", 50000), address=("::1", 8000))
    assert (seen["client"], seen["server"]) == (("2001:db8::7", 50000), ("::1", 8000))


FORWARDED = (
    "GET / HTTP/1.1\nX: 1\nHost: a\nX-Forwarded-For: 198.51.100.1\nX-Forwarded-Proto: https\n"
    "X-Forwarded-Host: example.com\nX-Forwarded-Port: 8443\nX-Forwarded-Prefix: /pre"
)


def test_what_a_trusted_proxy_says() -> None:
    for options in ({"using": Settings(forwarded_allow_ips=Networks("192.0.2.7"))}, UNIX):
        seen = scope(FORWARDED, **options)
        assert seen["client"] == ("198.51.100.1", 0)
        assert seen["scheme"] == "https"
        assert seen["server"][1] == 8443
        assert seen["headers"][:2] == [(b"x", b"1"), (b"host", b"example.com")]
        assert seen["headers"][2] == (b"x-forwarded-for", b"198.51.100.1"), "applications may look themselves"
        assert seen["root_path"] == "/pre"
        assert seen["path"] == "/pre/"


def test_what_a_stranger_says() -> None:
    seen = scope(FORWARDED, Settings(forwarded_allow_ips=Networks("203.0.113.1")))
    assert (seen["client"], seen["scheme"], seen["root_path"], seen["path"]) == (PEER, "http", "", "/")
    assert seen["headers"][:2] == [(b"x", b"1"), (b"host", b"a")]


def test_the_proxys_host_goes_before_the_targets() -> None:
    seen = scope("GET http://b/ HTTP/1.1\nHost: a\nX-Forwarded-Host: c", Settings(forwarded_allow_ips=ALL))
    assert seen["headers"][0] == (b"host", b"c")


# Under a prefix


@pytest.mark.parametrize(
    ("prefix", "target", "root_path", "path", "raw_path"),
    [
        ("/pre", "/x%20", "/pre", "/pre/x ", b"/pre/x%20"),
        ("/pre", "/pre/x", "/pre", "/pre/x", b"/pre/x"),
        ("/pre", "/pre", "/pre", "/pre", b"/pre"),
        ("/pre", "/pre/", "/pre", "/pre/", b"/pre/"),
        ("/pre", "/prefix/x", "/pre", "/pre/prefix/x", b"/pre/prefix/x"),
        ("/pre", "/%70re/x", "/pre", "/pre/x", b"/%70re/x"),
        ("/pre", "/", "/pre", "/pre/", b"/pre/"),
        ("/pre/", "/x", "/pre", "/pre/x", b"/pre/x"),
        ("/a/b", "/a/b/c", "/a/b", "/a/b/c", b"/a/b/c"),
        ("/", "/x", "", "/x", b"/x"),
        ("", "/x", "", "/x", b"/x"),
    ],
)
@pytest.mark.parametrize("way", ["setting", "SCRIPT_NAME", "X-Forwarded-Prefix"])
def test_the_path_includes_the_root_path(
    way: str, prefix: str, target: str, root_path: str, path: str, raw_path: bytes
) -> None:
    using = Settings(root_path=prefix if way == "setting" else "", forwarded_allow_ips=ALL)
    seen = scope(f"GET {target} HTTP/1.1\n" + (f"{way}: {prefix}\n" if way != "setting" else ""), using)
    assert (seen["root_path"], seen["path"], seen["raw_path"]) == (root_path, path, raw_path)


@pytest.mark.parametrize("way", ["setting", "header"])
def test_a_prefix_in_other_letters(way: str) -> None:
    prefix = "/caf\xe9"
    using = Settings(root_path=prefix if way == "setting" else "", forwarded_allow_ips=ALL)
    sent = "X-Forwarded-Prefix: " + prefix.encode().decode("latin-1") if way == "header" else "X: 1"
    assert scope(f"GET /caf%C3%A9/x HTTP/1.1\n{sent}", using)["path"] == "/caf\xe9/x"
    seen = scope(f"GET /x HTTP/1.1\n{sent}", using)
    assert (seen["root_path"], seen["path"]) == (prefix, "/caf\xe9/x")


def test_the_proxys_prefix_goes_before_ours() -> None:
    using = Settings(root_path="/ours", forwarded_allow_ips=ALL)
    assert scope("GET /x HTTP/1.1\nX-Forwarded-Prefix: /theirs", using)["path"] == "/theirs/x"
    assert scope("GET /x HTTP/1.1", using)["path"] == "/ours/x"


# The state


def test_state_is_copied_for_each_request() -> None:
    shared: list[int] = []
    state = {"shared": shared}
    client = Client(state=state)
    first = client.ask(GET)
    first["state"]["own"] = 1
    first["state"]["shared"].append(1)
    assert client.ask(GET)["state"] == {"shared": [1]}
    assert state == {"shared": [1]}


def test_what_is_added_to_the_state_later_is_seen() -> None:
    """An application may go on filling it in a task that its startup has begun."""
    state: dict[str, Any] = {}
    client = Client(state=state)
    assert client.ask(GET)["state"] == {}
    state["late"] = 1
    assert client.ask(GET)["state"] == {"late": 1}


def test_without_a_lifespan_there_is_no_state() -> None:
    assert "state" not in Client().ask(GET)


# WebSockets


def test_every_key_of_a_websocket() -> None:
    raw = b"GET /chat?a=1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    client = Client(state={"x": 1})
    seen = client.ask(raw, ["one", "two"])
    assert seen == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/chat",
        "raw_path": b"/chat",
        "query_string": b"a=1",
        "root_path": "",
        "headers": [(b"host", b"a"), (b"upgrade", b"websocket"), (b"connection", b"Upgrade")],
        "client": PEER,
        "server": ADDRESS,
        "subprotocols": ["one", "two"],
        "extensions": {"websocket.http.response": {}},
        "state": {"x": 1},
    }
    seen["extensions"]["mine"] = {}
    assert client.ask(raw, [])["extensions"] == {"websocket.http.response": {}}
    assert client.ask(raw)["type"] == "http", "what is derived for one is not the other's"
    assert client.ask(raw)["method"] == "GET"


def test_a_websocket_behind_tls() -> None:
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n"
    assert Client(Settings(forwarded_allow_ips=ALL)).ask(raw, [])["scheme"] == "wss"


# One scope belongs to one request


def test_what_an_application_does_to_its_scope_is_not_seen_by_the_next() -> None:
    client = Client(state={})
    for cookie in (b"a", b"b", b"b", b"c"):
        raw = b"GET /x HTTP/1.1\r\nHost: a\r\nCookie: %b\r\n\r\n" % cookie
        seen = client.ask(raw)
        assert seen == Client(state={}).ask(raw)
        assert seen["headers"] == [(b"host", b"a"), (b"cookie", cookie)]
        seen["headers"].reverse()
        seen["headers"].append((b"left", b"behind"))
        seen["extensions"].clear()
        seen["asgi"]["left"] = "behind"
        seen["state"]["left"] = "behind"
        seen.update({"path": "/changed", "method": "CHANGED", "scheme": "changed", "left.behind": 1})
        del seen["query_string"]


def test_the_same_request_is_not_read_twice() -> None:
    client = Client()
    seen = [client.ask(GET) for _ in range(2)]
    assert client.request is not None
    template, line = client.request.fields.scope, client.request.line.scope
    client.ask(GET)
    assert client.request.fields.scope is template
    assert client.request.line.scope is line
    assert seen[0] == seen[1]
    assert seen[0]["headers"] is not seen[1]["headers"]


def test_a_changing_cookie_really_is_an_override() -> None:
    """The property below would hold for a server that reads everything anew: this path is taken."""
    client = Client()
    overrides = []
    for cookie in (b"a", b"b", b"c", b"a"):
        seen = client.ask(b"GET /x HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nCookie: %b\r\nX-Last: 1\r\n\r\n" % cookie)
        assert seen["headers"] == [(b"host", b"a"), (b"accept", b"*/*"), (b"cookie", cookie), (b"x-last", b"1")]
        assert client.request is not None
        overrides.append([field.value for field in client.request.fields.overrides])
    assert overrides == [[], [b"b"], [b"c"], [b"a"]]


# A later request of a connection gets exactly what a fresh connection would give it

NAMES = [
    "Accept",
    "Cookie",
    "X-Forwarded-Proto",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Prefix",
    "Forwarded",
    "X-Request-Id",
    "X_Request_Id",
    "Script_Name",
]
VALUES = ["", "1", "2", "https", "http", "/pre", "a=b; c=d", "1.1.1.1", "for=1.1.1.1", "for=2.2.2.2;host=b"]
LINES = ["GET / HTTP/1.1", "GET /pre/x?y HTTP/1.1", "HEAD /%C3%A9 HTTP/1.1", "GET http://other:81/pre HTTP/1.1"]
fields = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=5)
changes = st.lists(
    st.tuples(st.sampled_from(LINES), st.lists(st.tuples(st.integers(0, 4), st.sampled_from(VALUES)), max_size=2)),
    min_size=1,
    max_size=5,
)


def answer(client: Client, raw: bytes) -> Scope | str:
    try:
        return client.ask(raw)
    except Exception as error:
        return repr(error)


@pytest.mark.parametrize("options", [{}, UNIX], ids=["tcp", "unix"])
@pytest.mark.parametrize("trusted", ["*", "127.0.0.1"])
@pytest.mark.parametrize("header_map", ["drop", "dangerous"])
@given(first=fields, later=changes)
@example(first=[("X_Request_Id", "1"), ("X-Request-Id", "2")], later=[(LINES[0], [(1, "1")])])
@example(first=[("Cookie", "1"), ("Accept", "")], later=[(LINES[3], [(0, "2"), (1, "1")]), (LINES[0], [])])
def test_a_block_that_resembles_the_former_gives_the_scope_of_a_fresh_one(
    first: list[tuple[str, str]],
    later: list[tuple[str, list[tuple[int, str]]]],
    options: dict[str, Any],
    trusted: str,
    header_map: str,
) -> None:
    using = Settings(forwarded_allow_ips=Networks(trusted), header_map=header_map, root_path="/pre")
    client = Client(using, **options)
    lines = [*first]
    for line, changed in [(LINES[0], []), *later]:
        for position, value in changed:
            if position < len(lines):
                lines[position] = lines[position][0], value
        raw = "\r\n".join([line, "Host: a", *(f"{name}: {value}" for name, value in lines), "", ""]).encode()
        fresh = answer(Client(using, **options), raw)
        assert answer(client, raw) == fresh
        if isinstance(fresh, str):
            return  # refused: the connection ends


# The exchange


def start(status: Any = 200, headers: Any = (), **more: Any) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers, **more}


def body(content: Any = b"", more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


def path(file: object) -> Message:
    return {"type": "http.response.pathsend", "path": str(file)}


def trailers(headers: Any = (), more: bool = False) -> Message:
    return {"type": "http.response.trailers", "headers": headers, "more_trailers": more}


def hint(*links: Any) -> Message:
    return {"type": "http.response.early_hint", "links": links}


def length(size: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", b"%d" % size)]


class Talk(HTTPExchange):
    """An exchange over a sink, and what the client got of it."""

    def __init__(self, raw: bytes = GET, patience: int | None = None) -> None:
        self.sink = Sink(raw, patience)
        super().__init__(self.sink, self.sink.request)

    @property
    def wire(self) -> bytes:
        return self.sink.sent

    @property
    def answer(self) -> Answer:
        """The one response that was sent. Fails if it is not a whole one, or if there is more than it."""
        return parse(self.wire, self.sink.request.line.method)

    @property
    def whole(self) -> bool:
        """Whether the client knows that it has got everything."""
        return self.sink.wire.sending.name == "DONE"

    def fails(self, message: Message, words: str) -> None:
        """The message may not be sent; nothing of it is, and the place in the order is the same."""
        state, sent = self.state, self.wire
        with pytest.raises(AppError) as caught:
            self.take(message)
        assert str(caught.value) == words
        assert self.state is state
        assert self.wire == sent


def talk(*messages: Message, raw: bytes = GET, patience: int | None = None) -> Talk:
    """An exchange in which the application has sent these."""
    result = Talk(raw, patience)
    for message in messages:
        result.take(message)
    return result


# The order of messages

PLACES: dict[State, list[Message]] = {
    START: [],
    BODY: [start()],
    TRAILERS: [start(trailers=True), body()],
    DONE: [start(), body()],
}
IN_WORDS = {
    START: "before http.response.start",
    BODY: "before the end of the body",
    TRAILERS: "before http.response.trailers",
    DONE: "after the response was complete",
}
LEGAL = {
    (START, "http.response.start"): BODY,
    (START, "http.response.early_hint"): START,
    (BODY, "http.response.body"): DONE,
    (BODY, "http.response.pathsend"): DONE,
    (TRAILERS, "http.response.trailers"): DONE,
}
MESSAGES = [start(), body(), path("/dev/null/x"), trailers(), hint()]
UNKNOWN = ["http.response.debug", "http.disconnect", "websocket.accept", "lifespan.startup.complete", ""]


@pytest.mark.parametrize("message", [*MESSAGES, *({"type": kind} for kind in UNKNOWN)], ids=lambda m: m["type"])
@pytest.mark.parametrize("state", PLACES, ids=repr)
def test_order(state: State, message: Message, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    if "path" in message:
        message = path(tmp_path / "file")
    exchange = talk(*PLACES[state])
    assert exchange.state is state
    after = LEGAL.get((state, message["type"]))
    if after is None:
        exchange.fails(message, f"the application has sent {message['type']!r} {IN_WORDS[state]}")
        return
    exchange.take(message)
    assert exchange.state is after
    assert exchange.finished is (after is DONE)
    assert exchange.whole is (after is DONE)


def test_no_other_message_is_legal() -> None:
    assert {kind for _, kind in LEGAL} == {message["type"] for message in MESSAGES}


def test_a_part_of_the_body_does_not_end_it() -> None:
    exchange = talk(start(), body(b"x", more=True))
    assert exchange.state is BODY
    assert exchange.started
    assert not exchange.finished
    exchange.fails(start(), "the application has sent 'http.response.start' before the end of the body")


def test_a_start_that_was_refused_may_be_sent_better() -> None:
    exchange = talk()
    exchange.fails(start(99), "status 99 is not one of a final response")
    exchange.take(start(204))
    exchange.take(body())
    assert exchange.answer.status == 204


def test_unknown_keys_are_the_futures() -> None:
    exchange = talk({**start(), "reason": "x"}, {**body(b"x"), "zerocopy": True})
    assert exchange.answer.body == b"x"


# A whole body


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * 100_000], ids=len)
def test_a_body_known_at_once_gets_a_length(content: bytes) -> None:
    exchange = talk(start(), body(content))
    assert exchange.answer.body == content
    assert exchange.answer.headers["Content-Length"] == str(len(content))
    assert "Transfer-Encoding" not in exchange.answer.headers
    assert exchange.sent == len(content)
    assert len(exchange.sink.pieces) == 1, "head and content leave together"


def test_nothing_is_sent_before_the_body() -> None:
    exchange = talk(start(200, [(b"x", b"y")]))
    assert exchange.wire == b""
    assert not exchange.started


def test_all_keys_but_the_status_have_a_default() -> None:
    exchange = talk({"type": "http.response.start", "status": 404}, {"type": "http.response.body"})
    assert (exchange.answer.status, exchange.answer.reason, exchange.answer.body) == (404, "Not Found", b"")
    assert exchange.answer.headers["Content-Length"] == "0"


def test_a_length_of_the_applications_is_sent_once() -> None:
    exchange = talk(start(200, length(5)), body(b"hello"))
    assert exchange.wire.lower().count(b"content-length: 5\r\n") == 1
    assert exchange.answer.body == b"hello"


@pytest.mark.parametrize("extra", [[], [(b"connection", b"close")]], ids=["plain", "closing"])
@pytest.mark.parametrize(("content", "size"), [(b"hell", 4), (b"hello!", 6), (b"", 0)])
def test_a_body_of_another_length_than_promised(content: bytes, size: int, extra: list[tuple[bytes, bytes]]) -> None:
    """It is found before the head is out, so a 500 can still be sent."""
    exchange = talk(start(200, [*length(5), *extra]))
    exchange.fails(body(content), f"the content has {size} bytes, but its Content-Length is 5")
    assert exchange.wire == b""
    assert not exchange.started
    assert exchange.sink.wire.sending.name == "HEAD"


@pytest.mark.parametrize("field", [(b"connection", b"close"), (b"date", b"today"), (b"server", b"app")])
def test_a_head_that_is_out_of_the_ordinary(field: tuple[bytes, bytes]) -> None:
    exchange = talk(start(200, [field]), body(b"hello"))
    assert exchange.answer.body == b"hello"
    assert exchange.answer.headers["Content-Length"] == "5"
    assert exchange.sent == 5
    assert exchange.finished
    assert exchange.over
    assert exchange.wire.lower().count(b"%b: %b\r\n" % field) == 1


# A body in parts


def test_parts_are_sent_as_they_come() -> None:
    exchange = talk(start(), body(b"one", more=True))
    assert exchange.wire.endswith(b"\r\n\r\n3\r\none\r\n")
    exchange.take(body(b"", more=True))
    exchange.take(body(b"two", more=True))
    assert len(exchange.sink.pieces) == 3
    exchange.take(body(b"three"))
    assert exchange.answer.body == b"onetwothree"
    assert exchange.answer.headers["Transfer-Encoding"] == "chunked"
    assert exchange.sent == 11
    assert exchange.whole
    assert [type(each) for each in exchange.sink.events] == [Response, Data, Data, Data, Data, EndOfMessage]


def test_an_empty_first_part_sends_the_head() -> None:
    """Whoever waits for an event stream wants to know that it is open."""
    exchange = talk(start(200, [(b"content-type", b"text/event-stream")]), body(b"", more=True))
    assert exchange.started
    assert exchange.wire.startswith(b"HTTP/1.1 200 OK\r\n")
    assert exchange.wire.endswith(b"Transfer-Encoding: chunked\r\n\r\n")
    exchange.take(body(b"data"))
    assert exchange.answer.body == b"data"


def test_parts_of_a_promised_length() -> None:
    exchange = talk(start(200, length(6)), body(b"one", more=True), body(b"two", more=True), body())
    assert exchange.wire.endswith(b"\r\n\r\nonetwo")
    assert exchange.answer.body == b"onetwo"
    assert "Transfer-Encoding" not in exchange.answer.headers


def test_parts_that_are_too_much() -> None:
    exchange = talk(start(200, length(5)), body(b"hell", more=True))
    exchange.fails(body(b"o!", more=True), "content is 1 bytes longer than its Content-Length")
    assert not exchange.whole


def test_a_first_part_that_is_too_much_already() -> None:
    exchange = talk(start(200, length(5)))
    exchange.fails(body(b"hello!", more=True), "the content has 6 bytes, but its Content-Length is 5")
    assert exchange.sink.wire.sending.name == "HEAD", "a 500 can still be sent"
    assert not exchange.started


def test_parts_that_are_too_little() -> None:
    exchange = talk(start(200, length(5)), body(b"hel", more=True))
    exchange.fails(body(b"l"), "content is 1 bytes shorter than its Content-Length")
    assert not exchange.whole


def test_http_1_0_without_a_length_ends_with_the_connection() -> None:
    exchange = talk(start(), body(b"one", more=True), body(b"two"), raw=OLD)
    assert exchange.wire.endswith(b"\r\n\r\nonetwo")
    assert b"Connection: close\r\n" in exchange.wire
    assert b"chunked" not in exchange.wire
    assert not exchange.sink.wire.keep_alive


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("more", [False, True])
def test_what_is_like_bytes_is_content(wrap: Callable[[bytes], Any], more: bool) -> None:
    exchange = talk(start(), body(wrap(b"hello"), more))
    if more:
        exchange.take(body())
    assert exchange.answer.body == b"hello"
    assert exchange.sent == 5


@pytest.mark.parametrize(("given_", "kind"), [("text", "str"), (None, "NoneType"), (5, "int"), ([b"x"], "list")])
def test_content_is_bytes(given_: Any, kind: str) -> None:
    for more in (False, True):
        talk(start()).fails(body(given_, more), f"headers and content must be bytes, not {kind}: {given_!r}")


# No content


def test_head_is_told_what_get_would_be() -> None:
    exchange = talk(start(), body(b"hello"), raw=HEAD)
    assert exchange.answer.headers["Content-Length"] == "5"
    assert exchange.wire.endswith(b"\r\n\r\n")
    assert exchange.sent == 0


@pytest.mark.parametrize("content", [b"", b"hello", b"other"])
def test_head_with_a_length_of_the_applications(content: bytes) -> None:
    exchange = talk(start(200, length(5)), body(content), raw=HEAD)
    assert exchange.wire.lower().count(b"content-length") == 1
    assert exchange.answer.headers["content-length"] == "5"
    assert exchange.finished


def test_head_without_any_length() -> None:
    """The application may have left the content out, so its length is not known to be 0."""
    assert "Content-Length" not in talk(start(), body(), raw=HEAD).answer.headers


def test_head_in_parts() -> None:
    exchange = talk(start(), body(b"one", more=True), body(b"two"), raw=HEAD)
    assert exchange.wire.endswith(b"\r\n\r\n")
    assert exchange.whole
    talk(start(200, length(1)), body(b"too long", more=True), body(b""), raw=HEAD)


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("parts", [[body()], [body(b"hello")], [body(b"one", more=True), body(b"two")]])
def test_statuses_without_content(status: int, parts: list[Message]) -> None:
    exchange = talk(start(status), *parts)
    assert exchange.answer.status == status
    assert exchange.wire.endswith(b"\r\n\r\n")
    assert not {"Content-Length", "Transfer-Encoding"} & set(exchange.answer.headers)
    assert exchange.whole
    assert exchange.sink.wire.keep_alive


def test_304_says_how_long_the_content_would_be() -> None:
    assert talk(start(304, length(5)), body()).answer.headers["content-length"] == "5"
    assert "content-length" not in talk(start(204, length(5)), body()).answer.headers


# Trailers

CHECKSUM = [(b"x-checksum", b"1")]


def test_trailers_stand_behind_chunks() -> None:
    exchange = talk(start(200, [(b"trailer", b"x-checksum")], trailers=True), body(b"hello"))
    assert not exchange.finished, "trailers were announced"
    exchange.take(trailers(CHECKSUM))
    assert exchange.wire.endswith(b"5\r\nhello\r\n0\r\nx-checksum: 1\r\n\r\n")
    assert b"trailer: x-checksum\r\n" in exchange.wire
    assert exchange.finished
    assert exchange.over
    assert exchange.sent == 5


def test_trailers_in_several_messages() -> None:
    exchange = talk(start(trailers=True), body(b"x", more=True), body(b"y"), trailers(CHECKSUM, more=True))
    assert exchange.state is TRAILERS
    exchange.take(trailers([[bytearray(b"x-more"), b"2"]]))
    assert exchange.wire.endswith(b"0\r\nx-checksum: 1\r\nx-more: 2\r\n\r\n")


def test_announced_trailers_may_be_none() -> None:
    exchange = talk(start(trailers=True), body(b"x"), {"type": "http.response.trailers"})
    assert exchange.answer.body == b"x"
    assert exchange.whole


@pytest.mark.parametrize(
    ("raw", "headers", "end"),
    [(GET, length(5), b"\r\n\r\nhello"), (OLD, [], b"\r\n\r\nhello"), (HEAD, [], b"\r\n\r\n")],
    ids=["length", "HTTP/1.0", "HEAD"],
)
def test_trailers_have_no_place_without_chunks(raw: bytes, headers: Any, end: bytes) -> None:
    exchange = talk(start(200, headers, trailers=True), body(b"hello"), trailers(CHECKSUM), raw=raw)
    assert exchange.wire.endswith(end)
    assert exchange.whole


def test_trailers_that_were_not_announced() -> None:
    for announced in ({}, {"trailers": False}):
        exchange = talk(start(**announced), body(b"x"))
        exchange.fails(trailers(), "the application has sent 'http.response.trailers' after the response was complete")
        assert exchange.answer.headers["Content-Length"] == "1"


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([(b"x", b"1\r\nx: 2")], "invalid characters in the value of header x: b'1\\r\\nx: 2'"),
        ([(b"x y", b"1")], "invalid header name: b'x y'"),
        ([("x", b"1")], "headers and content must be bytes, not str: 'x'"),
        ([b"x"], "a header must be a pair of name and value, not b'x'"),
    ],
)
def test_trailers_that_cannot_be_sent(headers: Any, words: str) -> None:
    talk(start(trailers=True), body(b"x")).fails(trailers(headers), words)


# Early hints


def test_early_hints_go_before_the_answer() -> None:
    exchange = talk(hint(b"</a.css>; rel=preload", bytearray(b"</b.js>")))
    assert exchange.wire == b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>\r\n\r\n"
    exchange.sink.pieces.clear()
    for message in (hint(b"</c>"), start(), body(b"x")):
        exchange.take(message)
    assert exchange.wire.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </c>\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_early_hints_are_not_for_http_1_0() -> None:
    assert talk(hint(b"</a>"), raw=OLD).wire == b""


def test_early_hints_that_cannot_be_sent() -> None:
    talk().fails(hint("</a>"), "headers and content must be bytes, not str: '</a>'")
    talk().fails(hint(b"\n"), "invalid characters in the value of header link: b'\\n'")


# Files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 10)
    return tmp_path / "file"


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) == len(before)


def by_kernel(exchange: Talk) -> bool:
    return any(type(event).__name__ == "FileSpan" for event in exchange.sink.events)


def test_a_file_is_sent_by_the_kernel_with_its_length(file: Path) -> None:
    exchange = talk(start(), path(file))
    assert by_kernel(exchange)
    assert exchange.answer.body == file.read_bytes()
    assert exchange.answer.headers["Content-Length"] == "2560"
    assert exchange.sent == 2560
    assert exchange.finished
    assert exchange.over
    assert exchange.started


def test_of_a_file_no_more_is_sent_than_its_length_says(file: Path) -> None:
    exchange = talk(start(200, length(300)), path(file))
    assert exchange.answer.body == file.read_bytes()[:300]
    assert exchange.sent == 300


def test_a_file_that_is_shorter_than_its_length(file: Path) -> None:
    exchange = talk(start(200, length(3000)))
    exchange.fails(path(file), f"{file} has 2560 bytes, but the Content-Length is 3000")
    assert not exchange.started
    assert exchange.wire == b""


@pytest.mark.parametrize("headers", [[], length(2560)])
def test_head_of_a_file(file: Path, headers: Any) -> None:
    exchange = talk(start(200, headers), path(file), raw=HEAD)
    assert not by_kernel(exchange)
    assert exchange.answer.headers.get("Content-Length", exchange.answer.headers.get("content-length")) == "2560"
    assert exchange.whole
    assert exchange.sent == 0


def test_a_status_without_content_and_a_file(file: Path) -> None:
    exchange = talk(start(304), path(file))
    assert not by_kernel(exchange)
    assert exchange.wire.endswith(b"\r\n\r\n")
    assert exchange.whole


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    exchange = talk(start(), path(tmp_path / "empty"))
    assert exchange.answer.body == b""
    assert exchange.answer.headers["Content-Length"] == "0"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    exchange = talk(start())
    with pytest.raises(FileNotFoundError):
        exchange.take(path(tmp_path / "missing"))
    assert exchange.wire == b""
    assert not exchange.started
    exchange.take(body(b"sorry"))
    assert exchange.answer.body == b"sorry", "the application may have something else"


def test_what_is_not_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for thing in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        talk(start()).fails(path(thing), f"{thing} is not a regular file")


def test_a_file_behind_a_part_of_the_body(file: Path) -> None:
    exchange = talk(start(), body(b"x", more=True))
    exchange.fails(path(file), "the application has sent 'http.response.pathsend' after http.response.body")


def test_a_file_for_a_client_that_is_gone(file: Path) -> None:
    exchange = talk(start(), patience=0)
    with pytest.raises(PeerGone):
        exchange.take(path(file))


# Headers


class Tagged(bytes):
    """Bytes all the same."""


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-a", b"1"), (b"x-b", b"2")],
        ((b"x-a", b"1"), (b"x-b", b"2")),
        [[b"x-a", b"1"], [b"x-b", b"2"]],
        [(bytearray(b"x-a"), b"1"), (b"x-b", memoryview(b"2"))],
        [(Tagged(b"x-a"), Tagged(b"1")), iter((b"x-b", b"2"))],
        iter([(b"x-a", b"1"), (b"x-b", b"2")]),
        {b"x-a": b"1", b"x-b": b"2"}.items(),
    ],
    ids=["list", "tuple", "lists", "like bytes", "subclasses", "iterator", "items"],
)
def test_headers_come_in_any_iterable(headers: Any) -> None:
    exchange = talk(start(200, headers), body())
    assert exchange.wire.startswith(b"HTTP/1.1 200 OK\r\nx-a: 1\r\nx-b: 2\r\n")


def test_headers_from_a_generator() -> None:
    exchange = talk(start(200, ((b"x-%d" % i, b"%d" % i) for i in range(2))), body())
    assert exchange.wire.startswith(b"HTTP/1.1 200 OK\r\nx-0: 0\r\nx-1: 1\r\n")


def test_names_keep_their_case_and_order() -> None:
    wire = talk(start(200, [(b"X-Z", b"1"), (b"x-a", b""), (b"X-Z", b"2")]), body()).wire
    assert wire.startswith(b"HTTP/1.1 200 OK\r\nX-Z: 1\r\nx-a: \r\nX-Z: 2\r\n")


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([("x", b"1")], "headers and content must be bytes, not str: 'x'"),
        ([(b"x", "1")], "headers and content must be bytes, not str: '1'"),
        ([(b"x", 1)], "headers and content must be bytes, not int: 1"),
        ([(b"x", None)], "headers and content must be bytes, not NoneType: None"),
        ([(b"x",)], "a header must be a pair of name and value, not (b'x',)"),
        ([(b"x", b"1", b"2")], "a header must be a pair of name and value, not (b'x', b'1', b'2')"),
        ([5], "a header must be a pair of name and value, not 5"),
        ([(b"x", b"1\r\ny: 2")], "invalid characters in the value of header x: b'1\\r\\ny: 2'"),
        ([(b"x", b"\0")], "invalid characters in the value of header x: b'\\x00'"),
        ([(b"x: 1\r\ny", b"2")], "invalid header name: b'x: 1\\r\\ny'"),
        ([(b"", b"1")], "invalid header name: b''"),
        ([(b"content-length", b"-1")], "invalid Content-Length: b'-1'"),
        ([*length(1), *length(2)], "two different Content-Length fields: 1 and 2"),
    ],
)
def test_headers_that_cannot_be_sent(headers: Any, words: str) -> None:
    exchange = talk()
    exchange.fails(start(200, headers), words)
    assert exchange.response is None


def test_a_long_header_is_not_repeated_in_full() -> None:
    for headers in ([("x" * 1000, b"")], [("x" * 1000,)]):
        with pytest.raises(AppError) as caught:
            talk(start(200, headers))
        assert len(str(caught.value)) <= 200


@pytest.mark.parametrize("name", [b"Transfer-Encoding", b"connection", b"keep-alive", b"upgrade"])
def test_what_is_about_the_connection_is_ours_to_say(name: bytes) -> None:
    wire = talk(start(200, [(name, b"chunked")]), body(b"hello")).wire
    assert name.lower() + b":" not in wire.lower()


@pytest.mark.parametrize("status", ["200", "200 OK", 200.0, None, b"200"], ids=repr)
def test_a_status_is_a_number(status: Any) -> None:
    talk().fails(start(status), f"the status must be an int, not {type(status).__name__}")


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 1000, -200])
def test_a_status_is_a_final_one(status: int) -> None:
    talk().fails(start(status), f"status {status} is not one of a final response")


def test_a_status_by_its_name() -> None:
    exchange = talk(start(HTTPStatus.IM_A_TEAPOT), body())
    assert exchange.wire.startswith(b"HTTP/1.1 418 I'm a Teapot\r\n")


def test_a_status_nobody_knows() -> None:
    assert talk(start(799), body()).wire.startswith(b"HTTP/1.1 799 \r\n")


# The cache of heads


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    asgi._heads.clear()
    yield
    asgi._heads.clear()


def test_the_same_head_is_built_once() -> None:
    def built(status: int, headers: Any) -> Response | None:
        return talk(start(status, headers), body(b"x", more=True)).response

    assert built(200, [(b"x", b"1")]) is built(200, [(b"x", b"1")])
    assert built(200, [[b"x", bytearray(b"1")]]) is not None
    assert built(200, [(b"x", b"1")]) is not built(200, [(b"x", b"2")])
    assert built(200, [(b"x", b"1")]) is not built(201, [(b"x", b"1")])


@pytest.mark.parametrize("name", [b"set-cookie", b"Set-Cookie", b"SET-COOKIE", bytearray(b"set-cookie")], ids=repr)
def test_what_is_one_users_is_not_kept(name: bytes) -> None:
    assert b"session=secret" in talk(start(200, [(b"x", b"1"), (name, b"session=secret")]), body()).wire
    assert not asgi._heads


def test_the_cache_of_heads_is_bounded() -> None:
    for number in range(3 * CACHED_HEADS):
        head(200, [(b"x-number", b"%d" % number)])
    assert 0 < len(asgi._heads) <= CACHED_HEADS


def test_a_large_head_is_not_kept() -> None:
    head(200, [(b"x-large", b"x" * CACHED_SIZE)])
    assert not asgi._heads


def test_what_was_refused_is_not_kept() -> None:
    for _ in range(2):
        with pytest.raises(AppError):
            head(200, [(b"x-bad", b"\n")])
    assert not asgi._heads


def test_what_was_changed_later_is_not_in_the_cache() -> None:
    value = bytearray(b"1")
    assert b"x: 1\r\n" in talk(start(200, [(b"x", value)]), body()).wire
    value[:] = b"2"
    assert b"x: 2\r\n" in talk(start(200, [(b"x", value)]), body()).wire
    assert b"x: 1\r\n" in talk(start(200, [(b"x", b"1")]), body()).wire


def test_answers_of_different_lengths_do_not_mix() -> None:
    for content in (b"a", b"bb", b"a", b"", b"bb", b"ccc"):
        exchange = talk(start(), body(content))
        assert exchange.answer.body == content
        assert exchange.answer.headers["Content-Length"] == str(len(content))


# What is received

NOTHING_MORE = {"type": "http.request", "body": b"", "more_body": False}
DISCONNECT = {"type": "http.disconnect"}


def part(content: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": content, "more_body": more}


def test_a_request_without_content_is_one_empty_message() -> None:
    exchange = talk()
    assert exchange.complete
    assert exchange.message() == NOTHING_MORE
    assert exchange.message() is None
    assert exchange.message() is None


def test_content_that_was_there_at_once_is_one_message() -> None:
    exchange = talk(raw=POST)
    assert not exchange.complete
    exchange.received(b"he")
    exchange.received(b"llo")
    exchange.complete = True
    assert exchange.queued == 5
    assert exchange.message() == part(b"hello", more=False)
    assert exchange.queued == 0
    assert exchange.message() is None


def test_content_is_received_as_it_comes() -> None:
    exchange = talk(raw=POST)
    assert exchange.message() is None
    exchange.received(b"he")
    assert exchange.queued == 2
    assert exchange.message() == part(b"he", more=True)
    assert exchange.message() is None
    exchange.received(b"l")
    exchange.received(b"lo")
    assert exchange.queued == 3
    assert exchange.message() == part(b"llo", more=True)
    exchange.complete = True
    assert exchange.message() == NOTHING_MORE
    assert exchange.message() is None


def test_after_the_answer_the_client_counts_as_gone() -> None:
    exchange = talk(start(), body(b"x"))
    for _ in range(3):
        assert exchange.message() == DISCONNECT
    exchange = talk(start(), body(b"x"), raw=POST)
    exchange.received(b"hello")
    exchange.complete = True
    assert exchange.message() == DISCONNECT, "also where content was never asked for"


@pytest.mark.parametrize(
    "messages",
    [
        [start(), body(b"x", more=True), body()],
        [start(204), body()],
        [start(200, [(b"connection", b"close")]), body(b"x")],
        [start(trailers=True), body(), trailers()],
    ],
)
def test_after_any_answer(messages: list[Message]) -> None:
    exchange = talk()
    exchange.message()
    for message in messages:
        assert exchange.message() is None
        exchange.take(message)
    assert exchange.message() == DISCONNECT


def test_a_client_that_is_gone() -> None:
    exchange = talk(raw=POST)
    exchange.received(b"he")
    exchange.gone()
    assert exchange.is_gone
    for _ in range(2):
        assert exchange.message() == DISCONNECT


def test_a_client_that_only_stops_sending_has_asked_all_the_same() -> None:
    """What it sent is received first; its answer may still find its way."""
    for raw, content in ((POST, b"hello"), (GET, b"")):
        exchange = talk(raw=raw)
        if content:
            exchange.received(content)
        exchange.complete = exchange.over = True
        assert exchange.message() == part(content, more=False)
        assert exchange.message() == DISCONNECT
        exchange.take(start())
        exchange.take(body(b"x"))
        assert exchange.answer.body == b"x"


@pytest.mark.parametrize("state", [START, BODY, TRAILERS], ids=repr)
def test_nothing_may_be_sent_to_a_client_that_is_gone(state: State) -> None:
    exchange = talk(*PLACES[state])
    sent = exchange.wire
    exchange.gone()
    for message in MESSAGES:
        with pytest.raises(OSError, match="the client has disconnected") as caught:
            exchange.take(message)
        assert type(caught.value) is PeerGone
    assert exchange.state is state
    assert exchange.wire == sent


def test_a_client_that_went_when_all_was_said_does_not_make_more_legal() -> None:
    exchange = talk(start(), body())
    exchange.gone()
    exchange.fails(body(), "the application has sent 'http.response.body' after the response was complete")


@pytest.mark.parametrize("more", [False, True])
def test_a_client_that_goes_while_it_is_answered(more: bool) -> None:
    exchange = talk(start(), patience=0)
    with pytest.raises(PeerGone, match="cannot send"):
        exchange.take(body(b"x", more))


# ASGI 2


def test_an_application_of_asgi_2_is_called_twice() -> None:
    class Old:
        def __init__(self, scope: Scope) -> None:
            self.scope = scope

        async def __call__(self, receive: asgi.Receive, send: asgi.Send) -> None:
            await send({"scope": self.scope, **await receive()})

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "x"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(asgi.single(Old)({"type": "http"}, receive, send))  # type: ignore[arg-type]
    assert sent == [{"scope": {"type": "http"}, "type": "x"}]
