"""A worker's life, from the fork to the exit status that tells the arbiter why it ended."""

import gc
import logging
import os
import random
import signal
from collections.abc import Callable
from typing import Final, NoReturn

from monoceros import app
from monoceros.ops import hooks, log, multiproc
from monoceros.ops.logger import Logs
from monoceros.scoreboard import READY
from monoceros.settings.table import Settings
from monoceros.worker import privileges, process, spew
from monoceros.worker.base import Berth, Worker, farewell

error_log = logging.getLogger("gunicorn.error")

# What is meant for the master reaches a worker too when somebody types `pkill`, or closes a terminal.
IGNORED: Final = (
    signal.SIGHUP,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
    signal.SIGPIPE,
)


def live(berth: Berth, choose: Callable[[app.Application], type[Worker]]) -> NoReturn:
    """A worker's life: boot, serve, exit with the status that tells the arbiter why. `choose` says of which kind."""
    status = app.BootError.status
    member, settings = berth.member, berth.settings
    try:
        member.born()
        log.identify(berth.generation, berth.number)
        error_log.info("Booting %s with pid: %d", berth.role, os.getpid())
        _prepare(settings, berth.logs)
        if berth.bequest is not None:
            multiproc.inherit(os.environ[multiproc.VARIABLE], berth.bequest, os.getpid())
        hooks.call(settings, "post_fork", berth.server, member)
        application = member.app = berth.application or app.find(settings)
        worker = choose(application)(berth, application)
        hooks.call(settings, "post_worker_init", member)
        worker.boot()
        member.booted = True
        # What boot has made stays for good: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        worker.phase(READY, worker.patience)
        worker.run()
        status = 0
        error_log.info("%s exiting (pid: %d)", berth.role.capitalize(), worker.pid)
    except app.BootError as error:
        cause = error.__cause__  # what the application has raised, if that is the reason
        raised = cause and (type(cause), cause, app.users_traceback(cause.__traceback__))
        error_log.error("%s", error, exc_info=raised)
        status = error.status
    except BaseException as error:
        where = app.users_traceback(error.__traceback__)
        error_log.error("Exception in worker process", exc_info=(type(error), error, where))
    if status and settings.user is not None and (hidden := privileges.hidden()):
        error_log.error("%s", hidden)  # and the error above is only what comes of it
    farewell(berth)
    process.leave(status)


def _prepare(settings: Settings, logs: Logs) -> None:
    """Make the process, just forked, one that can load the application."""
    random.seed()
    privileges.drop(settings.user, settings.group, settings.initgroups)
    if settings.spew:
        spew.begin()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # Until there is something to finish, a signal to leave simply ends the process.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, lambda *_: process.reopen(logs))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    process.arm_dump()
