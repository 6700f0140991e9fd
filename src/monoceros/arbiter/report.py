"""How it stands, for those who watch the server: systemd, who launched it, and whoever reads the scoreboard."""

import os
from typing import TYPE_CHECKING, Final

from monoceros.arbiter.daemon import Launcher
from monoceros.arbiter.systemd import Notifier
from monoceros.scoreboard import (
    FAILED,
    LEAVING,
    LOOK_DEADLINE,
    NEVER,
    NOW_GENERATION,
    RELOADS,
    STARTED,
    TARGET,
    Scoreboard,
    clock,
)

if TYPE_CHECKING:
    from monoceros.arbiter.arbiter import Arbiter

# Within how many milliseconds the arbiter looks around again, a turn of its loop and a slow step included.
LOOK_PATIENCE: Final = 40_000


class Report:
    """Tells what has changed, once, and that we are alive, as often as somebody wants to hear it."""

    def __init__(self, board: Scoreboard, launcher: Launcher) -> None:
        self._board = board
        self._launcher = launcher
        self._notifier = Notifier(os.environ)
        self._watchdog_at = 0 if self._notifier.watchdog_interval else NEVER
        self._told_ready = False
        board.server[STARTED] = clock()

    @property
    def due(self) -> int:
        """When to `look` at the latest, in milliseconds."""
        return self._watchdog_at

    def look(self, server: "Arbiter") -> None:
        """Once in a turn of the loop."""
        self.note(server)
        children, now = server.children, clock()
        if not self._told_ready and children.established:
            self._told_ready = True
            self._launcher.ready()
            self._notifier.ready(f"{server.settings.wsgi_app} is served by {children.target} workers")
        if now >= self._watchdog_at and self._notifier.watchdog_interval is not None:
            self._notifier.watchdog()
            self._watchdog_at = now + int(self._notifier.watchdog_interval * 1000)

    def note(self, server: "Arbiter") -> None:
        """Write down how it stands, and that somebody has looked."""
        children, words = server.children, self._board.server
        words[TARGET], words[NOW_GENERATION] = children.target, children.generation
        words[LOOK_DEADLINE] = clock() + LOOK_PATIENCE

    def reloading(self) -> None:
        """A reload begins."""
        self._board.server[RELOADS] += 1
        self._notifier.reloading()

    def reload_failed(self, why: str) -> None:
        """It has come to nothing: what was there before serves on."""
        self._board.server[FAILED] += 1
        self._board.remark = why
        self._notifier.ready(why)

    def reloaded(self, generation: int) -> None:
        """The new generation serves alone."""
        self._board.remark = ""
        self._notifier.ready(f"Generation {generation} serves")

    def leaving(self) -> None:
        """We serve on for a while, but clients had better be sent elsewhere."""
        self._board.server[LEAVING] = 1

    def stopping(self, successor: int, failure: str) -> None:
        """The end begins, of a `failure` if it is not "". `successor` is the pid of the master that serves on, or 0."""
        self.leaving()
        if successor:
            self._notifier.mainpid(successor)
        else:
            self._notifier.stopping(failure)
