"""Settings of Gunicorn and options of Uvicorn that this version does not have: what who sets one is told.

To ignore them without a word would leave somebody with plain HTTP who asked for TLS. Each goes from here as it
gets its row in the table.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# Without these the server would be less protected than its operator believes: they are refused. So is `daemon`, for
# whose start script would wait for ever.
REFUSED: Final = frozenset(
    (
        "ca_certs",
        "cert_reqs",
        "certfile",
        "ciphers",
        "daemon",
        "group",
        "initgroups",
        "keyfile",
        "protocol",
        "proxy_protocol",
        "ssl_context",
        "ssl_version",
        "umask",
        "user",
    )
)

# Without these it serves, but does less: a warning says so.
IGNORED: Final = frozenset(
    (
        "casefold_http_method",
        "child_exit",
        "control_socket",
        "dirty_apps",
        "do_handshake_on_connect",
        "dogstatsd_tags",
        "enable_backlog_metric",
        "enable_stdio_inheritance",
        "http2_cleartext",
        "http_protocols",
        "logconfig_dict",
        "logconfig_json",
        "logger_class",
        "nworkers_changed",
        "on_exit",
        "on_reload",
        "on_starting",
        "paste",
        "permit_obsolete_folding",
        "permit_unconventional_http_method",
        "permit_unconventional_http_version",
        "pidfile",
        "post_fork",
        "post_request",
        "post_worker_init",
        "pre_exec",
        "pre_fork",
        "pre_request",
        "proxy_allow_ips",
        "reload",
        "reload_extra_files",
        "spew",
        "statsd_host",
        "strip_header_spaces",
        "suppress_ragged_eofs",
        "syslog",
        "when_ready",
        "worker_abort",
        "worker_exit",
        "worker_int",
    )
)

# Nobody misses these. They say where to put what we do not make, or how to do what is spoken of already.
NEEDLESS: Final = frozenset(
    (
        "control_socket_disable",
        "control_socket_mode",
        "default_proc_name",
        "dirty_graceful_timeout",
        "dirty_post_fork",
        "dirty_threads",
        "dirty_timeout",
        "dirty_worker_exit",
        "dirty_worker_init",
        "dirty_workers",
        "disable_redirect_access_to_syslog",
        "http2_initial_window_size",
        "http2_max_concurrent_streams",
        "http2_max_frame_size",
        "http2_max_header_list_size",
        "http_parser",
        "on_dirty_starting",
        "raw_paste_global_conf",
        "reload_engine",
        "statsd_prefix",
        "syslog_addr",
        "syslog_facility",
        "syslog_prefix",
        "tmp_upload_dir",
        "uwsgi_allow_ips",
        "worker_tmp_dir",
    )
)

# Uvicorn's, by the names that Uvicorn gives them: in a config file such a name is the user's own. First those that
# ask for protection.
UVICORN_REFUSED: Final = frozenset(
    (
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_ciphers",
        "ssl_context_factory",
        "ssl_keyfile",
        "ssl_keyfile_password",
    )
)

# Then those that say how to do what is done here in another way, or in one way only.
NO_RELOADER: Final = "this version does not reload by itself"
UVICORN_IGNORED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "callback_notify": "the server looks after its workers itself",
        "h11_max_incomplete_event_size": "limit_request_line and limit_request_field_size limit a head",
        "http": "there is one HTTP parser",
        "http2": "this version does not speak HTTP/2",
        "interface": "which protocol an application speaks is seen from the application",
        "reload_delay": NO_RELOADER,
        "reload_dirs": NO_RELOADER,
        "reload_excludes": NO_RELOADER,
        "reload_includes": NO_RELOADER,
        "reset_contextvars": "this version does not have it",
        "timeout_notify": "the server looks after its workers itself",
        "ws_max_queue": "no more is read of a connection than the application asks for",
    }
)

# What these are by default, which says nothing: Gunicorn's are off, plain or none.
NEUTRAL: Final[tuple[object, ...]] = (None, False, "", 0, "0", "off", "no", "false", "http", "h1", "auto", [], (), {})

# The flags of those that have some, and after them what stands for a value, if they take one.
FLAGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ca_certs": "--ca-certs VALUE",
        "casefold_http_method": "--casefold-http-method",
        "cert_reqs": "--cert-reqs VALUE",
        "certfile": "--certfile VALUE",
        "ciphers": "--ciphers VALUE",
        "control_socket": "--control-socket VALUE",
        "control_socket_disable": "--no-control-socket",
        "control_socket_mode": "--control-socket-mode VALUE",
        "daemon": "-D --daemon",
        "dirty_apps": "--dirty-app VALUE",
        "dirty_graceful_timeout": "--dirty-graceful-timeout VALUE",
        "dirty_threads": "--dirty-threads VALUE",
        "dirty_timeout": "--dirty-timeout VALUE",
        "dirty_workers": "--dirty-workers VALUE",
        "disable_redirect_access_to_syslog": "--disable-redirect-access-to-syslog",
        "do_handshake_on_connect": "--do-handshake-on-connect",
        "dogstatsd_tags": "--dogstatsd-tags VALUE",
        "enable_backlog_metric": "--enable-backlog-metric",
        "enable_stdio_inheritance": "-R --enable-stdio-inheritance",
        "group": "-g --group VALUE",
        "h11_max_incomplete_event_size": "--h11-max-incomplete-event-size VALUE",
        "http": "--http VALUE",
        "http2": "--http2",
        "http2_cleartext": "--http2-cleartext VALUE",
        "http2_initial_window_size": "--http2-initial-window-size VALUE",
        "http2_max_concurrent_streams": "--http2-max-concurrent-streams VALUE",
        "http2_max_frame_size": "--http2-max-frame-size VALUE",
        "http2_max_header_list_size": "--http2-max-header-list-size VALUE",
        "http_parser": "--http-parser VALUE",
        "http_protocols": "--http-protocols VALUE",
        "initgroups": "--initgroups",
        "interface": "--interface VALUE",
        "keyfile": "--keyfile VALUE",
        "logconfig_json": "--log-config-json VALUE",
        "logger_class": "--logger-class VALUE",
        "paste": "--paste --paster VALUE",
        "permit_obsolete_folding": "--permit-obsolete-folding",
        "permit_unconventional_http_method": "--permit-unconventional-http-method",
        "permit_unconventional_http_version": "--permit-unconventional-http-version",
        "pidfile": "-p --pid VALUE",
        "protocol": "--protocol VALUE",
        "proxy_allow_ips": "--proxy-allow-from VALUE",
        "proxy_protocol": "--proxy-protocol [VALUE]",
        "raw_paste_global_conf": "--paste-global VALUE",
        "reload": "--reload",
        "reload_delay": "--reload-delay VALUE",
        "reload_dirs": "--reload-dir VALUE",
        "reload_engine": "--reload-engine VALUE",
        "reload_excludes": "--reload-exclude VALUE",
        "reload_extra_files": "--reload-extra-file VALUE",
        "reload_includes": "--reload-include VALUE",
        "reset_contextvars": "--reset-contextvars",
        "spew": "--spew",
        "ssl_ca_certs": "--ssl-ca-certs VALUE",
        "ssl_cert_reqs": "--ssl-cert-reqs VALUE",
        "ssl_certfile": "--ssl-certfile VALUE",
        "ssl_ciphers": "--ssl-ciphers VALUE",
        "ssl_keyfile": "--ssl-keyfile VALUE",
        "ssl_keyfile_password": "--ssl-keyfile-password VALUE",
        "ssl_version": "--ssl-version VALUE",
        "statsd_host": "--statsd-host VALUE",
        "statsd_prefix": "--statsd-prefix VALUE",
        "strip_header_spaces": "--strip-header-spaces",
        "suppress_ragged_eofs": "--suppress-ragged-eofs",
        "syslog": "--log-syslog",
        "syslog_addr": "--log-syslog-to VALUE",
        "syslog_facility": "--log-syslog-facility VALUE",
        "syslog_prefix": "--log-syslog-prefix VALUE",
        "umask": "-m --umask VALUE",
        "user": "-u --user VALUE",
        "uwsgi_allow_ips": "--uwsgi-allow-from VALUE",
        "worker_tmp_dir": "--worker-tmp-dir VALUE",
        "ws_max_queue": "--ws-max-queue VALUE",
    }
)


def verdict(name: str, value: object) -> str:
    """What becomes of a setting: "refused", "ignored", or "" if nothing needs to be said.

    That is so if it is none of these, and if what it says is what happens anyway.
    """
    if value in NEUTRAL:
        return ""
    if name in REFUSED | UVICORN_REFUSED:
        return "refused"
    return "ignored" if name in IGNORED or name in UVICORN_IGNORED else ""


def why(name: str, what: str = "setting") -> str:
    """Why a setting that is ignored has no effect; `what` it is where it was given."""
    return UVICORN_IGNORED.get(name, f"this version does not have this {what}")
