"""Worker classes made from Uvicorn's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from monoceros.settings import Settings, SettingsError
from monoceros.settings.aliases import kind
from monoceros.settings.load import load

MODULE = """
import os
from uvicorn.workers import UvicornH11Worker, UvicornWorker
from uvicorn_worker import UvicornWorker as Newer

class Plain(UvicornWorker):
    pass

class Special(UvicornWorker):
    CONFIG_KWARGS = {"loop": "asyncio", "http": "h11", "lifespan": "off", "timeout_keep_alive": 7, "workers": 4}

class Grandchild(Special):
    pass

class Quiet(Newer):
    CONFIG_KWARGS = {"ws_ping_interval": None, "limit_max_requests": None, "log_level": None, "colour": 1}

class Pure(UvicornH11Worker):
    pass

class Wrong(Newer):
    CONFIG_KWARGS = {"lifespan": "sometimes"}

class Other:
    CONFIG_KWARGS = {"lifespan": "off"}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "own_workers.py").write_text(MODULE)
    (tmp_path / "raising_workers.py").write_text("1 / 0")
    return tmp_path


def loads(project: Path, *argv: str, **environ: str) -> Settings:
    return load(argv, environ, str(project))


def test_what_it_says_counts(project: Path) -> None:
    settings = loads(project, "-k", "own_workers.Special")
    assert (settings.asgi_loop, settings.asgi_lifespan, settings.keepalive, settings.workers) == (
        "asyncio",
        "off",
        7,
        1,
    )
    assert settings.origins["keepalive"] == "timeout_keep_alive in CONFIG_KWARGS of own_workers.Special"
    assert settings.notes == (
        "http in CONFIG_KWARGS of own_workers.Special has no effect: there is one HTTP parser",
        "workers in CONFIG_KWARGS of own_workers.Special has no effect: it is not for a worker to say",
    )
    assert kind(settings) == "asgi"


def test_it_is_in_uvicorns_manner_but_has_no_access_log_by_that(project: Path) -> None:
    settings = loads(project, "-k", "own_workers.Special")
    assert (settings.manner, settings.accesslog) == ("uvicorn", None)


def test_a_file_counts_less_and_all_else_more(project: Path) -> None:
    (project / "gunicorn.conf.py").write_text("worker_class = 'own_workers:Grandchild'\nkeepalive = 3\ntimeout = 4")
    settings = loads(project, "--loop", "uvloop", MONOCEROS_ASGI_LIFESPAN="on")
    assert (settings.keepalive, settings.timeout) == (7, 4)
    assert (settings.asgi_loop, settings.asgi_lifespan) == ("uvloop", "on")


def test_nothing_said(project: Path) -> None:
    settings = loads(project, "-k", "own_workers.Plain", UVICORN_LOOP="uvloop")
    assert (settings.asgi_loop, settings.notes) == ("uvloop", ())
    settings = loads(project, "-k", "own_workers.Quiet")
    assert settings.ws_ping_interval == 0
    assert (settings.max_requests, settings.loglevel) == (0, "info")
    assert settings.notes == ("colour in CONFIG_KWARGS of own_workers.Quiet has no effect: Uvicorn has no such option",)


@pytest.mark.parametrize(
    "name", ["own_workers.Pure", "uvicorn.workers.UvicornH11Worker", "uvicorn_worker.UvicornH11Worker"]
)
def test_the_h11_worker_runs_on_asyncio_if_nobody_says_otherwise(project: Path, name: str) -> None:
    assert loads(project, "-k", name).asgi_loop == "asyncio"
    (project / "gunicorn.conf.py").write_text("asgi_loop = 'uvloop'")
    assert loads(project, "-k", name).asgi_loop == "uvloop"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "own_workers.Other",
            "worker classes of others cannot be used (this version has sync, gthread, asgi and gevent)",
        ),
        ("own_workers.Missing", "cannot be imported: no 'Missing' in module 'own_workers'"),
        ("raising_workers.Some", "cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_used(project: Path, name: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loads(project, "-k", name)
    assert str(caught.value) == f"worker_class = '{name}' (--worker-class): {message}"
    assert isinstance(caught.value.__cause__, ZeroDivisionError) is ("Zero" in message)


def test_a_wrong_value_says_where_it_stands(project: Path) -> None:
    with pytest.raises(SettingsError, match=r"^asgi_lifespan = 'sometimes' \(lifespan in CONFIG_KWARGS of own_"):
        loads(project, "-k", "own_workers.Wrong")


def test_it_is_found_where_the_application_is(project: Path) -> None:
    (project / "sub" / "lib").mkdir(parents=True)
    (project / "own_workers.py").rename(project / "sub" / "lib" / "own_workers.py")
    for flags in (["--chdir", "sub", "--pythonpath", "lib"], ["--app-dir", "sub/lib"], ["--chdir", "sub/lib"]):
        assert loads(project, "-k", "own_workers.Special", *flags).keepalive == 7


def test_a_reload_reads_it_again_and_leaves_nothing_behind(project: Path) -> None:
    assert loads(project, "-k", "own_workers.Special").keepalive == 7
    (project / "own_workers.py").write_text(MODULE.replace(": 7", ": 8.25"))
    assert loads(project, "-k", "own_workers.Special").keepalive == 8.25
    assert "own_workers" not in sys.modules
    assert str(project) not in sys.path


def test_a_config_file_may_have_the_class_itself(project: Path) -> None:
    conf = (
        "from uvicorn_worker import UvicornWorker\n"
        "class Mine(UvicornWorker):\n    CONFIG_KWARGS = {'root_path': '/a'}\n"
        "worker_class = Mine"
    )
    (project / "gunicorn.conf.py").write_text(conf)
    assert loads(project).root_path == "/a"
