"""The directory in which an application's metrics are kept for all workers."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from monoceros.ops.multiproc import VARIABLE, Directory, inherit
from monoceros.settings.table import Settings
from monoceros.settings.values import admin_addresses

MANY = Settings(workers=2)


def prepared(settings: Settings, environ: dict[str, str]) -> Directory:
    directory = Directory()
    directory.prepare(settings, environ)
    return directory


def test_it_is_made_and_removed() -> None:
    environ: dict[str, str] = {}
    directory = prepared(MANY, environ)
    path = environ[VARIABLE]
    assert directory.path == path
    assert os.stat(path).st_mode & 0o777 == 0o700
    Path(path, "counter_7.db").write_bytes(b"")
    directory.remove()
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        (Settings(), False),
        (replace(MANY, prometheus_multiproc=False), False),
        (Settings(admin_bind=admin_addresses("9100")), True),
    ],
    ids=["one worker", "switched off", "one worker and somebody who asks"],
)
def test_who_needs_it(settings: Settings, there: bool) -> None:
    environ: dict[str, str] = {}
    directory = prepared(settings, environ)
    assert (VARIABLE in environ) is there
    directory.remove()


def test_it_is_made_again_for_the_next_worker(caplog: pytest.LogCaptureFixture) -> None:
    """Something may clean up what has not been touched for a while."""
    directory = prepared(MANY, environ := {})
    path = Path(environ[VARIABLE])
    (path / "counter_7.db").write_bytes(b"")
    directory.bury(7)
    shutil.rmtree(path)
    assert directory.bequeath() is None
    assert path.is_dir()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    directory.remove()


def test_that_of_the_user_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine" / "metrics"
    directory = prepared(Settings(), {VARIABLE: str(path)})
    assert path.is_dir()
    (path / "counter_7.db").write_bytes(b"")
    directory.remove()
    assert (path / "counter_7.db").exists()


def test_the_next_worker_goes_on_where_a_dead_one_stopped() -> None:
    directory = prepared(MANY, environ := {})
    path = Path(environ[VARIABLE])
    for name in ("counter_7.db", "histogram_7.db", "gauge_max_7.db", "gauge_livesum_7.db", "counter_17.db"):
        (path / name).write_text(name)
    assert directory.bequeath() is None
    directory.bury(7)
    assert not (path / "gauge_livesum_7.db").exists()
    assert directory.bequeath() == 7
    assert directory.bequeath() is None
    directory.bequeathed(7, 8)
    inherit(str(path), 7, 8)
    assert sorted(file.name for file in path.iterdir()) == [
        "counter_17.db", "counter_8.db", "gauge_max_8.db", "histogram_8.db", "lock",
    ]  # fmt: skip
    assert (path / "counter_8.db").read_text() == "counter_7.db"
    directory.bury(8)
    assert directory.bequeath() == 8
    directory.remove()


def test_who_dies_before_it_has_taken_over_leaves_it_to_the_next() -> None:
    directory = prepared(MANY, environ := {})
    (Path(environ[VARIABLE]) / "counter_7.db").write_bytes(b"")
    directory.bury(7)
    assert directory.bequeath() == 7
    directory.bequeathed(7, 8)
    directory.bury(8)
    assert directory.bequeath() == 7
    directory.remove()


def test_what_a_killed_server_has_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what is in use, nor what somebody else has put there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = prepared(MANY, {})
    (tmp_path / "monoceros-prometheus-unknown").mkdir()
    pid = os.fork()
    if not pid:
        prepared(MANY, environ := {})
        Path(environ[VARIABLE], "counter_7.db").write_bytes(b"7")
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(list(tmp_path.iterdir())) == 3
    another = prepared(MANY, {})
    assert {str(path) for path in tmp_path.iterdir()} == {
        living.path, another.path, str(tmp_path / "monoceros-prometheus-unknown"),
    }  # fmt: skip
    living.remove()
    another.remove()


def test_who_leaves_nothing_has_no_heir() -> None:
    directory = prepared(MANY, {})
    directory.bury(7)
    assert directory.bequeath() is None
    directory.remove()
