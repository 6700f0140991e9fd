"""Requests that run for too long: a line about each, once, while it still runs, with the stack that shows where it is.

A thread of its own looks, since the others may be busy with just these requests. It looks when the next request is
due, and while nothing runs it sleeps until it is woken, so that an idle worker stays idle.
"""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final

import monoceros

if TYPE_CHECKING:
    from monoceros.worker.connection import Connection
    from monoceros.worker.loop import LoopWorker

log = logging.getLogger("gunicorn.error")

OURS: Final = str(Path(monoceros.__file__).parent)

# Where many are slow at once, it is for one reason: so many stacks are shown each time we look.
STACKS: Final = 16

# A request: a connection serves many, each of which began at its own time.
Run = tuple["Connection", float]


class Watch:
    """Looks after the requests of a worker; those that run for more than `limit` seconds are told of."""

    def __init__(self, worker: "LoopWorker[Any]", limit: float) -> None:
        self._worker = worker
        self._limit = limit
        self._told: set[Run] = set()
        self._asleep = False
        self._bell = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._live, name="monoceros-slow", daemon=True).start()

    def wake(self) -> None:
        """A request has begun, and its connection counts as running."""
        if self._asleep:
            self._asleep = False
            self._bell.set()

    def _live(self) -> None:
        try:
            while True:
                pause = self.look(time.monotonic())
                if pause is None:
                    self._rest()
                else:
                    time.sleep(pause)
        except Exception:
            log.exception("This is an error of the server; slow requests are not watched any more")

    def _rest(self) -> None:
        self._bell.clear()
        self._asleep = True
        if self._runs():  # one that began before it could see that we sleep
            self._asleep = False
        else:
            self._bell.wait()

    def look(self, now: float) -> float | None:
        """Tell of those that are due. Returns in how many seconds the next one may be, None if nothing runs."""
        runs = self._runs()
        self._told &= runs
        waiting = runs - self._told
        due = sorted((run for run in waiting if now - run[1] >= self._limit), key=lambda run: run[1])
        if due:
            self._told |= self.tell_of(due)
        others = [self._limit - (now - run[1]) for run in waiting.difference(due)]
        return max(0.001, min([self._limit, *others])) if runs else None

    def _runs(self) -> set[Run]:
        return {(connection, connection.began) for connection in self._worker.running() if self.counts(connection)}

    def counts(self, connection: "Connection") -> bool:
        """Is this a request of which one expects that it ends soon?"""
        return connection.request is not None

    def tell_of(self, due: list[Run]) -> set[Run]:
        """Write the lines. Returns what need not be told again."""
        raise NotImplementedError


def tell(run: Run, stack: list[str] | None, more: str = "") -> None:
    """The line of one request."""
    connection, began = run
    if connection.request is None or not log.isEnabledFor(logging.WARNING):
        return
    arguments = time.monotonic() - began, connection.shown, more
    shown = f"Stack (most recent call last):\n{''.join(stack).rstrip()}" if stack else None
    which = {"request_id": connection.request_id}
    record = log.makeRecord(
        log.name, logging.WARNING, __file__, 0, "Slow request, running for %.1f s: %s%s", arguments, None,
        extra=which, sinfo=shown,
    )  # fmt: skip
    log.handle(record)


class ThreadWatch(Watch):
    """For requests that run on threads. `entry` is the code of the method of connections in which they do."""

    def __init__(self, worker: "LoopWorker[Any]", limit: float, entry: CodeType) -> None:
        super().__init__(worker, limit)
        self._entry = entry

    def tell_of(self, due: list[Run]) -> set[Run]:
        """A connection counts as running a little longer than its request runs: then there is nothing to tell."""
        stacks = dict(filter(None, map(self._running, sys._current_frames().values())))
        told = [run for run in due if run[0] in stacks and run[0].began == run[1]]
        for number, run in enumerate(told):
            tell(run, formatted(stacks[run[0]]) if number < STACKS else None)
        return set(told)

    def _running(self, frame: FrameType | None) -> "tuple[Connection, list[FrameType]] | None":
        """Which connection a thread serves, and its frames, the outermost first; None if it serves none."""
        frames: list[FrameType] = []
        while frame is not None:
            if frame.f_code is self._entry:
                return frame.f_locals["self"], frames[::-1]
            frames.append(frame)
            frame = frame.f_back
        return None


class GreenWatch(ThreadWatch):
    """For requests that run in greenlets. It runs in one itself, so the others wait, and their frames can be seen.

    While one of them does not yield, nothing is told; a worker that is aborted for that shows where it stood.
    """

    def tell_of(self, due: list[Run]) -> set[Run]:
        number = 0
        for run in due:
            connection: Any = run[0]
            running = self._running(connection.greenlet.gr_frame)
            if running is not None and connection.began == run[1]:
                tell(run, formatted(running[1]) if number < STACKS else None)
                number += 1
        return set(due)


def formatted(frames: Iterable[FrameType]) -> list[str]:
    """Lines for frames, the outermost first; without those of ours that lead to the application's."""
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)
    first = next((i for i, frame in enumerate(summary) if not frame.filename.startswith(OURS)), 0)
    return traceback.StackSummary.from_list(summary[first:]).format()
