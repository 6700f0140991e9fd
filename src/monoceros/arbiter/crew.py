"""The workers as processes: forked, told what to do, and reaped."""

import logging
import os
import signal
from typing import TYPE_CHECKING

from monoceros import app, scoreboard, worker
from monoceros.arbiter import causes
from monoceros.arbiter.children import LAST_WORDS, Abort, Action, Child, Children, Kill, Retire, Spawn
from monoceros.ops import hooks
from monoceros.scoreboard import BOOTING, GENERATION, PID, STATE, Scoreboard, clock
from monoceros.settings import aliases
from monoceros.worker.member import Member

if TYPE_CHECKING:
    from monoceros.arbiter.arbiter import Arbiter

error_log = logging.getLogger("gunicorn.error")


class Crew:
    """The workers of a server. `children` decides about them, this has the hands.

    `bell` is an eventfd that a worker rings when there is news on the scoreboard; `members` are the workers by pid, as
    hooks know them.
    """

    def __init__(self, server: "Arbiter") -> None:
        self.server = server
        self.children = Children()
        self.scoreboard = Scoreboard()
        self.members: dict[int, Member] = {}
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.age = 0
        self._oom_kills = causes.oom_kills()

    def act(self, action: Action) -> bool:
        """Do it. False if no worker can be forked now."""
        match action:
            case Spawn():
                return self.spawn()
            case Retire(child):
                child.leave_by = clock() + int(self.server.settings.graceful_timeout * 1000) + LAST_WORDS
                self.signal(child, signal.SIGTERM)
            case Abort(child):
                error_log.critical("WORKER TIMEOUT (pid:%s)", child.pid)
                error_log.info("On the scoreboard: %s", scoreboard.describe(child.slot))
                child.kill_at = clock() + LAST_WORDS
                self.signal(child, signal.SIGABRT)
            case Kill(child):
                self.kill(child)
        return True

    def spawn(self) -> bool:
        """Fork a worker. False if that is not possible now."""
        server, children = self.server, self.children
        slot = self.scoreboard.take()
        if slot is None:
            error_log.error("No more than %d workers are possible.", len(children.living))
            children.target = len(children.living)
            return False
        number, generation = children.free_number(), children.generation
        slot[GENERATION] = generation
        slot[scoreboard.DEADLINE] = scoreboard.after(server.settings.boot_timeout)
        slot[STATE] = BOOTING
        self.age += 1
        member = Member(self.age, server.settings, server.pid, list(server.listeners.values()))
        # A signal that comes before the worker can handle it must wait, not get lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, server.HANDLERS)
        try:
            hooks.call(server.settings, "pre_fork", server, member)
        except hooks.RAISED as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, server.HANDLERS)
            self.scoreboard.release(slot)
            children.failed(clock())
            server.cope(f"worker={number} gen={generation}", generation, f"pre_fork: {error!r}", app.BootError.status)
            return False
        try:
            pid = os.fork()
        except OSError as error:  # the machine has no more processes or memory to give
            signal.pthread_sigmask(signal.SIG_UNBLOCK, server.HANDLERS)
            self.scoreboard.release(slot)
            children.failed(clock())
            error_log.error("Cannot fork: %s, next try in %g s", error.strerror, children.pause)
            return False
        if not pid:
            server.become_worker(member, number, generation, slot)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, server.HANDLERS)
        slot[PID] = pid
        member.pid = pid
        self.members[pid] = member
        children.living.append(Child(pid, number, generation, slot, clock()))
        return True

    def live(self, member: Member, number: int, generation: int, slot: scoreboard.Slot) -> None:
        """In the new process: the life of the worker, from which nobody comes back."""
        server = self.server
        berth = worker.Berth(
            number,
            generation,
            slot,
            self.scoreboard,
            server.settings,
            server.listeners,
            server.pid,
            self.bell,
            member,
            server,
            server.application,
        )
        worker.start(aliases.kind(server.settings), berth)

    def kill(self, child: Child) -> None:
        """End a worker at once."""
        child.killed = True
        self.signal(child, signal.SIGKILL)

    def signal(self, child: Child, number: int) -> None:
        """Send a worker a signal."""
        # It cannot be another process yet: a pid is free again only when we have reaped it.
        os.kill(child.pid, number)

    def tell_all(self, number: int) -> None:
        """Send it to all."""
        for child in self.children.living:
            # While it boots nothing handles QUIT, which would leave a core file behind.
            self.signal(child, signal.SIGTERM if number == signal.SIGQUIT and child.booting else number)

    def bury(self, pid: int, status: int) -> None:
        """A process is gone. Only what was a worker is told of."""
        child = self.children.exited(pid, clock())
        if child is None:
            return
        counted = causes.oom_kills()
        oom = None if counted is None or self._oom_kills is None else counted > self._oom_kills
        self._oom_kills = counted
        told = causes.obituary(child.pid, status, killed=child.killed, oom=oom)
        if told is not None:
            error_log.log(*told)
        failed = child.booting and not child.leaving
        self.scoreboard.release(child.slot)
        hooks.notify(self.server.settings, "child_exit", self.server, self.members.pop(pid))
        if failed:
            code = os.waitstatus_to_exitcode(status)
            why = causes.of_boot(child.late, code, self.server.settings.boot_timeout)
            # A signal that we have not sent says nothing about the application.
            status = code if code in (3, 4) else app.BootError.status if code > 0 or child.late else 0
            self.server.cope(str(child), child.generation, why, status)
