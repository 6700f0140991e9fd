"""From everywhere to one Settings: who wins, where it came from, and what is said when it is wrong."""

from __future__ import annotations

import ast
import operator
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest

from monoceros.settings import Settings, SettingsError, hooks
from monoceros.settings.cpus import available_cpus
from monoceros.settings.load import changes, load
from monoceros.settings.render import print_config
from monoceros.settings.table import ROWS, VARIABLE, Row

Load = Callable[..., Settings]


@pytest.fixture
def loads(tmp_path: Path) -> Load:
    """`loads("--flag", ..., conf="text of gunicorn.conf.py", VARIABLE="value")`"""

    def loads(*argv: str, conf: str = "", file: str = "gunicorn.conf.py", **environ: str) -> Settings:
        if conf:
            (tmp_path / file).write_text(conf)
        return load(argv, environ, str(tmp_path))

    return loads


def test_nothing_given(loads: Load, tmp_path: Path) -> None:
    settings = loads()
    assert settings == Settings(chdir=str(tmp_path))
    assert settings.origins == {}
    assert settings.notes == ()


# Each layer, from the weakest to the strongest.
LAYERS: list[tuple[str, dict[str, str], list[str]]] = [
    ("environment variable WEB_CONCURRENCY", {"WEB_CONCURRENCY": "2"}, []),
    ("gunicorn.conf.py:1", {"conf": "workers = 3"}, []),
    ("environment variable MONOCEROS_WORKERS", {"MONOCEROS_WORKERS": "4"}, []),
    ("GUNICORN_CMD_ARGS --workers", {"GUNICORN_CMD_ARGS": "-w 5"}, []),
    ("MONOCEROS_CMD_ARGS --workers", {"MONOCEROS_CMD_ARGS": "--workers=6"}, []),
    ("--workers", {}, ["-w", "7"]),
]


@pytest.mark.parametrize("strongest", range(len(LAYERS)))
def test_later_wins(loads: Load, strongest: int) -> None:
    given = LAYERS[: strongest + 1]
    environ = {name: text for _, layer, _ in given for name, text in layer.items()}
    settings = loads(*(flag for *_, flags in given for flag in flags), **environ)
    assert settings.workers == strongest + 2
    assert settings.origins["workers"] == LAYERS[strongest][0]


def test_a_list_replaces_a_list(loads: Load) -> None:
    conf = "bind = ['127.0.0.1:1', '127.0.0.1:2']\nraw_env = ['A=1']"
    settings = loads("-b", "127.0.0.1:3", "--bind=unix:/a", "-e", "B=2,3", "-e", "C=", conf=conf)
    assert [address.name for address in settings.bind] == ["127.0.0.1:3", "unix:/a"]
    assert settings.raw_env == ("B=2,3", "C=")


def test_a_list_in_a_variable_has_commas(loads: Load) -> None:
    settings = loads(MONOCEROS_BIND="127.0.0.1:3,unix:/a", MONOCEROS_RAW_ENV="A=1,2,B=3")
    assert [address.name for address in settings.bind] == ["127.0.0.1:3", "unix:/a"]
    assert settings.raw_env == ("A=1,2", "B=3")


def test_variables_of_platforms(loads: Load) -> None:
    settings = loads(PORT="5000", WEB_CONCURRENCY="3", FORWARDED_ALLOW_IPS="*", SENDFILE="no")
    assert settings.bind[0].name == "0.0.0.0:5000"
    assert settings.workers == 3
    assert settings.forwarded_allow_ips.everyone
    assert settings.sendfile is False
    assert settings.origins["bind"] == "environment variable PORT"


def test_empty_variables_of_platforms(loads: Load, tmp_path: Path) -> None:
    assert loads(PORT="", WEB_CONCURRENCY="", SENDFILE="") == Settings(chdir=str(tmp_path))
    assert "127.0.0.1" not in loads(FORWARDED_ALLOW_IPS="").forwarded_allow_ips


@pytest.mark.parametrize(
    ("argv", "conf", "environ", "expected"),
    [
        ([], "", {}, True),
        (["--no-sendfile"], "", {}, False),
        ([], "sendfile = True", {}, True),
        ([], "sendfile = True", {"SENDFILE": "0"}, True),
        ([], "", {"SENDFILE": "YES"}, True),
        ([], "", {"SENDFILE": "whatever"}, False),
        ([], "", {"MONOCEROS_SENDFILE": "false"}, False),
    ],
)
def test_sendfile(loads: Load, argv: list[str], conf: str, environ: dict[str, str], expected: bool) -> None:
    assert loads(*argv, conf=conf, **environ).sendfile is expected


