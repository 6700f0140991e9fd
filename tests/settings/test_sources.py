"""Uvicorn's ways to give a setting: flags, variables, arguments of a call; and whose manner they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from monoceros.settings import Settings, SettingsError
from monoceros.settings.load import load
from monoceros.settings.render import print_config
from monoceros.settings.table import ROWS


def called(call: Mapping[str, object], environ: Mapping[str, str] = {}) -> Settings:
    return load((), environ, call=call)


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        ("--limit-max-requests 5", "max_requests", 5),
        ("--limit-max-requests-jitter 5", "max_requests_jitter", 5),
        ("--timeout-keep-alive 5", "keepalive", 5.0),
        ("--timeout-graceful-shutdown 5", "graceful_timeout", 5.0),
        ("--timeout-worker-healthcheck 5", "timeout", 5.0),
        ("--loop asyncio", "asgi_loop", "asyncio"),
        ("--lifespan on", "asgi_lifespan", "on"),
        ("--ws-max-size 5", "websocket_max_message_size", 5),
        ("--ws none", "ws", "none"),
        ("--ws-per-message-deflate false", "ws_per_message_deflate", False),
        ("--no-proxy-headers", "proxy_headers", False),
        ("--no-proxy-headers --proxy-headers", "proxy_headers", True),
        ("--no-server-header", "server_header", False),
        ("--no-date-header", "date_header", False),
        ("--use-colors", "use_colors", True),
        ("--header A:b --header C:d", "headers", (("A", "b"), ("C", "d"))),
        ("--limit-concurrency 5", "limit_concurrency", 5),
        ("--factory", "factory", True),
        ("--app-dir src", "app_dir", "src"),
        ("--host localhost", "host", "localhost"),
    ],
)
def test_flags(flags: str, name: str, value: object) -> None:
    settings = load(flags.split(), {})
    assert getattr(settings, name) == value
    assert settings.origins[name] == flags.split()[0] or name in ("proxy_headers", "headers")
    assert settings.manner == "uvicorn"
    assert settings.accesslog == "-"


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--asgi-loop uvloop --asgi-lifespan off --asgi-disconnect-grace-period 1 --websocket-max-message-size 1M",
        "--log-config a --forwarded-allow-ips * --root-path /a --workers 2 --backlog 5 --log-level debug -b :1",
        "--keep-alive 5 --timeout 5 --graceful-timeout 5 --max-requests 5 --no-sendfile --preload --reload",
        "-k asgi",
    ],
)
def test_flags_of_gunicorn(flags: str) -> None:
    settings = load(flags.split(), {})
    assert (settings.manner, settings.accesslog) == ("gunicorn", None)


@pytest.mark.parametrize("name", ["uvicorn.workers.UvicornWorker", "uvicorn_worker.UvicornH11Worker"])
def test_uvicorns_workers(name: str) -> None:
    """Their manner is Uvicorn's, but an access log is for Gunicorn's `accesslog` to ask for."""
    settings = load(["-k", name], {})
    assert (settings.manner, settings.accesslog) == ("uvicorn", None)
    assert load(["-k", name, "--access-logfile", "a.log"], {}).accesslog == "a.log"


@pytest.mark.parametrize(
    ("flags", "conf", "accesslog"),
    [
        ("--port 1", "", "-"),
        ("--port 1", "accesslog = 'a.log'", "a.log"),
        ("--port 1", "accesslog = None", None),
        ("--port 1 --no-access-log", "", None),
        ("--no-access-log --access-logfile -", "", None),
        ("--access-log", "accesslog = 'a.log'", "a.log"),
        ("--access-log", "accesslog = None", "-"),
        ("--access-log", "", "-"),
    ],
)
def test_the_access_log(tmp_path: Path, flags: str, conf: str, accesslog: str | None) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(conf)
    assert load(flags.split(), {}, str(tmp_path)).accesslog == accesslog


def test_variables() -> None:
    environ = {
        "UVICORN_APP": "m:a",
        "UVICORN_WORKERS": "3",
        "UVICORN_LIMIT_MAX_REQUESTS": "5",
        "UVICORN_HEADERS": "x-a:b  x-c:d",
        "UVICORN_ACCESS_LOG": "0",
        "UVICORN_LOOP": "",
        "UVICORN_RELOAD_DIRS": "a b",
    }
    settings = load([], environ)
    assert (settings.wsgi_app, settings.workers, settings.max_requests) == ("m:a", 3, 5)
    assert settings.headers == (("x-a", "b"), ("x-c", "d"))
    assert (settings.access_log, settings.accesslog, settings.manner) == (False, None, "uvicorn")
    assert settings.origins["max_requests"] == "environment variable UVICORN_LIMIT_MAX_REQUESTS"
    assert [path.rpartition("/")[2] for path in settings.reload_dirs] == ["a", "b"]
    assert settings.notes == ()
    settings = load(["m:b"], {**environ, "MONOCEROS_WORKERS": "4", "GUNICORN_CMD_ARGS": "--max-requests 6"})
    assert (settings.wsgi_app, settings.workers, settings.max_requests) == ("m:b", 4, 6)


def test_variables_count_more_than_a_file(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("workers = 2")
    assert load([], {"UVICORN_WORKERS": "3"}, str(tmp_path)).workers == 3


def test_variables_of_others() -> None:
    settings = load([], {"UVICORN_HOME": "/srv", "UVICORN_WORKRES": "3", "UVICORN_VERSION": "1", "UVICORN_PROT": "80"})
    assert settings.notes == (
        "environment variable UVICORN_WORKRES is not known, did you mean UVICORN_WORKERS?",
        "environment variable UVICORN_PROT is not known, did you mean UVICORN_PORT?",
    )
    assert (settings.workers, settings.manner) == (1, "gunicorn")


def test_what_is_not_there_is_noted_once() -> None:
    flags = "--http h11 --http2 --interface wsgi --ws-max-queue 5 --h11-max-incomplete-event-size 5 --http httptools"
    settings = load([*flags.split(), "--reset-contextvars"], {})
    assert sorted(note.split(" has no effect: ")[0] for note in settings.notes) == sorted(
        {word for word in f"{flags} --reset-contextvars".split() if word.startswith("--")}
    )
    assert load(["--http", "auto", "--interface", "auto"], {}).notes == ()


def test_protection_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("keyfile", "certfile", "keyfile-password", "version", "cert-reqs", "ca-certs", "ciphers"):
        with pytest.raises(SystemExit) as caught:
            load([f"--ssl-{flag}", "3"], {})
        assert caught.value.code == 2
        assert f"--ssl-{flag}: this version does not do TLS" in capsys.readouterr().err
    with pytest.raises(SettingsError, match=r"^environment variable UVICORN_SSL_KEYFILE: this version does not do TLS"):
        load([], {"UVICORN_SSL_KEYFILE": "a"})
    with pytest.raises(SettingsError, match=r"^run\(ssl_context_factory=\.\.\.\): this version does not do TLS"):
        called({"app": "m:a", "ssl_context_factory": print})


@pytest.mark.parametrize("loop", ["none", "zuvloop"])
def test_loops_that_are_not_there(loop: str) -> None:
    settings = load(["--loop", loop], {})
    assert settings.asgi_loop == "auto"
    assert settings.notes == (f"asgi_loop = '{loop}' (--loop) counts as auto: it is asyncio or uvloop here",)
    assert load(["--loop", "asyncio"], {"UVICORN_LOOP": loop}).notes == ()


def test_threads_have_no_effect_in_an_asgi_worker() -> None:
    note = "threads = 4 (--threads) has no effect: an asgi worker serves all in one thread"
    assert load(["-k", "asgi", "--threads", "4"], {}).notes == (note,)
    assert load(["--threads", "4"], {}).notes == ()


@pytest.mark.parametrize(
    ("slip", "meant"), [("--hsot", "--host"), ("--lifespn", "--lifespan"), ("--limit-max-request-jitter", "")]
)
def test_slips(capsys: pytest.CaptureFixture[str], slip: str, meant: str) -> None:
    with pytest.raises(SystemExit):
        load([slip, "x"], {})
    expected = f"did you mean {meant}" if meant else "did you mean --limit-max-requests-jitter?"
    assert expected in capsys.readouterr().err


# In a config file


def test_names_of_a_config_file_that_are_its_own(tmp_path: Path) -> None:
    conf = "import os\nhost = '0.0.0.0'\nport = '80'\nfd = open(os.devnull)\nhttp = 'x'\ninterface = 'eth0'\nuds = 1\n"
    conf += "access_log = 'a.log'\napp_dir = '/app'\nenv_file = '.env'\nbind = f'{host}:{port}'\nfd.close()"
    (tmp_path / "gunicorn.conf.py").write_text(conf)
    settings = load([], {}, str(tmp_path))
    assert str(settings.bind[0]) == "0.0.0.0:80"
    assert (settings.manner, settings.notes) == ("gunicorn", ())
    assert (settings.host, settings.access_log, settings.app_dir, settings.env_file) == (None, None, "", None)


def test_options_of_uvicorn_in_a_config_file(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("headers = [('X-A', '1')]\nws = 'none'\nuse_colors = False")
    settings = load([], {}, str(tmp_path))
    assert (settings.headers, settings.ws, settings.use_colors) == ((("X-A", "1"),), "none", False)
    assert (settings.manner, settings.accesslog) == ("uvicorn", "-")


@pytest.mark.parametrize("argv", [[], ["--host", "::", "--no-access-log"], ["--header", "A:b", "--loop", "uvloop"]])
def test_what_is_printed_is_a_config_file(tmp_path: Path, argv: list[str]) -> None:
    settings = load(argv, {}, str(tmp_path))
    (tmp_path / "gunicorn.conf.py").write_text(print_config(settings))
    again = load([], {}, str(tmp_path))
    differ = {name for name in ROWS if getattr(again, name) != getattr(settings, name)}
    assert differ <= {"config", "host", "access_log"}
    assert argv or again.manner == "gunicorn"


# In a call


def test_a_call() -> None:
    settings = called({"app": "m:a", "workers": 4, "timeout": 5, "threads": 2, "forwarded_allow_ips": ["10.0.0.1"]})
    assert (settings.wsgi_app, settings.workers, settings.timeout, settings.threads) == ("m:a", 4, 5, 2)
    assert settings.origins["workers"] == "run(workers=...)"
    assert settings.origins["wsgi_app"] == "run(app)"
    assert (settings.manner, settings.accesslog) == ("gunicorn", None)


def test_a_call_as_of_uvicorn() -> None:
    settings = called(
        {
            "app": "m:a",
            "host": "0.0.0.0",
            "port": 80,
            "loop": "asyncio",
            "lifespan": "on",
            "ws_max_size": 5,
            "ws_ping_timeout": None,
            "limit_max_requests": 5,
            "timeout_keep_alive": 6,
            "timeout_graceful_shutdown": 7,
            "log_config": "a.ini",
            "log_level": "trace",
            "headers": [("X-A", "1")],
            "access_log": False,
        }
    )
    assert str(settings.bind[0]) == "0.0.0.0:80"
    assert (settings.asgi_loop, settings.asgi_lifespan, settings.websocket_max_message_size) == ("asyncio", "on", 5)
    assert (settings.ws_ping_timeout, settings.headers) == (0, (("X-A", "1"),))
    assert (settings.max_requests, settings.keepalive, settings.graceful_timeout) == (5, 6, 7)
    assert (settings.logconfig, settings.loglevel) == ("a.ini", "debug")
    assert (settings.manner, settings.accesslog) == ("uvicorn", None)


def test_none_says_nothing_in_a_call() -> None:
    names = ["workers", "limit_max_requests", "limit_concurrency", "timeout_graceful_shutdown", "host", "log_config"]
    assert called(dict.fromkeys(names)) == called({})
    assert called({"errorlog": None}).errorlog is None  # which is a value of Gunicorn's


def test_a_call_stands_in_the_place_of_a_command_line() -> None:
    settings = called({"workers": 2}, {"GUNICORN_CMD_ARGS": "-w 3 --threads 4", "MONOCEROS_TIMEOUT": "5"})
    assert (settings.workers, settings.threads, settings.timeout) == (2, 4, 5)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("wrokers", "; did you mean workers?"),
        ("limit_max_request", "; did you mean limit_max_requests?"),
        ("zzz", ""),
        ("check_config", ""),
        ("wsgi_app", ""),
    ],
)
def test_a_name_that_means_nothing(name: str, hint: str) -> None:
    with pytest.raises(TypeError) as caught:
        called({name: 1})
    assert str(caught.value).startswith(f"run() got an unexpected keyword argument '{name}'{hint}")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"workers": 0}, """workers = 0 (run(workers=...)): must be a whole number, 1 or more, or "auto\""""),
        (
            {"limit_max_requests": -1},
            "max_requests = -1 (run(limit_max_requests=...)): must be a whole number, 0 or more",
        ),
        (
            {"bind": ":1", "port": 2},
            "bind = ':1' (run(bind=...)) and port = 2 (run(port=...)): both say where to listen, keep one of them",
        ),
    ],
)
def test_a_wrong_value_in_a_call(call: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        called(call)
    assert str(caught.value) == message


def test_what_is_not_there_in_a_call() -> None:
    settings = called({"http": "h11", "control_socket": "a", "proxy_protocol": "0", "dirty_workers": 0})
    assert sorted(settings.notes) == [
        "run(control_socket=...) has no effect: this version does not have this setting",
        "run(http=...) has no effect: there is one HTTP parser",
    ]


def test_a_call_with_what_only_a_file_can_give() -> None:
    def ready(server: object) -> None: ...

    settings = called({"log_config": {"version": 1}, "when_ready": ready, "reload": True, "user": 0, "pidfile": "a"})
    assert settings.logconfig_dict == {"version": 1}
    assert (settings.when_ready, settings.reload, settings.user, settings.pidfile) == (ready, True, 0, "a")
    assert settings.notes == ()
    with pytest.raises(TypeError, match="'paste'"):
        called({"paste": "a.ini"})
