"""--paste: what a PasteDeploy file means for the settings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from monoceros.settings import Settings, SettingsError
from monoceros.settings.load import changes, load
from monoceros.settings.render import print_config
from monoceros.settings.table import ROWS

INI = """
[app:main]
use = egg:myproject
workers = 9

[server:main]
use = egg:gunicorn#main
host = 0.0.0.0
port = 80
workers = 8

[loggers]
keys = root
"""


@pytest.fixture
def ini(tmp_path: Path) -> str:
    path = tmp_path / "production.ini"
    path.write_text(INI)
    return str(path)


def loads(ini: str, *argv: str, **environ: str) -> Settings:
    return load(argv, environ, str(Path(ini).parent))


@pytest.mark.parametrize("flag", ["--paste", "--paster"])
def test_a_file(ini: str, flag: str) -> None:
    settings = loads(ini, flag, "production.ini")
    assert (settings.paste, settings.wsgi_app) == (ini, ini)
    assert (settings.logconfig, settings.default_proc_name) == (ini, ini)
    assert settings.origins["wsgi_app"] == "--paste"
    assert (settings.workers, str(settings.bind[0])) == (1, "127.0.0.1:8000")  # [server:main] is for others
    assert settings.notes == ()


@pytest.mark.parametrize("spec", ["production.ini#other", "config:production.ini#other", "./production.ini#other"])
def test_a_section(ini: str, spec: str) -> None:
    settings = loads(ini, "--paste", spec, "--paste-global", "a=b", "--paste-global", "c=d,e")
    assert settings.paste == f"{ini}#other"
    assert (settings.default_proc_name, settings.raw_paste_global_conf) == (ini, ("a=b", "c=d,e"))


def test_where_else_it_can_be_given(ini: str) -> None:
    assert loads(ini, MONOCEROS_PASTE="production.ini").paste == ini
    assert loads(ini, GUNICORN_CMD_ARGS="--paste production.ini").paste == ini
    (Path(ini).parent / "gunicorn.conf.py").write_text("paste = 'production.ini'\nwsgi_app = 'm:a'")
    settings = loads(ini)
    assert (settings.paste, settings.wsgi_app) == (None, "m:a")
    assert settings.notes == ("paste (gunicorn.conf.py:1) has no effect: it counts on the command line",)


def test_a_config_file_counts_more(ini: str) -> None:
    (Path(ini).parent / "gunicorn.conf.py").write_text("logconfig = None\ndefault_proc_name = 'a'")
    settings = loads(ini, "--paste", ini)
    assert (settings.logconfig, settings.default_proc_name) == (None, "a")


def test_without_loggers(ini: str) -> None:
    Path(ini).write_text("[app:main]\nuse = egg:myproject\npercent = %(here)s %\n")
    assert loads(ini, "--paste", ini).logconfig is None


def test_another_application_is_not_used(ini: str) -> None:
    settings = loads(ini, "--paste", ini, "m:a")
    assert settings.wsgi_app == ini
    assert settings.notes == (f"command line: 'm:a' is not used, the application is in {ini!r}",)


def test_nothing_said(ini: str) -> None:
    assert loads(ini, "--paste=", "m:a").wsgi_app == "m:a"


@pytest.mark.parametrize(
    ("name", "source", "wrong"),
    [
        ("missing.ini", None, "there is no file {}/missing.ini"),
        ("egg:myproject", None, "there is no file {}/egg:myproject"),
        ("broken.ini", b"no section", "File contains no section headers."),
        ("broken.ini", b"[a]\nb = \xff", "'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_what_is_no_such_file(tmp_path: Path, name: str, source: bytes | None, wrong: str) -> None:
    if source is not None:
        (tmp_path / name).write_bytes(source)
    with pytest.raises(SettingsError) as caught:
        load(["--paste", name], {}, str(tmp_path))
    assert str(caught.value).startswith(f"paste = {name!r} (--paste): {wrong.format(tmp_path)}")


def test_without_pastedeploy(ini: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paste.deploy", None)  # as if it were not installed
    with pytest.raises(SettingsError) as caught:
        loads(ini, "--paste", "production.ini")
    needed = "PasteDeploy is needed to read it: pip install 'monoceros[paste]'"
    assert str(caught.value) == f"paste = 'production.ini' (--paste): {needed}"


def test_what_is_printed_is_a_config_file(ini: str) -> None:
    settings = loads(ini, "--paste", ini)
    printed = print_config(settings)
    assert f"# wsgi_app = {ini!r}  # --paste\n" in printed
    (Path(ini).parent / "gunicorn.conf.py").write_text(printed)
    again = loads(ini, "--paste", ini)
    assert {name for name in ROWS if getattr(again, name) != getattr(settings, name)} == {"config"}
    assert changes(settings, again) == []