def test_native_values_of_a_config_file(loads: Load) -> None:
    conf = """
workers = "auto"
threads = 16 / 4
timeout = 1.5
keepalive = "5"
accesslog = None
errorlog = None
preload_app = True
limit_request_body = "10M"
forwarded_allow_ips = ["10.0.0.0/8"]
secure_scheme_headers = {"x-proto": "https"}
bind = 9000
"""
    settings = loads(conf=conf)
    assert settings.workers == available_cpus()
    assert (settings.threads, settings.timeout, settings.keepalive) == (4, 1.5, 5.0)
    assert (settings.accesslog, settings.errorlog, settings.preload_app) == (None, None, True)
    assert settings.limit_request_body == 10 * 1024 * 1024
    assert "10.1.1.1" in settings.forwarded_allow_ips
    assert settings.secure_scheme_headers == MappingProxyType({"X-PROTO": "https"})
    assert settings.bind[0].name == "127.0.0.1:9000"


IMAGE = """
import json
import multiprocessing
import os

workers_per_core_str = os.getenv("WORKERS_PER_CORE", "1")
max_workers_str = os.getenv("MAX_WORKERS")
web_concurrency_str = os.getenv("WEB_CONCURRENCY", None)
host = os.getenv("HOST", "0.0.0.0")
port = os.getenv("PORT", "80")
bind_env = os.getenv("BIND", None)
use_loglevel = os.getenv("LOG_LEVEL", "info")
use_bind = bind_env or f"{host}:{port}"
cores = multiprocessing.cpu_count()
default_web_concurrency = float(workers_per_core_str) * cores
if web_concurrency_str:
    web_concurrency = int(web_concurrency_str)
    assert web_concurrency > 0
else:
    web_concurrency = max(int(default_web_concurrency), 2)
    if max_workers_str:
        web_concurrency = min(web_concurrency, int(max_workers_str))
accesslog_var = os.getenv("ACCESS_LOG", "-")
use_accesslog = accesslog_var or None
errorlog_var = os.getenv("ERROR_LOG", "-")
use_errorlog = errorlog_var or None
graceful_timeout_str = os.getenv("GRACEFUL_TIMEOUT", "120")
timeout_str = os.getenv("TIMEOUT", "120")
keepalive_str = os.getenv("KEEP_ALIVE", "5")

loglevel = use_loglevel
workers = web_concurrency
bind = use_bind
errorlog = use_errorlog
worker_tmp_dir = "/dev/shm"
accesslog = use_accesslog
graceful_timeout = int(graceful_timeout_str)
timeout = int(timeout_str)
keepalive = int(keepalive_str)

log_data = {"loglevel": loglevel, "workers": workers, "bind": bind}
print(json.dumps(log_data))
"""


IMAGES: dict[str, tuple[dict[str, str], dict[str, object]]] = {
    "nothing": ({}, {"bind": "0.0.0.0:80", "timeout": 120.0, "keepalive": 5.0, "accesslog": "-", "loglevel": "info"}),
    "host and port": ({"HOST": "127.0.0.1", "PORT": "81"}, {"bind": "127.0.0.1:81"}),
    "bind": ({"BIND": "unix:/a.sock", "PORT": "81"}, {"bind": "unix:/a.sock"}),
    "numbers": ({"TIMEOUT": "20", "KEEP_ALIVE": "7", "GRACEFUL_TIMEOUT": "9"}, {"timeout": 20.0, "keepalive": 7.0}),
    "logs": ({"LOG_LEVEL": "debug", "ACCESS_LOG": "", "ERROR_LOG": "e.log"}, {"accesslog": None, "errorlog": "e.log"}),
    "workers": ({"WEB_CONCURRENCY": "7"}, {"workers": 7}),
    "at most": ({"WORKERS_PER_CORE": "100", "MAX_WORKERS": "3"}, {"workers": 3}),
    "arguments": ({"GUNICORN_CMD_ARGS": "--workers=2", "WEB_CONCURRENCY": "7"}, {"workers": 2}),
}


