"""The master process: one selector, a table of signals, and hands that fork and kill.

It has no thread, no event loop and, unless `preload_app` asks for it, nothing of the application.
"""

import errno
import logging
import os
import selectors
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

import monoceros
from monoceros import app, scoreboard, worker
from monoceros.arbiter import causes
from monoceros.arbiter.children import LAST_WORDS, Abort, Child, Children, Kill, Retire, Spawn
from monoceros.listener import Listeners
from monoceros.ops import log
from monoceros.scoreboard import BOOTING, GENERATION, PID, STATE, Scoreboard, clear, clock
from monoceros.settings import aliases, place
from monoceros.settings.load import changes
from monoceros.settings.table import Settings, SettingsError
from monoceros.signals import Signals, name

error_log = logging.getLogger("gunicorn.error")

# How long a worker may take to import its application, in seconds. Models of several gigabytes take a minute.
BOOT_TIMEOUT: Final = 120.0

# An address may be in use because its last owner is still leaving: this many tries, so many seconds apart.
BIND_TRIES: Final = 5
BIND_PAUSE: Final = 1.0

# A sleep that took this much longer than asked, in milliseconds, and how long the workers then get to speak up.
STOPPED: Final = 2_500
# How often to look meanwhile, in seconds.
LENIENT_LOOK: Final = 0.1

# How long workers may take to leave once somebody is in a hurry, in seconds.
HURRY: Final = 2.0


