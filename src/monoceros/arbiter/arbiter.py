"""The master process: one selector, a table of signals, and a crew of workers.

It has no thread, no event loop and, unless `preload_app` asks for it, nothing of the application.
"""

import logging
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import monoceros
from monoceros import app, reloader, scoreboard
from monoceros.arbiter import end, start
from monoceros.arbiter.annex import Annex
from monoceros.arbiter.children import Abort, Kill
from monoceros.arbiter.crew import Crew
from monoceros.arbiter.daemon import Launcher
from monoceros.arbiter.gauges import Gauges
from monoceros.arbiter.pidfile import Pidfile
from monoceros.arbiter.reexec import HandoverError, Launch
from monoceros.arbiter.report import Report
from monoceros.arbiter.rollout import Refused, Rollout, give_away, reopen
from monoceros.arbiter.server import Server
from monoceros.arbiter.start import Halt, entitle, reason_of
from monoceros.arbiter.succession import Succession
from monoceros.listener import Listeners
from monoceros.ops import hooks, log, logger, multiproc
from monoceros.scoreboard import NEVER, after, clock
from monoceros.settings.table import Settings, SettingsError
from monoceros.signals import Signals, name
from monoceros.worker.privileges import PrivilegeError

error_log = logging.getLogger("gunicorn.error")

# A sleep that took this much longer than asked, in milliseconds, and how long the workers then get to speak up.
STOPPED: Final = 2_500
# How often to look meanwhile, in seconds.
LENIENT_LOOK: Final = 0.1


# How often to look whether the master before us has gone, in milliseconds: nothing tells of it.
SUCCESSION_LOOK: Final = 250