@pytest.mark.parametrize("case", IMAGES)
def test_a_config_file_as_images_ship_it(
    loads: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    environ, expected = IMAGES[case]
    for name in ("HOST", "PORT", "BIND", "WEB_CONCURRENCY", "MAX_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    for name, text in environ.items():
        monkeypatch.setenv(name, text)  # the file reads the real environment
    settings = loads("myproject.wsgi:app", conf=IMAGE, **environ)
    found = {name: getattr(settings, name) for name in expected}
    if "bind" in found:
        found["bind"] = str(settings.bind[0])
    assert found == expected
    assert (settings.worker_tmp_dir, settings.notes) == ("/dev/shm", ())
    assert '"workers": ' in capsys.readouterr().out


def test_arguments_of_an_image_and_of_its_command(loads: Load) -> None:
    settings = loads("--bind=0.0.0.0:8000", "myproject.wsgi:app", GUNICORN_CMD_ARGS="--workers=2 --bind=127.0.0.1:1")
    assert (settings.workers, str(settings.bind[0]), settings.wsgi_app) == (2, "0.0.0.0:8000", "myproject.wsgi:app")


def test_a_config_file_for_a_server_in_the_background(tmp_path: Path) -> None:
    lines = ["bind = '0.0.0.0:4958'", "workers = 1", "accesslog = 'gunicorn/access.log'"]
    lines += ["errorlog = 'gunicorn/error.log'", "capture_output = True", "loglevel = 'all'"]
    (tmp_path / "gunicorn").mkdir()
    (tmp_path / "gunicorn" / "gunicorn_cfg.py").write_text("\n".join(lines))
    argv = ["--reload", "wsgi:app", "-c", "gunicorn/gunicorn_cfg.py", "--daemon"]
    settings = load(argv, {}, str(tmp_path))
    assert (settings.reload, settings.daemon, settings.wsgi_app) == (True, True, "wsgi:app")
    assert (str(settings.bind[0]), settings.workers, settings.capture_output) == ("0.0.0.0:4958", 1, True)
    assert (settings.accesslog, settings.errorlog) == ("gunicorn/access.log", "gunicorn/error.log")
    assert settings.loglevel == "all"  # which the log calls unknown, and takes for info
    assert settings.notes == ()


def test_which_config_file(loads: Load, tmp_path: Path) -> None:
    assert loads().config is None
    settings = loads(conf="workers = 2")
    assert (settings.config, settings.workers) == ("gunicorn.conf.py", 2)
    assert settings.origins["config"] == f"found in {tmp_path}"
    assert loads(conf="workers = 3", file="monoceros.conf.py").workers == 3
    assert loads(conf="workers = 4", file="a.py", MONOCEROS_CONFIG="a.py").workers == 4
    assert loads(conf="workers = 5", file="b.py", MONOCEROS_CONFIG="a.py", GUNICORN_CMD_ARGS="-c b.py").workers == 5
    settings = loads("-c", "file:c.py", conf="threads = 6", file="c.py", GUNICORN_CMD_ARGS="-c b.py")
    assert (settings.config, settings.workers, settings.threads) == ("file:c.py", 1, 6)
    assert settings.origins["config"] == "--config"


def test_the_config_file_is_looked_up_before_chdir(loads: Load, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "gunicorn.conf.py").write_text("workers = 9")
    settings = loads("--chdir", "sub", conf="workers = 2")
    assert settings.workers == 2
    assert settings.chdir == str(tmp_path / "sub")
    assert loads(conf=f"chdir = {str(tmp_path / 'sub')!r}").chdir == str(tmp_path / "sub")


@pytest.mark.parametrize(
    ("argv", "environ", "app", "origin"),
    [
        (["m:a"], {}, "m:a", "command line"),
        (["-w", "2", "m:a"], {}, "m:a", "command line"),
        (["m:a", "--workers=2"], {}, "m:a", "command line"),
        (["-w", "2", "m:a", "-b", ":1"], {}, "m:a", "command line"),
        (["m:a"], {"conf": "wsgi_app = 'm:b'"}, "m:a", "command line"),
        ([], {"conf": "wsgi_app = 'm:b'"}, "m:b", "gunicorn.conf.py:1"),
        ([], {"MONOCEROS_WSGI_APP": "m:c"}, "m:c", "environment variable MONOCEROS_WSGI_APP"),
    ],
)
def test_the_application(loads: Load, argv: list[str], environ: dict[str, str], app: str, origin: str) -> None:
    settings = loads(*argv, **environ)
    assert settings.wsgi_app == app
    assert settings.origins["wsgi_app"] == origin


def test_flags_may_be_shortened(loads: Load) -> None:
    assert loads("--workers=2", "--graceful", "5", "--preload").graceful_timeout == 5.0
    assert loads("--log-file", "a.log").errorlog == "a.log"
    assert loads("--limit-request-field_size", "9").limit_request_field_size == 9
    assert loads("--access-logfile", "-").accesslog == "-"


NUMBER = "must be a whole number, 0 or more"
POSITIVE = "must be a whole number, 1 or more"
WORKERS = 'must be a whole number, 1 or more, or "auto"'

KIND = "no such kind of worker"
BRACKETS = "an IPv6 address with a port goes in brackets"
HAS = "(this version has sync, gthread, asgi and gevent)"


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        ([], {"conf": "import os\n\nworkers = 'four'"}, f"workers = 'four' (gunicorn.conf.py:3): {WORKERS}"),
        (["-w", "four"], {}, f"workers = 'four' (--workers): {WORKERS}"),
        (["--workers", "0"], {}, f"workers = '0' (--workers): {WORKERS}"),
        (["--threads=0"], {}, f"threads = '0' (--threads): {POSITIVE}"),
        ([], {"WEB_CONCURRENCY": "x"}, f"workers = 'x' (environment variable WEB_CONCURRENCY): {WORKERS}"),
        ([], {"MONOCEROS_BACKLOG": ""}, f"backlog = '' (environment variable MONOCEROS_BACKLOG): {POSITIVE}"),
        ([], {"GUNICORN_CMD_ARGS": "-w four"}, f"workers = 'four' (GUNICORN_CMD_ARGS --workers): {WORKERS}"),
        ([], {"MONOCEROS_CMD_ARGS": "-w 'a"}, "MONOCEROS_CMD_ARGS: No closing quotation"),
        ([], {"conf": "max_requests = -1"}, f"max_requests = -1 (gunicorn.conf.py:1): {NUMBER}"),
        ([], {"conf": "max_requests = None"}, f"max_requests = None (gunicorn.conf.py:1): {NUMBER}"),
        (["-b", "a:b"], {}, "bind = ['a:b'] (--bind): must be HOST:PORT, PORT, [IPV6]:PORT, unix:PATH or fd://NUMBER"),
        (
            ["-k", "tornado"],
            {},
            f"worker_class = 'tornado' (--worker-class): tornado workers are not available yet {HAS}",
        ),
        (["-k", "gthred"], {}, f"worker_class = 'gthred' (--worker-class): {KIND}; did you mean gthread? {HAS}"),
        (
            ["-b", "::1:8000"],
            {},
            f"bind = ['::1:8000'] (--bind): must be [::1]:8000 or [::1:8000]: {BRACKETS}",
        ),
        (["-e", "A"], {}, "raw_env = ['A'] (--env): must be NAME=VALUE"),
        (["--chdir", "x"], {}, "chdir = '{}/x' (--chdir): no such directory"),
        (["-c", "x.py"], {}, "config file x.py: No such file or directory ({}/x.py)"),
        ([], {"conf": "\nworkers = four"}, "gunicorn.conf.py:2: NameError: name 'four' is not defined"),
        ([], {"conf": "workers = 4\n)"}, "gunicorn.conf.py:2: SyntaxError: unmatched ')'"),
    ],
)
def test_what_is_wrong_is_one_line(
    loads: Load, tmp_path: Path, argv: list[str], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        loads(*argv, **environ)
    assert str(caught.value) == message.format(tmp_path)


def test_a_long_value_is_cut(loads: Load) -> None:
    with pytest.raises(SettingsError) as caught:
        loads("-w", "x" * 500)
    assert len(str(caught.value)) < 200


def test_a_wrong_value_is_wrong_even_if_it_is_overridden(loads: Load) -> None:
    with pytest.raises(SettingsError, match="WEB_CONCURRENCY"):
        loads("-w", "2", WEB_CONCURRENCY="x")


NO_TLS = "this version does not do TLS, and will not start as if it did"
NO_PROXY = "this version does not read the PROXY protocol, and will not start as if it did"
STRICT = "requests that break the rules of HTTP are always refused here"


@pytest.mark.parametrize(
    ("argv", "environ", "last"),
    [
        (["--wrokers", "4"], {}, "--wrokers: no such flag (did you mean --workers?)"),
        (["--wrokers=4"], {}, "--wrokers: no such flag (did you mean --workers?)"),
        (["m:a", "-w", "2", "n"], {}, "unrecognized arguments: n"),
        (["--zzz"], {}, "--zzz: no such flag"),
        (["--bnid", ":8000", "m:a"], {}, "--bnid: no such flag (did you mean --bind?)"),
        (["m:a", "--bnid", ":8000", "-w", "2"], {}, "--bnid: no such flag (did you mean --bind?)"),
        (["--relod", "m:a"], {}, "--relod: no such flag (did you mean --reload?)"),
        (["--zpreload", "m:a"], {}, "--zpreload: no such flag (did you mean --preload?)"),
        (["m:a", "-x"], {}, "-x: no such flag"),
        (["m:a", "--", "-x"], {}, "-x: no such flag"),
        (["--certfile", "a.pem", "--keyfile=b", "m:a"], {}, f"--certfile, --keyfile: {NO_TLS}"),
        (["--proxy-protocol", "--", "m:a"], {}, f"--proxy-protocol: {NO_PROXY}"),
        (["--proxy-protocol=v2", "--cert-reqs=2"], {}, f"--proxy-protocol: {NO_PROXY}; --cert-reqs: {NO_TLS}"),
        ([], {"GUNICORN_CMD_ARGS": "--strip-header-spaces"}, f"GUNICORN_CMD_ARGS: --strip-header-spaces: {STRICT}"),
        (["-w"], {}, "argument -w/--workers: expected one argument"),
        ([], {"GUNICORN_CMD_ARGS": "--zzz"}, "GUNICORN_CMD_ARGS: --zzz: no such flag"),
        ([], {"GUNICORN_CMD_ARGS": "-w"}, "GUNICORN_CMD_ARGS: argument -w/--workers: expected one argument"),
    ],
)
def test_usage_errors(
    loads: Load, capsys: pytest.CaptureFixture[str], argv: list[str], environ: dict[str, str], last: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        loads(*argv, **environ)
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "usage: monoceros [OPTIONS] APPLICATION [OPTIONS]",
        f"monoceros: error: {last}",
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Loglevel", "loglevel"),
        ("WORKERS", "workers"),
        ("worker", "workers"),
        ("thread", "threads"),
        ("time_out", "timeout"),
        ("log_level", "loglevel"),
        ("keep_alive", "keepalive"),
        ("access_logfile", "accesslog"),
        ("preload", "preload_app"),
        ("cert_file", "certfile"),
    ],
)
def test_did_you_mean(loads: Load, name: str, meant: str) -> None:
    note = f"{name} (gunicorn.conf.py:2) is not a setting, did you mean {meant}?"
    assert loads(conf=f"\n{name} = 1").notes == (note,)


