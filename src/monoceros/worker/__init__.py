"""What runs in a child process."""

import gc
import importlib
import logging
import sys
from functools import partial
from typing import Final, NoReturn

from monoceros import app
from monoceros.worker.base import Berth, Worker
from monoceros.worker.life import live

__all__ = ["Berth", "prepare", "prepare_to_load", "start"]

log = logging.getLogger("gunicorn.error")

# Where the workers of a kind live, if not with those that run on threads.
ROOMS: Final = {"asgi": "aio", "gevent": "green"}


def prepare(kind: str) -> None:
    """Before the fork, import what workers of this kind run on, so that none of them has to do it by itself.

    Not asyncio for "auto", whose application may be WSGI: it would be in vain, and it comes with `ssl`, which must not
    be there yet where an application lets gevent patch it.
    """
    name = f"monoceros.worker.{ROOMS.get(kind, 'thread')}"
    if name not in sys.modules:
        importlib.import_module(name)
        # What is frozen the workers' collectors leave alone: it costs no time, and stays shared memory.
        gc.collect()
        gc.freeze()


def prepare_to_load(kind: str, *, master: bool = False) -> None:
    """Before the application is imported: make this process one in which it can live.

    The `master` goes on to have children as before. An application that is imported there must live in workers, too.
    """
    if kind == "gevent":
        from monoceros.worker import patch

        if master:
            patch.master()
        else:
            patch.process()


def start(kind: str, berth: Berth) -> NoReturn:
    """Live the life of a worker of this kind, in a process just forked. Never returns."""
    prepare_to_load(kind)
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
        if kind == "gevent":
            from monoceros.worker.green import GreenWorker

            return GreenWorker
        from monoceros.worker.thread import ThreadWorker

        return ThreadWorker
    if kind == "auto":
        log.info("%s is an ASGI application", spec)
    from monoceros.worker.aio import AsyncWorker

    return AsyncWorker
