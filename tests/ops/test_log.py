"""Where the logs go: files, streams, reopening, captured output, and what happens when they cannot be written."""

from __future__ import annotations

import io
import itertools
import logging
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monoceros.ops import log
from monoceros.ops.access import AccessLog
from monoceros.ops.atoms import Facts
from monoceros.settings.table import Settings

DEFAULTS = Settings()


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
from monoceros.ops.access import AccessLog
from monoceros.ops.atoms import Facts
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


# Uvicorn's loggers


@pytest.mark.parametrize("manner", ["gunicorn", "uvicorn"])
@pytest.mark.parametrize("name", ["uvicorn", "uvicorn.error"])
def test_uvicorns_loggers_write_to_the_error_log_once(
    name: str, manner: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "error.log"
    log.setup(settings(errorlog=str(path), loglevel="warning", manner=manner))
    logging.getLogger(name).info("not told")
    logging.getLogger(name).warning("told")
    assert re.fullmatch(r"\[.*\] \[\d+\] \[WARNING\] told\n", path.read_text())
    assert logging.getLogger(name).handlers is log.error.handlers
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("manner", "expected"), [("gunicorn", "gunicorn.error"), ("uvicorn", "uvicorn.error")])
def test_where_a_worker_tells_of_its_application(manner: str, expected: str) -> None:
    assert log.worker_logger(settings(manner=manner)).name == expected


def test_under_a_uvicorn_worker_the_access_logs_share_their_handlers(tmp_path: Path) -> None:
    uvicorn_access = logging.getLogger("uvicorn.access")
    changes = {"manner": "uvicorn", "worker_class": "uvicorn.workers.UvicornWorker", "loglevel": "error"}
    for _ in range(2):
        log.setup(settings(accesslog=str(tmp_path / "access.log"), **changes))
        assert uvicorn_access.handlers is log.access.handlers
        assert len(uvicorn_access.handlers) == 1
        assert (uvicorn_access.level, uvicorn_access.propagate) == (logging.INFO, False)
    log.setup(settings())
    assert uvicorn_access.handlers == []


def test_with_uvicorns_options_the_level_holds_for_access_lines_too() -> None:
    log.setup(settings(accesslog="-", manner="uvicorn", loglevel="warning"))
    assert logging.getLogger("uvicorn.access").level == logging.WARNING


def test_handlers_that_an_application_gave_uvicorns_loggers_stay() -> None:
    log.setup(settings(manner="uvicorn"))
    theirs = logging.StreamHandler(io.StringIO())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = [theirs]
        logging.getLogger(name).setLevel(logging.DEBUG)
    log.setup(settings(manner="uvicorn"))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        assert logging.getLogger(name).handlers == [theirs]
        assert logging.getLogger(name).level == logging.DEBUG


def test_an_application_that_borrows_all_it_can(capfd: pytest.CaptureFixture[str]) -> None:
    changes = {"manner": "uvicorn", "worker_class": "uvicorn.workers.UvicornWorker"}
    log.setup(settings(**changes))
    gunicorn_error_logger = logging.getLogger("gunicorn.error")
    gunicorn_logger = logging.getLogger("gunicorn")
    uvicorn_access_logger = logging.getLogger("uvicorn.access")
    fastapi_logger = logging.getLogger("fastapi")
    uvicorn_access_logger.handlers = gunicorn_error_logger.handlers
    fastapi_logger.handlers = gunicorn_error_logger.handlers
    fastapi_logger.setLevel(gunicorn_logger.level)
    fastapi_logger.info("hello")
    lines = AccessLog(settings(**changes))
    lines.add(Facts("172.17.0.1", "GET", "/healthcheck", "", "", "HTTP/1.1", (), 200, (), 0, 0.0, None, 48686))
    lines.flush()
    first, second = capfd.readouterr().err.splitlines()
    assert first.endswith("[INFO] hello")
    assert re.fullmatch(r'\[.*\] \[\d+\] \[INFO\] 172\.17\.0\.1:48686 - "GET /healthcheck HTTP/1\.1" 200', second)
    log.setup(settings(**changes))  # a reload
    assert uvicorn_access_logger.handlers is gunicorn_error_logger.handlers
    assert len(gunicorn_error_logger.handlers) == 1
