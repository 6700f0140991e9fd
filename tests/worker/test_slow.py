"""When the watch looks, whom it tells of, and how often; the frames of what waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from monoceros.worker.blocking import BlockingConnection
from monoceros.worker.connection import Connection
from monoceros.worker.loop import LoopWorker
from monoceros.worker.slow import Run, ThreadWatch, Watch, formatted
from monoceros.worker.slowtasks import frames_of
from server import wait_for
from worker.line import GET, Line


class Told(Watch):
    """A watch that keeps whom it tells of."""

    def __init__(self, *connections: Any) -> None:
        self.running = list(connections)
        self.told: list[Any] = []
        super().__init__(cast("LoopWorker[Any]", SimpleNamespace(running=lambda: self.running)), 2.0)

    def tell_of(self, due: list[Run]) -> set[Run]:
        self.told += [connection for connection, _ in due]
        return set(due)


def busy(began: float) -> Any:
    class Busy:
        request = object()

    one = Busy()
    cast("Any", one).began = began
    return one


def test_when_to_look_next() -> None:
    watch = Told()
    assert watch.look(100.0) is None
    watch.running = [busy(99.0), busy(99.5)]
    assert watch.look(100.0) == pytest.approx(1.0)
    assert watch.told == []
    assert watch.look(101.0) == pytest.approx(0.5)
    assert watch.told == watch.running[:1]
    assert watch.look(101.5) == pytest.approx(2.0)
    assert watch.told == watch.running


def test_each_is_told_of_once_but_the_next_of_a_connection_is_another() -> None:
    one = busy(90.0)
    watch = Told(one)
    for now in (100.0, 101.0, 110.0):
        watch.look(now)
    assert watch.told == [one]
    one.began = 111.0
    assert watch.look(112.0) == pytest.approx(1.0)
    watch.look(113.0)
    assert watch.told == [one, one]
    watch.running = []
    assert watch.look(114.0) is None
    assert watch._told == set()


def test_it_sleeps_until_it_is_woken() -> None:
    """What begins in the moment in which it goes to sleep is not missed."""
    watch = Told()
    watch.wake()
    sleeper = threading.Thread(target=watch._rest, daemon=True)
    sleeper.start()
    wait_for(lambda: watch._asleep)
    assert sleeper.is_alive()
    watch.wake()
    sleeper.join(10)
    assert not sleeper.is_alive()
    watch.running = [busy(1.0)]
    watch._rest()  # comes back at once


def test_the_thread_of_a_connection_is_found(dial: Callable[..., Line], caplog: pytest.LogCaptureFixture) -> None:
    inside, leave = threading.Event(), threading.Event()

    def linger(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        inside.set()
        leave.wait()
        start_response("200 OK", [])
        return [b""]

    line = dial(linger)
    line.send(GET)
    watch = ThreadWatch(line.worker, 1.0, BlockingConnection._exchange.__code__)
    line.connection.running = True
    run = cast("Connection", line.connection), line.connection.began
    assert watch.tell_of([run]) == set()  # it counts as running, but does not yet
    thread = threading.Thread(target=line.connection.serve)
    thread.start()
    assert inside.wait(10)
    now = line.connection.began + 1.5
    assert watch.look(now - 1) == pytest.approx(0.5)
    watch.look(now)
    watch.look(now)
    leave.set()
    thread.join(10)
    [record] = caplog.records
    assert "GET /page HTTP/1.1" in record.getMessage()
    assert ", in linger\n" in str(record.stack_info)
    assert "_exchange" not in str(record.stack_info)


async def pieces(waiting: Awaitable[object]) -> AsyncIterator[int]:
    yield 1
    await waiting
    yield 2


async def by_pieces(waiting: Awaitable[object]) -> None:
    async for _ in pieces(waiting):
        pass


async def by_coroutine(waiting: Awaitable[object]) -> None:
    await asyncio.shield(waiting)


async def by_task(waiting: Awaitable[object]) -> None:
    await asyncio.ensure_future(by_coroutine(waiting))


class Own:
    """Something with an `__await__` of its own."""

    def __init__(self, waiting: Awaitable[object]) -> None:
        self.waiting = waiting

    def __await__(self) -> Generator[Any, None, object]:
        return (yield from self.waiting.__await__())


async def by_own(waiting: Awaitable[object]) -> None:
    await Own(waiting)


@pytest.mark.parametrize(
    ("way", "names"),
    [
        (by_pieces, ["by_pieces", "pieces"]),
        (by_coroutine, ["by_coroutine"]),
        (by_task, ["by_task", "by_coroutine"]),
        (by_own, ["by_own", "__await__"]),
    ],
)
def test_the_frames_of_a_task(way: Callable[[Awaitable[object]], Any], names: list[str]) -> None:
    async def main() -> list[str]:
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(way(opened))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        frames = frames_of(task)
        opened.set_result(None)
        await task
        assert len(formatted(frames)) == len(frames)
        return [frame.f_code.co_name for frame in frames]

    assert asyncio.run(main()) == names
