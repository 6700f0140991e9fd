"""Text to value: processes, the reloader, logging."""

from __future__ import annotations

import grp
import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from monoceros.settings import process_values as values
from monoceros.settings.values import environment

Parser = Callable[[object], object]

ME = pwd.getpwuid(os.geteuid())
MINE = grp.getgrgid(os.getegid())

TAKEN: list[tuple[Parser, object, object]] = [
    (values.user, None, None),
    (values.user, "", None),
    (values.user, ME.pw_name, ME.pw_uid),
    (values.user, f" {ME.pw_name} ", ME.pw_uid),
    (values.user, "0", 0),
    (values.user, 1234567, 1234567),
    (values.user, "4294967294", 4294967294),
    (values.group, MINE.gr_name, MINE.gr_gid),
    (values.group, 0, 0),
    (values.group, None, None),
    (values.umask, "022", 0o22),
    (values.umask, "0o22", 0o22),
    (values.umask, "18", 0o22),
    (values.umask, 18, 0o22),
    (values.umask, 0o77, 0o77),
    (values.umask, " 0o77 ", 0o77),
    (values.umask, "0x12", 0o22),
    (values.umask, "0", 0),
    (values.umask, "0777", 0o777),
    (values.sendfile, None, True),
    (values.sendfile, "no", False),
    (values.reload_engine, "POLL", "poll"),
    (values.reload_engine, "inotify", "inotify"),
    (values.reload_engine, "watchfiles", "watchfiles"),
    (values.reload_engine, "auto", "auto"),
    (values.patterns, None, ()),
    (values.patterns, "a, b/*.html,,", ("a", "b/*.html")),
    (values.patterns, ["a,b", Path("/c"), ""], ("a,b", "/c")),
    (values.patterns, ("a",), ("a",)),
    (values.log_config, None, {}),
    (values.log_config, {"version": 1}, {"version": 1}),
    (environment, ["a=b=c"], ("a=b=c",)),
]


@pytest.mark.parametrize(("parse", "value", "expected"), TAKEN)
def test_taken(parse: Parser, value: object, expected: object) -> None:
    assert parse(value) == expected


REFUSED: list[tuple[Parser, object, str]] = [
    (values.user, "nobody-of-that-name", "the name or the number of a user; there is no user 'nobody-of-that-name'"),
    (values.user, "a\0b", "the name or the number of a user; there is no user 'a\\x00b'"),
    (values.user, "-1", "the name or the number of a user; there is no user '-1'"),
    (values.user, "12345678901", "the name or the number of a user; there is no user '12345678901'"),
    (values.user, -1, "the name or the number of a user"),
    (values.user, 2**32 - 1, "the name or the number of a user"),
    (values.user, True, "the name or the number of a user"),
    (values.user, 1.0, "the name or the number of a user"),
    (values.group, "no-group-of-that-name", "the name or the number of a group; there is no group"),
    (values.group, [0], "the name or the number of a group"),
    *(
        (values.umask, wrong, "a mask of file modes from 0 to 0o777")
        for wrong in ("8888", "088", "x", "", "-1", "0o1000")
    ),
    *((values.umask, wrong, "a mask of file modes from 0 to 0o777") for wrong in (None, True, 1.5, -1, 512)),
    (values.reload_engine, "fast", "auto, poll, inotify or watchfiles"),
    (values.reload_engine, None, "auto, poll, inotify or watchfiles"),
    (values.patterns, 3, "paths or patterns"),
    (values.patterns, [3], "paths or patterns"),
    (values.patterns, ["a\0b"], "paths or patterns"),
    (values.log_config, "version: 1", "a dict for logging.config.dictConfig"),
    (values.log_config, ["version"], "a dict for logging.config.dictConfig"),
    (values.sendfile, "maybe", "true or false"),
]


@pytest.mark.parametrize(("parse", "value", "message"), REFUSED)
def test_refused(parse: Parser, value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(value)
    assert str(caught.value).startswith(message)


def test_what_is_a_pattern() -> None:
    assert [path for path in ("a", "a/*.py", "a?", "[ab]", "a{b}") if values.is_pattern(path)] == [
        "a/*.py",
        "a?",
        "[ab]",
    ]


def test_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    paths = (f"{tmp_path}/a", f"{tmp_path}/b", f"{tmp_path}/c*", str(tmp_path))
    assert values.files_missing(paths) == [f"{tmp_path}/b"]


def test_a_dict_is_not_shared_with_who_gave_it() -> None:
    given = {"version": 1, "handlers": {"h": {"stream": sys.stderr, "filters": ["a"]}}}
    taken = values.log_config(given)
    assert taken == given
    taken["handlers"]["h"]["filters"].append("b")
    assert given["handlers"]["h"]["filters"] == ["a"]  # type: ignore[index]
    assert taken["handlers"]["h"]["stream"] is sys.stderr
    with pytest.raises(TypeError):
        taken["version"] = 2  # type: ignore[index]
