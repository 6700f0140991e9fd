"""Every setting of Gunicorn: taken, or refused, or noted; and at Gunicorn's default never a word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monoceros.settings import Settings, SettingsError, absent
from monoceros.settings.load import load
from monoceros.settings.table import FILE, ROWS

# Name, the default as a config file of Gunicorn's would say it, another value, and what becomes of that.
EVERY = """
config                              './gunicorn.conf.py'         'a.py'                           elsewhere
wsgi_app                            None                         'm:a'                            taken
bind                                ['127.0.0.1:8000']           ['127.0.0.1:9000']               taken
backlog                             2048                         64                               taken
workers                             1                            2                                taken
worker_class                        'sync'                       'gthread'                        taken
threads                             1                            2                                taken
worker_connections                  1000                         10                               taken
max_requests                        0                            10                               taken
max_requests_jitter                 0                            10                               taken
timeout                             30                           60                               taken
graceful_timeout                    30                           60                               taken
keepalive                           2                            5                                taken
limit_request_line                  4094                         8190                             taken
limit_request_fields                100                          50                               taken
limit_request_field_size            8190                         4000                             taken
reload                              False                        True                             taken
reload_engine                       'auto'                       'poll'                           taken
reload_extra_files                  []                           ['/*']                           taken
spew                                False                        True                             taken
check_config                        False                        True                             elsewhere
print_config                        False                        True                             elsewhere
preload_app                         False                        True                             taken
sendfile                            None                         False                            taken
reuse_port                          False                        True                             taken
chdir                               '.'                          '/'                              taken
daemon                              False                        True                             taken
raw_env                             []                           ['A=1']                          taken
pidfile                             None                         '/a.pid'                         taken
worker_tmp_dir                      None                         '/dev/shm'                       taken
user                                None                         0                                taken
group                               None                         'root'                           taken
umask                               0                            0o22                             taken
initgroups                          False                        True                             taken
tmp_upload_dir                      None                         '/tmp'                           taken
secure_scheme_headers               {'X-FORWARDED-PROTO':'https'} {'X-A':'b'}                     taken
forwarded_allow_ips                 '127.0.0.1,::1'              '*'                              taken
accesslog                           None                         '-'                              taken
disable_redirect_access_to_syslog   False                        True                             taken
access_log_format                   '%(h)s'                      '%(l)s'                          taken
errorlog                            '-'                          '/a.log'                         taken
loglevel                            'info'                       'debug'                          taken
capture_output                      False                        True                             taken
logger_class                        'gunicorn.glogging.Logger'   'my.Logger'                      taken
logconfig                           None                         'a.ini'                          taken
logconfig_dict                      {}                           {'version':1}                    taken
logconfig_json                      None                         'a.json'                         taken
syslog_addr                         'udp://localhost:514'        'unix:///dev/log'                taken
syslog                              False                        True                             taken
syslog_prefix                       None                         'a'                              taken
syslog_facility                     'user'                       'daemon'                         taken
enable_stdio_inheritance            False                        True                             taken
statsd_host                         None                         'localhost:8125'                 taken
dogstatsd_tags                      ''                           'env:prod'                       taken
statsd_prefix                       ''                           'app'                            taken
enable_backlog_metric               False                        True                             taken
proc_name                           None                         'a'                              taken
default_proc_name                   'gunicorn'                   'a'                              taken
pythonpath                          None                         '/srv'                           taken
paste                               None                         'a.ini'                          elsewhere
on_starting                         None                         'operator.index'                 taken
on_reload                           None                         'operator.index'                 taken
when_ready                          None                         'operator.index'                 taken
pre_fork                            None                         'operator.add'                   taken
post_fork                           None                         'operator.add'                   taken
post_worker_init                    None                         'operator.index'                 taken
worker_int                          None                         'operator.index'                 taken
worker_abort                        None                         'operator.index'                 taken
pre_exec                            None                         'operator.index'                 taken
pre_request                         None                         'operator.add'                   taken
post_request                        None                         'operator.add'                   taken
child_exit                          None                         'operator.add'                   taken
worker_exit                         None                         'operator.add'                   taken
nworkers_changed                    None                         'operator.setitem'               taken
on_exit                             None                         'operator.index'                 taken
ssl_context                         None                         print                            refused
proxy_protocol                      'off'                        'auto'                           refused
proxy_allow_ips                     '127.0.0.1,::1'              '*'                              refused
protocol                            'http'                       'uwsgi'                          refused
uwsgi_allow_ips                     '127.0.0.1,::1'              '10.0.0.1'                       refused
keyfile                             None                         'a.pem'                          refused
certfile                            None                         'a.pem'                          refused
ssl_version                         2                            5                                refused
cert_reqs                           0                            2                                refused
ca_certs                            None                         'a.pem'                          refused
suppress_ragged_eofs                True                         'off'                            refused
do_handshake_on_connect             False                        True                             refused
ciphers                             None                         'ECDHE'                          refused
http_protocols                      'h1'                         'h2,h1'                          refused
http2_cleartext                     'off'                        'both'                           refused
http2_max_concurrent_streams        100                          50                               refused
http2_initial_window_size           65535                        70000                            refused
http2_max_frame_size                16384                        20000                            refused
http2_max_header_list_size          65536                        1                                refused
raw_paste_global_conf               []                           ['a=b']                          taken
permit_obsolete_folding             False                        True                             refused
strip_header_spaces                 False                        True                             refused
permit_unconventional_http_method   False                        True                             refused
permit_unconventional_http_version  False                        True                             refused
casefold_http_method                False                        True                             refused
forwarder_headers                   'SCRIPT_NAME,PATH_INFO'      'REMOTE_USER'                    taken
header_map                          'drop'                       'refuse'                         taken
asgi_loop                           'auto'                       'asyncio'                        taken
asgi_lifespan                       'auto'                       'off'                            taken
asgi_disconnect_grace_period        3                            4                                taken
websocket_max_message_size          16777216                     1                                taken
http_parser                         'auto'                       'fast'                           noted
root_path                           ''                           '/a'                             taken
dirty_apps                          []                           ['m:A']                          refused
dirty_workers                       0                            1                                refused
dirty_timeout                       300                          1                                refused
dirty_threads                       1                            2                                refused
dirty_graceful_timeout              30                           1                                refused
on_dirty_starting                   None                         print                            refused
dirty_post_fork                     None                         print                            refused
dirty_worker_init                   None                         print                            refused
dirty_worker_exit                   None                         print                            refused
control_socket                      None                         '/a.ctl'                         noted
control_socket_mode                 0o600                        0o660                            noted
control_socket_disable              False                        True                             taken
"""

CASES = [line.split() for line in EVERY.strip().splitlines()]
NAMES = [case[0] for case in CASES]


def with_lines(directory: Path, *lines: str) -> Settings:
    (directory / "gunicorn.conf.py").write_text("\n".join(lines))
    return load([], {}, str(directory))


def test_there_are_120() -> None:
    assert len(NAMES) == len(set(NAMES)) == 120


def test_all_defaults_at_once(tmp_path: Path) -> None:
    settings = with_lines(tmp_path, *(f"{name} = {default}" for name, default, *_ in CASES))
    assert settings.notes == ()


@pytest.mark.parametrize(("name", "default", "other", "outcome"), CASES, ids=NAMES)
def test_a_setting_of_gunicorn(tmp_path: Path, name: str, default: str, other: str, outcome: str) -> None:
    before = with_lines(tmp_path, f"{name} = {default}")
    assert before.notes == ()
    place = f"{name} (gunicorn.conf.py:2)"
    if outcome == "refused":
        with pytest.raises(SettingsError) as caught:
            with_lines(tmp_path, "", f"{name} = {other}")
        assert str(caught.value) == f"{place}: {absent.why(name)}; remove the line"
        return
    settings = with_lines(tmp_path, "", f"{name} = {other}")
    if outcome == "taken":
        assert settings.notes == ()
        # What asks for no control socket has none, and nothing to be changed.
        assert name not in ROWS or getattr(settings, name) != getattr(before, name)
        assert name in ROWS or name == "control_socket_disable"
    elif outcome == "noted":
        assert settings.notes == (f"{place} has no effect: {absent.why(name)}",)
    else:  # it counts on the command line
        assert FILE not in ROWS[name].sources
        assert getattr(settings, name) == (getattr(Settings(), name) if name != "config" else "gunicorn.conf.py")


def test_no_setting_is_in_two_places() -> None:
    assert set(NAMES) <= ROWS.keys() | absent.GUNICORN.keys()
    assert not ROWS.keys() & absent.ALL.keys()
    assert absent.GUNICORN.keys() <= set(NAMES)
    flags = [word for usage in absent.FLAGS.values() for word in usage.split() if word.startswith("-")]
    flags += [flag for row in ROWS.values() for flag in row.flags]
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("certfile", ""),
        ("certfile", False),
        ("cert_reqs", "0"),
        ("ssl_version", 17),
        ("suppress_ragged_eofs", "true"),
        ("do_handshake_on_connect", "no"),
        ("proxy_protocol", "False"),
        ("proxy_protocol", 0),
        ("proxy_protocol", "none"),
        ("proxy_allow_ips", ["127.0.0.1", "::1"]),
        ("proxy_allow_ips", "127.0.0.1, ::1"),
        ("http_protocols", "H1"),
        ("http2_max_concurrent_streams", "100"),
        ("control_socket_mode", "0600"),
        ("dirty_apps", ()),
        ("ssl_ciphers", "TLSv1"),
        ("ws_max_queue", "32"),
        ("workers", 2),
        ("colour", "red"),
    ],
)
def test_what_says_nothing(name: str, value: object) -> None:
    assert absent.verdict(name, value) == ""


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("cert_reqs", True, "refused"),
        ("http2_max_concurrent_streams", 0, "refused"),
        ("http2_max_concurrent_streams", "a", "refused"),
        ("proxy_protocol", True, "refused"),
        ("suppress_ragged_eofs", 3, "refused"),
        ("suppress_ragged_eofs", False, "refused"),  # which would be there
        ("certfile", Path("a.pem"), "refused"),
        ("control_socket", Path, "ignored"),
        ("control_socket", "maybe", "ignored"),
        ("ws_max_queue", 31, "ignored"),
    ],
)
def test_what_says_something(name: str, value: object, said: str) -> None:
    assert absent.verdict(name, value) == said


def test_the_control_socket_where_gunicorn_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setenv("HOME", "/home/a")
    for path in ("/run/user/7/gunicorn.ctl", "/home/a/.gunicorn/gunicorn.ctl"):
        assert absent.verdict("control_socket", path) == ""
    assert absent.verdict("control_socket", "/run/gunicorn.ctl") == "ignored"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.delenv("HOME")
    assert absent.verdict("control_socket", os.devnull) == "ignored"
