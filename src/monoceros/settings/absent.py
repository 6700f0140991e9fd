"""Settings of Gunicorn and options of Uvicorn that this version does not have: what who sets one is told.

To ignore them without a word would leave somebody with plain HTTP who asked for TLS. So who asks for something that
the server would then not do is refused, and who would only miss some output gets a warning. Their defaults say what
happens anyway, and are taken without a word. Each goes from here as it gets its row in the table.
"""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from monoceros.settings.process_values import auto_int
from monoceros.settings.values import FALSE, boolean


class Absent(NamedTuple):
    """What is known about one. `defaults` says nothing; `usage` are its flags, and VALUE if they take one.

    `why` it is refused; or that it has no effect, "" where nothing can be said but that.
    """

    defaults: tuple[object, ...]
    usage: str
    why: str
    refused: bool


def _refused(why: str, **rows: tuple[object, str]) -> dict[str, Absent]:
    """Some that belong together, as name=(default, usage); a tuple is several defaults."""
    return {name: Absent(_several(default), usage, why, True) for name, (default, usage) in rows.items()}


def _noted(why: str = "", **rows: tuple[object, str]) -> dict[str, Absent]:
    return {name: Absent(_several(default), usage, why, False) for name, (default, usage) in rows.items()}


def _several(default: object) -> tuple[object, ...]:
    return default if isinstance(default, tuple) else (default,)


NO_TLS: Final = "this version does not do TLS, and will not start as if it did"
NO_PROXY_PROTOCOL: Final = "this version does not read the PROXY protocol, and will not start as if it did"
NO_HTTP2: Final = "this version does not speak HTTP/2"
NO_UWSGI: Final = "this version does not speak the protocol of uWSGI"
NO_DIRTY_WORKERS: Final = "this version has no dirty workers"
STRICT: Final = "requests that break the rules of HTTP are always refused here"

LOCAL: Final = "127.0.0.1,::1"

GUNICORN: Final[Mapping[str, Absent]] = MappingProxyType(
    {
        **_refused(
            NO_TLS,
            keyfile=(None, "--keyfile VALUE"),
            certfile=(None, "--certfile VALUE"),
            # As numbers: PROTOCOL_TLS, which is Gunicorn's, and PROTOCOL_TLS_SERVER, which is Uvicorn's.
            ssl_version=((2, 17), "--ssl-version VALUE"),
            cert_reqs=(0, "--cert-reqs VALUE"),
            ca_certs=(None, "--ca-certs VALUE"),
            suppress_ragged_eofs=(True, "--suppress-ragged-eofs"),
            do_handshake_on_connect=(False, "--do-handshake-on-connect"),
            ciphers=(None, "--ciphers VALUE"),
            ssl_context=(None, ""),
        ),
        **_refused(
            NO_PROXY_PROTOCOL,
            proxy_protocol=(("off", "none", False), "--proxy-protocol [VALUE]"),
            proxy_allow_ips=(LOCAL, "--proxy-allow-from VALUE"),
        ),
        **_refused(
            NO_HTTP2,
            http_protocols=("h1", "--http-protocols VALUE"),
            http2_cleartext=("off", "--http2-cleartext VALUE"),
            http2_max_concurrent_streams=(100, "--http2-max-concurrent-streams VALUE"),
            http2_initial_window_size=(65535, "--http2-initial-window-size VALUE"),
            http2_max_frame_size=(16384, "--http2-max-frame-size VALUE"),
            http2_max_header_list_size=(65536, "--http2-max-header-list-size VALUE"),
        ),
        **_refused(
            NO_UWSGI,
            protocol=("http", "--protocol VALUE"),
            uwsgi_allow_ips=(LOCAL, "--uwsgi-allow-from VALUE"),
        ),
        **_refused(
            NO_DIRTY_WORKERS,
            dirty_apps=(None, "--dirty-app VALUE"),
            dirty_workers=(0, "--dirty-workers VALUE"),
            dirty_timeout=(300, "--dirty-timeout VALUE"),
            dirty_threads=(1, "--dirty-threads VALUE"),
            dirty_graceful_timeout=(30, "--dirty-graceful-timeout VALUE"),
            on_dirty_starting=(None, ""),
            dirty_post_fork=(None, ""),
            dirty_worker_init=(None, ""),
            dirty_worker_exit=(None, ""),
        ),
        **_refused(
            STRICT,
            permit_obsolete_folding=(False, "--permit-obsolete-folding"),
            permit_unconventional_http_method=(False, "--permit-unconventional-http-method"),
            permit_unconventional_http_version=(False, "--permit-unconventional-http-version"),
            strip_header_spaces=(False, "--strip-header-spaces"),
            casefold_http_method=(False, "--casefold-http-method"),
        ),
        **_noted(
            "there is one HTTP parser",
            http_parser=("auto", "--http-parser VALUE"),
        ),
        **_noted(
            control_socket=(None, "--control-socket VALUE"),
            control_socket_mode=(0o600, "--control-socket-mode VALUE"),
        ),
        **_noted(
            "there is no control socket, so none to disable",
            control_socket_disable=((False, True), "--no-control-socket"),
        ),
    }
)

