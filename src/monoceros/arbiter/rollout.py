"""A reload: what the server runs with from now on, and the way back as long as nobody of the new generation serves."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from monoceros.listener import Listener, Listeners
from monoceros.ops import log, logger
from monoceros.ops.logger import Logs
from monoceros.settings import place
from monoceros.settings.load import changes
from monoceros.settings.table import Settings, SettingsError
from monoceros.worker.privileges import PrivilegeError, chown

error_log = logging.getLogger("gunicorn.error")


class Refused(Exception):
    """The new settings cannot be had. The text says why; nothing has changed."""


@dataclass
class Rollout:
    """A new course, and what it takes to leave it or to stay on it.

    `settings`, `listeners` and `logs` are the new ones, `before` the settings that held until now; `kept` are the
    listeners of before, `dropped` those that are not wanted any more, and `refusing` says that they take no new
    clients. `begun` is a moment of `time.monotonic`.
    """

    settings: Settings
    listeners: Listeners
    logs: Logs
    before: Settings
    kept: Listeners
    dropped: list[Listener]
    begun: float
    refusing: bool = False

    @classmethod
    def prepare(
        cls, before: Settings, listeners: Listeners, load: Callable[[], Settings], environ: Mapping[str, str]
    ) -> "Rollout":
        """Read the settings anew, open what is new, enter the new place, and log where the new settings say.

        `environ` is the environment that the server was started with. All or nothing: raises `Refused`.
        """
        try:
            with ExitStack() as undo:
                settings = _with_fixed(before, load())
                wanted, dropped = listeners.reconcile(
                    settings.bind + settings.admin_bind,
                    settings.backlog,
                    reuse_port=settings.reuse_port,
                    umask=settings.umask,
                )
                for name in wanted.keys() - listeners.keys():
                    undo.callback(wanted[name].discard)
                undo.callback(place.enter, before, settings, environ)
                place.enter(settings, before, environ)
                logs = logger.begin(settings)
                undo.callback(logger.begin, before)
                give_away(settings, wanted)
                undo.pop_all()
        except (SettingsError, OSError, PrivilegeError) as error:
            said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
            raise Refused(str(said)) from error
        return cls(settings, wanted, logs, before, listeners, dropped, time.monotonic())

    @property
    def moved(self) -> bool:
        """Does the server listen at other addresses than before?"""
        return self.listeners.keys() != self.kept.keys()

    def undo(self, environ: Mapping[str, str]) -> Logs | None:
        """Back to what was before. Returns what keeps the logs then, None if that cannot be had again."""
        for name in self.listeners.keys() - self.kept.keys():
            self.listeners[name].discard()
        try:
            place.enter(self.before, self.settings, environ)
            return logger.begin(self.before)
        except (SettingsError, OSError) as error:  # a directory or a disk that has gone meanwhile
            error_log.error("Not all is as it was before the reload: %s", error)
            return None


def give_away(settings: Settings, listeners: Listeners) -> None:
    """Let the workers' user have the Unix sockets and the log files. Raises `PrivilegeError`."""
    if settings.user is None and settings.group is None:
        return
    for listener in listeners.values():
        if listener.owned and listener.address.kind == "unix" and not listener.address.path.startswith("\0"):
            chown(listener.address.path, settings.user, settings.group)
    for handler in log.file_handlers():
        if handler.stream is not None:
            chown(handler.stream.fileno(), settings.user, settings.group)


def reopen(settings: Settings, listeners: Listeners, logs: Logs) -> None:
    """Open the log files anew, as after logrotate; those that are made by that are the workers' as well."""
    logs.reopen()
    try:
        give_away(settings, listeners)
    except PrivilegeError as error:
        error_log.error("%s", error)


def _with_fixed(before: Settings, settings: Settings) -> Settings:
    """The new settings, but for what cannot change while the server runs."""
    fixed = changes(before, settings)
    if fixed:
        error_log.warning("Not changed by a reload: %s", ", ".join(fixed))
    return replace(settings, **{row: getattr(before, row) for row in fixed})
