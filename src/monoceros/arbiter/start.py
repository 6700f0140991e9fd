"""What a master does before its first worker: title, application, addresses."""

import errno
import gc
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from monoceros import app, reloader, worker
from monoceros.arbiter.pidfile import Pidfile, PidfileError
from monoceros.arbiter.systemd import listen_fds
from monoceros.listener import Listeners
from monoceros.ops import hooks, metrics, multiproc
from monoceros.settings import aliases
from monoceros.settings.table import Settings, SettingsError

error_log = logging.getLogger("gunicorn.error")

# An address may be in use because its last owner is still leaving: this many tries, so many seconds apart.
BIND_TRIES: Final = 5
BIND_PAUSE: Final = 1.0


class Halt(Exception):
    """The server cannot go on, or has been told to stop. `status` is what to exit with."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


def reason_of(status: int) -> str:
    """Why the server could not start, in Gunicorn's words."""
    return "App failed to load." if status == app.AppNotFound.status else "Worker failed to boot."


def with_sockets(settings: Settings, load: Callable[[], Settings]) -> tuple[Settings, Callable[[], Settings], bool]:
    """The settings, and how to load them again, with the sockets that systemd has opened for us in place of `bind`.

    The last says whether there are any. Raises `Halt`.
    """
    try:
        sockets = tuple(listen_fds(os.environ, os.getpid()))
    except ValueError as error:
        raise Halt(str(error), 1) from None
    if not sockets:
        return settings, load, False
    return replace(settings, bind=sockets), lambda: replace(load(), bind=sockets), True


def pidfile(settings: Settings, suffix: str, pid: int) -> Pidfile | None:
    """The pid file, written; None if there is to be none. Raises `Halt`."""
    if settings.pidfile is None:
        return None
    file = Pidfile(settings.pidfile + suffix)
    try:
        file.create(pid)
    except PidfileError as error:
        raise Halt(str(error), 1) from None
    return file


def tell(settings: Settings, name: str, *arguments: object) -> None:
    """Call a hook. Raises `Halt` if it fails, with status 1 or that of `sys.exit`: nobody is served yet."""
    try:
        hooks.call(settings, name, *arguments)
    except hooks.RAISED as error:
        status = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        raise Halt(f"The hook {name} has failed: {error!r}", status) from None


def attempt(step: Callable[[], None]) -> None:
    """Do something to the pid file; that it cannot be done is worth a line, and no more."""
    try:
        step()
    except PidfileError as error:
        error_log.error("%s", error)


def tell_where(settings: Settings, listeners: Listeners, pid: int) -> None:
    """Say at which addresses the server listens."""
    error_log.info("Listening at: %s (%s)", ",".join(map(str, listeners.at(settings.bind).values())), pid)
    if settings.admin_bind:
        where = ",".join(map(str, listeners.at(settings.admin_bind).values()))
        error_log.info("Health and metrics at: %s", where)


def prepare_metrics(settings: Settings, directory: multiproc.Directory) -> None:
    """Make what the metrics of applications need. Raises `Halt`."""
    try:
        directory.prepare(settings, os.environ)
    except OSError as error:
        raise Halt(f"{multiproc.VARIABLE}: cannot make {error.filename}: {error.strerror}", 1) from None
    if settings.admin_bind and not metrics.available():
        error_log.warning("%s", metrics.EXTRA)


def preload(settings: Settings) -> app.Application:
    """The application, imported in the master. Raises `Halt`."""
    if settings.user is not None and os.geteuid() == 0:
        error_log.warning("preload_app imports the application as root, before the workers become another user")
    worker.prepare_to_load(aliases.kind(settings), master=True)
    try:
        application = app.find(settings)
    except app.BootError as error:
        error_log.error("%s", error)
        raise Halt(reason_of(error.status), error.status) from None
    except Exception:
        error_log.exception("Exception while loading the application")
        raise Halt(reason_of(app.BootError.status), app.BootError.status) from None
    # What the workers inherit stays shared memory as long as no collector touches it.
    gc.collect()
    gc.freeze()
    return application


def listen(settings: Settings, found: Listeners, wait: Callable[[float], None]) -> Listeners:
    """Listeners at all addresses, `found` among them. `wait` sleeps for some seconds. Raises `Halt`."""
    for tries_left in reversed(range(BIND_TRIES)):
        try:
            listeners, _ = found.reconcile(
                settings.bind + settings.admin_bind,
                settings.backlog,
                reuse_port=settings.reuse_port,
                umask=settings.umask,
            )
            return listeners
        except OSError as error:
            where = error.filename
            if error.errno != errno.EADDRINUSE:
                error_log.error("Cannot listen at %s: %s", where, error.strerror)
                raise Halt(f"Can't connect to {where}", 1) from None
            error_log.error("Connection in use: %s", where)
            if tries_left:
                error_log.debug("Retrying in 1 second.")
                wait(BIND_PAUSE)
    error_log.error("Can't connect to %s", where)
    raise Halt(f"Can't connect to {where}", 1)


def watcher(settings: Settings, listeners: Listeners) -> reloader.Watcher:
    """Who tells of files that have changed (`reload`). Raises `Halt`."""
    error_log.warning("Reloader is on. Use in development only!")
    if settings.preload_app:
        error_log.warning("With preload_app, a reload does not bring new code: leave one of the two out")
    try:
        watch = reloader.watch_of(settings)
        return reloader.start(watch, close=[listener.fileno() for listener in listeners.values()])
    except (SettingsError, OSError) as error:
        raise Halt(f"Cannot watch files: {error}", 1) from None


def entitle(role: str, settings: Settings, suffix: str = "") -> None:
    """Name the process in the process list, where setproctitle is installed."""
    try:
        from setproctitle import setproctitle
    except ImportError:
        if settings.proc_name and role == "master":
            error_log.warning("proc_name has no effect without setproctitle: pip install 'monoceros[setproctitle]'")
        return
    setproctitle(f"monoceros: {role} [{settings.proc_name or settings.wsgi_app}{suffix}]")
