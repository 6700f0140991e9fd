"""The workers as processes: forked, told what to do, and reaped."""

import logging
import os
import signal
from typing import TYPE_CHECKING

from monoceros import app, scoreboard, worker
from monoceros.arbiter import causes
from monoceros.arbiter.children import LAST_WORDS, Abort, Action, Child, Children, Kill, Retire, Spawn
from monoceros.listener import Listeners
from monoceros.ops import hooks
from monoceros.scoreboard import (
    ASYNC,
    BOOTING,
    BORN,
    DIED,
    GENERATION,
    NUMBER,
    OVERDUE,
    PID,
    SPAWNED,
    STATE,
    Scoreboard,
    clock,
)
from monoceros.settings import aliases
from monoceros.settings.table import Settings
from monoceros.worker.member import Member

if TYPE_CHECKING:
    from monoceros.arbiter.arbiter import Arbiter

error_log = logging.getLogger("gunicorn.error")


class Crew:
    """The workers of a server. `children` decides about them, this has the hands.

    `bell` is an eventfd that a worker rings when there is news on the scoreboard; `members` are the workers by pid, as
    hooks know them.
    """

    role = "worker"

    def __init__(self, server: "Arbiter", scoreboard: Scoreboard, bell: int) -> None:
        self.server = server
        self.children = Children()
        self.scoreboard = scoreboard
        self.members: dict[int, Member] = {}
        self.bell = bell
        self.age = 0
        self._oom_kills = causes.oom_kills()

    # What its workers are given.

    @property
    def settings(self) -> Settings:
        return self.server.settings

    @property
    def listeners(self) -> Listeners:
        return self.server.listeners.at(self.settings.bind)

    @property
    def application(self) -> app.Application | None:
        return self.server.application

    @property
    def kind(self) -> str:
        return aliases.kind(self.settings)

    def prepare(self) -> None:
        """Have at hand what the next worker runs on, as far as that is known."""
        kind = aliases.known_as(self.settings.worker_class) or "auto"
        worker.prepare("asgi" if any(child.slot[ASYNC] for child in self.children.living) else kind)

    def take_slot(self) -> scoreboard.Slot | None:
        return self.scoreboard.take()

    def cope(self, who: str, generation: int, why: str, status: int) -> None:
        """One of them could not boot."""
        self.server.cope(who, generation, why, status)

    def bequest(self) -> int | None:
        """The pid of a dead worker whose metrics the next one is to go on with."""
        return self.server.multiproc.bequeath()

    def count(self, word: int) -> None:
        """Something has happened that the server counts."""
        self.scoreboard.server[word] += 1

    # The hands.

    def act(self, action: Action) -> bool:
        """Do it. False if no worker can be forked now."""
        match action:
            case Spawn():
                return self.spawn()
            case Retire(child):
                child.leave_by = clock() + int(self.settings.graceful_timeout * 1000) + LAST_WORDS
                self.signal(child, signal.SIGTERM)
            case Abort(child):
                error_log.critical("%s TIMEOUT (pid:%s)", self.role.upper(), child.pid)
                self.count(OVERDUE)
                error_log.info("On the scoreboard: %s", scoreboard.describe(child.slot))
                child.kill_at = clock() + LAST_WORDS
                self.signal(child, signal.SIGABRT)
            case Kill(child):
                self.kill(child)
        return True

    def spawn(self) -> bool:
        """Fork a worker. False if that is not possible now."""
        server, children, settings = self.server, self.children, self.settings
        slot = self.take_slot()
        if slot is None:
            error_log.error("No more than %d workers are possible.", len(children.living))
            children.target = len(children.living)
            return False
        number, generation = children.free_number(), children.generation
        slot[GENERATION], slot[NUMBER], slot[BORN] = generation, number, clock()
        slot[scoreboard.DEADLINE] = scoreboard.after(settings.boot_timeout)
        slot[STATE] = BOOTING
        self.age += 1
        member = Member(self.age, settings, server.pid, list(self.listeners.values()), log=server.log)
        self.prepare()
        bequest = self.bequest()
        # A signal that comes before the worker can handle it must wait, not get lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, server.HANDLERS)
        try:
            hooks.call(settings, "pre_fork", server, member)
        except hooks.RAISED as error:
            self._take_back(slot, bequest)
            self.cope(f"worker={number} gen={generation}", generation, f"pre_fork: {error!r}", app.BootError.status)
            return False
        try:
            pid = os.fork()
        except OSError as error:  # the machine has no more processes or memory to give
            self._take_back(slot, bequest)
            error_log.error("Cannot fork: %s, next try in %g s", error.strerror, children.pause)
            return False
        if not pid:
            server.leave_behind(self.role)
            self.live(member, number, generation, slot, bequest)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, server.HANDLERS)
        if bequest is not None:
            server.multiproc.bequeathed(bequest, pid)
        slot[PID] = pid
        member.pid = pid
        self.members[pid] = member
        self.count(SPAWNED)
        children.living.append(Child(pid, number, generation, slot, clock()))
        return True

    def _take_back(self, slot: scoreboard.Slot, bequest: int | None) -> None:
        """There will be no worker for now."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.server.HANDLERS)
        self.scoreboard.release(slot)
        self.children.failed(clock())
        if bequest is not None:
            self.server.multiproc.bury(bequest)

    def live(self, member: Member, number: int, generation: int, slot: scoreboard.Slot, bequest: int | None) -> None:
        """In the new process: the life of the worker, from which nobody comes back."""
        server, listeners = self.server, self.listeners
        for name in server.listeners.keys() - listeners.keys():
            server.listeners[name].close()  # clients come to one crew, operators to the other
        berth = worker.Berth(
            number,
            generation,
            slot,
            self.scoreboard,
            self.settings,
            listeners,
            server.pid,
            self.bell,
            member,
            server,
            self.application,
            server.logs,
            self.role,
            bequest,
        )
        worker.start(self.kind, berth)

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
        """A process is gone. Only what was one of these is told of."""
        child = self.children.exited(pid, clock())
        if child is None:
            return
        if not child.leaving:
            self.count(DIED)
        counted = causes.oom_kills()
        oom = None if counted is None or self._oom_kills is None else counted > self._oom_kills
        self._oom_kills = counted
        told = causes.obituary(child.pid, status, killed=child.killed, oom=oom, role=self.role)
        if told is not None:
            error_log.log(*told)
        self.server.multiproc.bury(pid)
        failed = child.booting and not child.leaving
        self.scoreboard.release(child.slot)
        hooks.notify(self.settings, "child_exit", self.server, self.members.pop(pid))
        if failed:
            code = os.waitstatus_to_exitcode(status)
            why = causes.of_boot(child.late, code, self.settings.boot_timeout)
            # A signal that we have not sent says nothing about the application.
            status = code if code in (3, 4) else app.BootError.status if code > 0 or child.late else 0
            self.cope(str(child), child.generation, why, status)
