"""Lines of the access log: what each atom says, that nobody can forge one, and how they are written."""

from __future__ import annotations

import io
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoceros.ops import atoms, log
from monoceros.ops.access import AccessLog
from monoceros.ops.atoms import Facts
from monoceros.ops.uvicorn import AccessLine
from monoceros.settings.table import Settings
from monoceros.wire.events import Limits
from monoceros.wire.fields import FieldBlock

DEFAULTS = Settings()

FACTS = Facts(
    peer="192.0.2.7",
    method="GET",
    target="/caf%C3%A9?a=1",
    path="/café",
    query="a=1",
    protocol="HTTP/1.1",
    fields=[
        (b"host", b"example.com"),
        (b"user-agent", b"curl/8"),
        (b"referer", b"http://example.com/"),
        (b"x-twice", b"one"),
        (b"x-twice", b"two"),
        (b"x-empty", b""),
    ],
    status=200,
    response_fields=[("Content-Type", "text/plain"), (b"X-Bytes", b"caf\xe9"), ("X-Twice", "1"), ("x-twice", "2")],
    sent=1234,
    seconds=1.2345678,
    environ={"REMOTE_USER": "anna", "wsgi.url_scheme": "https", "MixedCase": 7, "HTTP_HOST": "example.com"},
)
BARE = FACTS._replace(fields=(), response_fields=(), environ=None, peer="", query="")


def line(format: str, facts: Facts = FACTS, **changes: Any) -> str:
    return atoms.compile(format)(facts._replace(**changes))


# Atoms


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("%(h)s", "192.0.2.7"),
        ("%(l)s", "-"),
        ("%(u)s", "-"),
        ("%(r)s", "GET /caf%C3%A9?a=1 HTTP/1.1"),
        ("%(s)s", "200"),
        ("%(m)s", "GET"),
        ("%(U)s", "/café"),
        ("%(q)s", "a=1"),
        ("%(H)s", "HTTP/1.1"),
        ("%(b)s %(B)s", "1234 1234"),
        ("%(f)s", "http://example.com/"),
        ("%(a)s", "curl/8"),
        ("%(T)s", "1"),
        ("%(M)s", "1234"),
        ("%(D)s", "1234568"),
        ("%(L)s", "1.234568"),
        ("%({host}i)s", "example.com"),
        ("%({HOST}i)s %({Host}I)s", "example.com example.com"),
        ("%({x-twice}i)s %({X-Twice}o)s", "two 2"),
        ("[%({x-empty}i)s]", "[]"),
        ("%({content-type}o)s", "text/plain"),
        ("%({X-BYTES}o)s", "café"),
        ("%({REMOTE_USER}e)s %({remote_user}e)s", "anna anna"),
        ("%({wsgi.url_scheme}e)s %({mixedcase}e)s", "https 7"),
        ("%(Z)s %(st)s %({host}x)s %()s", "- - - -"),
        ("%({x}i)s %({x}o)s %({x}e)s", "- - -"),
        ("no atoms", "no atoms"),
        ("", ""),
    ],
)
def test_atoms(format: str, expected: str) -> None:
    assert line(format) == expected


@pytest.mark.parametrize(
    ("format", "expected"),
    [("[%(h)s]", "[]"), ("[%(q)s]", "[]"), ("%(f)s %(a)s %(u)s", "- - -"), ("%({host}i)s %({x}o)s %({x}e)s", "- - -")],
)
def test_atoms_of_which_nothing_is_known(format: str, expected: str) -> None:
    assert line(format, BARE) == expected


def test_the_process_is_the_one_that_logs() -> None:
    made = atoms.compile("%(p)s")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, made(FACTS).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with open(reader) as said:
        assert said.read() == f"<{child}>"
    assert made(FACTS) == f"<{os.getpid()}>"