class Arbiter(Server):
    """The master of a server with these settings. `reload_settings` reads them anew; it raises `SettingsError`.

    `launch` is how the process was started. `application` is what the workers serve, if it needs no import.
    `launcher` waits to hear how the start went.
    """

    def __init__(
        self,
        settings: Settings,
        reload_settings: Callable[[], Settings],
        launch: Launch,
        application: app.Application | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        self.settings = settings
        self.pid = os.getpid()
        self.scoreboard = scoreboard.Scoreboard()
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.crew = Crew(self, self.scoreboard, self.bell)
        self.annex = Annex(self, self.scoreboard, self.bell)
        self.children = self.crew.children
        self.listeners = Listeners()
        self.application = application
        self.launcher = launcher or Launcher()
        self.rollout: Rollout | None = None
        self.watcher: reloader.Watcher | None = None
        self.pidfile: Pidfile | None = None
        self.multiproc = multiproc.Directory()
        self.report = Report(self.scoreboard, self.launcher)
        self.gauges = Gauges()
        self._reload_settings = reload_settings
        self._launch = launch
        self._begun = False
        self._stopping = False
        self._stop_at = NEVER
        self._lenient_until = 0

    def run(self) -> int:
        """Serve until told to stop. Returns the exit status."""
        status, reason = 255, "Unhandled exception in main loop"
        try:
            self.logs = logger.begin(self.settings)
        except (OSError, SettingsError) as error:
            print(f"Error: {error}", file=sys.stderr)
            self.launcher.failed(1, f"Error: {error}")
            return 1
        self.launcher.follow(error_log)
        try:
            self._start()
            while True:
                self._turn()
        except Halt as halt:
            status, reason = halt.status, str(halt)
            self.launcher.unfollow()  # the rest it is told at the end
            self._stop(reason if status else "", quick=bool(status))
            level = logging.ERROR if status else logging.INFO
            error_log.log(level, "Shutting down: %s", self.name)
            if reason:
                error_log.log(level, "Reason: %s", halt)
        except Exception:
            # The workers go in order; the status is what Gunicorn exits with.
            error_log.exception("Unhandled exception in main loop")
            self._stop(reason, quick=False)
        finally:
            self._farewell()
        self.launcher.failed(status, f"Error: {reason or 'it was told to stop'}")
        return status

    def _farewell(self) -> None:
        """What there was to do is done."""
        self.multiproc.remove()
        if self.pidfile is not None:
            start.attempt(self.pidfile.remove)
        if self._begun:
            hooks.notify(self.settings, "on_exit", self)
        # Who asks for something at the last moment does not change how we exit.
        for number in self.HANDLERS.keys() - {signal.SIGCHLD}:
            signal.signal(number, signal.SIG_IGN)

    def _start(self) -> None:
        self.signals = Signals(self.HANDLERS)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.signals, selectors.EVENT_READ)
        self.selector.register(self.bell, selectors.EVENT_READ)
        log.capture_output(self.settings)
        settings, self._reload_settings, activated = start.with_sockets(self.settings, self._reload_settings)
        self.settings = settings
        try:
            self.succession: Succession = Succession(self._launch, activated=activated)
        except HandoverError as error:
            raise Halt(str(error), 1) from None
        entitle("master", settings, self.suffix)
        for note in settings.notes:
            error_log.warning("%s", note)
        start.tell(settings, "nworkers_changed", self, settings.workers, None)
        error_log.info("Starting monoceros %s", monoceros.__version__)
        self.pidfile = start.pidfile(settings, self.suffix, self.pid)
        self._begun = True
        start.tell(settings, "on_starting", self)
        start.prepare_metrics(settings, self.multiproc)
        if settings.preload_app:
            self.application = start.preload(settings)
        self.listeners = start.listen(settings, self.succession.adopt(settings), self._wait)
        try:
            give_away(settings, self.listeners)
        except PrivilegeError as error:
            raise Halt(str(error), 1) from None
        start.tell_where(settings, self.listeners, self.pid)
        error_log.info("Using worker: %s", settings.worker_class)
        start.tell(settings, "when_ready", self)
        if settings.reload:
            self.watcher = start.watcher(settings, self.listeners)
            self.selector.register(self.watcher, selectors.EVENT_READ)
        self.children.begin(settings.workers)

    # The loop.

    def _turn(self) -> None:
        """Do what is due, then sleep until something happens or could be missed."""
        if clock() >= self._stop_at:
            raise Halt("", 0)
        self._act(self.crew)
        self._settle()
        self.annex.look()
        self._act(self.annex)
        self.report.look(self)
        now = clock()
        soonest = LENIENT_LOOK if now < self._lenient_until else 0.0
        succession_at = now + SUCCESSION_LOOK if self.master_pid else NEVER
        due = min(self._stop_at, self.report.due, self.gauges.tell(self, now), succession_at) - now
        wake = min(self.children.next_wake(now), self.annex.children.next_wake(now))
        self._wait(max(soonest, min(wake, max(0, due) / 1000)))

    def _act(self, crew: Crew) -> None:
        for action in crew.children.step(clock()):
            if clock() < self._lenient_until and isinstance(action, Abort | Kill):
                continue
            if not crew.act(action):
                return  # what else there was to do is said again next time

    def _wait(self, seconds: float) -> None:
        """Sleep, and handle what ends the sleep."""
        due = clock() + int(seconds * 1000)
        awake = self.selector.select(seconds)
        self.succession.look(self)  # before the signals: the place may be free by now
        if awake:
            with suppress(BlockingIOError):  # it has not rung
                os.eventfd_read(self.bell)
            for number in self.signals.drain():
                self._on_signal(number)
            if self.watcher is not None:
                self._on_files(self.watcher)
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

    def _on_files(self, watcher: reloader.Watcher) -> None:
        try:
            changes = watcher.changes()
        except reloader.WatcherGone as error:
            error_log.error("No more reloads: %s", error)
            self.selector.unregister(watcher)
            watcher.close()
            self.watcher = None
            return
        for path in changes:
            error_log.info("Worker reloading: %s modified", path)
        if changes:
            self._reload()

    # Children.

    def leave_behind(self, role: str) -> None:
        """In a process just forked, which is to be called `role`: leave behind what is the master's."""
        self.selector.close()
        self.signals.close()
        self.launcher.close()
        if self.watcher is not None:
            self.watcher.close()
        if self.rollout is not None:
            end.close(self.rollout.dropped)  # as long as one process has it, clients are not refused
        entitle(role, self.settings, self.suffix)

    def reap(self) -> None:
        """Take note of who has died. Strangers are ours too where we are process 1."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if not self.succession.ended(pid):
                self.crew.bury(pid, status)
                self.annex.bury(pid, status)
            elif not self.children.target and not self._stopping:
                self._resize(self.settings.workers)  # we were emptied for the new master's sake (WINCH)

    def cope(self, who: str, generation: int, why: str, status: int) -> None:
        """A worker could not boot: stop (not for a `status` of 0), give up the new generation, or let it be retried."""
        if self._stopping:
            return
        if status and not self.children.established:
            if self.watcher is None:
                raise Halt(reason_of(status), status)
            self.launcher.failed(status, f"Error: {reason_of(status)} It will be tried again when a file changes.")
        if self.children.dispensable and generation == self.children.generation:
            self._call_off(f"{who} could not boot: {why}")
            return
        others = sum(other.ready for other in self.children.living)
        error_log.error("%s could not boot, next try in %g s; %d others serve", who, self.children.pause, others)

    # Reload.

    def _reload(self) -> None:
        """A new generation with new settings and code. On any error the current one serves on."""
        self._call_off("another reload was asked for")
        self.report.reloading()
        try:
            rollout = Rollout.prepare(self.settings, self.listeners, self._reload_settings, self._launch.environ)
        except Refused as error:
            error_log.error("Reload refused, generation %d serves on: %s", self.children.generation, error)
            self.report.reload_failed(f"Reload refused: {error}")
            return
        if self.rollout is not None:  # its old workers are still leaving; they have copies of what it has dropped
            end.close(self.rollout.dropped)
        self.rollout = rollout
        self.settings, self.listeners, self.logs = rollout.settings, rollout.listeners, rollout.logs
        if rollout.moved:
            start.tell_where(self.settings, self.listeners, self.pid)
        target = self.children.target
        self.children.begin(self.settings.workers)
        log.identify(self.children.generation)
        self._tell_number(target)
        try:
            hooks.call(self.settings, "on_reload", self)
        except hooks.RAISED as error:
            self._call_off(f"on_reload has failed: {error!r}")

    def _call_off(self, why: str) -> None:
        """Nobody of the new generation has been ready: back to the one before, if there is a new one."""
        rollout = self.rollout
        if rollout is None or not self.children.dispensable:
            return
        self.rollout = None
        failed = self.children.generation
        self.settings, self.listeners = rollout.before, rollout.kept
        self.logs = rollout.undo(self._launch.environ) or self.logs
        target = self.children.target
        self.children.call_off()
        log.identify(self.children.generation)
        self._tell_number(target)
        error_log.error("Generation %d called off, generation %d serves on: %s", failed, self.children.generation, why)
        self.report.reload_failed(f"Reload failed: {why}")

    def _settle(self) -> None:
        """Once the new generation has taken over, nobody needs what only the old one had."""
        rollout, children = self.rollout, self.children
        if rollout is None or not children.proven:
            return
        if not rollout.refusing:
            rollout.refusing = True
            end.refuse(self, rollout.dropped)
        if any(child.generation != children.generation for child in children.living):
            return
        end.close(rollout.dropped)
        self.rollout = None
        self.report.reloaded(children.generation)
        error_log.info("Generation %d serves after %.1f s", children.generation, time.monotonic() - rollout.begun)

    # Signals: one row each.

    def _on_term(self) -> None:
        """Stop; or first serve on for a while, so that who sends us clients can be told to send no more."""
        if not self.settings.drain_delay or self._stop_at != NEVER:
            raise Halt("", 0)
        self._stop_at = after(self.settings.drain_delay)
        self.report.leaving()
        error_log.info("Serving on for %g s before the stop", self.settings.drain_delay)

    def _on_quit(self) -> None:
        self._stop("", quick=True)
        raise Halt("", 0)

    def _on_hup(self) -> None:
        error_log.info("Hang up: %s", self.name)
        self._reload()

    def _on_ttin(self) -> None:
        self._resize(self.children.target + 1)

    def _on_ttou(self) -> None:
        self._resize(max(min(1, self.children.target), self.children.target - 1))  # none stays none

    def _resize(self, target: int) -> None:
        before, self.children.target = self.children.target, target
        self._tell_number(before)

    def _tell_number(self, before: int) -> None:
        if self.children.target != before:
            hooks.notify(self.settings, "nworkers_changed", self, self.children.target, before)

    def _on_usr1(self) -> None:
        reopen(self.settings, self.listeners, self.logs)
        self.crew.tell_all(signal.SIGUSR1)
        self.annex.tell_all(signal.SIGUSR1)

    def _on_winch(self) -> None:
        """A window that changes its size is no reason, so it counts only where there is none, or a successor."""
        if self.settings.daemon or self.succession.successor is not None:
            error_log.info("graceful stop of workers")
            self._resize(0)
        else:
            error_log.debug("SIGWINCH ignored. Not daemonized")

    HANDLERS: Final[dict[int, Callable[["Arbiter"], None]]] = {
        signal.SIGCHLD: reap,
        signal.SIGHUP: _on_hup,
        signal.SIGINT: _on_quit,
        signal.SIGQUIT: _on_quit,
        signal.SIGTERM: _on_term,
        signal.SIGTTIN: _on_ttin,
        signal.SIGTTOU: _on_ttou,
        signal.SIGUSR1: _on_usr1,
        signal.SIGUSR2: lambda self: self.succession.beget(self),
        signal.SIGWINCH: _on_winch,
    }

    # The end.

    def _stop(self, failure: str, *, quick: bool) -> None:
        """Let the workers finish, once, and wait until they are gone."""
        if not self._stopping:
            self._stopping = True
            end.stop(self, failure, quick=quick)