@pytest.mark.parametrize(("name", "meant"), [("when_redy", "when_ready"), ("postfork", "post_fork")])
def test_did_you_mean_this_hook(loads: Load, name: str, meant: str) -> None:
    note = f"{name} (gunicorn.conf.py:2) is not a hook, did you mean {meant}?"
    assert loads(conf=f"\ndef {name}(*whatever): ...").notes == (note,)


@pytest.mark.parametrize(
    "conf",
    [
        "_workers = 1",
        "name = 1",
        "def worker(): ...",
        "def loglevels(): ...",
        "def postfork(): ...\ndef post_fork(server, worker): postfork()",
        "def post_fork_of_ours(): ...",
        "class Workers: ...",
        "import threading as thread",
        "worker = 2\nworkers = worker * 2",
        "timeout_text = '3'",
        "old_workers = 3",
        "config = {}",
        "check_config = True",
    ],
)
def test_what_is_the_users_own(loads: Load, conf: str) -> None:
    settings = loads(conf=conf)
    assert settings.notes == ()
    assert settings.check_config is False


def test_a_module_is_no_value(loads: Load) -> None:
    settings = loads(conf="import os as timeout\nimport os as certfile\nimport os as paste")
    assert settings.timeout == 30.0
    assert settings.notes == ("timeout (gunicorn.conf.py:1) is a module there, not taken as the setting",)