def test_the_default_format() -> None:
    expected = (
        r"192\.0\.2\.7 - - \[\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
        r'"GET /caf%C3%A9\?a=1 HTTP/1\.1" 200 1234 "http://example\.com/" "curl/8"'
    )
    assert re.fullmatch(expected, line(DEFAULTS.access_log_format))


def test_fields_may_be_the_block_of_the_wire() -> None:
    block = FieldBlock(b"Host: example.com\r\nUser-Agent: curl/8", "HTTP/1.1", Limits())
    assert line("%(a)s %({Host}i)s %(f)s", fields=block) == "curl/8 example.com -"


def test_no_content_is_0_bytes() -> None:
    assert line("%(b)s %(B)s", sent=0) == "0 0"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0 0 0 0.000000"),
        (0.57, "0 570 570000 0.570000"),
        (0.0000004, "0 0 0 0.000000"),
        (0.9999999, "1 1000 1000000 1.000000"),
        (90_000.25, "90000 90000250 90000250000 90000.250000"),
    ],
)
def test_durations_agree_and_do_not_wrap(seconds: float, expected: str) -> None:
    assert line("%(T)s %(M)s %(D)s %(L)s", seconds=seconds) == expected


def basic(text: bytes) -> bytes:
    return b"Basic " + b64encode(text)


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (basic(b"anna:secret"), "anna"),
        (basic(b"anna:sec:ret").replace(b"Basic", b"bAsIc"), "anna"),
        (basic("jürgen:x".encode()), "jürgen"),
        (basic(b"anna:"), "anna"),
        (basic(b":secret"), "-"),
        (basic(b"secret"), "-"),
        (basic(b"\xff\xfe:secret"), "-"),
        (basic(b"an\nna\x1b:secret"), r"an\x0ana\x1b"),
        (b"Basic", "-"),
        (b"Basic !", "-"),
        (b"Basic abc", "-"),
        (b"Bearer " + b64encode(b"anna:secret"), "-"),
        (b"", "-"),
    ],
)
def test_the_user_and_never_the_password(authorization: bytes, expected: str) -> None:
    assert line("%(u)s", fields=[(b"authorization", authorization)]) == expected


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError


def test_an_object_in_the_environ_that_has_no_text() -> None:
    assert line("%({app.thing}e)s", environ={"app.thing": Unspeakable()}) == "<Unspeakable>"


# The time


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("UTC0", "[07/Mar/2026:04:05:06 +0000]"),
        ("<east>-05:45", "[07/Mar/2026:09:50:06 +0545]"),
        ("<west>+03:30", "[07/Mar/2026:00:35:06 -0330]"),
    ],
    indirect=["zone"],
)
@pytest.mark.usefixtures("zone")
def test_the_time_in_the_local_zone(expected: str) -> None:
    assert atoms.compile("%(t)s", clock=lambda: 1772856306.9)(FACTS) == expected


def test_the_time_is_rendered_once_a_second() -> None:
    stamp = atoms.Stamp()
    first = stamp(1000.0)
    assert stamp(1000.999) is first
    assert stamp(1001.0) != first
    assert stamp(1000.0) == first  # a clock that was set back


# The notation


def test_flags_width_and_precision_are_those_of_python() -> None:
    atoms = {"s": 200, "D": 1234568, "L": "1.234568", "l": "-", "m": "GET", "b": 1234, "a": "curl/8"}
    format = (
        "%(s)5s|%(s)-5d|%(D)d|%(D)012d|%(D)+d|%(b) d|%(b)x|%(b)#X|%(L)s|%(l)3s|%(m)-6s|%(m)r|%(a).4s|%(a)10.04s|%(a).s|"
        "%(b).2f|%(b)ld|%%|100%%"
    )
    assert line(format) == format % atoms


