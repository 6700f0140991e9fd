"""Masters in a row: who was there before us, and who takes over (USR2)."""

import logging
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

from monoceros.arbiter import reexec, start
from monoceros.arbiter.reexec import Launch
from monoceros.listener import Listener, Listeners
from monoceros.ops import hooks
from monoceros.settings.table import Settings

if TYPE_CHECKING:
    from monoceros.arbiter.arbiter import Arbiter

error_log = logging.getLogger("gunicorn.error")


class Succession:
    """The predecessor and the successor of this master, by pid; None where there is none.

    `launch` is how this process was started. Made of `os.environ`, from which what was handed over is removed. Raises
    `HandoverError`.
    """

    def __init__(self, launch: Launch, *, activated: bool) -> None:
        self.predecessor, self._fds = reexec.inherited(os.environ)
        if self.predecessor is not None:
            reexec.take_name(self.predecessor)
        self.successor: int | None = None
        self._launch = launch
        self._activated = activated

    @property
    def shares(self) -> bool:
        """Does another master listen on the same sockets? Then they must not be refused to it."""
        return self.predecessor is not None or self.successor is not None

    def adopt(self, settings: Settings) -> Listeners:
        """What the predecessor has handed over of what is wanted."""
        found = Listeners()
        for address, sock in reexec.adopt(settings.bind + settings.admin_bind, self._fds).items():
            found[address.name] = Listener(address, sock, shared=not settings.reuse_port)
        self._fds = []
        return found

    def beget(self, server: "Arbiter") -> None:
        """Start the successor: the same command, with our sockets."""
        if self.shares:
            who = "Child" if self.successor is not None else "Parent"
            error_log.warning("USR2 signal ignored. %s exists.", who)
            return
        fds = [listener.fileno() for listener in server.listeners.values() if listener.shared]
        signal.pthread_sigmask(signal.SIG_BLOCK, server.HANDLERS)
        try:
            pid = os.fork()
        except OSError as error:
            error_log.error("Cannot start a new master: %s", error.strerror)
            return
        finally:
            if os.getpid() == server.pid:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, server.HANDLERS)
        if pid:
            self.successor = pid
            return
        self._become(server, fds)

    def _become(self, server: "Arbiter", fds: list[int]) -> None:
        try:
            hooks.call(server.settings, "pre_exec", server)
            activated = os.getpid() if self._activated else None
            environ = reexec.successor_environ(self._launch.environ, server.pid, fds, activated=activated)
            reexec.exec_successor(self._launch, environ, fds)
        except Exception as error:
            error_log.error("Cannot start a new master: %s", error)
        finally:
            os._exit(1)

    def ended(self, pid: int) -> bool:
        """A process is gone. True if it was the successor."""
        if pid != self.successor:
            return False
        self.successor = None
        error_log.warning("The new master (pid:%d) has ended; this one goes on", pid)
        return True

    def look(self, server: "Arbiter") -> None:
        """If the predecessor has gone since the last look, its place is ours, and so is its pid file."""
        if self.predecessor is None or os.getppid() == self.predecessor:
            return
        self.predecessor = None
        error_log.info("Master has been promoted.")
        start.entitle("master", server.settings)
        if server.pidfile is not None and server.settings.pidfile is not None:
            start.attempt(partial(server.pidfile.rename, server.settings.pidfile))
