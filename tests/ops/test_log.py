"""Where the logs go: files, streams, reopening, captured output, and what happens when they cannot be written."""

from __future__ import annotations

import io
import itertools
import logging
import os
import re
import resource
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monoceros.ops import log
from monoceros.settings.table import Settings

DEFAULTS = Settings()


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """The loggers as they were, and our files closed, after each test."""
    ours = [logging.getLogger(name) for name in ("gunicorn", "gunicorn.error", "gunicorn.access")]
    before = [(logger, logger.level, logger.propagate, list(logger.handlers)) for logger in ours]
    yield
    for logger, level, propagate, handlers in before:
        for handler in logger.handlers:
            if handler not in handlers:
                handler.close()
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers = handlers


def settings(**changes: Any) -> Settings:
    return replace(DEFAULTS, **changes)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def our_sink() -> log.Sink:
    (sink,) = [handler for handler in log.error.handlers if isinstance(handler, log.Sink)]
    return sink


# Where lines go


def test_a_line_of_the_error_log(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    log.setup(settings(errorlog=str(path)))
    log.error.info("Booting worker with pid: %s", 7)
    time = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\]"
    assert re.fullmatch(rf"{time} \[{os.getpid()}\] \[INFO\] Booting worker with pid: 7\n", path.read_text())


def test_a_dash_is_standard_error_and_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup(settings(errorlog="-", accesslog="-"))
    log.error.warning("to stderr")
    log.access.info("to stdout")
    out, err = capfd.readouterr()
    assert out == "to stdout\n"
    assert err.endswith("[WARNING] to stderr\n")


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("yesterday\n")
    log.setup(settings(accesslog=str(path)))
    log.access.info("today")
    assert path.read_text() == "yesterday\ntoday\n"


def test_without_accesslog_there_is_no_handler_and_nothing_propagates() -> None:
    log.setup(settings())
    assert log.access.handlers == []
    assert not log.access.hasHandlers()


def test_without_errorlog_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup(settings(errorlog=None))
    log.error.critical("into the void")
    assert capfd.readouterr() == ("", "")


def test_both_logs_may_be_one_file(tmp_path: Path) -> None:
    path = tmp_path / "one.log"
    log.setup(settings(errorlog=str(path), accesslog=str(path)))
    for number in range(3):
        log.error.info("error %d", number)
        log.access.info("access %d", number)
    assert [line.split()[-2:] for line in path.read_text().splitlines()] == [
        [kind, str(number)] for number in range(3) for kind in ("error", "access")
    ]


def test_standard_output_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # what Python does where it is started with descriptor 1 closed
    log.setup(settings(accesslog="-"))
    assert log.access.handlers == []


def test_text_that_is_not_utf8_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    log.setup(settings(errorlog=str(path)))
    log.error.error("caf\u00e9 \udcff")
    assert path.read_text("utf-8").endswith("café \\udcff\n")


# Levels


@pytest.mark.parametrize(
    ("name", "level"), [("debug", 10), ("info", 20), ("WARNING", 30), ("Error", 40), ("critical", 50)]
)
def test_levels(name: str, level: int, capfd: pytest.CaptureFixture[str]) -> None:
    log.setup(settings(loglevel=name))
    assert log.error.level == logging.getLogger("gunicorn").level == level
    assert log.access.level == logging.INFO
    assert capfd.readouterr().err == ""