@pytest.mark.parametrize(
    ("format", "words"),
    [
        ("%", "'%' at 0: the format ends before"),
        ("%(h)", r"'%\(h\)' at 0: the format ends before"),
        ("%(h)s %(", "at 6: the '\\)' is missing"),
        ("%(h", "the '\\)' is missing"),
        ("%({a(b}i)s", "the '\\)' is missing"),
        ("%h %l %u", "'%h ' at 0: an atom has a name"),
        ("%(s)%", "there is no conversion '%'"),
        ("%s", "an atom has a name"),
        ("100% sure", "an atom has a name"),
        ("100%", "the format ends before"),
        ("%(h)y", "there is no conversion 'y'"),
        ("%(D)c", "there is no conversion 'c'"),
        ("%(h)*s", "width and precision are numbers"),
        ("%(h).*s", "width and precision are numbers"),
        ("%(h)d", "a real number is required, not str"),
        ("%({host}i)5.1f", "must be real number, not str"),
        ("%(L)f", "must be real number, not str"),
        ("%(Z)d", "a real number is required, not str"),
    ],
)
def test_a_bad_format_is_refused_in_words(format: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        atoms.check(format)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("access log format")


def test_a_good_format_passes_the_check() -> None:
    atoms.check(DEFAULTS.access_log_format)
    atoms.check("%(s)5s %(D)d %% %({X-Request-ID}i)-36s")


@pytest.mark.parametrize("name", ["'", "\\", "\n", "\u20ac", "{x}", "'][", "'+f'{1/0}"])
def test_a_name_is_never_code(name: str) -> None:
    facts = FACTS._replace(
        fields=[(name.encode(), b"1")], response_fields=[(name, "2")], environ={name: "3", "wsgi.x": ""}
    )
    assert line(f"%({{{name}}}i)s %({{{name}}}o)s %({{{name}}}e)s", facts) == "1 2 3"


@pytest.mark.parametrize("name", ["a'); boom(('", "f()", ")"])
def test_a_name_has_no_parentheses(name: str) -> None:
    with pytest.raises(ValueError, match="at 0:"):
        atoms.check(f"%({{{name}}}i)s")


# Forgery


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'say "hi"', r"say \"hi\""),
        (b"back\\slash", r"back\\slash"),
        (b'\\"', r"\\\""),
        (b"a\r\nb", r"a\x0d\x0ab"),
        (b"\x1b[2J\x00\x7f\t", r"\x1b[2J\x00\x7f\x09"),
        (b"\x85\x9b\xad", r"\x85\x9b\xad"),
        (b"caf\xe9", "café"),
    ],
)
def test_what_a_client_sends_is_escaped(value: bytes, expected: str) -> None:
    made = line('"%(a)s" "%({x}i)s" "%({x}o)s"', fields=[(b"user-agent", value), (b"x", value)])
    assert made == f'"{expected}" "{expected}" "-"'


def test_every_source_is_escaped() -> None:
    bad, good = 'a"\n\\', r"a\"\x0a\\"
    facts = FACTS._replace(
        peer=bad,
        method=bad,
        target=bad,
        path=bad,
        query=bad,
        protocol=bad,
        response_fields=[("x", bad)],
        environ={"X": bad},
    )
    for atom in ("h", "m", "U", "q", "H", "{x}o", "{x}e"):
        assert line(f"%({atom})s", facts) == good
    assert line("%(r)s", facts) == f"{good} {good} {good}"


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/\u2028", r"/\u2028"), ("/\u202e", r"/\u202e"), ("/\udcff", r"/\udcff"), ("/\U000e0001", r"/\U000e0001")],
)
def test_text_beyond_latin_1_that_cannot_be_seen(path: str, expected: str) -> None:
    assert line("%(U)s", path=path) == expected


def test_a_value_is_cut_before_it_is_escaped() -> None:
    # Cut behind the escape, it would end in a lone backslash, and the quote behind it would not close.
    assert line('"%(a).3s" end', fields=[(b"user-agent", b'ab"cd')]) == r'"ab\"" end'


