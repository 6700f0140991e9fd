"""Gunicorn's settings that this version does not have: what a config file that sets one is told.

To ignore them without a word would leave somebody with plain HTTP who asked for TLS. Each goes from here as it
gets its row in the table.
"""

from typing import Final

# Without these the server would be less protected than its operator believes: they are refused.
REFUSED: Final = frozenset(
    (
        "ca_certs",
        "cert_reqs",
        "certfile",
        "ciphers",
        "group",
        "initgroups",
        "keyfile",
        "protocol",
        "proxy_protocol",
        "ssl_context",
        "umask",
        "user",
    )
)

# Without these it serves, but does less: a warning says so.
IGNORED: Final = frozenset(
    (
        "asgi_disconnect_grace_period",
        "asgi_lifespan",
        "asgi_loop",
        "casefold_http_method",
        "child_exit",
        "control_socket",
        "daemon",
        "dirty_apps",
        "dogstatsd_tags",
        "enable_backlog_metric",
        "enable_stdio_inheritance",
        "http2_cleartext",
        "http_protocols",
        "logconfig",
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
        "reload",
        "reload_extra_files",
        "spew",
        "statsd_host",
        "strip_header_spaces",
        "syslog",
        "when_ready",
        "worker_abort",
        "worker_exit",
        "worker_int",
    )
)

# What these are by default, which says nothing: Gunicorn's are off, plain or none.
NEUTRAL: Final[tuple[object, ...]] = (None, False, "", 0, "off", "http", "h1", "auto", [], (), {})
