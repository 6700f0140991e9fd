"""The contract as a table: what a client sends, and what it gets for it from every kind of worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from contract.client import CutOff, client
from contract.exceptions import CASES
from server import Server

HELLO = b"Hello, World!\n"


@dataclass(frozen=True)
class Case:
    """LF stands for CR LF in `sent`; `raw` is sent as it is. `ends` says that the client sends no more then.

    `stays` is whether the connection is good for another request, None if that is not to be known; `cut` says that
    the answer breaks off.
    """

    name: str
    sent: str = ""
    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    stays: bool | None = True
    raw: bytes = b""
    ends: bool = False
    cut: bool = False

    @property
    def bytes(self) -> bytes:
        return self.raw or self.sent.encode("latin-1").replace(b"\n", b"\r\n")

    @property
    def method(self) -> str:
        return self.bytes.lstrip().partition(b" ")[0].decode("latin-1")

    def of(self, kind: str) -> Case:
        """The case as it is for this kind of worker."""
        otherwise = CASES.get(kind, {}).get(self.name)
        return replace(self, **otherwise.changes) if otherwise else self

    def __str__(self) -> str:
        return self.name


def post(path: str, body: str, *lines: str) -> str:
    return "\n".join([f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *lines, "", body])


def chunked(path: str, *body: str) -> str:
    """`body` are the lines of a chunked body."""
    return "\n".join([f"POST {path} HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "", *body])


ANSWERED = [
    Case("a page", "GET / HTTP/1.1\nHost: a\n\n", body=HELLO, headers={"Content-Length": "14", "Connection": None}),
    Case("an unknown page", "GET /x HTTP/1.1\nHost: a\n\n", 404, b"no such page"),
    Case("the server says who it is", "GET / HTTP/1.1\nHost: a\n\n", headers={"Server": "monoceros"}),
    Case("a HEAD", "HEAD / HTTP/1.1\nHost: a\n\n", body=b"", headers={"Content-Length": "14"}),
    Case("a HEAD of a stream", "HEAD /stream HTTP/1.1\nHost: a\n\n", body=b"", headers={"Content-Length": None}),
    Case("a HEAD of a file", "HEAD /file HTTP/1.1\nHost: a\n\n", body=b""),
    Case("a HEAD of what never ends", "HEAD /endless HTTP/1.1\nHost: a\n\n", body=b""),
    Case("an OPTIONS of everything", "OPTIONS * HTTP/1.1\nHost: a\n\n", 404),
    Case("a method of somebody's own", "X-PURGE /method HTTP/1.1\nHost: a\n\n", body=b"X-PURGE"),
    Case("an absolute target", "GET http://b/method HTTP/1.1\nHost: a\n\n", body=b"GET"),
    Case("an absolute target without a path", "GET http://b HTTP/1.1\nHost: a\n\n", body=HELLO),
    Case("an empty line first", "\nGET / HTTP/1.1\nHost: a\n\n", body=HELLO),
    Case("a minor version of the future", "GET / HTTP/1.2\nHost: a\n\n", body=HELLO),
    Case("no content", "GET /no-content HTTP/1.1\nHost: a\n\n", 204, b"", {"Content-Length": None}),
    Case("not modified", "GET /not-modified HTTP/1.1\nHost: a\n\n", 304, b"", {"ETag": '"x"'}),
    Case(
        "a stream",
        "GET /stream HTTP/1.1\nHost: a\n\n",
        body=b"chunk 0\nchunk 1\nchunk 2\n",
        headers={"Transfer-Encoding": "chunked", "Content-Length": None},
    ),
    Case("an empty stream", "GET /stream?count=0 HTTP/1.1\nHost: a\n\n", body=b"", headers={"Content-Length": "0"}),
    Case("write()", "GET /write HTTP/1.1\nHost: a\n\n", body=b"written, returned"),
    Case("content longer than its length", "GET /long HTTP/1.1\nHost: a\n\n", body=b"hello"),
    Case(
        "the application's own headers",
        "GET /headers HTTP/1.1\nHost: a\n\n",
        299,
        b"x",
        {"x-lower": "1", "X-Latin": "caf\xe9", "Transfer-Encoding": None, "Connection": None},
    ),
    Case(
        "an application that wants to close",
        "GET /close HTTP/1.1\nHost: a\n\n",
        headers={"Connection": "close"},
        stays=False,
    ),
    # Bodies
    Case("a body", post("/echo", "hello"), body=b"hello"),
    Case("an empty body", post("/echo", ""), body=b""),
    Case("a body to GET", post("/echo", "hello").replace("POST", "GET"), body=b"hello"),
    Case("a body that is not read", post("/ignore", "hello"), body=b"not read"),
    Case("a body that is read in part", post("/part", "hello, world"), body=b"hello, wor"),
    Case("a body in chunks", chunked("/echo", "5", "hello", "7", ", world", "0", "", ""), body=b"hello, world"),
    Case("chunks with an extension", chunked("/echo", '5;a="b;c"', "hello", "0;d", "", ""), body=b"hello"),
    Case("chunks with a trailer", chunked("/echo", "5", "hello", "0", "X-Sum: 1", "", ""), body=b"hello"),
    Case("no chunks", chunked("/echo", "0", "", ""), body=b""),
    Case("chunks that are not read", chunked("/ignore", "5", "hello", "0", "", ""), body=b"not read"),
    # How long a connection lives
    Case(
        "HTTP/1.0",
        "GET / HTTP/1.0\n\n",
        body=HELLO,
        headers={"Connection": "close", "Transfer-Encoding": None},
        stays=False,
    ),
    Case(
        "HTTP/1.0 with keep-alive",
        "GET / HTTP/1.0\nConnection: Keep-Alive\n\n",
        body=HELLO,
        headers={"Connection": "keep-alive"},
    ),
    Case(
        "HTTP/1.0, a stream",
        "GET /stream HTTP/1.0\nConnection: keep-alive\n\n",
        body=b"chunk 0\nchunk 1\nchunk 2\n",
        headers={"Connection": "close", "Transfer-Encoding": None, "Content-Length": None},
        stays=False,
    ),
    Case(
        "close",
        "GET / HTTP/1.1\nHost: a\nConnection: close\n\n",
        body=HELLO,
        headers={"Connection": "close"},
        stays=False,
    ),
    Case("close among others", "GET / HTTP/1.1\nHost: a\nConnection: x, Close\n\n", body=HELLO, stays=False),
    Case("keep-alive", "GET / HTTP/1.1\nHost: a\nConnection: keep-alive\n\n", body=HELLO),
    Case("close wins", "GET / HTTP/1.1\nHost: a\nConnection: close, keep-alive\n\n", body=HELLO, stays=False),
    Case("half closed by the client", "GET / HTTP/1.1\nHost: a\n\n", body=HELLO, ends=True, stays=False),
    Case("half closed behind a body", post("/echo", "hello"), body=b"hello", ends=True, stays=False),
]

REFUSED = [
    Case("no request line", "hello\n\n", 400),
    Case("HTTP/0.9", "GET /\n\n", 400),
    Case("a method in lower case", "get / HTTP/1.1\nHost: a\n\n", 400),
    Case("a relative target", "GET x HTTP/1.1\nHost: a\n\n", 400),
    Case("GET *", "GET * HTTP/1.1\nHost: a\n\n", 400),
    Case("a target in Latin-1", "GET /\xe9 HTTP/1.1\nHost: a\n\n", 400),
    Case("an odd version", "GET / HTTP/1.1x\nHost: a\n\n", 400),
    Case("two empty lines first", "\n\nGET / HTTP/1.1\nHost: a\n\n", 400),
    Case("TLS", raw=bytes.fromhex("1603010200010001fc0303") + b"\r\n\r\n", status=400),
    Case("no Host", "GET / HTTP/1.1\n\n", 400),
    Case("two Hosts", "GET / HTTP/1.1\nHost: a\nHost: a\n\n", 400),
    Case("a Host that is none", "GET / HTTP/1.1\nHost: a/b\n\n", 400),
    Case("a header without a colon", "GET / HTTP/1.1\nHost: a\nfoo\n\n", 400),
    Case("a blank before the colon", "GET / HTTP/1.1\nHost: a\nX : 1\n\n", 400),
    Case("a folded header", "GET / HTTP/1.1\nHost: a\nX: 1\n 2\n\n", 400),
    Case("a NUL in a value", "GET / HTTP/1.1\nHost: a\nX: a\0b\n\n", 400),
    Case("bare LF", raw=b"GET / HTTP/1.1\nHost: a\n\n", status=400),
    Case("bare CR", raw=b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", status=400),
    Case("a length below 0", "POST / HTTP/1.1\nHost: a\nContent-Length: -1\n\n", 400),
    Case("a length with a sign", "POST / HTTP/1.1\nHost: a\nContent-Length: +1\n\nx", 400),
    Case("two lengths in one", "POST / HTTP/1.1\nHost: a\nContent-Length: 1, 1\n\nx", 400),
    Case("two lengths", "POST / HTTP/1.1\nHost: a\nContent-Length: 1\nContent-Length: 1\n\nx", 400),
    Case("a length and chunks", chunked("/echo", "0", "", "").replace("Host: a", "Host: a\nContent-Length: 5"), 400),
    Case("chunks in HTTP/1.0", chunked("/echo", "0", "", "").replace("/1.1", "/1.0"), 400),
    Case("chunked twice", chunked("/echo", "0", "", "").replace(": chunked", ": chunked, chunked"), 400),
    Case("chunked not last", chunked("/echo", "0", "", "").replace(": chunked", ": chunked, gzip"), 400),
    Case("a chunk size that is none", chunked("/echo", "0x5", "hello", "0", "", ""), 400),
    Case("a chunk longer than its size", chunked("/echo", "4", "hello", "0", "", ""), 400),
    Case("a chunk size too large", chunked("/echo", "f" * 16, "hello", "0", "", ""), 400),
    Case("a forbidden trailer", chunked("/echo", "0", "Host: b", "", ""), 400),
    Case("scheme headers at odds", "GET / HTTP/1.1\nHost: a\nX-Forwarded-Proto: https\nX-Forwarded-Ssl: off\n\n", 400),
    Case("a body cut off", post("/swallow", "hello")[:-1], 400, ends=True),
    Case("a chunk cut off", chunked("/swallow", "5", "hel"), 400, ends=True),
    Case("the last chunk cut off", chunked("/swallow", "5", "hello", "0", ""), 400, ends=True),
    Case("a head cut off", "GET / HTTP/1.1\nHost: a\n", 400, ends=True),
    Case("a length of 30 digits", f"POST / HTTP/1.1\nHost: a\nContent-Length: {'9' * 30}\n\n", 413),
    Case("a target too long", f"GET /{'a' * 5000} HTTP/1.1\nHost: a\n\n", 414),
    Case("a line without an end", "GET /" + "a" * 5000, 414),
    Case("an unknown expectation", post("/echo", "hello", "Expect: the-spanish-inquisition"), 417),
    Case("too many fields", "GET / HTTP/1.1\nHost: a\n" + "X: 1\n" * 100 + "\n", 431),
    Case("a field too long", f"GET / HTTP/1.1\nHost: a\nX: {'a' * 8190}\n\n", 431),
    Case("a head without an end", "GET / HTTP/1.1\nHost: a\n" + f"X: {'a' * 1000}\n" * 80, 431),
    Case("an unknown coding", chunked("/echo", "0", "", "").replace(": chunked", ": foo, chunked"), 501),
    Case("a coding we do not undo", chunked("/echo", "0", "", "").replace(": chunked", ": gzip, chunked"), 501),
    Case("CONNECT", "CONNECT a:80 HTTP/1.1\nHost: a:80\n\n", 501),
    Case("HTTP/2", "GET / HTTP/2.0\nHost: a\n\n", 505),
    Case("the preface of HTTP/2", "PRI * HTTP/2.0\n\nSM\n\n", 505),
]

FAILING = [
    Case("an application that raises", "GET /raise HTTP/1.1\nHost: a\n\n", 500),
    Case("an application that exits", "GET /exit HTTP/1.1\nHost: a\n\n", 500),
    Case("an application that is cancelled", "GET /cancelled HTTP/1.1\nHost: a\n\n", 500),
    Case("a coroutine that is cancelled", "GET /asyncio HTTP/1.1\nHost: a\n\n", 500),
    Case("an application that forges a header", "GET /inject HTTP/1.1\nHost: a\n\n", 500),
    Case("an application that gives text", "GET /text HTTP/1.1\nHost: a\n\n", 500),
    Case("an application that gives nothing", "GET /none HTTP/1.1\nHost: a\n\n", 500),
    Case("an application without start_response", "GET /silent HTTP/1.1\nHost: a\n\n", 500),
    Case("an application that promises a body", "GET /nothing HTTP/1.1\nHost: a\n\n", 500),
    Case("an application that raises for a body", post("/raise", "hello"), 500),
]


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_answered(server: Server, kind: str, case: Case) -> None:
    case = case.of(kind)
    with client(server) as connection:
        connection.send(case.bytes)
        if case.ends:
            connection.finish()
        if case.cut:
            with pytest.raises(CutOff):
                connection.answer(case.method)
            return
        answer = connection.answer(case.method)
        assert (answer.version, answer.status) == ("HTTP/1.1", case.status)
        if case.body is not None:
            assert answer.body == case.body
        for name, value in case.headers.items():
            assert answer.get(name) == value, name
        if case.stays:
            assert connection.stays()
        elif case.stays is not None:
            assert connection.closed()


@pytest.mark.parametrize("case", [*REFUSED, *FAILING], ids=str)
def test_refused(server: Server, case: Case) -> None:
    """Answered by the server itself: the status, nothing of what was sent, and the end of the connection."""
    before = server.workers()
    with client(server) as connection:
        connection.send(case.bytes)
        if case.ends:
            connection.finish()
        answer = connection.answer()
        assert answer.status == case.status
        assert answer.body == f"{case.status} {answer.reason}\n".encode()
        assert answer.get("Connection") == "close"
        assert answer.get("Content-Type") == "text/plain; charset=utf-8"
        assert connection.closed()
    assert server.workers() == before, "the worker lives"


def test_no_name_stands_for_two_cases() -> None:
    names = [case.name for case in (*ANSWERED, *REFUSED, *FAILING)]
    assert len(set(names)) == len(names)
    assert {name for cases in CASES.values() for name in cases} <= set(names)


@pytest.mark.smoke
def test_a_page_a_body_and_a_refusal(server: Server) -> None:
    with client(server) as connection:
        assert connection.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").body == HELLO
        assert connection.ask(post("/echo", "hello").replace("\n", "\r\n").encode()).body == b"hello"
        assert connection.ask(b"GET / HTTP/1.1\r\n\r\n").status == 400
        assert connection.closed()