def test_variables_are_checked_for_slips(loads: Load) -> None:
    settings = loads(MONOCEROS_WORKRES="4", MONOCEROS_HOME="/srv", WORKRES="5")
    assert settings.notes == ("environment variable MONOCEROS_WORKRES is not known, did you mean MONOCEROS_WORKERS?",)


def test_applications_too_many(loads: Load) -> None:
    settings = loads("m:a", "m:b", GUNICORN_CMD_ARGS="m:c")
    assert settings.wsgi_app == "m:a"
    assert settings.notes == (
        "GUNICORN_CMD_ARGS: 'm:c' is not used: name the application on the command line or by wsgi_app",
        "command line: 'm:b' is not used, the application is 'm:a'",
    )


def test_changes_need_a_restart() -> None:
    old = Settings()
    assert changes(old, Settings(workers=2, timeout=5.0, loglevel="debug")) == []
    assert changes(old, Settings(workers=2, backlog=5, preload_app=True)) == ["backlog", "preload_app"]
    assert changes(old, old) == []


def test_it_reads_the_real_environment_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MONOCEROS_WORKERS", "3")
    settings = load([])
    assert settings.workers == 3
    assert settings.chdir == str(tmp_path)


@pytest.mark.parametrize("row", [row for row in ROWS.values() if VARIABLE in row.sources], ids=lambda row: row.variable)
def test_every_setting_can_be_a_variable(row: Row, loads: Load, tmp_path: Path) -> None:
    example = ast.literal_eval(row.example.replace("/srv/myproject", str(tmp_path)))
    if row.name == "config":
        example = "conf.py"
        (tmp_path / example).touch()
    if row.name == "env_file":
        (tmp_path / example).touch()
    if row.name == "paste":
        example = str(tmp_path / "production.ini")
        Path(example).touch()
    texts = [": ".join(part) if isinstance(part, tuple) else part for part in example] if "[" in row.example else []
    settings = loads(**{"MONOCEROS_ACCESSLOG": "a.log", row.variable: ",".join(texts) or str(example)})
    assert getattr(settings, row.name) == row.parse(example)
    assert settings.origins[row.name] == f"environment variable {row.variable}"
    # Some of Uvicorn's say where to listen in other words, or whether there is an access log.
    # A PasteDeploy file says which application there is.
    theirs = {"wsgi_app", "default_proc_name"} if row.name == "paste" else set()
    assert settings.origins.keys() - {row.name} <= {"accesslog", "bind", *theirs}


