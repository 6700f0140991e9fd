"""Config files in Python: they run as their authors expect, and their errors are theirs."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from monoceros.settings import SettingsError
from monoceros.settings.pyfile import find, read


@pytest.fixture(autouse=True)
def leave_no_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_find(tmp_path: Path) -> None:
    assert find(str(tmp_path)) is None
    write(tmp_path / "gunicorn.conf.py", "")
    assert find(str(tmp_path)) == "gunicorn.conf.py"
    write(tmp_path / "monoceros.conf.py", "")
    assert find(str(tmp_path)) == "monoceros.conf.py"


@pytest.mark.parametrize("config", ["conf.py", "file:conf.py", "./conf.py", "{}/conf.py", "file:{}/conf.py"])
def test_a_path(config: str, tmp_path: Path) -> None:
    path = write(tmp_path / "conf.py", "here, name = __file__, __name__")
    file = read(config.format(tmp_path), str(tmp_path))
    assert file.names["here"] == str(path)
    assert file.names["name"] == "__config__"
    assert file.shown == config.format(tmp_path).removeprefix("file:")


def test_a_module(tmp_path: Path) -> None:
    path = write(tmp_path / "deploy" / "conf.py", "from .base import workers\nname = __name__")
    write(tmp_path / "deploy" / "base.py", "workers = 4")
    write(tmp_path / "deploy" / "__init__.py", "")
    file = read("python:deploy.conf", "/")
    assert file.names["workers"] == 4
    assert file.names["name"] == "deploy.conf"
    assert file.names["__file__"] == str(path)
    assert sys.modules["deploy"].conf is sys.modules["deploy.conf"]


def test_a_reload_runs_it_afresh(tmp_path: Path) -> None:
    path = write(tmp_path / "fresh.py", "workers = 4\nthreads = 2\n")
    for config in ("fresh.py", "python:fresh"):
        path.write_text("workers = 4\nthreads = 2\n")
        assert read(config, str(tmp_path)).names["threads"] == 2
        path.write_text("workers = 5\n")
        names = read(config, str(tmp_path)).names
        assert names["workers"] == 5
        assert "threads" not in names


def test_a_failed_reload_leaves_the_module_that_was(tmp_path: Path) -> None:
    path = write(tmp_path / "once.py", "workers = 4")
    read("python:once", "/")
    before = sys.modules["once"]
    path.write_text("workers = four  # longer than before")
    with pytest.raises(SettingsError):
        read("python:once", "/")
    assert sys.modules["once"] is before


def test_it_may_define_dataclasses(tmp_path: Path) -> None:
    lines = [
        "from __future__ import annotations",
        "from dataclasses import dataclass",
        "from typing import ClassVar",
        "@dataclass",
        "class Plan:",
        "    few: ClassVar[int] = 2",
        "    workers: int = 2",
        "workers = Plan().workers",
    ]
    write(tmp_path / "conf.py", "\n".join(lines))
    assert read("conf.py", str(tmp_path)).names["workers"] == 2


SOURCE = """\
import os as threads
from os import path as timeout
bind = [
    "127.0.0.1:8000",
]
workers: int = 4
workers += 1
if bind:
    loglevel = "debug"
else:
    loglevel = "info"
def keepalive():
    accesslog = "-"
    return [errorlog for errorlog in ""]
for backlog in (1, 2):
    pass
graceful_timeout = max_requests = 5
globals()["chdir"] = "/"
"""


@pytest.mark.parametrize(
    ("name", "origin"),
    {
        "threads": "conf.py:1",
        "timeout": "conf.py:2",
        "bind": "conf.py:3",
        "workers": "conf.py:7",
        "loglevel": "conf.py:9",
        "keepalive": "conf.py:12",
        "backlog": "conf.py:15",
        "max_requests": "conf.py:17",
        "chdir": "conf.py",
    }.items(),
)
def test_origin(name: str, origin: str, tmp_path: Path) -> None:
    write(tmp_path / "conf.py", SOURCE)
    file = read("conf.py", str(tmp_path))
    assert file.origin(name) == origin
    assert "accesslog" not in file.names


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a = 1\nworkers = four\n", "conf.py:2: NameError: name 'four' is not defined"),
        ("def f():\n    raise ValueError('two\\nlines')\n\nf()\n", "conf.py:2: ValueError: two lines"),
        ("import missing_module\n", "conf.py:1: ModuleNotFoundError: No module named 'missing_module'"),
        ("import sys\nsys.exit('no')\n", "conf.py:2: SystemExit: no"),
        ("raise RuntimeError\n", "conf.py:1: RuntimeError"),
        ("from helper import x\n", "conf.py:1: ZeroDivisionError: division by zero"),
    ],
)
@pytest.mark.parametrize("config", ["conf.py", "python:conf"])
def test_the_users_error(source: str, message: str, config: str, tmp_path: Path) -> None:
    path = write(tmp_path / "conf.py", source)
    write(tmp_path / "helper.py", "x = 1 / 0")
    with pytest.raises(SettingsError) as caught:
        read(config, str(tmp_path))
    assert str(caught.value) == message.replace("conf.py", config, 1)
    cause = caught.value.__cause__
    assert cause is not None
    assert traceback.extract_tb(cause.__traceback__)[0].filename == str(path)


@pytest.mark.parametrize("config", ["conf.py", "python:conf"])
def test_the_users_syntax_error(config: str, tmp_path: Path) -> None:
    path = write(tmp_path / "conf.py", "workers = 4\nthreads = = 2\n")
    with pytest.raises(SettingsError) as caught:
        read(config, str(tmp_path))
    assert str(caught.value) == f"{config}:2: SyntaxError: invalid syntax"
    assert f'File "{path}", line 2' in "".join(traceback.format_exception(caught.value.__cause__))


def test_a_syntax_error_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "conf.py", "\nimport broken\n")
    write(tmp_path / "broken.py", "\n\n\n)")
    with pytest.raises(SettingsError, match=r"conf\.py:2: SyntaxError: unmatched '\)' \(broken\.py, line 4\)"):
        read("conf.py", str(tmp_path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("missing.py", "config file missing.py: No such file or directory ({}/missing.py)"),
        ("file:missing.py", "config file missing.py: No such file or directory ({}/missing.py)"),
        (".", "config file .: Is a directory ({})"),
        ("python:missing_module", "config file python:missing_module: no such module"),
        ("python:missing_package.conf", "config file python:missing_package.conf: no such module"),
        ("python:sys", "config file python:sys: no such module"),
        ("python:failing.conf", "config file python:failing.conf: ModuleNotFoundError: No module named 'elsewhere'"),
    ],
)
def test_a_file_that_is_not_there(config: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / "failing" / "__init__.py", "import elsewhere")
    with pytest.raises(SettingsError) as caught:
        read(config, str(tmp_path))
    assert str(caught.value) == message.format(tmp_path)


def test_null_bytes(tmp_path: Path) -> None:
    write(tmp_path / "conf.py", "workers = 4\0")
    with pytest.raises(SettingsError, match="null bytes"):
        read("conf.py", str(tmp_path))
