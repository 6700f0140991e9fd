"""The place of the application: directory, import path, variables."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monoceros.settings import Settings, SettingsError
from monoceros.settings.place import enter, here


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
