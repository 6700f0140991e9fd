"""Lines of both logs as JSON: one object each, whatever is in it."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoceros.ops import jsonlines, log
from monoceros.ops.access import AccessLog
from monoceros.ops.atoms import Facts
from monoceros.ops.jsonlines import AccessLine, Moment, ObjectLine
from monoceros.ops.redact import Redaction
from monoceros.settings.log_values import SECRETS
from monoceros.settings.table import Settings

SETTINGS = Settings(log_format="json")
FACTS = Facts(
    peer="192.0.2.7",
    method="GET",
    target="/caf%C3%A9?a=1",
    path="/caf\xc3\xa9",
    query="a=1",
    protocol="HTTP/1.1",
    fields=[(b"host", b"a"), (b"user-agent", b"curl/8"), (b"referer", b"http://a/?key=abc")],
    status=200,
    response_fields=[],
    sent=1234,
    seconds=1.2345678,
)
NOON = datetime(2026, 9, 10, 12, 0, 0, 123456, UTC).timestamp()


def made(facts: Facts = FACTS, **changes: Any) -> dict[str, Any]:
    line = AccessLine(3, 2, Redaction(SECRETS), lambda: NOON)(facts._replace(**changes))
    return read(line)


def read(line: str) -> dict[str, Any]:
    """The object of a line that any reader of JSON takes."""
    assert line.isascii()
    assert "\n" not in line
    said = json.loads(line)
    assert isinstance(said, dict)
    json.dumps(said, ensure_ascii=False).encode()  # there is no half of a surrogate pair
    return said


def logged(path: Path) -> list[dict[str, Any]]:
    return [read(line) for line in path.read_text().splitlines()]


# The access log


def test_what_an_access_line_says() -> None:
    said = made(request_id="abc-1", queue_time=0.25)
    assert datetime.fromisoformat(said.pop("time")).timestamp() == pytest.approx(NOON, abs=1e-6)
    assert said == {
        "level": "info",
        "logger": "gunicorn.access",
        "worker": 3,
        "generation": 2,
        "request_id": "abc-1",
        "client": "192.0.2.7",
        "method": "GET",
        "path": "/café",
        "query": "a=1",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 1234,
        "duration": 1.234568,
        "queue_time": 0.25,
        "user_agent": "curl/8",
        "referer": "http://a/?key=[redacted]",
    }


def test_what_is_not_known_is_not_there() -> None:
    said = made(fields=(), query="", peer="")
    assert not said.keys() & {"request_id", "queue_time", "user_agent", "referer"}
    assert (said["query"], said["client"]) == ("", "")


def test_secrets() -> None:
    line = AccessLine(3, 2, Redaction(SECRETS))
    facts = FACTS._replace(target="/?token=abc", query="token=abc")
    assert read(line(facts))["query"] == "token=[redacted]"


@pytest.mark.parametrize(
    ("path", "shown"), [("/\xff\xc3\xa9", "/\ufffdé"), ('/"\\\n\x00', '/"\\\n\x00'), ("/é\u20ac", "/é\u20ac")]
)
def test_paths(path: str, shown: str) -> None:
    assert made(path=path, target=path)["path"] == shown


@given(st.text(), st.text(), st.binary(), st.binary())
def test_any_bytes(path: str, query: str, agent: bytes, referer: bytes) -> None:
    fields = [(b"user-agent", agent), (b"referer", referer)]
    read(AccessLine(1, 1, Redaction(SECRETS))(FACTS._replace(path=path, target=path, query=query, fields=fields)))


@given(st.lists(st.sampled_from(["\ud83d", "\ude00", "a", "\\ud83d", "\U0001f600", "\ud7ff"])).map("".join))
def test_halves_of_surrogate_pairs(text: str) -> None:
    assert read(f'{{"a":{jsonlines.quoted(text)}}}')["a"] == jsonlines.whole(text)


def test_one_write_and_no_record_where_only_our_handler_listens(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    settings = replace(SETTINGS, accesslog=str(path), errorlog=None)
    log.setup(settings)
    lines = AccessLog(settings, worker=3, generation=2)
    lines.add(FACTS)
    lines.add(FACTS._replace(status=404))
    lines.flush()
    assert [said["status"] for said in logged(path)] == [200, 404]


def test_the_same_line_by_way_of_a_record(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    settings = replace(SETTINGS, accesslog=str(path), errorlog=None)
    log.setup(settings)
    seen: list[str] = []
    log.access.addFilter(lambda record: not seen.append(record.getMessage()))
    lines = AccessLog(settings, worker=3, generation=2)
    lines.add(FACTS)
    lines.flush()
    assert [said["status"] for said in logged(path)] == [200]
    assert seen == path.read_text().splitlines()


def test_in_uvicorns_manner_the_line_has_the_same_shape(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    settings = replace(SETTINGS, accesslog=str(path), errorlog=None, manner="uvicorn")
    log.setup(settings)
    lines = AccessLog(settings, worker=3, generation=2)
    lines.add(FACTS)
    lines.flush()
    logging.getLogger("uvicorn.access").info("of an application")
    [line, other] = logged(path)
    assert line.keys() == made().keys()
    assert (other["logger"], other["message"]) == ("uvicorn.access", "of an application")


def test_uvicorns_handlers_of_others_get_uvicorns_records(tmp_path: Path) -> None:
    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record.args)

    kept: list[object] = []
    settings = replace(SETTINGS, accesslog=str(tmp_path / "a.log"), errorlog=None, manner="uvicorn")
    log.uvicorn_access.addHandler(Kept())
    log.uvicorn_access.setLevel(logging.INFO)
    log.setup(settings)
    lines = AccessLog(settings)
    lines.add(FACTS)
    lines.flush()
    assert kept == [("192.0.2.7:0", "GET", "/caf%C3%A9?a=1", "1.1", 200)]


# The error log


def test_what_an_error_line_says(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    log.setup(replace(SETTINGS, errorlog=str(path)))
    log.error.info("Listening at %s", "here")
    log.identify(4, 2)
    token = jsonlines.current.set("abc-1")
    try:
        raise RuntimeError("no\nway")
    except RuntimeError:
        log.error.exception("It %s", "failed")
    finally:
        jsonlines.current.reset(token)
    first, second = logged(path)
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    told = {"level": "info", "logger": "gunicorn.error", "pid": os.getpid(), "generation": 1}
    assert first == told | {"message": "Listening at here"}
    assert second.pop("exception").endswith("RuntimeError: no\nway")
    del second["time"]
    told |= {"level": "error", "worker": 2, "generation": 4, "message": "It failed", "request_id": "abc-1"}
    assert second == told


def test_records_of_applications(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    log.setup(replace(SETTINGS, errorlog=str(path)))
    shop = logging.Logger("shop")
    shop.handlers = log.error.handlers
    shop.warning("half \ud83d of \U0001f600 a pair", extra={"request_id": 7})
    shop.info({"a": 1}, stack_info=True)
    log.uvicorn_error.info("up")
    half, other, third = logged(path)
    assert (half["logger"], half["message"], half["request_id"]) == ("shop", "half \ufffd of \U0001f600 a pair", "7")
    assert other["message"] == "{'a': 1}"
    assert other["stack"].startswith("Stack (most recent call last):")
    assert third["logger"] == "uvicorn.error"


def test_what_goes_to_wsgi_errors(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    log.setup(replace(SETTINGS, errorlog=str(path)))
    stream = log.ErrorStream()
    print("one", "two", sep="\n", file=stream)
    assert "\n".join(said["message"] for said in logged(path)) == "one\ntwo"


def test_the_moment_is_exact_and_in_the_local_zone() -> None:
    moment = Moment()
    for seconds in (0.0, 0.000001, NOON, NOON + 0.5, 1e9 + 0.999999):
        text = moment(seconds)
        assert len(text) == len("2026-09-10T12:00:00.123456+00:00")
        assert datetime.fromisoformat(text).timestamp() == pytest.approx(seconds, abs=2e-6)


@given(st.lists(st.tuples(st.sampled_from([1, 999_999_999, 1_800_000_000]), st.integers(0, 2_000_000)), min_size=1))
def test_moments_one_behind_the_other(times: list[tuple[int, int]]) -> None:
    moment = Moment()
    for second, microseconds in times:
        seconds = second + microseconds / 1e6
        assert datetime.fromisoformat(moment(seconds)).timestamp() == pytest.approx(seconds, abs=2e-6)


def test_a_reload_may_change_the_format(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    for settings in (Settings(), SETTINGS, Settings()):
        log.setup(replace(settings, errorlog=str(path)))
        log.error.info("hello")
    text, line, again = path.read_text().splitlines()
    assert read(line)["message"] == "hello"
    assert text.endswith("[INFO] hello")
    assert again.endswith("[INFO] hello")


def test_no_exception_is_none() -> None:
    record = logging.LogRecord("a", logging.INFO, __file__, 1, "m", None, (None, None, None))
    assert "exception" not in read(ObjectLine().format(record))
    assert "exception" not in read(ObjectLine().format(logging.makeLogRecord({"exc_info": sys.exc_info()})))