def test_loading_imports_no_more_than_it_needs() -> None:
    """A worker's memory begins with what its arbiter imported."""
    code = (
        "import sys, monoceros.settings.load; print(*sorted({'asyncio', 'ssl', 'socket', 'json'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_all_that_is_wrong_is_said_at_once(loads: Load) -> None:
    with pytest.raises(SettingsError) as caught:
        loads("-t", "soon", conf="certfile = 'a'\nkeyfile = 'b'\nworkers = 'four'\nprotocol = 'uwsgi'")
    assert str(caught.value) == (
        f"certfile (gunicorn.conf.py:1), keyfile (gunicorn.conf.py:2): {NO_TLS}; remove the lines; "
        "protocol (gunicorn.conf.py:4): this version does not speak the protocol of uWSGI; remove the line; "
        f"workers = 'four' (gunicorn.conf.py:3): {WORKERS}; "
        "timeout = 'soon' (--timeout): must be a number of seconds, 0 or more"
    )


def test_flags_of_gunicorn_that_are_missing(loads: Load) -> None:
    argv = ["--no-control-socket", "--proxy-protocol=off", "--control-socket", "/run/a.ctl", "--http-parser=fast"]
    settings = loads(*argv, "--suppress-ragged-eofs", "m:a", GUNICORN_CMD_ARGS="--control-socket-mode=0")
    no_effect = "has no effect: this version does not have this flag"
    assert settings.wsgi_app == "m:a"
    assert sorted(settings.notes) == [
        f"--control-socket {no_effect}",
        "--http-parser has no effect: there is one HTTP parser",
        f"GUNICORN_CMD_ARGS --control-socket-mode {no_effect}",
    ]


def test_a_protection_that_a_variable_asks_for(loads: Load) -> None:
    with pytest.raises(SettingsError) as caught:
        loads(MONOCEROS_CERTFILE="a.pem")
    assert str(caught.value) == f"environment variable MONOCEROS_CERTFILE: {NO_TLS}"
    assert loads(MONOCEROS_CERTFILE="", MONOCEROS_SYSLOG="no").notes == ()


def test_a_missing_feature_that_is_not_wanted_is_not_mentioned(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("certfile = None\ndaemon = False\nuser = ''\n")
    assert load([], {}, str(tmp_path)).notes == ()


# env_file


def test_a_file_of_variables(loads: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "WEB_CONCURRENCY=3\nPORT=5000\nCOLOUR='scarlet'\nUVICORN_WORKERS=9\nJUST_A_NAME\n# no\n"
    )
    settings = loads("--env-file", ".env", PORT="6000")
    assert (settings.workers, str(settings.bind[0])) == (3, "0.0.0.0:6000")
    assert settings.origins["workers"] == "WEB_CONCURRENCY in .env"
    assert dict(settings.env_file_variables) == {"WEB_CONCURRENCY": "3", "COLOUR": "scarlet", "UVICORN_WORKERS": "9"}
    assert "scarlet" not in repr(settings)
    assert "scarlet" not in print_config(settings)
    (tmp_path / ".env").write_text("FORWARDED_ALLOW_IPS=10.0.0.1")
    settings = loads("--chdir", "/", UVICORN_ENV_FILE=".env")
    assert str(settings.forwarded_allow_ips) == "10.0.0.1"


@pytest.mark.parametrize(("content", "wrong"), [(None, "No such file or directory"), (b"A=\xff", "'utf-8' codec")])
def test_a_file_of_variables_that_cannot_be_read(
    loads: Load, tmp_path: Path, content: bytes | None, wrong: str
) -> None:
    if content is not None:
        (tmp_path / "a.env").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        loads("--env-file", "a.env")
    assert str(caught.value).startswith(f"env_file = 'a.env' (--env-file): {wrong}")


def test_without_python_dotenv(loads: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dotenv", None)  # as if it were not installed
    (tmp_path / ".env").touch()
    with pytest.raises(SettingsError) as caught:
        loads("--env-file", ".env")
    needed = "python-dotenv is needed to read it: pip install 'monoceros[dotenv]'"
    assert str(caught.value) == f"env_file = '.env' (--env-file): {needed}"


# reload


def test_what_the_reloader_watches(loads: Load, tmp_path: Path) -> None:
    """Paths begin where the server is started, wherever it goes then."""
    (tmp_path / "a.txt").touch()
    argv = ["--reload-extra-file", "a.txt", "--reload-extra-file", "none/*.html", "--reload-dir", "src", "--chdir", "/"]
    settings = loads(*argv, "--reload-include", "*.html")
    assert settings.reload_extra_files == (f"{tmp_path}/a.txt", f"{tmp_path}/none/*.html")
    assert settings.reload_dirs == (f"{tmp_path}/src",)
    assert settings.reload_includes == ("*.html",)
    with pytest.raises(SettingsError, match=r"\(gunicorn\.conf\.py:1\): there is no file /b\.txt$"):
        loads(conf="reload_extra_files = ['/b.txt']")


# Hooks


def test_hooks(loads: Load) -> None:
    conf = "def post_fork(server, worker):\n    return server, worker\n\nwhen_ready = lambda server: server\n"
    settings = loads(conf=conf + "def post_request(worker, req): return worker, req\n")
    assert settings.origins["post_fork"] == "gunicorn.conf.py:1"
    assert settings.post_fork is not None
    assert settings.post_fork(1, 2) == (1, 2)
    assert settings.when_ready is not None
    assert settings.when_ready(1) == 1
    assert isinstance(settings.post_request, hooks.Shortened)
    assert settings.post_request(1, 2, 3, 4) == (1, 2)
    assert settings.pre_fork is None
    # Each reload makes new functions, which is no change that would need a restart.
    again = loads()
    assert again.post_fork is not settings.post_fork
    assert changes(settings, again) == []


def test_what_is_printed_of_hooks_is_a_config_file(loads: Load) -> None:
    conf = "import logging, sys\nimport operator\nworker_int = operator.index\npost_worker_init = 'operator.index'\n"
    conf += "def on_exit(server): ...\nlogconfig_dict = {'handlers': {'h': {'stream': sys.stderr}}}"
    settings = loads(conf=conf)
    printed = print_config(settings)
    assert "\nworker_int = '_operator.index'  # gunicorn.conf.py:3\n" in printed
    assert "# on_exit = '__config__.on_exit'  # gunicorn.conf.py:5\n" in printed
    assert "# logconfig_dict = " in printed
    again = loads(conf=printed)
    assert (again.worker_int, again.post_worker_init, again.on_exit) == (operator.index, operator.index, None)


def test_a_hook_is_no_variable(loads: Load) -> None:
    assert loads(MONOCEROS_POST_FORK="os.getpid").post_fork is None


# Config files in TOML


def test_which_config_file_of_all(loads: Load, tmp_path: Path) -> None:
    files = {
        "pyproject.toml": "[tool.monoceros]\nthreads = 2",
        "monoceros.toml": "threads = 3",
        "gunicorn.conf.py": "threads = 4",
        "monoceros.conf.py": "threads = 5",
    }
    for threads, (file, conf) in enumerate(files.items(), 2):
        settings = loads(conf=conf, file=file)
        assert (settings.config, settings.threads) == (file, threads)
        assert settings.origins["config"] == f"found in {tmp_path}"
        assert settings.origins["threads"] == f"{file}:{2 if file == 'pyproject.toml' else 1}"


def test_a_file_in_toml(loads: Load, tmp_path: Path) -> None:
    conf = """
workers = 4
preload_app = true
timeout = 1.5
bind = [
    "127.0.0.1:1",
    "unix:/a",
]
limit_request_body = "10M"
post_worker_init = "operator.index"
umask = 0o27

[secure_scheme_headers]
x-proto = "https"
"""
    settings = loads("-c", "file:deploy.toml", "-w", "5", conf=conf, file="deploy.toml")
    assert (settings.workers, settings.preload_app, settings.timeout, settings.umask) == (5, True, 1.5, 0o27)
    assert [address.name for address in settings.bind] == ["127.0.0.1:1", "unix:/a"]
    assert settings.limit_request_body == 10 * 1024 * 1024
    assert settings.post_worker_init is operator.index
    assert settings.secure_scheme_headers == {"X-PROTO": "https"}
    assert settings.origins["umask"] == "deploy.toml:11"
    assert settings.origins["secure_scheme_headers"] == "deploy.toml:13"
    assert settings.config == "file:deploy.toml"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("wrokers = 4", "wrokers (monoceros.toml:2) is not a setting, did you mean workers?"),
        ("max-requests = 4", "max-requests (monoceros.toml:2) is not a setting, did you mean max_requests?"),
        ("log_level = 'info'", "log_level (monoceros.toml:2) is not a setting, did you mean loglevel?"),
        ("colour = 'red'", "colour (monoceros.toml:2) is not a setting"),
        ("port = 80", "port (monoceros.toml:2) can be set by a flag or a variable, but not in a file"),
        ("certfile = 'a'", f"certfile (monoceros.toml:2): {NO_TLS}; remove the line"),
        ("workers = 'four'", f"workers = 'four' (monoceros.toml:2): {WORKERS}"),
        ("workers = 2024-01-01", f"workers = datetime.date(2024, 1, 1) (monoceros.toml:2): {WORKERS}"),
        ("workers = ", "monoceros.toml:2: not TOML: Invalid value"),
    ],
)
def test_what_is_wrong_in_toml(loads: Load, line: str, wrong: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loads(conf=f"# ours\n{line}\n", file="monoceros.toml")
    assert str(caught.value) == wrong


def test_defaults_of_gunicorn_in_toml(loads: Load) -> None:
    assert (
        loads(conf="http2_max_frame_size = 16384\nstatsd_host = ''\nsyslog = false", file="monoceros.toml").notes == ()
    )
    assert loads(conf="control_socket = 'a'", file="monoceros.toml").notes == (
        "control_socket (monoceros.toml:1) has no effect: this version does not have this setting",
    )
