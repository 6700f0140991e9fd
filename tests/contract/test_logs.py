"""What operators read: the error log and the access log, in Gunicorn's formats."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from contract.client import CutOff, client
from contract.exceptions import FAILURES, SIZES, WORDS
from server import Server, wait_for

STAMP = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[(\d+)\]"
MOMENT = r"\[\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"

ATOMS = (
    "h=%(h)s l=%(l)s u=%(u)s t=%(t)s r=%(r)s s=%(s)s m=%(m)s U=%(U)s q=%(q)s H=%(H)s b=%(b)s B=%(B)s f=%(f)s "
    "a=%(a)s T=%(T)s M=%(M)s D=%(D)s L=%(L)s p=%(p)s i=%({x-request-id}i)s o=%({Content-Type}o)s "
    "e=%({SERVER_NAME}e)s none=%({none}i)s%({none}o)s%({none}e)s%(Z)s percent=%%"
)


@pytest.fixture(scope="package")
def atoms(start: Callable[..., Server]) -> Server:
    return start("pages:app", "--access-logfile", "access.log", "--access-logformat", ATOMS)


def logged(server: Server, pattern: str) -> re.Match[str]:
    """The line of the access log that matches, once it is there."""
    log = server.directory / "access.log"

    def found() -> re.Match[str] | None:
        return next(filter(None, map(re.compile(pattern).fullmatch, log.read_text().splitlines())), None)

    match = wait_for(found, what=f"{pattern} in\n{log.read_text()}")
    assert match
    return match


def ask(server: Server, raw: str) -> int:
    with client(server) as connection:
        connection.send(raw.replace("\n", "\r\n").encode("latin-1"))
        return connection.answer(raw.partition(" ")[0]).status


def give(server: Server, raw: str) -> None:
    """Ask, and be content with whatever comes."""
    with suppress(CutOff):
        ask(server, raw)


# The access log


@pytest.mark.smoke
def test_a_line_as_gunicorn_writes_it(server: Server) -> None:
    assert ask(server, "GET /?line=1 HTTP/1.1\nHost: a\nReferer: http://b/\nUser-Agent: tester/1\n\n") == 200
    logged(server, rf'127\.0\.0\.1 - - {MOMENT} "GET /\?line=1 HTTP/1\.1" 200 14 "http://b/" "tester/1"')
    assert ask(server, "GET /x?line=2 HTTP/1.0\n\n") == 404
    logged(server, rf'127\.0\.0\.1 - - {MOMENT} "GET /x\?line=2 HTTP/1\.0" 404 12 "-" "-"')


RECORDS = {
    "GET /stream?log=1 HTTP/1.1": (200, 24),
    "HEAD /?log=2 HTTP/1.1": (200, 0),
    "GET /no-content?log=3 HTTP/1.1": (204, 0),
    "GET /raise?log=4 HTTP/1.1": (500, 26),
    "GET /long?log=5 HTTP/1.1": (200, 5),
    "GET /large?mib=1&log=6 HTTP/1.1": (200, 1 << 20),
    "GET /file?length=100&log=7 HTTP/1.1": (200, 100),
    "GET /write?log=8 HTTP/1.1": (200, 17),
}


def test_status_and_size(server: Server, kind: str) -> None:
    for request_line in RECORDS:
        give(server, f"{request_line}\nHost: a\n\n")
    for request_line, (status, size) in RECORDS.items():
        otherwise = SIZES.get(kind, {}).get(request_line)
        size = otherwise.changes["size"] if otherwise else size
        logged(server, rf'127\.0\.0\.1 - - {MOMENT} "{re.escape(request_line)}" {status} {size} "-" "-"')


def test_every_atom(atoms: Server, kind: str) -> None:
    named = "-" if kind == "asgi" else r"127\.0\.0\.1"  # there is no environ in ASGI
    ask(
        atoms,
        "GET /m%65thod?q=1 HTTP/1.1\nHost: a\nAuthorization: Basic YW5uOnNlY3JldA==\nX-Request-Id: 7\n"
        "Referer: there\nUser-Agent: me\n\n",
    )
    match = logged(
        atoms,
        rf"h=127\.0\.0\.1 l=- u=ann t={MOMENT} r=GET /m%65thod\?q=1 HTTP/1\.1 s=200 m=GET U=/method q=q=1 H=HTTP/1\.1 "
        rf"b=3 B=3 f=there a=me T=0 M=(\d+) D=(\d+) L=0\.(\d{{6}}) p=<(\d+)> i=7 o=text/plain e={named} none=---- "
        r"percent=%",
    )
    milliseconds, microseconds, decimal, pid = map(int, match.groups())
    assert milliseconds == microseconds // 1000
    assert microseconds == decimal
    assert [pid] == atoms.workers()


def test_no_request_can_forge_a_line(server: Server) -> None:
    log = server.directory / "access.log"
    ask(server, 'GET /forge"%20200 HTTP/1.1\nHost: a\nUser-Agent: a" 200 1 "x\\\nReferer: \x80\x9b2J\xe9\t"\n\n')
    match = logged(server, rf'127\.0\.0\.1 - - {MOMENT} "GET /forge.*')
    # Every quote that is not ours is escaped, and so is what a terminal would obey.
    quoted = r'"((?:[^"\\]|\\.)*)"'
    fields = re.fullmatch(rf".*\] {quoted} 404 12 {quoted} {quoted}", match[0])
    assert fields, match[0]
    assert fields.groups() == (
        r"GET /forge\"%20200 HTTP/1.1",
        r"\x80\x9b2J\xe9\x09\"".replace(r"\xe9", "\xe9"),
        r"a\" 200 1 \"x\\",
    )
    assert "\x9b" not in match[0]
    before = len(log.read_text().splitlines())
    for raw in (
        "GET /a\rb HTTP/1.1\nHost: a\n\n",
        "GET /\x0bx HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\nHost: a\nX: \rb\n\n",
    ):
        assert ask(server, raw) == 400
    assert ask(server, "GET /forge-after HTTP/1.1\nHost: a\n\n") == 404
    logged(server, rf'127\.0\.0\.1 - - {MOMENT} "GET /forge-after HTTP/1\.1" 404 12 "-" "-"')
    assert len(log.read_text().splitlines()) == before + 1  # what has no request line has no access line


# The error log


@pytest.mark.smoke
def test_an_application_that_raises(server: Server, kind: str) -> None:
    before, since = server.workers(), len(server.stderr)
    assert ask(server, "POST /raise?x=%0a HTTP/1.1\nHost: a\nContent-Length: 0\n\n") == 500
    told = WORDS[kind].failure("POST", "/raise?x=%0a")
    match = server.expect(rf"^{STAMP} {told}.*\nTraceback .*", since=since)
    assert [int(match[1])] == before
    server.expect(r'^  File ".*pages\.py", line \d+, in on_raise$', since=since)
    server.expect(r"^ValueError: the application is broken$", since=since)
    assert server.workers() == before
    with client(server) as connection:
        assert int(connection.ask(b"GET /pid HTTP/1.1\r\nHost: a\r\n\r\n").body) == before[0]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/raise-late", "ValueError: broken in the middle"),
        ("/exit", "SystemExit: 3"),
        ("/cancelled", "Cancelled: timed out"),
        ("/asyncio", "CancelledError"),
        ("/none", "TypeError"),
        ("/text", "content must be bytes, not str"),
        ("/inject", "invalid characters in the value of header X-Value"),
        ("/silent", "without calling start_response"),
        ("/nothing", "content is 10 bytes shorter than its Content-Length"),
    ],
)
def test_what_went_wrong_in_an_application_is_told(server: Server, kind: str, path: str, words: str) -> None:
    otherwise = FAILURES.get(kind, {}).get(path)
    words = otherwise.changes["words"] if otherwise else words
    since, before = len(server.stderr), server.workers()
    ask_for = f"GET {path} HTTP/1.1\nHost: a\n\n".replace("\n", "\r\n").encode()
    with client(server) as connection:
        connection.send(ask_for)
        connection.rest()
    server.expect(rf"^{STAMP} {WORDS[kind].failure('GET', path)}", since=since)
    server.expect(re.escape(words), since=since)
    assert server.workers() == before


def test_a_refused_request_is_one_warning(server: Server) -> None:
    since = len(server.stderr)
    assert ask(server, "GET / HTTP/1.1\nHost: a\nX-Secret : hunter2\n\n") == 400
    server.expect(rf"^{STAMP} \[WARNING\] Invalid request from ip=127\.0\.0\.1: .*$", since=since)
    assert "hunter2" not in server.stderr[since:]
    assert server.stderr[since:].count("\n") == 1


def test_what_the_application_writes_to_wsgi_errors(server: Server) -> None:
    since = len(server.stderr)
    assert ask(server, "GET /errors HTTP/1.1\nHost: a\n\n") == 200
    server.expect("^a line from the application$", since=since)


def test_logs_in_files(start: Callable[..., Server], kind: str, tmp_path: Path) -> None:
    server = start("pages:app", "--error-logfile", str(tmp_path / "error.log"), "--access-logfile", "-")
    assert ask(server, "GET /raise HTTP/1.1\nHost: a\n\n") == 500
    server.expect(rf'127\.0\.0\.1 - - {MOMENT} "GET /raise HTTP/1\.1" 500 26 "-" "-"', stream="stdout")
    text = (tmp_path / "error.log").read_text()
    assert re.search(WORDS[kind].failure("GET", "/raise") + r".*\nTraceback", text)
    assert server.stderr == ""


# The environ, through the real thing


def test_the_environ_names_both_ends(server: Server) -> None:
    with client(server) as connection:
        answer = connection.ask(b"GET /environ?a=b HTTP/1.1\r\nHost: example.com\r\nX_Drop: 1\r\n\r\n")
        host, port = connection.sock.getsockname()
    for key, value in {
        "REMOTE_ADDR": host,
        "REMOTE_PORT": str(port),
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server.port),
        "HTTP_HOST": "example.com",
        "RAW_URI": "/environ?a=b",
        "wsgi.url_scheme": "http",
    }.items():
        assert f'"{key}": "{value}"' in answer.text
    assert "X_DROP" not in answer.text


def test_over_a_unix_socket(start: Callable[..., Server], kind: str) -> None:
    server = start("pages:app", "--access-logfile", "access.log", bind="unix:app.sock")
    with client(server) as connection:
        answer = connection.ask(
            b"GET /environ HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-Proto: https\r\nCookie: a\r\nCookie: b\r\n\r\n"
        )
        assert connection.stays()
    environ = json.loads(answer.body)
    assert environ["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in environ
    # ASGI has a way to say what it is; CGI needs a name and a port.
    expected = (server.bind.partition(":")[2], "None") if kind == "asgi" and server.bind else ("example.com", "443")
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == expected
    assert environ["wsgi.url_scheme"] == "https", "who can open the socket is trusted"
    assert environ["HTTP_COOKIE"] == "a; b"
    logged(server, rf' - - {MOMENT} "GET /environ HTTP/1\.1" 200 \d+ "-" "-"')


def test_the_environ_tells_threads(server: Server, kind: str) -> None:
    with client(server) as connection:
        answer = connection.ask(b"GET /environ HTTP/1.1\r\nHost: a\r\n\r\n")
    environ = json.loads(answer.body)
    threads = {"sync": (False, False), "gthread": (True, False), "gevent": (True, False)}
    assert (environ.get("wsgi.multithread"), environ.get("wsgi.multiprocess")) == threads.get(
        kind, (None, None)
    )  # not a question in ASGI


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_validator_has_no_complaint(valid: Server, method: str, version: str) -> None:
    since = len(valid.stderr)
    body = os.urandom(10).hex() if method == "POST" else ""
    with client(valid) as connection:
        connection.send(f"{method} / HTTP/{version}\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = connection.answer(method)
    assert answer.status == 200
    assert answer.text == ("" if method == "HEAD" else f"{method} {body}")
    assert valid.stderr[since:] == ""


@pytest.fixture(scope="package")
def valid(start: Callable[..., Server]) -> Server:
    server = start("valid:app")
    server.expect("Booting worker")
    return server
