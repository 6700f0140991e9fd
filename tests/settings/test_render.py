"""The table for people to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from monoceros import __version__
from monoceros.settings import Settings, absent
from monoceros.settings.load import load
from monoceros.settings.render import literal, parser, print_config, reference, shown_flag
from monoceros.settings.table import ROWS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "python -m monoceros.settings.render > docs/settings.md"


def test_the_page_tells_all_about_a_setting() -> None:
    entry = reference().partition("### workers\n")[2].partition("###")[0]
    told = ["`-w`, `--workers`", "`MONOCEROS_WORKERS`", "`1`, or by `WEB_CONCURRENCY`", "reload", "workers = 4"]
    assert [part for part in told if part not in entry] == []
    assert ROWS["workers"].help in entry
    assert "at a restart" in reference().partition("### backlog\n")[2].partition("###")[0]


def test_the_page_has_every_setting() -> None:
    titles = [line.removeprefix("### ") for line in reference().splitlines() if line.startswith("### ")]
    assert titles == list(ROWS)


def test_print_config(tmp_path: Path) -> None:
    settings = load(["-w", "4", "-b", "[::1]:80", "m:a"], {}, str(tmp_path))
    lines = print_config(settings).splitlines()
    assert lines == sorted(lines)
    assert "workers = 4  # --workers" in lines
    assert "bind = ['[::1]:80']  # --bind" in lines
    assert "wsgi_app = 'm:a'  # command line" in lines
    assert "timeout = 30" in lines
    assert "forwarded_allow_ips = '127.0.0.1,::1'" in lines
    assert len(lines) == len(ROWS)


def test_what_is_printed_is_a_config_file(tmp_path: Path) -> None:
    argv = ["-b", "127.0.0.1:1,unix:@a", "-e", "A=1,2", "-t", "1.5", "--no-sendfile", "--preload", "-n", "it's"]
    settings = load(argv, {"FORWARDED_ALLOW_IPS": "10.0.0.0/8"}, str(tmp_path))
    (tmp_path / "gunicorn.conf.py").write_text(print_config(settings))
    again = load([], {}, str(tmp_path))
    assert {name for name in ROWS if getattr(again, name) != getattr(settings, name)} == {"config"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2"),
        (0.5, "0.5"),
        (True, "True"),
        (None, "None"),
        (("a",), "['a']"),
        (Settings().bind, "['127.0.0.1:8000']"),
    ],
)
def test_literal(value: object, text: str) -> None:
    assert literal(value) == text


def test_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        parser().split(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: monoceros [OPTIONS] APPLICATION [OPTIONS]\n")
    assert [flag for row in ROWS.values() for flag in row.flags if flag not in out] == []
    sendfile = out.partition("--no-sendfile")[2].partition("--reuse-port")[0]
    assert "[True]" not in sendfile
    theirs = out.partition("\nUvicorn's options:\n")[2].partition("\nDebugging:\n")[0]
    assert "  --host HOST  " in theirs
    assert "  --access-log, --no-access-log\n" in theirs
    assert "--header FIELD" in theirs
    assert [name for name in absent.FLAGS if shown_flag(name).rpartition("/")[2] + " " in out] == []
    assert '%(h)s %(l)s %(u)s %(t)s "%(r)s"' in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().split(["--version"])
    assert capsys.readouterr().out == f"monoceros (version {__version__})\n"


def test_values_stay_text() -> None:
    given = parser().split(["-w", "four", "m:a", "-b", "x", "--bind=y", "--no-sendfile"])
    assert given == {"workers": "four", "app": ["m:a"], "bind": ["x", "y"], "sendfile": False}


def test_which_flag_was_used() -> None:
    it = parser()
    given = it.split(["-w", "4", "--keep-alive=1", "--timeout-keep-alive", "2", "--no-serv", "--http=h11", "--http2"])
    assert given == {"workers": "4", "keepalive": "2", "server_header": False, "http": "h11", "http2": True}
    assert it.used == {
        "workers": "-w",
        "keepalive": "--timeout-keep-alive",
        "server_header": "--no-server-header",
        "http": "--http",
        "http2": "--http2",
    }