class Halt(Exception):
    """The server cannot go on, or has been told to stop. `status` is what to exit with."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class Arbiter:
    """The master of a server with these settings. `reload_settings` reads them anew; it raises `SettingsError`.

    `application` is what the workers serve, if it needs no import.
    """

    def __init__(
        self,
        settings: Settings,
        reload_settings: Callable[[], Settings],
        application: app.Application | None = None,
    ) -> None:
        self.settings = settings
        self.pid = os.getpid()
        self.children = Children()
        self.listeners = Listeners()
        self.scoreboard = Scoreboard()
        self.application = application
        self._reload_settings = reload_settings
        self._environ = dict(os.environ)
        self._oom_kills = causes.oom_kills()
        self._stopping = False
        self._lenient_until = 0

    def run(self) -> int:
        """Serve until told to stop. Returns the exit status."""
        try:
            log.setup(self.settings)
        except OSError as error:
            print(f"Error: {error}", file=sys.stderr)
            return 1
        try:
            self._start()
            while True:
                self._turn()
        except Halt as halt:
            self._stop(quick=halt.status != 0)
            level = logging.ERROR if halt.status else logging.INFO
            error_log.log(level, "Shutting down: Master")
            if str(halt):
                error_log.log(level, "Reason: %s", halt)
            return halt.status
        except Exception:
            # Our own error. The workers go in order; the status is what Gunicorn exits with.
            error_log.exception("Unhandled exception in main loop")
            self._stop(quick=False)
            return 255
        finally:
            # What there was to do is done, and who asks for it once more does not change how we exit.
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_IGN)

    def _start(self) -> None:
        log.capture_output(self.settings)
        entitle("master", self.settings)
        for note in self.settings.notes:
            error_log.warning("%s", note)
        self.signals = Signals(self.HANDLERS)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.signals, selectors.EVENT_READ)
        error_log.info("Starting monoceros %s", monoceros.__version__)
        if self.settings.preload_app:
            self._preload()
        self._listen()
        self._tell_where()
        error_log.info("Using worker: %s", self.settings.worker_class)
        self.children.begin(self.settings.workers)

    def _tell_where(self) -> None:
        error_log.info("Listening at: %s (%s)", ",".join(map(str, self.listeners.values())), self.pid)

    def _preload(self) -> None:
        try:
            self.application = app.load(self.settings.wsgi_app or "", factory=self.settings.factory)
        except app.BootError as error:
            error_log.error("%s", error)
            raise Halt(reason_of(error.status), error.status) from None
        except Exception:
            error_log.exception("Exception while loading the application")
            raise Halt(reason_of(app.BootError.status), app.BootError.status) from None

    def _listen(self) -> None:
        settings = self.settings
        for tries_left in reversed(range(BIND_TRIES)):
            try:
                self.listeners, _ = self.listeners.reconcile(
                    settings.bind, settings.backlog, reuse_port=settings.reuse_port
                )
                return
            except OSError as error:
                where = error.filename
                if error.errno != errno.EADDRINUSE:
                    error_log.error("Cannot listen at %s: %s", where, error.strerror)
                    raise Halt(f"Can't connect to {where}", 1) from None
                error_log.error("Connection in use: %s", where)
                if tries_left:
                    error_log.debug("Retrying in 1 second.")
                    self._wait(BIND_PAUSE)
        error_log.error("Can't connect to %s", where)
        raise Halt(f"Can't connect to {where}", 1)

    # The loop.

    def _turn(self) -> None:
        """Do what is due, then sleep until something happens or could be missed."""
        for action in self.children.step(clock()):
            if clock() < self._lenient_until and isinstance(action, Abort | Kill):
                continue
            match action:
                case Spawn():
                    if not self._spawn():
                        break  # what else there was to do is said again next time
                case Retire(child):
                    self._retire(child)
                case Abort(child):
                    error_log.critical("WORKER TIMEOUT (pid:%s)", child.pid)
                    error_log.info("On the scoreboard: %s", scoreboard.describe(child.slot))
                    child.kill_at = clock() + LAST_WORDS
                    self._signal(child, signal.SIGABRT)
                case Kill(child):
                    child.killed = True
                    self._signal(child, signal.SIGKILL)
        soonest = LENIENT_LOOK if clock() < self._lenient_until else 0.0
        self._wait(max(soonest, self.children.next_wake(clock())))

    def _wait(self, seconds: float) -> None:
        """Sleep, and handle the signals that end the sleep."""
        due = clock() + int(seconds * 1000)
        if self.selector.select(seconds):
            for number in self.signals.drain():
                self._on_signal(number)
        elif clock() > due + STOPPED:
            # Not the workers are late, all of us were stopped (docker pause, a laptop's lid): let them speak first.
            self._lenient_until = clock() + STOPPED

    def _on_signal(self, number: int) -> None:
        handler = self.HANDLERS.get(number)
        if handler is None:
            return
        level = logging.DEBUG if number == signal.SIGCHLD else logging.INFO
        error_log.log(level, "Handling signal: %s", name(number).removeprefix("SIG").lower())
        handler(self)

    # Children.

    def _spawn(self) -> bool:
        """Fork a worker. False if that is not possible now."""
        slot = self.scoreboard.take()
        if slot is None:
            error_log.error("No more than %d workers are possible.", len(self.children.living))
            self.children.target = len(self.children.living)
            return False
        number, generation = self.children.free_number(), self.children.generation
        slot[GENERATION] = generation
        slot[scoreboard.DEADLINE] = scoreboard.after(BOOT_TIMEOUT)
        slot[STATE] = BOOTING
        # A signal that comes before the worker can handle it must wait, not get lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, self.HANDLERS)
        try:
            pid = os.fork()
        except OSError as error:  # the machine, or the container, has no more processes or memory to give
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self.HANDLERS)
            clear(slot)
            self.children.failed(clock())
            error_log.error("Cannot fork: %s, next try in %g s", error.strerror, self.children.pause)
            return False
        if not pid:
            self._become_worker(number, generation, slot)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.HANDLERS)
        slot[PID] = pid
        self.children.living.append(Child(pid, number, generation, slot, clock()))
        return True

    def _become_worker(self, number: int, generation: int, slot: scoreboard.Slot) -> None:
        self.selector.close()
        self.signals.close()
        entitle("worker", self.settings)
        berth = worker.Berth(
            number, generation, slot, self.scoreboard, self.settings, self.listeners, self.pid, self.application
        )
        worker.start(aliases.kind(self.settings), berth)

    def _retire(self, child: Child, number: int = signal.SIGTERM) -> None:
        child.leave_by = clock() + int(self.settings.graceful_timeout * 1000) + LAST_WORDS
        self._signal(child, number)

    def _signal(self, child: Child, number: int) -> None:
        # It cannot be another process yet: a pid is free again only when we have reaped it.
        os.kill(child.pid, number)

    def _reap(self) -> None:
        """Take note of who has died. Strangers are ours too where we are process 1."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self.children.exited(pid, clock())
            if child is not None:
                self._bury(child, status)

    def _bury(self, child: Child, status: int) -> None:
        counted = causes.oom_kills()
        oom = None if counted is None or self._oom_kills is None else counted > self._oom_kills
        self._oom_kills = counted
        told = causes.obituary(child.pid, status, killed=child.killed, oom=oom)
        if told is not None:
            error_log.log(*told)
        failed = child.booting and not child.leaving and not self._stopping
        clear(child.slot)
        if not failed:
            return
        code = os.waitstatus_to_exitcode(status)
        if not self.children.established and (code > 0 or child.late):
            raise Halt(reason_of(code), code if code in (3, 4) else app.BootError.status)
        others = sum(other.ready for other in self.children.living)
        error_log.error("%s could not boot, next try in %g s; %d others serve", child, self.children.pause, others)

    # Signals: one row each.

    def _on_term(self) -> None:
        raise Halt("", 0)

    def _on_quit(self) -> None:
        self._stop(quick=True)
        raise Halt("", 0)

    def _on_hup(self) -> None:
        """A new generation with new settings and code. On any error the current one serves on."""
        error_log.info("Hang up: Master")
        try:
            with ExitStack() as undo:
                settings = self._keep_fixed(self._reload_settings())
                listeners, dropped = self.listeners.reconcile(
                    settings.bind, settings.backlog, reuse_port=settings.reuse_port
                )
                for new in listeners.keys() - self.listeners.keys():
                    undo.callback(listeners[new].discard)
                place.enter(settings, self.settings, self._environ)
                undo.callback(place.enter, self.settings, settings, self._environ)
                log.setup(settings)
                undo.pop_all()
        except (SettingsError, OSError) as error:
            said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
            error_log.error("Reload refused, generation %d serves on: %s", self.children.generation, said)
            return
        moved = listeners.keys() != self.listeners.keys()
        self.settings, self.listeners = settings, listeners
        if moved:
            self._tell_where()
        for listener in dropped:
            listener.close()
        self.children.begin(settings.workers)

    def _keep_fixed(self, settings: Settings) -> Settings:
        """The new settings, but for what cannot change while the server runs."""
        fixed = changes(self.settings, settings)
        if fixed:
            error_log.warning("Not changed by a reload: %s", ", ".join(fixed))
        return replace(settings, **{row: getattr(self.settings, row) for row in fixed})

    def _on_ttin(self) -> None:
        self.children.target += 1

    def _on_ttou(self) -> None:
        self.children.target = max(1, self.children.target - 1)

    def _on_usr1(self) -> None:
        log.reopen()
        self._tell_all(signal.SIGUSR1)

    def _on_winch(self) -> None:
        error_log.debug("SIGWINCH ignored. Not daemonized")

    def _on_usr2(self) -> None:
        error_log.warning("SIGUSR2 ignored. This version cannot hand over to a new master yet")

    HANDLERS: Final[dict[int, Callable[["Arbiter"], None]]] = {
        signal.SIGCHLD: _reap,
        signal.SIGHUP: _on_hup,
        signal.SIGINT: _on_quit,
        signal.SIGQUIT: _on_quit,
        signal.SIGTERM: _on_term,
        signal.SIGTTIN: _on_ttin,
        signal.SIGTTOU: _on_ttou,
        signal.SIGUSR1: _on_usr1,
        signal.SIGUSR2: _on_usr2,
        signal.SIGWINCH: _on_winch,
    }

    # The end.

    def _stop(self, *, quick: bool) -> None:
        """Let the workers finish, and wait until they are gone; kill those that take too long."""
        if self._stopping:
            return
        self._stopping = True
        self.children.target = 0
        for listener in self.listeners.values():
            listener.refuse_new()
        deadline = clock() + int((HURRY if quick else self.settings.graceful_timeout) * 1000) + LAST_WORDS
        self._tell_all(signal.SIGQUIT if quick else signal.SIGTERM)
        while self.children.living and (left := deadline - clock()) > 0:
            self.selector.select(min(left / 1000, 1.0))
            for number in self.signals.drain():
                if number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
                    error_log.info("Quick shutdown requested")
                    self._tell_all(signal.SIGQUIT)
                    deadline = min(deadline, clock() + int(HURRY * 1000))
            self._reap()
        for child in self.children.living:
            child.killed = True
            self._signal(child, signal.SIGKILL)
        while self.children.living:
            self.selector.select(1.0)
            self.signals.drain()
            self._reap()
        for listener in self.listeners.values():
            listener.close()

    def _tell_all(self, number: int) -> None:
        for child in self.children.living:
            # While it boots nothing handles QUIT, which would leave a core file behind.
            self._signal(child, signal.SIGTERM if number == signal.SIGQUIT and child.booting else number)


def reason_of(status: int) -> str:
    """Why the server could not start, in Gunicorn's words."""
    return "App failed to load." if status == app.AppNotFound.status else "Worker failed to boot."


def entitle(role: str, settings: Settings) -> None:
    """Name the process in the process list, where setproctitle is installed."""
    try:
        from setproctitle import setproctitle
    except ImportError:
        if settings.proc_name and role == "master":
            error_log.warning("proc_name has no effect without setproctitle: pip install 'monoceros[setproctitle]'")
        return
    setproctitle(f"monoceros: {role} [{settings.proc_name or settings.wsgi_app}]")
