"""The user's logging configuration: which loggers it has the first word on, and what happens when it is broken."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monoceros.ops import log, logconfig
from monoceros.ops.access import AccessLog
from monoceros.ops.atoms import Facts
from monoceros.settings.table import Settings

FACTS = Facts("127.0.0.1", "GET", "/", "/", "", "HTTP/1.1", (), 200, (), 5, 0.25, None, 12345)
UVICORN_WORKER = {"manner": "uvicorn", "worker_class": "uvicorn.workers.UvicornWorker"}
UVICORN_OPTIONS = {"manner": "uvicorn", "accesslog": "-"}

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"

INI = """
[loggers]
keys=root,gunicorn.access
[handlers]
keys=consoleHandler
[formatters]
keys=simpleFormatter
[logger_root]
level=INFO
handlers=consoleHandler
[logger_gunicorn.access]
level=INFO
handlers=consoleHandler
qualname=gunicorn.access
[handler_consoleHandler]
class=StreamHandler
level=INFO
formatter=simpleFormatter
args=(sys.stdout,)
[formatter_simpleFormatter]
format=%(asctime)s - %(levelname)s - %(name)s - %(message)s
"""

ROOT_ONLY = {
    "version": 1,
    "formatters": {"short": {"format": "%(name)s|%(levelname)s|%(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "short", "stream": "ext://sys.stdout"}},
    "root": {"level": "INFO", "handlers": ["out"]},
}

UVICORNS = {
    "version": 1,
    "formatters": {
        "default": {"()": "uvicorn.logging.DefaultFormatter", "fmt": "%(levelprefix)s %(message)s", "use_colors": None},
        "access": {
            "()": "uvicorn.logging.AccessFormatter",
            "fmt": '%(levelprefix)s %(client_addr)s "%(request_line)s" %(status_code)s',
            "use_colors": False,
        },
    },
    "handlers": {
        "default": {"class": "logging.StreamHandler", "formatter": "default", "stream": "ext://sys.stderr"},
        "access": {"class": "logging.StreamHandler", "formatter": "access", "stream": "ext://sys.stdout"},
    },
    "loggers": {
        "uvicorn": {"handlers": ["default"], "level": "INFO", "propagate": False},
        "uvicorn.error": {"level": "INFO"},
        "uvicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def write(content: str | dict[str, Any], name: str = "") -> str:
        path = tmp_path / (name or ("logging.json" if isinstance(content, dict) else "logging.conf"))
        path.write_text(json.dumps(content) if isinstance(content, dict) else content)
        return str(path)

    return write


def setup(logconfig: str | None, **changes: Any) -> Settings:
    settings = replace(Settings(), logconfig=logconfig, **changes)
    log.setup(settings)
    return settings


def request(settings: Settings) -> AccessLog:
    """One request, told of as the settings say."""
    lines = AccessLog(settings)
    if lines.enabled:
        lines.add(FACTS)
        lines.flush()
    return lines


# The order of things


def test_the_file_of_many_people(write: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    settings = setup(write(INI), **UVICORN_WORKER)
    log.worker_logger(settings).info("Application startup complete.")
    request(settings)
    out, err = capfd.readouterr()
    assert re.fullmatch(rf'{TIME} - INFO - uvicorn\.access - 127\.0\.0\.1:12345 - "GET / HTTP/1\.1" 200\n', out)
    assert re.fullmatch(r"\[.*\] \[\d+\] \[INFO\] Application startup complete\.\n", err)


def test_a_logger_that_is_named_loses_ours_and_another_keeps_it(
    write: Callable[..., str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    access, error = tmp_path / "access.log", tmp_path / "error.log"
    settings = setup(
        write(INI.replace("qualname=", "propagate=0\nqualname=")), accesslog=str(access), errorlog=str(error)
    )
    log.error.info("to the file")
    request(settings)
    out, _ = capfd.readouterr()
    assert re.fullmatch(rf"{TIME} - INFO - gunicorn\.access - 127\.0\.0\.1 - - .*\n", out)
    assert access.read_text() == ""
    assert error.read_text().endswith("to the file\n")


def test_a_file_that_names_the_root_only_changes_nothing_of_ours(
    write: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = setup(write(ROOT_ONLY), accesslog="-")
    log.error.info("started")
    logging.getLogger("an application").info("hello")
    request(settings)
    out, err = capfd.readouterr()
    assert out.startswith("an application|INFO|hello\n127.0.0.1 - - [")
    assert err.endswith("[INFO] started\n")


def test_without_accesslog_the_root_gets_no_access_lines(
    write: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    for manner in ({}, UVICORN_WORKER):
        assert not request(setup(write(ROOT_ONLY), **manner)).enabled
    assert capfd.readouterr().out == ""


def test_a_level_alone_leaves_our_handlers(write: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    levels = {"gunicorn.error": "WARNING", "uvicorn.access": "ERROR", "gunicorn.access": "DEBUG"}
    config = ROOT_ONLY | {"loggers": {name: {"level": level} for name, level in levels.items()}}
    settings = setup(write(config), accesslog="-", **UVICORN_WORKER)
    log.error.info("not told")
    log.error.warning("told")
    assert not request(settings).enabled
    assert logging.getLogger("uvicorn.error").level == logging.WARNING
    assert capfd.readouterr().err.endswith("[WARNING] told\n")


@pytest.mark.parametrize("level", [{}, {"level": "DEBUG"}])
def test_the_logger_above_named_without_handlers(
    level: dict[str, str], write: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    setup(write(ROOT_ONLY | {"loggers": {"gunicorn": level}}), accesslog="-")
    log.error.info("once")
    log.error.debug("never")
    log.access.info("line")
    out, err = capfd.readouterr()
    assert out == "line\n"
    assert err.count("\n") == 1


def test_the_logger_above_named_with_handlers(write: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    setup(write(ROOT_ONLY | {"loggers": {"gunicorn": {"handlers": ["out"], "propagate": False}}}))
    log.error.info("started")
    logging.getLogger("uvicorn.error").info("hello")
    assert capfd.readouterr() == ("gunicorn.error|INFO|started\nuvicorn.error|INFO|hello\n", "")


def test_no_handlers_on_purpose(write: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    config = ROOT_ONLY | {"loggers": {"uvicorn.access": {"handlers": [], "propagate": False}}}
    settings = setup(write(config), accesslog="-", **UVICORN_WORKER)
    assert not request(settings).enabled
    assert capfd.readouterr().out == ""


def test_a_logger_that_hands_up_to_the_root(write: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    ini = INI.replace("handlers=consoleHandler\nqualname", "handlers=\nqualname")
    request(setup(write(ini), **UVICORN_WORKER))
    request(setup(write(ini)))
    out = capfd.readouterr().out.splitlines()
    assert [line.split(" - ")[2] for line in out] == ["uvicorn.access", "gunicorn.access"]


def test_our_loggers_are_never_disabled(write: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    others = logging.getLogger("an application")
    setup(write(ROOT_ONLY))
    assert not others.disabled
    setup(write(ROOT_ONLY | {"disable_existing_loggers": True}))
    log.error.info("still here")
    logging.getLogger("uvicorn.error").info("here too")
    assert others.disabled
    assert [line.split("] ")[-1] for line in capfd.readouterr().err.splitlines()] == ["still here", "here too"]
    setup(None)


# Uvicorn's own options


@pytest.mark.parametrize("installed", [True, False])
def test_uvicorns_own_configuration(
    installed: bool,
    write: Callable[..., str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if installed:
        pytest.importorskip("uvicorn")
    else:
        monkeypatch.setitem(sys.modules, "uvicorn", None)
    settings = setup(write(UVICORNS), **UVICORN_OPTIONS)
    log.error.info("Listening")
    log.worker_logger(settings).info("Started")
    request(settings)
    out, err = capfd.readouterr()
    assert out == 'INFO:     127.0.0.1:12345 "GET / HTTP/1.1" 200 OK\n'
    assert err == "INFO:     Listening\nINFO:     Started\n"
    theirs = type(logging.getLogger("uvicorn.access").handlers[0].formatter).__module__
    assert theirs == ("uvicorn.logging" if installed else "monoceros.ops.uvicorn")


def test_what_uvicorns_configuration_does_not_name_goes_to_the_root(
    write: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = setup(write(ROOT_ONLY), **UVICORN_OPTIONS)
    log.error.info("Listening")
    log.worker_logger(settings).info("Started")
    request(settings)
    assert capfd.readouterr() == (
        (
            "gunicorn.error|INFO|Listening\n"
            "uvicorn.error|INFO|Started\n"
            'uvicorn.access|INFO|127.0.0.1:12345 - "GET / HTTP/1.1" 200\n'
        ),
        "",
    )
    assert not request(setup(write(ROOT_ONLY), manner="uvicorn", accesslog=None)).enabled


def test_a_configuration_that_is_not_about_servers(
    write: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    logging.root.handlers.clear()  # those of pytest
    settings = setup(write({"version": 1, "loggers": {"an application": {"level": "INFO"}}}), **UVICORN_OPTIONS)
    log.worker_logger(settings).info("Started")
    request(settings)
    out, err = capfd.readouterr()
    assert out == 'INFO:     127.0.0.1:12345 - "GET / HTTP/1.1" 200 OK\n'
    assert err.endswith("[INFO] Started\n")


def test_the_level_of_the_flag_counts_before_the_file(write: Callable[..., str]) -> None:
    setup(write(UVICORNS), **UVICORN_OPTIONS, loglevel="warning", origins={"loglevel": "--log-level"})
    assert logging.getLogger("uvicorn.access").level == logging.getLogger("uvicorn.error").level == logging.WARNING
    setup(write(UVICORNS), **UVICORN_OPTIONS)
    assert logging.getLogger("uvicorn.access").level == logging.getLogger("uvicorn.error").level == logging.INFO


def test_uvicorns_level_below_debug_is_known(write: Callable[..., str]) -> None:
    setup(write(UVICORNS | {"root": {"level": "TRACE"}}), **UVICORN_OPTIONS)
    assert logging.root.level == 5


# Formats


@pytest.mark.parametrize("name", ["logging.yaml", "logging.yml"])
def test_yaml(name: str, write: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("yaml")
    setup(write(json.dumps(ROOT_ONLY), name))  # JSON is YAML
    logging.getLogger("an application").info("hello")
    assert capfd.readouterr().out == "an application|INFO|hello\n"


def test_yaml_that_is_not_installed(write: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(OSError, match=r"logging\.yml': YAML needs the package PyYAML.*monoceros\[yaml\]"):
        setup(write("{}", "logging.yml"))


def test_an_ini_file_knows_where_it_is(tmp_path: Path, write: Callable[..., str]) -> None:
    (tmp_path / "100%").mkdir()
    ini = INI.replace("class=StreamHandler", "class=FileHandler").replace("(sys.stdout,)", "('%(here)s/app.log',)")
    setup(write(ini, "100%/logging.conf"))
    logging.getLogger("an application").info("of %s", "%(__file__)s")
    assert (tmp_path / "100%" / "app.log").read_text().endswith("an application - of %(__file__)s\n")


def test_an_ini_file_may_name_uvicorns_formatters(
    write: Callable[..., str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    ini = INI.replace(
        "[formatter_simpleFormatter]\n", "[formatter_simpleFormatter]\nclass=uvicorn.logging.AccessFormatter\n"
    )
    ini = re.sub("format=.*", 'format=%(client_addr)s "%(request_line)s" %(status_code)s', ini)
    request(setup(write(ini), **UVICORN_WORKER))
    assert capfd.readouterr().out == '127.0.0.1:12345 "GET / HTTP/1.1" 200 OK\n'


# Errors


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.conf", None, r"cannot read .*missing\.conf': No such file or directory"),
        ("missing.json", None, r"cannot read .*missing\.json': No such file or directory"),
        ("a.conf", "", "'loggers' is missing"),
        ("a.conf", "nonsense", "no section headers"),
        ("a.conf", INI.replace("[formatters]\nkeys=simpleFormatter", ""), "'formatters' is missing"),
        ("a.conf", INI.replace("qualname=gunicorn.access", ""), "'qualname' is missing"),
        ("a.conf", INI.replace("(sys.stdout,)", "(nobody,)"), "name 'nobody' is not defined"),
        ("a.conf", INI.replace("level=INFO", "level=LOUD"), "Unknown level: 'LOUD'"),
        ("a.conf", INI.replace("=StreamHandler", "=nobody.Handler"), "No module named 'nobody'"),
        ("a.json", "{", "Expecting property name"),
        ("a.json", "[]", "it is no mapping but list"),
        ("a.json", '{"version": 2}', "Unsupported version: 2"),
        ("a.json", '{"root": {"handlers": ["x"]}}', "Unable to configure root logger: .*'x'"),
        ("a.json", '{"handlers": {"x": {"class": "no.such"}}}', "Unable to configure handler 'x': .*No module named"),
        ("a.json", '{"loggers": [1]}', "a.json"),
        ("a.json", '{"loggers": {"x": 1}}', "Unable to configure logger 'x'"),
        ("a.yaml", "a: [", "while parsing a flow"),
        ("a.yaml", "", "it is no mapping but NoneType"),
        ("a.json", b"\xff", "can't decode byte"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_changes(
    name: str, content: str | bytes | None, words: str, tmp_path: Path
) -> None:
    if name.endswith(".yaml"):
        pytest.importorskip("yaml")
    error = tmp_path / "error.log"
    setup(None, errorlog=str(error), accesslog=str(tmp_path / "access.log"))
    theirs = logging.StreamHandler(io.StringIO())
    logging.root.addHandler(theirs)
    before = state()
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(OSError, match=words) as caught:
        setup(str(tmp_path / name), errorlog=str(tmp_path / "second.log"))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert state() == before
    log.error.info("goes on")
    assert error.read_text().endswith("goes on\n")


def state() -> list[tuple[object, ...]]:
    names = ("gunicorn", "gunicorn.error", "gunicorn.access", "uvicorn", "uvicorn.error", "uvicorn.access")
    loggers = [logging.root, *map(logging.getLogger, names)]
    return [(each.level, each.propagate, each.disabled, id(each.handlers), list(each.handlers)) for each in loggers]


# Reloads


def test_a_reload_applies_the_file_anew(
    tmp_path: Path, write: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    ini = INI.replace("qualname=", "propagate=0\nqualname=")
    for name in ("first", "second", "second"):
        settings = setup(write(ini.replace("%(name)s", name)), errorlog=str(tmp_path / "error.log"))
        request(settings)
        log.error.info("error")
    out = [line.split(" - ")[2] for line in capfd.readouterr().out.splitlines()]
    assert out == ["first", "second", "second"]
    assert (tmp_path / "error.log").read_text().count("error") == 3


def test_what_a_file_gave_goes_with_it(write: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    root = list(logging.root.handlers)
    setup(write(INI), **UVICORN_WORKER)
    config = ROOT_ONLY | {"loggers": {"uvicorn": {"handlers": ["out"]}, "uvicorn.access": {"handlers": ["out"]}}}
    setup(write(config), **UVICORN_OPTIONS)
    settings = setup(None, accesslog="-")
    log.error.info("error")
    logging.getLogger("uvicorn.error").info("error")
    request(settings)
    out, err = capfd.readouterr()
    assert out.count("\n") == 1
    assert out.startswith("127.0.0.1 - - [")
    assert [line.split("] ")[-1] for line in err.splitlines()] == ["error", "error"]
    assert [each for each in logging.root.handlers if each not in root] == []


def test_files_of_ours_are_written_on_to_after_a_configuration_closed_all_handlers(
    tmp_path: Path, write: Callable[..., str]
) -> None:
    path = tmp_path / "error.log"
    for _ in range(3):
        setup(write(ROOT_ONLY), errorlog=str(path))
        before = len(os.listdir("/proc/self/fd"))
        log.error.info("line")
        log.reopen()
        assert len(os.listdir("/proc/self/fd")) == before + 1
        log.error.handlers[0].close()
    assert path.read_text().count("line") == 3


def test_borrowers_of_our_lists_follow(write: Callable[..., str]) -> None:
    borrower = logging.Logger("an application")
    setup(None, **UVICORN_WORKER)
    borrower.handlers = log.access.handlers
    for content in (INI, ROOT_ONLY, INI):
        setup(write(content), **UVICORN_WORKER)
        assert borrower.handlers is log.access.handlers is logging.getLogger("uvicorn.access").handlers
        assert len(borrower.handlers) == (content is INI)


# What a configuration has the first word on


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        ("gunicorn", "gunicorn.error", True),
        ("gunicorn.error", "gunicorn.error", True),
        ("gunicorn.access", "gunicorn.error", False),
        ("gunicorn.error", "gunicorn", False),
        ("gun", "gunicorn", False),
        ("", "gunicorn", False),
    ],
)
def test_what_is_said_of_a_logger_holds_for_those_below(given: str, name: str, expected: bool) -> None:
    assert logconfig.LogConfig("x", frozenset((given,)), lambda: None).gives(name) is expected


def test_wsgi_errors_goes_where_the_configuration_says(
    write: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    setup(write(ROOT_ONLY | {"loggers": {"gunicorn.error": {"handlers": ["out"]}}}))
    log.ErrorStream().write("oh\nno\nrest")
    assert capfd.readouterr() == ("gunicorn.error|ERROR|oh\nno\n", "")


def test_wsgi_errors_that_is_fed_with_itself(write: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    setup(write({"loggers": {"gunicorn.error": {"handlers": []}}}))
    stream = log.ErrorStream()
    log.error.addHandler(logging.StreamHandler(stream))
    stream.write("oh no\n")
    assert capfd.readouterr().err == "oh no\n"
