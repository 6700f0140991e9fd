"""The class that keeps the logs: its interface, what users make of it, and what happens when that fails."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn import glogging
from gunicorn.instrument.statsd import Statsd

from monoceros.ops import access, atoms, log, logger
from monoceros.ops.logger import Logger, Logs
from monoceros.settings.log_values import OUR_LOGGER
from monoceros.settings.table import Settings, SettingsError
from monoceros.settings.values import Address

DEFAULTS = Settings(wsgi_app="app:app")

RESPONSE = SimpleNamespace(status="200 OK", status_code=200, sent=5, headers=[("X-Out", "1")])
REQUEST = SimpleNamespace(headers=[("X-IN", "2"), ("REFERER", "there")], path="/a")
ENVIRON = {
    "REQUEST_METHOD": "GET",
    "RAW_URI": "/a?b",
    "PATH_INFO": "/a",
    "QUERY_STRING": "b",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "192.0.2.1",
    "HTTP_USER_AGENT": 'a "quoted" one',
    "HTTP_REFERER": "there",
    "HTTP_AUTHORIZATION": "Basic dXNlcjpzZWNyZXQ=",
}
TIME = timedelta(seconds=1, microseconds=500)


def settings(**changes: Any) -> Settings:
    return replace(DEFAULTS, **changes)


def test_the_interface_is_gunicorns() -> None:
    # What is missing here is how Gunicorn's finds its handlers again, and its own flag.
    assert public(glogging.Logger) - public(Logger) == set()


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_the_atoms_are_gunicorns(tmp_path: Path) -> None:
    ours = Logger(settings(log_redact=()))
    theirs = glogging.Logger(logger.as_gunicorn(settings()))
    mine, others = (each.atoms(RESPONSE, REQUEST, ENVIRON, TIME) for each in (ours, theirs))
    assert {**mine, "t": ""} == {**others, "t": ""}


@pytest.mark.parametrize("of_gunicorn", [False, True])
def test_a_line_of_the_access_log(tmp_path: Path, of_gunicorn: bool) -> None:
    path = tmp_path / "access.log"
    kind: Any = type("Mine", (glogging.Logger if of_gunicorn else Logger,), {"now": lambda self: "[now]"})
    format = '%(h)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%({user-agent}i)s" %({X-Out}o)s %({remote_addr}e)s %(L)s'
    logs = logger.begin(settings(logger_class=kind, accesslog=str(path), access_log_format=format))
    assert logs.is_asked
    logs.logger.access(RESPONSE, REQUEST, ENVIRON, TIME)
    expected = '192.0.2.1 user [now] "GET /a?b HTTP/1.1" 200 5 "there" "-" 1 192.0.2.1 1.000500\n'
    assert path.read_text() == expected


def test_atoms_have_no_secrets(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    format = "%(r)s %(q)s %(f)s %({raw_uri}e)s %({query_string}e)s %({http_cookie}e)s %({cookie}i)s %({set-cookie}o)s"
    kept = Logger(settings(accesslog=str(path), access_log_format=format))
    request = SimpleNamespace(headers=[("COOKIE", "hunter2")])
    response = SimpleNamespace(status="200 OK", sent=5, headers=[("Set-Cookie", "hunter2")])
    secrets = {
        "RAW_URI": "/?token=hunter2&x=1",
        "QUERY_STRING": "token=hunter2&x=1",
        "HTTP_REFERER": "/?key=hunter2",
        "HTTP_COOKIE": "hunter2",
    }
    kept.access(response, request, ENVIRON | secrets, TIME)
    query = "token=[redacted]&x=1"
    assert path.read_text() == (
        f"GET /?{query} HTTP/1.1 {query} /?key=[redacted] /?{query} {query} [redacted] [redacted] [redacted]\n"
    )


def test_no_atom_ends_a_line(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    kept = Logger(settings(accesslog=str(path), access_log_format='"%(a)s"'))
    kept.access(RESPONSE, REQUEST, ENVIRON | {"HTTP_USER_AGENT": 'a\n"b'}, TIME)
    assert path.read_text() == '"a\\x0a\\"b"\n'


def test_an_atom_that_fails_is_told(tmp_path: Path) -> None:
    class Mine(Logger):
        def atoms(self, *args: Any) -> dict[str, Any]:
            raise KeyError("mine")

    path = tmp_path / "error.log"
    Mine(settings(accesslog="/dev/null", errorlog=str(path))).access(RESPONSE, REQUEST, ENVIRON, TIME)
    assert "KeyError: 'mine'" in path.read_text()


def test_formats_of_a_class(tmp_path: Path) -> None:
    class Mine(Logger):
        error_fmt = "%(levelname)s: %(asctime)s: %(message)s"
        datefmt = "at noon"
        access_fmt = "access: %(message)s"

    logs = logger.begin(settings(logger_class=Mine, errorlog=str(tmp_path / "e"), accesslog=str(tmp_path / "a")))
    logs.logger.info("hello")
    logs.logger.log("warning", "%s", "a level by name")
    assert (tmp_path / "e").read_text() == "INFO: at noon: hello\nWARNING: at noon: a level by name\n"
    assert not logs.is_asked
    log.access.info("a line")
    assert (tmp_path / "a").read_text() == "access: a line\n"


def changed(base: type, name: str) -> type:
    return type("Mine", (base,), {name: getattr(base, name) if name == "setup" else lambda *_: None})


@pytest.mark.parametrize("base", [Logger, glogging.Logger])
@pytest.mark.parametrize(("name", "asked"), [("setup", False), ("info", False), ("access", True), ("now", True)])
def test_who_is_asked_for_each_request(base: type, name: str, asked: bool) -> None:
    kind: Any = changed(base, name)
    assert Logs(kind(logger.as_gunicorn(settings()))).is_asked is asked


def test_who_is_not_made_from_either_is_asked() -> None:
    assert Logs(SimpleNamespace(access=print)).is_asked
    assert not Logs(SimpleNamespace()).is_asked
    assert not Logs(Logger(settings())).is_asked


class NoHealth(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "/health" not in record.getMessage()


@pytest.mark.parametrize("base", [Logger, glogging.Logger])
def test_what_setup_adds_goes_with_a_reload(tmp_path: Path, base: Any) -> None:
    class Mine(base):  # type: ignore[misc]
        def setup(self, cfg: Settings) -> None:
            super().setup(cfg)
            self.access_log.addFilter(NoHealth())
            self.error_log.addHandler(logging.FileHandler(tmp_path / "more"))

    files = {"errorlog": str(tmp_path / "e"), "accesslog": str(tmp_path / "a")}
    for _ in range(3):
        logger.begin(settings(logger_class=Mine, **files))
    before = len(os.listdir("/proc/self/fd"))
    logger.begin(settings(logger_class=Mine, **files))
    assert len(os.listdir("/proc/self/fd")) == before
    assert (len(log.error.handlers), len(log.access.handlers), len(log.access.filters)) == (2, 1, 1)
    log.error.info("hello")
    log.access.info("GET /health")
    log.access.info("GET /")
    assert (tmp_path / "more").read_text() == "hello\n"
    assert (tmp_path / "a").read_text() == "GET /\n"
    logger.begin(settings(**files))
    assert (len(log.error.handlers), len(log.access.handlers), log.access.filters) == (1, 1, [])


def test_lines_of_wsgi_errors_stay_as_they_are_in_gunicorns_files(tmp_path: Path) -> None:
    kind: Any = type("Mine", (glogging.Logger,), {})
    logger.begin(settings(logger_class=kind, errorlog=str(tmp_path / "e")))
    log.ErrorStream().write("of the application\n")
    assert (tmp_path / "e").read_text() == "of the application\n"


# What fails


@pytest.mark.parametrize("base", [Logger, glogging.Logger, object])
@pytest.mark.parametrize("error", [ValueError("on\npurpose"), SystemExit(3), OSError(2, "No such thing")])
def test_a_setup_that_raises(tmp_path: Path, base: type, error: BaseException) -> None:
    class Broken(base):  # type: ignore[misc]
        def __init__(self, cfg: Settings) -> None:
            log.access.addFilter(NoHealth())
            log.access.addHandler(logging.StreamHandler())
            if base is not object:
                super().__init__(cfg)
            raise error

    before = logger.begin(settings(errorlog=str(tmp_path / "e")))
    broken = settings(logger_class=Broken, errorlog=str(tmp_path / "other"), origins={"logger_class": "conf.py:3"})
    with pytest.raises((SettingsError, OSError)) as caught:
        logger.begin(broken)
    if isinstance(caught.value, SettingsError):
        name = re.escape(logger.name_of(Broken))
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        place = rf" \({re.escape(__file__)}:\d+\)"
        expected = rf"logger_class = {name} \(conf.py:3\): its setup has failed: {re.escape(said)}{place}"
        assert re.fullmatch(expected, str(caught.value))
        assert caught.value.status == 1
    assert (log.access.filters, log.access.handlers) == ([], [])
    before.logger.info("still here")
    assert "still here" in (tmp_path / "e").read_text()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("no_such_module.Logger", "cannot be imported: No module named 'no_such_module'"),
        ("mylogs.Missing", "cannot be imported: no 'Missing' in module 'mylogs'"),
        ("mylogs.value", "must be a class, not int"),
        ("broken.Logger", "cannot be imported: ZeroDivisionError: division by zero"),
        (
            "gunicorn.nowhere.Logger",
            f"cannot be imported: No module named 'gunicorn.nowhere'; {OUR_LOGGER} has the same interface",
        ),
    ],
)
def test_a_class_that_is_not_there(tmp_path: Path, name: str, wrong: str) -> None:
    (tmp_path / "mylogs.py").write_text("value = 7\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(SettingsError) as caught:
        logger.begin(settings(logger_class=name, chdir=str(tmp_path), origins={"logger_class": "--logger-class"}))
    assert str(caught.value) == f"logger_class = '{name}' (--logger-class): {wrong}"


def test_a_class_is_read_anew(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "mylogs.py").write_text(
            f"from monoceros.ops.logger import Logger\n\nclass Mine(Logger):\n    number = {number}\n" + "#" * number
        )
        logs = logger.begin(settings(logger_class="mylogs.Mine", chdir=str(tmp_path)))
        assert logs.logger.number == number


# statsD


def test_a_name_that_cannot_be_looked_up_is_a_warning(tmp_path: Path) -> None:
    nowhere = Address("tcp", "no-such-host.invalid", 8125)
    logs = logger.begin(settings(statsd_host=nowhere, errorlog=str(tmp_path / "e")))
    assert logs.statsd is None
    assert (tmp_path / "e").read_text().count("No metrics go to statsD at no-such-host.invalid:8125: ") == 1


def test_gunicorns_own_statsd_class_tells_by_itself() -> None:
    kind: Any = type("Mine", (Statsd,), {})
    logs = logger.begin(settings(logger_class=kind, statsd_host=Address("tcp", "127.0.0.1", 9)))
    assert logs.statsd is None
    assert logs.is_asked
    assert logs.logger.cfg.statsd_host == ("127.0.0.1", 9)
    logs.logger.sock.close()


def test_syslog_that_cannot_be_looked_up_is_a_warning(tmp_path: Path) -> None:
    logger.begin(settings(syslog=True, syslog_addr="udp://no-such-host.invalid", errorlog=str(tmp_path / "e")))
    assert (tmp_path / "e").read_text().count("Nothing goes to syslog at 'udp://no-such-host.invalid': ") == 1


def test_the_access_log_is_wanted_by_statsd_alone() -> None:
    logs = logger.begin(settings(statsd_host=Address("tcp", "127.0.0.1", 9)))
    lines = access.AccessLog(settings(), logs.statsd)
    assert lines.enabled
    lines.add(atoms.SAMPLE)
    assert lines.waiting
    lines.flush()
    assert not lines.waiting
    assert not access.AccessLog(settings()).enabled
    assert logs.statsd is not None
    logs.statsd.close()
