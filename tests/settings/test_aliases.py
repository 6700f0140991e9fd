"""Names of worker classes."""

from __future__ import annotations

import pytest

from monoceros.settings import Settings, SettingsError
from monoceros.settings.aliases import LATER, WORKER_CLASSES, kind


@pytest.mark.parametrize(
    ("name", "threads", "expected"),
    [
        ("auto", 1, "auto"),
        ("auto", 4, "auto"),
        ("sync", 1, "sync"),
        ("sync", 2, "gthread"),
        ("egg:gunicorn#sync", 1, "sync"),
        ("gunicorn.workers.sync.SyncWorker", 1, "sync"),
        ("gunicorn.workers.sync.SyncWorker", 4, "gthread"),
        ("gthread", 1, "gthread"),
        ("thread", 4, "gthread"),
        ("gunicorn.workers.gthread.ThreadWorker", 4, "gthread"),
    ],
)
def test_kind(name: str, threads: int, expected: str) -> None:
    assert kind(Settings(worker_class=name, threads=threads)) == expected


def test_what_is_not_given_is_auto() -> None:
    assert kind(Settings()) == "auto"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("asgi", "asgi workers are not available yet"),
        ("uvicorn.workers.UvicornWorker", "asgi workers are not available yet"),
        ("uvicorn_worker.UvicornH11Worker", "asgi workers are not available yet"),
        ("gevent", "gevent workers are not available yet"),
        ("gunicorn.workers.geventlet.EventletWorker", "eventlet workers are not available yet"),
        ("tornado", "tornado workers are not available yet"),
        ("gthraed", "no such kind of worker; did you mean gthread?"),
        ("Sync", "no such kind of worker; did you mean sync?"),
        ("myproject.Special", "worker classes of others cannot be used"),
        ("fast", "no such kind of worker"),
    ],
)
def test_what_is_not_served(name: str, reason: str) -> None:
    settings = Settings(worker_class=name, origins={"worker_class": "--worker-class"})
    with pytest.raises(SettingsError) as caught:
        kind(settings)
    expected = f"worker_class = '{name}' (--worker-class): {reason} (this version has sync and gthread)"
    assert str(caught.value) == expected
    assert caught.value.status == 1


def test_the_table_knows_only_kinds() -> None:
    assert set(WORKER_CLASSES.values()) == {"auto", "sync", "gthread", *LATER}
