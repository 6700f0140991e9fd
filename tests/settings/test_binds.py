"""Host and port, uds and fd: what becomes of `bind`."""

from __future__ import annotations

import pytest

from monoceros.settings import Settings, SettingsError
from monoceros.settings.load import load


def bind(settings: Settings) -> str:
    return ",".join(map(str, settings.bind))


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        ("--host 0.0.0.0 --port 8080", {}, "0.0.0.0:8080"),
        ("--host 0.0.0.0", {}, "0.0.0.0:8000"),
        ("--port 0", {}, "127.0.0.1:0"),
        ("--host ::", {}, "[::]:8000"),
        ("--host ::1 --port 9000", {}, "[::1]:9000"),
        ("--host localhost --port 9000", {}, "localhost:9000"),
        ("--uds /run/a.sock", {}, "unix:/run/a.sock"),
        ("--fd 3", {}, "fd://3"),
        ("--uds a.sock --host 0.0.0.0 --port 1", {}, "unix:a.sock"),
        ("--fd 3 --port 1", {}, "fd://3"),
        # Over what counts less.
        ("--port 9000", {"PORT": "5000"}, "127.0.0.1:9000"),
        ("--host 1.2.3.4", {"PORT": "5000"}, "1.2.3.4:5000"),
        ("--host 1.2.3.4", {"MONOCEROS_BIND": "unix:/a"}, "1.2.3.4:8000"),
        ("--host 1.2.3.4", {"MONOCEROS_BIND": ":1,:2"}, "1.2.3.4:8000"),
        ("--host 1.2.3.4", {"MONOCEROS_BIND": "a:5"}, "1.2.3.4:5"),
        # Together from several places.
        ("--port 9000", {"UVICORN_HOST": "0.0.0.0"}, "0.0.0.0:9000"),
        ("--host 1.2.3.4", {"MONOCEROS_HOST": "0.0.0.0", "UVICORN_PORT": "5"}, "1.2.3.4:5"),
        ("--uds /a", {"UVICORN_HOST": "0.0.0.0"}, "unix:/a"),
        ("--port 5", {"UVICORN_UDS": "/a"}, "127.0.0.1:5"),
        ("", {"GUNICORN_CMD_ARGS": "--port 5"}, "127.0.0.1:5"),
        # Below what counts more.
        ("-b :1", {"UVICORN_HOST": "1.2.3.4", "UVICORN_PORT": "5"}, "0.0.0.0:1"),
        ("--port 9", {"UVICORN_HOST": "1.2.3.4", "MONOCEROS_BIND": "a:5"}, "127.0.0.1:9"),
        # As if they were not given.
        ("", {"UVICORN_HOST": "", "MONOCEROS_PORT": ""}, "127.0.0.1:8000"),
        ("", {"MONOCEROS_PORT": "tcp://10.0.0.1:80", "UVICORN_PORT": "tcp://10.0.0.1:80"}, "127.0.0.1:8000"),
    ],
)
def test_bind(argv: str, environ: dict[str, str], expected: str) -> None:
    assert bind(load(argv.split(), environ)) == expected


def test_they_are_settings_too() -> None:
    settings = load(["--port", "8080"], {"UVICORN_HOST": "0.0.0.0"})
    assert (settings.host, settings.port, settings.uds, settings.fd) == ("0.0.0.0", 8080, None, None)
    assert settings.origins["host"] == "environment variable UVICORN_HOST"
    assert settings.origins["port"] == "--port"
    assert settings.origins["bind"] == "environment variable UVICORN_HOST, --port"


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        ("-b :1 --port 2", {}, "bind = [':1'] (--bind) and port = '2' (--port)"),
        ("--bind :1 --uds /a", {}, "bind = [':1'] (--bind) and uds = '/a' (--uds)"),
        (
            "-b :3",
            {"MONOCEROS_BIND": ":1", "MONOCEROS_FD": "3"},
            "bind = ':1' (environment variable MONOCEROS_BIND) and fd = '3' (environment variable MONOCEROS_FD)",
        ),
    ],
)
def test_both_in_one_place(argv: str, environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(argv.split(), environ)
    assert str(caught.value) == f"{message}: both say where to listen, keep one of them"


@pytest.mark.parametrize("argv", ["--host a:80", "--port 70000", "--uds", "--fd x"])
def test_wrong_ones_are_said_once(argv: str) -> None:
    name = argv.split()[0].strip("-")
    args = argv.split() if " " in argv else [argv, "a" * 108]
    with pytest.raises(SettingsError, match=rf"^{name} = '[^;]*$"):
        load(args, {})
