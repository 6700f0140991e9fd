"""The place of the application: directory, import path, variables."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monoceros.settings import Settings, SettingsError
from monoceros.settings.place import enter, here, read_env_file


@pytest.fixture(autouse=True)
def stay(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Come back from wherever a test goes."""
    monkeypatch.chdir(os.getcwd())
    monkeypatch.setattr(sys, "path", list(sys.path))
    variables = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(variables)


def test_enter(tmp_path: Path) -> None:
    enter(Settings(chdir=str(tmp_path), pythonpath="lib,/srv/plugins", raw_env=("COLOUR=red", "COLOUR=blue=green")))
    assert os.getcwd() == str(tmp_path)
    assert sys.path[:3] == ["/srv/plugins", str(tmp_path / "lib"), str(tmp_path)]
    assert os.environ["COLOUR"] == "blue=green"


def test_enter_again(tmp_path: Path) -> None:
    settings = Settings(chdir=str(tmp_path), pythonpath="lib")
    enter(settings)
    before = list(sys.path)
    enter(settings, settings)
    enter(settings)
    assert sys.path == before


def test_leaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "as started")
    start = dict(os.environ)
    old = Settings(chdir=str(tmp_path), pythonpath="lib", raw_env=("OURS=changed", "NEW=1", "KEPT=1"))
    new = Settings(chdir=str(tmp_path), raw_env=("KEPT=2",))
    enter(old)
    enter(new, old, start)
    assert (os.environ["OURS"], os.environ.get("NEW"), os.environ["KEPT"]) == ("as started", None, "2")
    assert sys.path[0] == str(tmp_path)
    assert str(tmp_path / "lib") not in sys.path


def test_the_application_directory_is_searched_first(tmp_path: Path) -> None:
    enter(Settings(chdir=str(tmp_path), pythonpath="lib", app_dir="src"))
    assert sys.path[:3] == [str(tmp_path / "src"), str(tmp_path / "lib"), str(tmp_path)]


def test_a_file_of_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "as started")
    start = dict(os.environ)
    file = tmp_path / ".env"
    file.write_text("OURS=another\nCOLOUR=red\nNEW=1\nBOTH=file")
    old = Settings(chdir=str(tmp_path), env_file_variables=read_env_file(str(file), start), raw_env=("BOTH=raw",))
    enter(old)
    assert [os.environ.get(name) for name in ("OURS", "COLOUR", "NEW", "BOTH")] == ["as started", "red", "1", "raw"]

    # A reload reads the file again, with the environment as it was at the start.
    file.write_text("COLOUR=blue")
    new = Settings(chdir=str(tmp_path), env_file_variables=read_env_file(str(file), start))
    enter(new, old, start)
    assert [os.environ.get(name) for name in ("OURS", "COLOUR", "NEW", "BOTH")] == ["as started", "blue", None, None]
    enter(old, new, start)
    assert [os.environ.get(name) for name in ("COLOUR", "NEW", "BOTH")] == ["red", "1", "raw"]


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing.*No such file or directory"):
        enter(Settings(chdir=str(tmp_path / "missing")))


def test_a_link_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "release-1").mkdir()
    (tmp_path / "release-2").mkdir()
    current = tmp_path / "current"
    current.symlink_to("release-1")
    os.chdir(current)
    directory = here({"PWD": str(current)})
    assert directory == str(current)

    current.unlink()
    current.symlink_to("release-2")
    enter(Settings(chdir=directory))
    assert os.getcwd() == str(tmp_path / "release-2")


@pytest.mark.parametrize("pwd", ["", ".", "/", "/no/such/directory"])
def test_a_wrong_pwd_is_not_believed(tmp_path: Path, pwd: str) -> None:
    os.chdir(tmp_path)
    assert here({"PWD": pwd}) == here({}) == str(tmp_path)