LOOKS_AFTER_ITSELF: Final = "the server looks after its workers itself"

# Uvicorn's, by the names that Uvicorn gives them: in a config file such a name is the user's own.
UVICORN: Final[Mapping[str, Absent]] = MappingProxyType(
    {
        **_refused(
            NO_TLS,
            ssl_keyfile=(None, "--ssl-keyfile VALUE"),
            ssl_certfile=(None, "--ssl-certfile VALUE"),
            ssl_keyfile_password=(None, "--ssl-keyfile-password VALUE"),
            ssl_cert_reqs=(0, "--ssl-cert-reqs VALUE"),
            ssl_ca_certs=(None, "--ssl-ca-certs VALUE"),
            ssl_ciphers=("TLSv1", "--ssl-ciphers VALUE"),
            ssl_context_factory=(None, ""),
        ),
        **_noted(
            LOOKS_AFTER_ITSELF,
            callback_notify=(None, ""),
            timeout_notify=(30, ""),
        ),
        **_noted("there is one HTTP parser", http=("auto", "--http VALUE")),
        **_noted(NO_HTTP2, http2=(False, "--http2")),
        **_noted(
            "limit_request_line and limit_request_field_size limit a head",
            h11_max_incomplete_event_size=(None, "--h11-max-incomplete-event-size VALUE"),
        ),
        **_noted(
            "which protocol an application speaks is seen from the application",
            interface=("auto", "--interface VALUE"),
        ),
        **_noted("this version does not have it", reset_contextvars=(False, "--reset-contextvars")),
        **_noted(
            "no more is read of a connection than the application asks for",
            ws_max_queue=(32, "--ws-max-queue VALUE"),
        ),
    }
)

ALL: Final[Mapping[str, Absent]] = MappingProxyType({**GUNICORN, **UVICORN})

# The flags of those that have some, and after them what stands for a value, if they take one.
FLAGS: Final[Mapping[str, str]] = MappingProxyType({name: row.usage for name, row in ALL.items() if row.usage})


def verdict(name: str, value: object) -> str:
    """What becomes of a setting: "refused", "ignored", or "" if nothing needs to be said.

    That is so if it is none of these, and if what it says is what happens anyway.
    """
    if name not in ALL or value is None or (isinstance(value, str | list | tuple | dict) and not value):
        return ""
    defaults = ALL[name].defaults if name != "control_socket" else _control_sockets(os.environ)
    # No to anything is no more than not to ask for it, unless it would be there.
    if any(_is(value, default) for default in defaults) or (value is False and defaults != (True,)):
        return ""
    return "refused" if ALL[name].refused else "ignored"


def why(name: str, what: str = "setting") -> str:
    """Why one is refused, or has no effect; `what` it is where it was given."""
    return ALL[name].why or f"this version does not have this {what}"


def _is(value: object, default: object) -> bool:
    """Whether a value, as it was written, is this one."""
    try:
        if isinstance(default, bool):
            return boolean(value) is default
        if isinstance(default, int):
            return auto_int(value) == default
    except ValueError:
        return False
    return isinstance(default, str) and _text(value) in (default.lower(), *(FALSE if default == "off" else ()))


def _text(value: Any) -> str:
    if isinstance(value, type):  # the class itself
        return f"{value.__module__}.{value.__qualname__}".lower()
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    return ",".join(str(part).strip() for part in parts).lower()


def _control_sockets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where Gunicorn puts its control socket by default, which depends on who runs it."""
    runtime, home = environ.get("XDG_RUNTIME_DIR"), environ.get("HOME")
    found = [f"{runtime}/gunicorn.ctl"] if runtime else []
    return (*found, f"{home}/.gunicorn/gunicorn.ctl") if home else tuple(found)
