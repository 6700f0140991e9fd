"""A master as hooks know it: under the names that Gunicorn's has."""

import logging
from typing import TYPE_CHECKING, Any

from monoceros.app import Application
from monoceros.listener import Listener, Listeners
from monoceros.ops.logger import Logs
from monoceros.settings.table import Settings

if TYPE_CHECKING:
    from monoceros.arbiter.crew import Crew
    from monoceros.arbiter.succession import Succession
    from monoceros.worker.member import Member

error_log = logging.getLogger("gunicorn.error")


class Server:
    """What a hook's `server` answers to, beside `pid`, `pidfile` and what else the arbiter has."""

    settings: Settings
    crew: "Crew"
    listeners: Listeners
    application: Application | None
    succession: "Succession | None" = None
    logs = Logs(error_log)

    @property
    def cfg(self) -> Settings:
        """The settings, by name."""
        return self.settings

    @property
    def log(self) -> Any:
        """What keeps the logs: an object of the `logger_class`."""
        return self.logs.logger

    @property
    def num_workers(self) -> int:
        """How many workers there should be."""
        return self.crew.children.target or self.settings.workers

    @property
    def worker_age(self) -> int:
        """How many workers have been born."""
        return self.crew.age

    @property
    def WORKERS(self) -> dict[int, "Member"]:
        """The workers by pid."""
        return self.crew.members

    @property
    def LISTENERS(self) -> list[Listener]:
        """What it listens on."""
        return list(self.listeners.at(self.settings.bind).values())

    @property
    def address(self) -> list[str]:
        """Where it listens, as `bind` says it."""
        return [address.name for address in self.settings.bind]

    @property
    def app(self) -> Application | None:
        """The application, where the master has loaded it."""
        return self.application

    @property
    def proc_name(self) -> str | None:
        """What the processes are called."""
        return self.settings.proc_name or self.settings.wsgi_app

    @property
    def reexec_pid(self) -> int:
        """The pid of the next master, 0 if there is none."""
        return (self.succession.successor if self.succession else None) or 0

    @property
    def master_pid(self) -> int:
        """The pid of the master before this one, 0 if there is none."""
        return (self.succession.predecessor if self.succession else None) or 0

    @property
    def suffix(self) -> str:
        """What tells a master from its predecessor, as long as that is there."""
        return ".2" if self.master_pid else ""

    @property
    def name(self) -> str:
        """What it calls itself in the log."""
        return f"Master{self.suffix}"
