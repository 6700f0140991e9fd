"""Slow requests of an asyncio loop: where their tasks are, or what blocks the loop."""

import asyncio
import gc
import inspect
import sys
import threading
from collections import deque
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from monoceros.worker.slow import STACKS, Run, Watch, formatted, tell

if TYPE_CHECKING:
    from monoceros.worker.aio import AsyncWorker

# How long a loop may take to answer before it counts as blocked, in seconds.
BLOCKED: Final = 0.1

# How many steps from a task to what it waits for are looked at.
DEEPEST: Final = 200


class LoopWatch(Watch):
    """For requests that run in tasks of a loop, which `start` is called on.

    The loop itself looks where its tasks are. If it does not come to that it is blocked, and the stack is its thread's.
    """

    _worker: "AsyncWorker"

    def start(self) -> None:
        self._thread = threading.get_ident()
        super().start()

    def counts(self, connection: Any) -> bool:
        """A WebSocket that was accepted may last for as long as it likes."""
        call = connection.call
        return call is not None and not call.accepted

    def tell_of(self, due: list[Run]) -> set[Run]:
        loop, untold, answered = self._worker.loop, deque(due), threading.Event()
        with suppress(RuntimeError):  # the loop is closed: the worker is about to end
            loop.call_soon_threadsafe(self._tell_on_loop, untold, answered)
            if not answered.wait(BLOCKED):
                self._tell_beside(untold)
        return set(due)

    def _tell_on_loop(self, untold: deque[Run], answered: threading.Event) -> None:
        answered.set()
        number = 0
        with suppress(IndexError):  # the thread and we take from the same queue, until it is empty
            while True:
                connection, began = run = untold.popleft()
                call = getattr(connection, "call", None)
                if call is None or connection.began != began:
                    continue  # it has ended meanwhile
                tell(run, formatted(frames_of(call.task)) if call.task and number < STACKS else None)
                number += 1

    def _tell_beside(self, untold: deque[Run]) -> None:
        running = asyncio.current_task(self._worker.loop)
        stack: list[str] | None = formatted(self._frames())
        with suppress(IndexError):
            while True:
                connection, began = run = untold.popleft()
                call = getattr(connection, "call", None)
                if call is None or connection.began != began:
                    continue
                its_own = call.task is running or call.task is None
                tell(run, stack, " (it blocks the event loop)" if its_own else " (the event loop is blocked)")
                stack = None  # it is the same for all

    def _frames(self) -> list[FrameType]:
        """Those of the loop's thread, the outermost first, from where the loop was started."""
        frames: list[FrameType] = []
        frame = sys._current_frames().get(self._thread)
        while frame is not None and frame.f_code is not type(self._worker).run.__code__:
            frames.append(frame)
            frame = frame.f_back
        return frames[::-1]


def frames_of(task: "asyncio.Task[Any]") -> list[FrameType]:
    """The frames of a task that waits, and of what it waits for, the outermost first."""
    frames: list[FrameType] = []
    step: object = task.get_coro()
    for _ in range(DEEPEST):
        match step:
            case asyncio.Task():
                step = step.get_coro()
                continue
            case asyncio.Future() | None:
                break
        frame, inner = inside(step)
        if frame is not None:
            frames.append(frame)
        step = inner
    return frames


def inside(step: object) -> tuple[FrameType | None, object]:
    """The frame of something that is awaited, and what that awaits in turn."""
    if inspect.iscoroutine(step):
        return step.cr_frame, step.cr_await
    if inspect.isgenerator(step):
        return step.gi_frame, step.gi_yieldfrom
    if inspect.isasyncgen(step):
        return step.ag_frame, step.ag_await
    # Iterators around one of these, or around a future, written in C: what they refer to can only be found so.
    for each in gc.get_referents(step):
        if inspect.isasyncgen(each) or inspect.iscoroutine(each) or isinstance(each, asyncio.Future):
            return None, each
    return None, None
