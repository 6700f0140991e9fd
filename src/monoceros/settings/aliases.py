"""What people bring along: the names of worker classes and of Uvicorn's options, and what they mean here."""

import difflib
import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from monoceros.settings import subclasses
from monoceros.settings.place import importable
from monoceros.settings.table import Settings, SettingsError

# The kinds that this version does not serve yet, though their names are understood.
LATER: Final = frozenset(("eventlet", "tornado"))

WORKER_CLASSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "auto": "auto",
        "sync": "sync",
        "egg:gunicorn#sync": "sync",
        "gunicorn.workers.sync.SyncWorker": "sync",
        "gthread": "gthread",
        "thread": "gthread",
        "threads": "gthread",
        "egg:gunicorn#gthread": "gthread",
        "gunicorn.workers.gthread.ThreadWorker": "gthread",
        "asgi": "asgi",
        "egg:gunicorn#asgi": "asgi",
        "gunicorn.workers.gasgi.ASGIWorker": "asgi",
        "uvicorn.workers.UvicornWorker": "asgi",
        "uvicorn.workers.UvicornH11Worker": "asgi",
        "uvicorn_worker.UvicornWorker": "asgi",
        "uvicorn_worker.UvicornH11Worker": "asgi",
        "gevent": "gevent",
        "gevent_wsgi": "gevent",
        "gevent_pywsgi": "gevent",
        "egg:gunicorn#gevent": "gevent",
        "egg:gunicorn#gevent_wsgi": "gevent",
        "egg:gunicorn#gevent_pywsgi": "gevent",
        "gunicorn.workers.ggevent.GeventWorker": "gevent",
        "gunicorn.workers.ggevent.GeventPyWSGIWorker": "gevent",
        "eventlet": "eventlet",
        "egg:gunicorn#eventlet": "eventlet",
        "gunicorn.workers.geventlet.EventletWorker": "eventlet",
        "tornado": "tornado",
        "egg:gunicorn#tornado": "tornado",
        "gunicorn.workers.gtornado.TornadoWorker": "tornado",
    }
)

SERVED: Final = "(this version has sync, gthread, asgi and gevent)"

# The parameters of `uvicorn.run`, of which the flags and the UVICORN_ variables are made, too: which setting each one
# is. A name that is in no table of ours, but in `absent`, is one that is not there.
UVICORN_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "app": "wsgi_app",
        "host": "host",
        "port": "port",
        "uds": "uds",
        "fd": "fd",
        "loop": "asgi_loop",
        "http": "http",
        "http2": "http2",
        "ws": "ws",
        "ws_max_size": "websocket_max_message_size",
        "ws_max_queue": "ws_max_queue",
        "ws_ping_interval": "ws_ping_interval",
        "ws_ping_timeout": "ws_ping_timeout",
        "ws_per_message_deflate": "ws_per_message_deflate",
        "lifespan": "asgi_lifespan",
        "interface": "interface",
        "reload": "reload",
        "reload_dirs": "reload_dirs",
        "reload_includes": "reload_includes",
        "reload_excludes": "reload_excludes",
        "reload_delay": "reload_delay",
        "workers": "workers",
        "env_file": "env_file",
        "log_config": "logconfig",
        "log_level": "loglevel",
        "access_log": "access_log",
        "use_colors": "use_colors",
        "proxy_headers": "proxy_headers",
        "server_header": "server_header",
        "date_header": "date_header",
        "forwarded_allow_ips": "forwarded_allow_ips",
        "root_path": "root_path",
        "limit_concurrency": "limit_concurrency",
        "limit_max_requests": "max_requests",
        "limit_max_requests_jitter": "max_requests_jitter",
        "backlog": "backlog",
        "timeout_keep_alive": "keepalive",
        "timeout_graceful_shutdown": "graceful_timeout",
        "timeout_worker_healthcheck": "timeout",
        "callback_notify": "callback_notify",
        "timeout_notify": "timeout_notify",
        "ssl_keyfile": "ssl_keyfile",
        "ssl_certfile": "ssl_certfile",
        "ssl_keyfile_password": "ssl_keyfile_password",
        "ssl_version": "ssl_version",
        "ssl_cert_reqs": "ssl_cert_reqs",
        "ssl_ca_certs": "ssl_ca_certs",
        "ssl_ciphers": "ssl_ciphers",
        "ssl_context_factory": "ssl_context_factory",
        "headers": "headers",
        "app_dir": "app_dir",
        "h11_max_incomplete_event_size": "h11_max_incomplete_event_size",
        "reset_contextvars": "reset_contextvars",
        "factory": "factory",
    }
)

# Those of them that do not give away whose language somebody speaks, since Gunicorn has them as well.
SHARED: Final = frozenset(
    (
        "app",
        "backlog",
        "forwarded_allow_ips",
        "log_config",
        "log_level",
        "reload",
        "root_path",
        "ssl_version",
        "workers",
    )
)

# These may be given several times, and their flags are called by the singular.
REPEATED: Final = ("headers", "reload_dirs", "reload_excludes", "reload_includes")

# The flags that only Uvicorn has, switched off as well.
UVICORN_FLAGS: Final = frozenset(
    flag
    for name in UVICORN_NAMES.keys() - SHARED
    for word in (name.removesuffix("s") if name in REPEATED else name,)
    for flag in ("--" + word.replace("_", "-"), "--no-" + word.replace("_", "-"))
)


def only_uvicorns(name: str) -> bool:
    """Whether a name, as it stands in a call or in a file, is one that only Uvicorn has."""
    return name in UVICORN_NAMES and name not in SHARED


def kind(settings: Settings) -> str:
    """The kind of worker that `worker_class` means: "auto", "sync", "gthread", "asgi" or "gevent".

    A class that is made from one of Uvicorn's is imported, and so is gevent for its kind. Raises SettingsError if that
    fails, for a kind that is not served, and for a name that nobody knows.
    """
    name = settings.worker_class
    known = known_as(name)
    if known is None:
        try:
            known = "asgi" if subclasses.find(name, importable(settings)) else None
        except subclasses.NotImportable as error:
            raise _refusal(settings, f"cannot be imported: {error}{_hint(name)}") from error.__cause__
    if known is None:
        raise _refusal(settings, f"{_guess(name)} {SERVED}")
    if known in LATER:
        raise _refusal(settings, f"{known} workers are not available yet {SERVED}")
    if known == "gevent":
        try:
            importlib.import_module("gevent")
        except ImportError as error:
            raise _refusal(settings, f"it needs gevent: pip install 'monoceros[gevent]' ({error})") from None
    # A sync worker has one thread, so whoever asks for more means the kind that has more.
    return "gthread" if known == "sync" and settings.threads > 1 else known


def known_as(name: str) -> str | None:
    """What a `worker_class` means, None if it is not in the table."""
    return WORKER_CLASSES.get(name) or WORKER_CLASSES.get(name.replace(":", "."))


def is_uvicorns(name: str) -> bool:
    """Whether a `worker_class` in the table is one of Uvicorn's."""
    return known_as(name) == "asgi" and name.startswith("uvicorn")


def _refusal(settings: Settings, reason: str) -> SettingsError:
    origin = settings.origins.get("worker_class", "default")
    return SettingsError(f"worker_class = {settings.worker_class!r} ({origin}): {reason}")


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), WORKER_CLASSES, 1, cutoff=0.7)
    return f"; did you mean {close[0]}?" if close else ""


def _guess(name: str) -> str:
    """What may be meant by a name that is not in the table."""
    if "." in name or ":" in name:
        return f"worker classes of others cannot be used{_hint(name)}"
    return f"no such kind of worker{_hint(name)}"
