"""Names of worker classes."""

from __future__ import annotations

import inspect

import pytest
import uvicorn

from monoceros.settings import Settings, SettingsError, absent
from monoceros.settings.aliases import LATER, SHARED, UVICORN_FLAGS, UVICORN_NAMES, WORKER_CLASSES, kind
from monoceros.settings.table import ROWS


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
        ("gevent", 4, "gevent"),
        ("gevent_wsgi", 1, "gevent"),
        ("gevent_pywsgi", 1, "gevent"),
        ("gunicorn.workers.ggevent.GeventWorker", 1, "gevent"),
        ("gunicorn.workers.ggevent:GeventPyWSGIWorker", 1, "gevent"),
        ("egg:gunicorn#gevent", 1, "gevent"),
        ("asgi", 1, "asgi"),
        ("gunicorn.workers.gasgi.ASGIWorker", 4, "asgi"),
        ("uvicorn.workers.UvicornWorker", 1, "asgi"),
        ("uvicorn.workers:UvicornH11Worker", 1, "asgi"),
        ("uvicorn_worker.UvicornH11Worker", 1, "asgi"),
    ],
)
def test_kind(name: str, threads: int, expected: str) -> None:
    assert kind(Settings(worker_class=name, threads=threads)) == expected


def test_what_is_not_given_is_auto() -> None:
    assert kind(Settings()) == "auto"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gunicorn.workers.geventlet.EventletWorker", "eventlet workers are not available yet"),
        ("tornado", "tornado workers are not available yet"),
        ("gthraed", "no such kind of worker; did you mean gthread?"),
        ("Sync", "no such kind of worker; did you mean sync?"),
        ("logging.Logger", "worker classes of others cannot be used"),
        ("fast", "no such kind of worker"),
    ],
)
def test_what_is_not_served(name: str, reason: str) -> None:
    settings = Settings(worker_class=name, origins={"worker_class": "--worker-class"})
    with pytest.raises(SettingsError) as caught:
        kind(settings)
    expected = f"worker_class = '{name}' (--worker-class): {reason} (this version has sync, gthread, asgi and gevent)"
    assert str(caught.value) == expected
    assert caught.value.status == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("elsewhere_entirely.Special", "No module named 'elsewhere_entirely'"),
        (
            "uvicorn.worker.UvicornWorker",
            "No module named 'uvicorn.worker'; did you mean uvicorn.workers.UvicornWorker?",
        ),
        (
            "uvicorn_worker.UvicornWorkre",
            "no 'UvicornWorkre' in module 'uvicorn_worker'; did you mean uvicorn_worker.UvicornWorker?",
        ),
    ],
)
def test_a_class_that_is_not_there(name: str, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        kind(Settings(worker_class=name))
    assert str(caught.value) == f"worker_class = '{name}' (default): cannot be imported: {reason}"


def test_every_name_of_uvicorn_leads_somewhere() -> None:
    absentees = absent.ALL.keys()
    assert [name for name, ours in UVICORN_NAMES.items() if ours not in ROWS and ours not in absentees] == []


def test_uvicorns_own_parameters_are_known() -> None:
    assert set(inspect.signature(uvicorn.run).parameters) <= set(UVICORN_NAMES)


def test_uvicorns_own_flags_are_known() -> None:
    ours = {flag for row in ROWS.values() for flag in row.flags}
    ours |= {word for usage in absent.FLAGS.values() for word in usage.split()}
    theirs = {flag for option in uvicorn.main.params for flag in [*option.opts, *option.secondary_opts]}
    assert theirs - ours == {"app", "--version"}
    assert UVICORN_FLAGS & ours == theirs - {"app", "--version"} - {f"--{name.replace('_', '-')}" for name in SHARED}


def test_the_table_knows_only_kinds() -> None:
    assert set(WORKER_CLASSES.values()) == {"auto", "sync", "gthread", "asgi", "gevent", *LATER}
