"""The rows: complete, consistent, and with Gunicorn's names, flags and defaults."""

from __future__ import annotations

import ast
import dataclasses
from itertools import groupby

import pytest

from monoceros.settings import Settings
from monoceros.settings.table import DEFAULTS_FROM_ENVIRONMENT, FILE, FLAG, ROWS, Row

# Name, flags and default as Gunicorn has them; then come Uvicorn's flags for the same.
GUNICORN = {
    "config": ("-c --config", None),
    "wsgi_app": ("", None),
    "backlog": ("--backlog", 2048),
    "workers": ("-w --workers", 1),
    "threads": ("--threads", 1),
    "worker_connections": ("--worker-connections", 1000),
    "max_requests": ("--max-requests --limit-max-requests", 0),
    "max_requests_jitter": ("--max-requests-jitter --limit-max-requests-jitter", 0),
    "timeout": ("-t --timeout --timeout-worker-healthcheck", 30),
    "graceful_timeout": ("--graceful-timeout --timeout-graceful-shutdown", 30),
    "keepalive": ("--keep-alive --timeout-keep-alive", 2),
    "limit_request_line": ("--limit-request-line", 4094),
    "limit_request_fields": ("--limit-request-fields", 100),
    "check_config": ("--check-config", False),
    "print_config": ("--print-config", False),
    "preload_app": ("--preload", False),
    "reuse_port": ("--reuse-port", False),
    "raw_env": ("-e --env", ()),
    "proc_name": ("-n --name", None),
    "accesslog": ("--access-logfile", None),
    "access_log_format": ("--access-logformat", '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'),
    "errorlog": ("--error-logfile --log-file", "-"),
    "loglevel": ("--log-level", "info"),
    "capture_output": ("--capture-output", False),
    "header_map": ("--header-map", "drop"),
    "forwarder_headers": ("--forwarder-headers", ("SCRIPT_NAME", "PATH_INFO")),
    "root_path": ("--root-path", ""),
    "sendfile": ("--no-sendfile", True),
    "asgi_loop": ("--asgi-loop --loop", "auto"),
    "asgi_lifespan": ("--asgi-lifespan --lifespan", "auto"),
    "asgi_disconnect_grace_period": ("--asgi-disconnect-grace-period", 3),
    "websocket_max_message_size": ("--websocket-max-message-size --ws-max-size", 16777216),
    "logconfig": ("--log-config", None),
    "daemon": ("-D --daemon", False),
    "pidfile": ("-p --pid", None),
    "user": ("-u --user", None),
    "group": ("-g --group", None),
    "initgroups": ("--initgroups", False),
    "umask": ("-m --umask", 0),
    "enable_stdio_inheritance": ("-R --enable-stdio-inheritance", False),
    "worker_tmp_dir": ("--worker-tmp-dir", None),
    "tmp_upload_dir": ("", None),
    "default_proc_name": ("", "monoceros"),
    "spew": ("--spew", False),
    "paste": ("--paste --paster", None),
    "raw_paste_global_conf": ("--paste-global", ()),
    "reload": ("--reload", False),
    "reload_engine": ("--reload-engine", "auto"),
    "reload_extra_files": ("--reload-extra-file", ()),
    "logconfig_json": ("--log-config-json", None),
    "logger_class": ("--logger-class", "gunicorn.glogging.Logger"),
    "syslog": ("--log-syslog", False),
    "syslog_addr": ("--log-syslog-to", "udp://localhost:514"),
    "syslog_prefix": ("--log-syslog-prefix", None),
    "syslog_facility": ("--log-syslog-facility", "user"),
    "disable_redirect_access_to_syslog": ("--disable-redirect-access-to-syslog", False),
    "statsd_host": ("--statsd-host", None),
    "statsd_prefix": ("--statsd-prefix", ""),
    "dogstatsd_tags": ("--dogstatsd-tags", ""),
    "enable_backlog_metric": ("--enable-backlog-metric", False),
    "logconfig_dict": ("", {}),
    "on_starting": ("", None),
    "on_reload": ("", None),
    "when_ready": ("", None),
    "pre_fork": ("", None),
    "post_fork": ("", None),
    "post_worker_init": ("", None),
    "worker_int": ("", None),
    "worker_abort": ("", None),
    "pre_exec": ("", None),
    "pre_request": ("", None),
    "post_request": ("", None),
    "child_exit": ("", None),
    "worker_exit": ("", None),
    "nworkers_changed": ("", None),
    "on_exit": ("", None),
    "secure_scheme_headers": (
        "",
        {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"},
    ),
}

# What Uvicorn has and Gunicorn has not, with Uvicorn's defaults, but that 0 and () stand for "none".
UVICORN = {
    "host": None,
    "port": None,
    "uds": None,
    "fd": None,
    "ws": "auto",
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": 20.0,
    "ws_per_message_deflate": True,
    "proxy_headers": True,
    "server_header": True,
    "date_header": True,
    "headers": (),
    "limit_concurrency": 0,
    "factory": False,
    "env_file": None,
    "app_dir": "",
    "access_log": None,
    "use_colors": None,
    "reload_dirs": (),
    "reload_includes": (),
    "reload_excludes": (),
    "reload_delay": 0.25,
}

# Ours alone.
OURS = {
    "boot_timeout": ("--boot-timeout", 120.0),
    "max_worker_lifetime": ("--max-worker-lifetime", 0.0),
    "max_worker_memory": ("--max-worker-memory", 0),
    "drain_delay": ("--drain-delay", 0.0),
}

EVERY_ROW = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


@pytest.mark.parametrize(("name", "flags", "default"), [(name, *rest) for name, rest in (GUNICORN | OURS).items()])
def test_what_people_know_from_gunicorn(name: str, flags: str, default: object) -> None:
    assert ROWS[name].flags == tuple(flags.split())
    assert getattr(Settings(), name) == default


@pytest.mark.parametrize(("name", "default"), UVICORN.items())
def test_what_people_know_from_uvicorn(name: str, default: object) -> None:
    assert getattr(Settings(), name) == default
    repeated = name == "headers" or name.startswith("reload_")
    flag = "--" + name.removesuffix("s" if repeated else "").replace("_", "-")
    pair = (flag, flag.replace("--", "--no-")) if ROWS[name].action == "switch" else (flag,)
    assert ROWS[name].flags == pair


def test_uvicorns_section_is_about_uvicorn() -> None:
    section = {row.name for row in ROWS.values() if row.section == "Uvicorn's options"}
    elsewhere = {"env_file", "app_dir", "factory"} | {name for name in UVICORN if name.startswith("reload_")}
    assert section == UVICORN.keys() - elsewhere


def test_other_defaults() -> None:
    settings = Settings()
    assert [address.name for address in settings.bind] == ["127.0.0.1:8000"]
    assert str(settings.forwarded_allow_ips) == "127.0.0.1,::1"
    assert "--limit-request-field_size" in ROWS["limit_request_field_size"].flags  # Gunicorn's odd spelling
    assert settings.limit_request_field_size == 8190


@EVERY_ROW
def test_the_default_and_the_example_are_values(row: Row) -> None:
    if FILE not in row.sources:
        return
    assert row.parse(row.default) == row.default
    example = row.parse(written(row))
    assert type(example) is type(row.default) or row.default is None
    assert example != row.default or row.name == "bind"


def written(row: Row) -> object:
    """The example as a config file would have it."""
    if not row.example.startswith("def "):
        return ast.literal_eval(row.example)
    names: dict[str, object] = {}
    exec(row.example, names)
    return names[row.name]


# What is any text at all: names and paths, which are looked up later.
FREE = """config wsgi_app pythonpath root_path env_file app_dir pidfile worker_tmp_dir tmp_upload_dir paste
default_proc_name proc_name accesslog access_log_format errorlog loglevel logconfig logconfig_json chdir
uds worker_class syslog_prefix statsd_prefix dogstatsd_tags reload_dirs reload_includes reload_excludes
reload_extra_files"""


@EVERY_ROW
def test_what_is_no_value(row: Row) -> None:
    """The message says what would be right, so that a sentence can be made of it."""
    for wrong in (object(), "\x01 ?!["):
        if wrong == "\x01 ?![" and row.name in FREE.split():
            assert row.parse(wrong)
            continue
        with pytest.raises(ValueError) as caught:
            row.parse(wrong)
        assert str(caught.value)
        assert "\n" not in str(caught.value)
        assert not str(caught.value).endswith(".")


@EVERY_ROW
def test_a_row_says_what_it_means(row: Row) -> None:
    assert row.help.endswith(".")
    assert (row.parse.__doc__ or "").splitlines()[0].endswith(".")
    assert row.name == row.name.lower()
    assert (row.action in ("store", "append")) == bool(row.metavar) or not row.flags
    assert bool(row.flags) == (FLAG in row.sources) or row.name == "wsgi_app"  # which is positional
    assert bool(row.example) != (row.sources == {FLAG})


def test_no_flag_means_two_things() -> None:
    flags = [flag for row in ROWS.values() for flag in row.flags]
    assert len(flags) == len(set(flags))


def test_a_section_is_one_run_of_rows() -> None:
    sections = [section for section, _ in groupby(row.section for row in ROWS.values())]
    assert len(sections) == len(set(sections))


def test_every_variable_of_a_platform_is_about_a_row() -> None:
    assert {name for name, _ in DEFAULTS_FROM_ENVIRONMENT.values()} <= set(ROWS)


def test_settings_cannot_be_changed() -> None:
    settings = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.workers = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.secure_scheme_headers["X"] = "y"  # type: ignore[index]


def test_where_a_value_came_from_makes_no_difference() -> None:
    assert Settings(origins={"workers": "--workers"}, notes=("a note",)) == Settings()
    assert Settings(workers=2) != Settings()


def test_what_needs_a_restart() -> None:
    """What belongs to the master's own process, to the sockets it has opened, or to the process that watches files."""
    stay = (
        "backlog preload_app reuse_port chdir daemon paste proc_name default_proc_name capture_output spew pidfile "
        "prometheus_multiproc"
    )
    watch = {row.name for row in ROWS.values() if row.name.startswith("reload")}
    assert {row.name for row in ROWS.values() if not row.live} == {*stay.split(), "enable_stdio_inheritance", *watch}