def test_quotes_backslashes_and_tabs_of_the_format_itself_stay() -> None:
    assert line('\\ "%(m)s"\t"%(s)s" \\\n') == '\\ "GET"\t"200" \\\n'


QUOTED = r'"(?:[^"\\]|\\["\\]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*"'
FORGE = atoms.compile('"%(r)s" "%(U)s" "%(a)s" "%({x}i).5s"')


@given(st.text(), st.text(), st.binary(), st.binary())
def test_no_line_can_be_forged(target: str, path: str, agent: bytes, other: bytes) -> None:
    made = FORGE(FACTS._replace(target=target, path=path, fields=[(b"user-agent", agent), (b"x", other)]))
    assert made.isprintable()
    assert re.fullmatch(" ".join([QUOTED] * 4), made)


# Writing


def access_log(format: str = "%(U)s", **changes: Any) -> AccessLog:
    settings = replace(DEFAULTS, access_log_format=format, **changes)
    log.setup(settings)
    return AccessLog(settings)


def add(to: AccessLog, *paths: str) -> None:
    for path in paths:
        to.add(FACTS._replace(path=path))


class Recorder(logging.Handler):
    """A handler as an application may add it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def test_lines_are_written_in_order_when_flushed(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = access_log(accesslog=str(path))
    add(lines, "/1", "/2")
    assert path.read_text() == ""
    lines.flush()
    assert path.read_text() == "/1\n/2\n"
    lines.flush()
    add(lines, "/3")
    lines.flush()
    assert path.read_text() == "/1\n/2\n/3\n"


def test_a_batch_is_one_write() -> None:
    lines = access_log()
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # one message is one write
    with reader, writer, open(writer.fileno(), "w", closefd=False) as stream:
        sink = log.Sink(stream)
        sink.setFormatter(log.ACCESS_LINE)
        log.access.addHandler(sink)
        add(lines, "/1", "/2", "/3")
        lines.flush()
        assert reader.recv(1000) == b"/1\n/2\n/3\n"
        sink.setFormatter(logging.Formatter("> %(message)s"))  # no longer ours alone: a record for each line
        add(lines, "/4", "/5")
        lines.flush()
        assert reader.recv(1000) == b"> /4\n"
        assert reader.recv(1000) == b"> /5\n"


def test_a_long_batch_does_not_wait_for_the_tick(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = access_log(accesslog=str(path))
    long = "/" + "x" * 1023  # 64 of them are 64 KiB
    add(lines, *[long] * 64)
    assert path.stat().st_size == 0
    add(lines, *[long] * 2)
    assert path.read_text() == f"{long}\n" * 65


def test_enabled_is_whether_anyone_listens(tmp_path: Path) -> None:
    lines = access_log()
    assert not lines.enabled
    theirs = Recorder()
    log.access.addHandler(theirs)
    assert lines.enabled
    log.access.setLevel(logging.ERROR)
    assert not lines.enabled
    log.access.removeHandler(theirs)
    assert access_log(accesslog=str(tmp_path / "access.log")).enabled


def test_handlers_of_others_get_a_record_for_each_line(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = access_log(accesslog=str(path))
    theirs = Recorder()
    log.access.addHandler(theirs)
    add(lines, "/100%", "/%s")
    lines.flush()
    assert [(each.name, each.levelname, each.getMessage()) for each in theirs.records] == [
        ("gunicorn.access", "INFO", "/100%"),
        ("gunicorn.access", "INFO", "/%s"),
    ]
    assert path.read_text() == "/100%\n/%s\n"


def test_loggers_above_get_records_where_somebody_lets_them(tmp_path: Path) -> None:
    lines = access_log(accesslog=str(tmp_path / "access.log"))
    theirs = Recorder()
    logging.getLogger("gunicorn").addHandler(theirs)
    add(lines, "/1")
    lines.flush()
    log.access.propagate = True
    add(lines, "/2")
    lines.flush()
    assert [each.getMessage() for each in theirs.records] == ["/2"]


@pytest.mark.parametrize("where", ["logger", "handler"])
def test_filters_are_asked(where: str, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = access_log(accesslog=str(path))
    filterer: logging.Filterer = log.access if where == "logger" else log.access.handlers[0]
    filterer.addFilter(lambda record: "health" not in record.getMessage())
    add(lines, "/health", "/1")
    lines.flush()
    assert path.read_text() == "/1\n"


@pytest.mark.parametrize("where", ["logger", "handler"])
def test_levels_are_heeded(where: str, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = access_log(accesslog=str(path))
    (log.access if where == "logger" else log.access.handlers[0]).setLevel(logging.WARNING)
    add(lines, "/1")
    lines.flush()
    assert path.read_text() == ""


def test_lines_go_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    lines = access_log(accesslog="-")
    add(lines, "/1", "/2")
    lines.flush()
    assert capfd.readouterr().out == "/1\n/2\n"


def test_lines_that_are_pending_go_to_the_file_of_now(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = access_log(accesslog=str(path))
    add(lines, "/1")
    path.rename(tmp_path / "access.log.1")
    log.reopen()
    lines.flush()
    assert path.read_text() == "/1\n"


def test_a_bad_format_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="an atom has a name"):
        AccessLog(replace(DEFAULTS, access_log_format="%s"))


# Errors


def errors(path: Path) -> list[str]:
    return [text for text in path.read_text().splitlines() if "[ERROR]" in text]


def test_a_full_disk_is_told_of_once_and_stops_nothing(tmp_path: Path) -> None:
    error, path = tmp_path / "error.log", tmp_path / "access.log"
    lines = access_log(errorlog=str(error), accesslog="/dev/full")
    for _ in range(3):
        add(lines, "/lost")
        lines.flush()
    assert len(errors(error)) == 1
    assert errors(error)[0].endswith(
        "Cannot write to the access log, dropping lines: [Errno 28] No space left on device"
    )
    log.setup(replace(DEFAULTS, errorlog=str(error), accesslog=str(path)))
    add(lines, "/1")
    lines.flush()
    assert path.read_text() == "/1\n"
    log.setup(replace(DEFAULTS, errorlog=str(error), accesslog="/dev/full"))
    add(lines, "/lost")
    lines.flush()
    assert len(errors(error)) == 2


def test_a_closed_pipe_stops_nothing(tmp_path: Path) -> None:
    error = tmp_path / "error.log"
    lines = access_log(errorlog=str(error))
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        sink = log.Sink(stream)
        sink.setFormatter(log.ACCESS_LINE)
        log.access.addHandler(sink)
        add(lines, *["/" + "x" * 1000] * 200)
        lines.flush()
        log.access.removeHandler(sink)
    assert len(errors(error)) == 1
    assert "Broken pipe" in errors(error)[0]


def test_a_filter_that_fails_stops_nothing(tmp_path: Path) -> None:
    error = tmp_path / "error.log"
    lines = access_log(errorlog=str(error), accesslog=str(tmp_path / "access.log"))
    log.access.addFilter(lambda record: 1 / 0 > 0)
    add(lines, "/1")
    lines.flush()
    assert "division by zero" in errors(error)[0]


# Threads and processes


def test_threads_lose_and_tear_nothing(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = access_log(accesslog=str(path))
    start = threading.Barrier(5)

    def work(name: str) -> None:
        start.wait()
        add(lines, *[f"/{name}/{number}/" + "x" * 100 for number in range(1000)])

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    start.wait()
    while any(thread.is_alive() for thread in threads):
        lines.flush()
    lines.flush()
    written = path.read_text().splitlines()
    for name in "abcd":
        mine = [text for text in written if text.startswith(f"/{name}/")]
        assert mine == [f"/{name}/{number}/" + "x" * 100 for number in range(1000)]
    assert len(written) == 4000


def test_a_flush_in_the_middle_of_a_flush() -> None:
    """As a signal handler does it that wants everything written before the process leaves."""
    lines = access_log()
    stream = io.StringIO()

    class Impatient(logging.StreamHandler[io.StringIO]):
        def emit(self, record: logging.LogRecord) -> None:
            super().emit(record)
            if record.getMessage() == "/1":
                add(lines, "/in between")
                lines.flush()

    log.access.addHandler(Impatient(stream))
    add(lines, "/1", "/2")
    lines.flush()
    assert sorted(stream.getvalue().split("\n")) == ["", "/1", "/2", "/in between"]


SIBLING = """
import sys
from dataclasses import replace
from monoceros.ops import log
from monoceros.ops.access import AccessLog
from monoceros.ops.atoms import Facts
from monoceros.ops.uvicorn import AccessLine
from monoceros.settings.table import Settings

