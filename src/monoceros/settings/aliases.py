"""What people bring along: the names of worker classes, and what they mean here."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from monoceros.settings.table import Settings, SettingsError

# The kinds that this version does not serve yet, though their names are understood.
LATER: Final = frozenset(("asgi", "gevent", "eventlet", "tornado"))

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

SERVED: Final = "(this version has sync and gthread)"


def kind(settings: Settings) -> str:
    """The kind of worker that `worker_class` means: "auto", "sync" or "gthread".

    Raises SettingsError for a kind that is not served, and for a name that nobody knows.
    """
    name = settings.worker_class
    known = WORKER_CLASSES.get(name)
    if known is None:
        raise _refusal(settings, f"{_guess(name)} {SERVED}")
    if known in LATER:
        raise _refusal(settings, f"{known} workers are not available yet {SERVED}")
    # A sync worker has one thread, so whoever asks for more means the kind that has more.
    return "gthread" if known == "sync" and settings.threads > 1 else known


def _refusal(settings: Settings, reason: str) -> SettingsError:
    origin = settings.origins.get("worker_class", "default")
    return SettingsError(f"worker_class = {settings.worker_class!r} ({origin}): {reason}")


def _guess(name: str) -> str:
    """What may be meant by a name that is not in the table."""
    close = difflib.get_close_matches(name.lower(), WORKER_CLASSES, 1, cutoff=0.7)
    if close:
        return f"no such kind of worker; did you mean {close[0]}?"
    if "." in name or ":" in name:
        return "worker classes of others cannot be used"
    return "no such kind of worker"
