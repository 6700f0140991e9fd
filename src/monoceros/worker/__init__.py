"""What runs in a child process."""

import gc
import importlib
import logging
import sys
from functools import partial
from typing import NoReturn

from monoceros import app
from monoceros.worker.base import Berth, Worker
from monoceros.worker.life import live

__all__ = ["Berth", "prepare", "start"]

log = logging.getLogger("gunicorn.error")


def prepare(kind: str) -> None:
    """Before the fork, import what workers of this kind run on, so that none of them has to do it by itself.

    Not asyncio for "auto", whose application may be WSGI: it would be in vain, and it comes with `ssl`, which must not
    be there yet where an application lets gevent patch it.
    """
    name = "monoceros.worker.aio" if kind == "asgi" else "monoceros.worker.thread"
    if name not in sys.modules:
        importlib.import_module(name)
        # What is frozen the workers' collectors leave alone: it costs no time, and stays shared memory.
        gc.collect()
        gc.freeze()


def start(kind: str, berth: Berth) -> NoReturn:
    """Live the life of a worker of this kind, in a process just forked. Never returns."""
    live(berth, partial(worker_class, kind, berth.settings.wsgi_app or ""))


def worker_class(kind: str, spec: str, application: app.Application) -> type[Worker]:
    """The class that serves this application, which users call `spec`. Raises `BootError` if the kind cannot."""
    if kind == "site":
        from monoceros.worker.site import SiteWorker

        return SiteWorker
    spoken = app.agree(application, kind, spec)
    if spoken == "wsgi":
        if kind == "auto":
            log.debug("%s is a WSGI application", spec)
        from monoceros.worker.thread import ThreadWorker

        return ThreadWorker
    if kind == "auto":
        log.info("%s is an ASGI application", spec)
    from monoceros.worker.aio import AsyncWorker

    return AsyncWorker
