"""Config files in TOML: which file, which table, which line."""

from __future__ import annotations

from pathlib import Path

import pytest

from monoceros.settings import SettingsError
from monoceros.settings.tomlfile import find, is_one, read


def test_find(tmp_path: Path) -> None:
    assert find(str(tmp_path)) is None
    (tmp_path / "pyproject.toml").write_text("[tool.monoceros]\n")
    assert find(str(tmp_path)) == "pyproject.toml"
    (tmp_path / "monoceros.toml").write_text("not TOML")  # which is said when it is read
    assert find(str(tmp_path)) == "monoceros.toml"


@pytest.mark.parametrize(
    "source",
    [
        "",
        "[tool]\n",
        "[tool.other]\nworkers = 4\n",
        "# [tool.monoceros]\n",
        "[project]\nname = 'tool.monoceros'\n",
        "not TOML at all",
    ],
)
def test_a_project_that_says_nothing_about_us(tmp_path: Path, source: str) -> None:
    (tmp_path / "pyproject.toml").write_text(source)
    assert find(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("[tool.monoceros]\nworkers = \n", "pyproject.toml:2: not TOML: Invalid value"),
        ("tool.monoceros = 4\n", "config file pyproject.toml: tool.monoceros is no table"),
        ("[[tool.monoceros]]\n", "config file pyproject.toml: tool.monoceros is no table"),
        ("tool = 1\n# tool.monoceros", "config file pyproject.toml: monoceros should be in a table"),
    ],
)
def test_a_project_that_is_wrong_about_us(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "pyproject.toml").write_text(source)
    with pytest.raises(SettingsError) as caught:
        find(str(tmp_path))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("config", "expected"),
    [("a.toml", True), ("file:/b/a.toml", True), ("a.py", False), ("python:a.toml", False), ("a.toml.py", False)],
)
def test_which_files_are_toml(config: str, expected: bool) -> None:
    assert is_one(config) is expected


PROJECT = """\
workers = 1
[project]
workers = 2

[ tool . "monoceros" ]  # ours
workers = 3
'threads' = 4
bind = [
    "127.0.0.1:1",
]
"odd key" = 5
timeout.seconds = 6

[tool.monoceros.secure_scheme_headers]
X-A = "b"
backlog = "c"

[tool.other]
keepalive = 7
"""


def test_lines_of_a_project(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    file = read("./pyproject.toml", str(tmp_path))
    assert file.shown == "./pyproject.toml"
    assert set(file.names) == {"workers", "threads", "bind", "odd key", "timeout", "secure_scheme_headers"}
    assert {name: file.origin(name).removeprefix("./pyproject.toml") for name in file.names} == {
        "workers": ":6",
        "threads": ":7",
        "bind": ":8",
        "odd key": "",
        "timeout": ":12",
        "secure_scheme_headers": ":14",
    }


@pytest.mark.parametrize("config", ["own.toml", "file:own.toml", "{}/own.toml"])
def test_a_file_of_our_own(tmp_path: Path, config: str) -> None:
    (tmp_path / "own.toml").write_bytes(b"# first\r\nworkers = 3\r\n[logconfig_dict]\r\nversion = 1\r\n")
    file = read(config.format(tmp_path), str(tmp_path))
    assert file.names == {"workers": 3, "logconfig_dict": {"version": 1}}
    assert file.lines == {"workers": 2, "logconfig_dict": 3}


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        ("missing.toml", None, "config file missing.toml: No such file or directory ({}/missing.toml)"),
        ("a.toml", b"workers = \xff", "config file a.toml: TOML is UTF-8, which this is not"),
        ("a.toml", b"workers = 1\nworkers == 2", "a.toml:2: not TOML: Invalid value"),
        ("a.toml", b"workers = [", "a.toml: not TOML: "),
        ("pyproject.toml", b"[tool.other]", "config file pyproject.toml: it has no table [tool.monoceros]"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, file: str, source: bytes | None, message: str) -> None:
    if source is not None:
        (tmp_path / file).write_bytes(source)
    with pytest.raises(SettingsError) as caught:
        read(file, str(tmp_path))
    assert str(caught.value).startswith(message.format(tmp_path))