name, where = sys.argv[1:]
settings = replace(Settings(), accesslog=where, access_log_format="%(U)s")
log.setup(settings)
lines = AccessLog(settings)
sys.stdin.read()
for number in range(5000):
    path = f"{name} {number} " + name * (number % 90)
    lines.add(Facts("", "", "", path, "", "", (), 200, (), 0, 0.0))
lines.flush()
"""


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_processes_that_share_a_log_do_not_mix_their_lines(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    reader, writer = os.pipe()
    where = "-" if kind == "pipe" else str(path)
    siblings = [
        subprocess.Popen([sys.executable, "-c", SIBLING, name, where], stdin=subprocess.PIPE, stdout=writer)
        for name in "abc"
    ]
    os.close(writer)
    for sibling in siblings:
        assert sibling.stdin is not None
        sibling.stdin.close()  # all start now
    with open(reader) as stream:
        written = stream.read()
    assert [sibling.wait() for sibling in siblings] == [0, 0, 0]
    text = written if kind == "pipe" else path.read_text()
    expected = [f"{name} {number} " + name * (number % 90) for name in "abc" for number in range(5000)]
    assert sorted(text.splitlines()) == sorted(expected)


# Uvicorn's manner

UVICORN_WORKER = {"manner": "uvicorn", "worker_class": "uvicorn.workers.UvicornWorker"}
FROM = FACTS._replace(port=45822)


def test_under_a_uvicorn_worker_a_line_is_the_bare_message(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = access_log(accesslog=str(path), **UVICORN_WORKER)
    assert lines.enabled
    lines.add(FROM)
    lines.add(FROM._replace(peer="", target="/100%25"))
    lines.flush()
    assert path.read_text() == ('192.0.2.7:45822 - "GET /caf%C3%A9?a=1 HTTP/1.1" 200\n - "GET /100%25 HTTP/1.1" 200\n')


@pytest.mark.parametrize("worker_class", ["main.MyUvicornWorker", "uvicorn_worker.UvicornWorker"])
def test_classes_that_are_uvicorns_or_made_from_them(worker_class: str, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = access_log(accesslog=str(path), manner="uvicorn", worker_class=worker_class, use_colors=True)
    lines.add(FROM)
    lines.flush()
    assert path.read_text() == '192.0.2.7:45822 - "GET /caf%C3%A9?a=1 HTTP/1.1" 200\n'


@pytest.mark.parametrize(
    ("use_colors", "expected"),
    [
        (None, 'INFO:     192.0.2.7:45822 - "GET /caf%C3%A9?a=1 HTTP/1.1" 200 OK\n'),
        (False, 'INFO:     192.0.2.7:45822 - "GET /caf%C3%A9?a=1 HTTP/1.1" 200 OK\n'),
        (
            True,
            '\33[32mINFO\33[0m:     192.0.2.7:45822 - "\33[1mGET /caf%C3%A9?a=1 HTTP/1.1\33[0m" \33[32m200 OK\33[0m\n',
        ),
    ],
)
@pytest.mark.parametrize("where", ["-", "file"])
def test_with_uvicorns_options_a_line_is_what_uvicorn_prints(
    where: str, use_colors: bool | None, expected: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "access.log"
    path.touch()
    accesslog = str(path) if where == "file" else "-"
    lines = access_log(accesslog=accesslog, manner="uvicorn", use_colors=use_colors)
    lines.add(FROM)
    lines.flush()
    assert path.read_text() + capfd.readouterr().out == expected


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with open(ours, "rb", buffering=0) as screen, open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        lines = access_log(accesslog="-", manner="uvicorn")
        lines.add(FROM)
        lines.flush()
        assert screen.read(1000).startswith(b"\33[32mINFO\33[0m:     192.0.2.7:45822")
        log.setup(DEFAULTS)


@pytest.mark.parametrize("manner", [UVICORN_WORKER, {"manner": "uvicorn"}])
def test_handlers_and_filters_of_others_get_five_arguments(manner: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = access_log(accesslog=str(path), **manner)
    logger = logging.getLogger("uvicorn.access")
    theirs = Recorder()
    logger.addHandler(theirs)
    # As people keep health checks out of the log.
    logger.addFilter(lambda record: isinstance(record.args, tuple) and record.args[2] != "/health")
    for target in ("/health", "/1?x=%s"):
        lines.add(FROM._replace(target=target))
    lines.flush()
    assert [(each.name, each.levelname, each.msg, each.args) for each in theirs.records] == [
        (
            "uvicorn.access",
            "INFO",
            '%s - "%s %s HTTP/%s" %d',
            ("192.0.2.7:45822", "GET", "/1?x=%s", "1.1", 200),
        )
    ]
    assert path.read_text().count("\n") == 1
    assert "/1?x=%s" in path.read_text()


def test_uvicorns_lines_are_one_write_too() -> None:
    lines = access_log(manner="uvicorn")
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # one message is one write
    with reader, writer, open(writer.fileno(), "w", closefd=False) as stream:
        sink = log.Sink(stream)
        sink.setFormatter(AccessLine(use_colors=False))
        logging.getLogger("uvicorn.access").addHandler(sink)
        lines.add(FROM)
        lines.add(FROM)
        lines.flush()
        assert reader.recv(1000).count(b"\n") == 2


def test_enabled_follows_the_logger_in_use(tmp_path: Path) -> None:
    lines = access_log(accesslog=str(tmp_path / "access.log"), **UVICORN_WORKER)
    log.access.setLevel(logging.ERROR)
    assert lines.enabled
    logging.getLogger("uvicorn.access").setLevel(logging.ERROR)
    assert not lines.enabled
    logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    logging.getLogger("uvicorn.access").disabled = True
    assert not lines.enabled
    assert not access_log(accesslog=None, **UVICORN_WORKER).enabled


def test_a_format_that_was_set_counts_in_uvicorns_manner_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "access.log"
    for manner in (UVICORN_WORKER, {"manner": "uvicorn"}):
        lines = access_log(
            "%(m)s %(s)s", accesslog=str(path), **manner, origins={"access_log_format": "--access-logformat"}
        )
        lines.add(FROM)
        lines.flush()
    assert path.read_text() == "GET 200\n" * 2


def test_whoever_gave_uvicorns_logger_handlers_gets_uvicorns_records() -> None:
    theirs = Recorder()
    logging.getLogger("uvicorn.access").handlers = [theirs]
    lines = access_log("%(m)s", **UVICORN_WORKER, origins={"access_log_format": "--access-logformat"})
    lines.add(FROM)
    lines.flush()
    assert [len(each.args or ()) for each in theirs.records] == [5]


def test_the_root_path_stands_in_front_of_the_path(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = access_log(accesslog=str(path), root_path="/my api/", **UVICORN_WORKER)
    lines.add(FROM)
    lines.flush()
    assert '"GET /my%20api/caf%C3%A9?a=1 HTTP/1.1"' in path.read_text()