def test_a_level_that_nobody_knows_is_info_and_is_told_of(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup(settings(loglevel="all"))
    assert log.error.level == logging.getLogger("gunicorn").level == logging.INFO
    line = capfd.readouterr().err
    assert line.endswith(
        "[WARNING] Unknown loglevel 'all', using info. Known are: debug, info, warning, error, critical\n"
    )


# Errors and reloads


@pytest.mark.parametrize("which", ["errorlog", "accesslog"])
def test_a_directory_that_is_not_there(which: str, tmp_path: Path) -> None:
    first = tmp_path / "first.log"
    log.setup(settings(errorlog=str(first)))
    before = descriptors()
    missing = str(tmp_path / "missing" / "x.log")
    changed = settings(**{"errorlog": str(tmp_path / "second.log"), which: missing})
    with pytest.raises(OSError, match=r"cannot open the (error|access) log '.*/missing/x.log': No such file") as caught:
        log.setup(changed)
    assert "\n" not in str(caught.value)
    assert descriptors() == before
    log.error.info("goes on")
    assert "goes on" in first.read_text()


def test_setup_again_replaces_ours_and_leaks_nothing(tmp_path: Path) -> None:
    log.setup(settings(errorlog=str(tmp_path / "0.log"), accesslog=str(tmp_path / "a0.log")))
    before = descriptors()
    for number in range(1, 5):
        log.setup(settings(errorlog=str(tmp_path / f"{number}.log"), accesslog=str(tmp_path / f"a{number}.log")))
    assert descriptors() == before
    log.error.info("once")
    assert [path.read_text().count("once") for path in sorted(tmp_path.glob("[0-9].log"))] == [0, 0, 0, 0, 1]
    log.setup(settings())
    assert descriptors() == before - 2
    assert log.access.handlers == []


def test_setup_keeps_handlers_of_others(tmp_path: Path) -> None:
    theirs = logging.StreamHandler(io.StringIO())
    log.error.addHandler(theirs)
    log.access.addHandler(theirs)
    log.setup(settings(accesslog=str(tmp_path / "a.log")))
    log.setup(settings())
    assert theirs in log.error.handlers
    assert log.access.handlers == [theirs]


def test_a_logger_that_borrowed_the_list_follows_a_reload(tmp_path: Path) -> None:
    log.setup(settings(errorlog=str(tmp_path / "old.log")))
    borrower = logging.Logger("an application")
    borrower.handlers = log.error.handlers
    log.setup(settings(errorlog=str(tmp_path / "new.log")))
    borrower.warning("hello")
    assert re.search(r"\[\d+\] \[WARNING\] hello\n$", (tmp_path / "new.log").read_text())
    assert (tmp_path / "old.log").read_text() == ""


def test_a_borrowed_handler_still_writes_after_a_reload(tmp_path: Path) -> None:
    log.setup(settings(errorlog=str(tmp_path / "old.log")))
    borrower = logging.Logger("an application")
    borrower.addHandler(our_sink())
    log.setup(settings(errorlog=str(tmp_path / "new.log")))
    borrower.warning("hello")
    borrower.handlers[0].close()
    assert "hello" in (tmp_path / "old.log").read_text()


# Reopening


def test_reopen_follows_the_name(tmp_path: Path) -> None:
    error, access = tmp_path / "error.log", tmp_path / "access.log"
    log.setup(settings(errorlog=str(error), accesslog=str(access)))
    before = descriptors()
    for path in (error, access):
        path.rename(path.with_suffix(".1"))
    log.error.info("before")
    log.access.info("before")
    log.reopen()
    log.error.info("after")
    log.access.info("after")
    for path in (error, access):
        assert "before" in path.with_suffix(".1").read_text()
        assert "after" not in path.with_suffix(".1").read_text()
        assert path.read_text().endswith("after\n")
    assert descriptors() == before


def test_reopen_leaves_streams_alone(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup(settings(errorlog="-"))
    stream = our_sink().stream
    log.reopen()
    assert our_sink().stream is stream
    log.error.info("still here")
    assert capfd.readouterr().err.endswith("still here\n")


def test_reopen_includes_files_of_others_but_empties_none(tmp_path: Path) -> None:
    appending = logging.FileHandler(tmp_path / "appending.log")
    emptying = logging.FileHandler(tmp_path / "emptying.log", mode="w")
    delayed = logging.FileHandler(tmp_path / "delayed.log", delay=True)
    application = logging.getLogger("an application of the tests")
    application.handlers = [appending, emptying, delayed]
    try:
        emptying.emit(logging.makeLogRecord({"msg": "keep me"}))
        (tmp_path / "appending.log").rename(tmp_path / "appending.log.1")
        log.reopen()
        assert (tmp_path / "appending.log").exists()
        assert (tmp_path / "emptying.log").read_text() == "keep me\n"
        assert not (tmp_path / "delayed.log").exists()
    finally:
        for handler in application.handlers:
            handler.close()
        application.handlers = []


def test_a_file_that_cannot_be_reopened_is_written_on_to(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    log.setup(settings(errorlog=str(directory / "error.log")))
    directory.rename(tmp_path / "moved")
    log.reopen()
    log.error.info("still here")
    first, second = (tmp_path / "moved" / "error.log").read_text().splitlines()
    assert first.endswith(
        f"[ERROR] Cannot reopen {directory}/error.log, writing on as before: No such file or directory"
    )
    assert second.endswith("still here")


def test_reopen_loses_nothing_while_threads_log(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log.setup(settings(accesslog=str(path)))
    stop = threading.Event()
    logged: list[str] = []

    def work(name: str) -> None:
        for number in itertools.count():
            log.access.info("%s %d .", name, number)
            logged.append(f"{name} {number} .")
            if stop.is_set():
                return

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for turn in range(50):
        path.rename(tmp_path / f"access.log.{turn}")
        log.reopen()
    stop.set()
    for thread in threads:
        thread.join()
    lines = [line for each in tmp_path.iterdir() for line in each.read_text().splitlines()]
    assert sorted(lines) == sorted(logged)


# Captured output: in a process of its own, since it is about descriptors 1 and 2

CAPTURE = """
import os, sys
from dataclasses import replace
from pathlib import Path
from monoceros.ops import log
from monoceros.settings.table import Settings

def lines(path):
    return [line.split("] ")[-1] for line in Path(path).read_text().splitlines()]

settings = replace(Settings(), errorlog=sys.argv[1], capture_output=sys.argv[2] == "yes")
"""


def run(tmp_path: Path, script: str, errorlog: str = "error.log", capture: str = "yes") -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CAPTURE + script, errorlog, capture],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_what_is_printed_lands_in_the_error_log_at_once(tmp_path: Path) -> None:
    script = """
print("printed before")
log.setup(settings)
log.capture_output(settings)
print("printed")
print("to stderr", file=sys.stderr)
os.system("echo from a child")
log.error.info("logged")
assert lines("error.log") == ["printed", "to stderr", "from a child", "logged"], lines("error.log")
"""
    assert run(tmp_path, script) == ("printed before\n", "")


def test_captured_output_follows_reopen_and_reload(tmp_path: Path) -> None:
    script = """
log.setup(settings)
log.capture_output(settings)
borrowed = log.error.handlers[0]
os.rename("error.log", "rotated.log")
print("rotated")
log.reopen()
print("reopened")
log.setup(replace(settings, errorlog="second.log"))
print("reloaded")
import logging
logging.getLogger("an application").addHandler(borrowed)
logging.getLogger("an application").warning("borrowed")
log.reopen()
print("reopened again")
found = [lines("rotated.log"), lines("error.log"), lines("second.log")]
assert found == [["rotated"], ["reopened", "borrowed"], ["reloaded", "reopened again"]], found
"""
    assert run(tmp_path, script) == ("", "")


@pytest.mark.parametrize(("errorlog", "capture"), [("-", "yes"), ("error.log", "no")])
def test_output_that_is_not_captured(errorlog: str, capture: str, tmp_path: Path) -> None:
    script = "log.setup(settings); log.capture_output(settings); log.reopen(); print('printed')"
    assert run(tmp_path, script, errorlog, capture) == ("printed\n", "")


# One write for a line


def sink_on(fd: int) -> log.Sink:
    return log.Sink(open(fd, "w", closefd=False))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe whose writing end does not block."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def fill(writer: int) -> int:
    """The number of bytes that made the pipe full."""
    count = 0
    while True:
        try:
            count += os.write(writer, b"x" * select.PIPE_BUF)
        except BlockingIOError:
            return count


@pytest.mark.parametrize("length", [1, 79, 80, 81, 1000])
def test_pieces_end_where_lines_end(length: int) -> None:
    data = b"".join(b"%d\n" % (10**n) for n in range(60)) + b"y" * length + b"\nend\n"
    cut = list(log.pieces(data, 80))
    assert b"".join(cut) == data
    assert all(piece.endswith(b"\n") for piece in cut)
    assert all(len(piece) <= 80 or piece.count(b"\n") == 1 for piece in cut)
    assert all(len(one) + len(other) > 80 for one, other in itertools.pairwise(cut))


def test_pieces_of_a_text_without_an_end() -> None:
    assert list(log.pieces(b"a\n" + b"b" * 10, 5)) == [b"a\n", b"b" * 10]
    assert list(log.pieces(b"", 5)) == []


def test_each_record_is_one_write_and_a_batch_is_few() -> None:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # one message is one write
    with reader, writer:
        sink = sink_on(writer.fileno())
        sink.emit(logging.makeLogRecord({"msg": "a\nb"}))
        assert reader.recv(100_000) == b"a\nb\n"
        lines = "".join(f"line {number}\n" for number in range(1000))
        sink.write(lines)
        writer.close()
        messages = list(iter(lambda: reader.recv(100_000), b""))
    assert b"".join(messages) == lines.encode()
    assert len(messages) == -(-len(lines) // select.PIPE_BUF)
    assert all(message.endswith(b"\n") and len(message) <= select.PIPE_BUF for message in messages)


def test_a_slow_reader_of_a_pipe_is_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = sink_on(writer)
    sink.patience = 60.0
    filled = fill(writer)
    lines = "".join(f"line {number}\n" for number in range(50_000))
    received: list[bytes] = []

    def read() -> None:
        while sum(map(len, received)) < filled + len(lines):
            received.append(os.read(reader, 50_000))

    thread = threading.Thread(target=read)
    thread.start()
    sink.write(lines)
    thread.join()
    assert b"".join(received)[filled:].decode() == lines


def test_a_stuck_pipe_is_waited_for_once(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = sink_on(writer)
    sink.patience = 0.001
    filled = fill(writer)
    with pytest.raises(BlockingIOError):
        sink.write("lost\n")
    sink.patience = 3600.0  # would run into the time limit of the test, if it were granted again
    with pytest.raises(BlockingIOError):
        sink.write("lost as well\n")
    left = filled
    while left:
        left -= len(os.read(reader, left))
    sink.write("arrives\n")
    assert os.read(reader, 100) == b"arrives\n"
    assert not sink.stuck


def test_a_line_that_was_cut_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    log.setup(settings(errorlog=str(path)))
    sink = our_sink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # as a disk that is full after 10 bytes
    try:
        with pytest.raises(OSError, match="File too large"):
            sink.write("a line of some length\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    sink.write("whole\n")
    sink.write("again\n")
    assert path.read_text() == "a line of \nwhole\nagain\n"


def test_an_error_of_the_log_is_not_raised_into_the_server(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup(settings(errorlog="/dev/full"))
    log.error.info("nowhere to go")
    assert "No space left on device" in capfd.readouterr().err


def test_a_stream_without_a_descriptor() -> None:
    stream = io.StringIO()
    log.Sink(stream).write("line\n")
    assert stream.getvalue() == "line\n"
