"""The lead among threads: exactly one loop at a time, whatever the calls do. No clock; waits have deadlines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event

import pytest

from monoceros.worker import lead, pace
from monoceros.worker.lead import Lead
from server import wait_for

LONG = 20.0

Job = Callable[[], None]


class Crew:
    """Threads that take turns in a loop which gets its calls from a queue; None ends it."""

    def __init__(self, threads: int) -> None:
        self.beats = 0
        self.threads = threads
        self.lead = Lead(threads, self._beat)
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.faults: list[str] = []
        self.failed: list[Exception] = []
        self.ended = threading.Semaphore(0)
        self._loop = threading.Lock()
        lead.start(threads, self.lead, self._live)
        threading.Thread(target=self._first, daemon=True).start()

    def _beat(self) -> None:
        self.beats += 1

    def _first(self) -> None:
        self._lead_once()
        self._live()

    def _live(self) -> None:
        while self.lead.spare():
            self._lead_once()
        self.ended.release()

    def _lead_once(self) -> None:
        while True:
            if not self._loop.acquire(blocking=False):
                self.faults.append("two threads lead")
                return
            job = self.jobs.get()
            if job is None:
                self.lead.stop()
                self._loop.release()
                return
            # From here on the lead is on offer, and the loop free for whoever takes it.
            self._loop.release()
            try:
                leading = self.lead.call(job)
            except ZeroDivisionError as error:
                self.failed.append(error)
                leading = False
            if not leading:
                return

    def end(self) -> None:
        """Stop, and see every thread leave."""
        self.jobs.put(None)
        for _ in range(self.threads):
            assert self.ended.acquire(timeout=LONG), "a thread has not come back"
        assert self.faults == []

    def blocked(self) -> Event:
        """Run a call that waits for the event returned. Returns when it runs."""
        entered, go_on = Event(), Event()

        def job() -> None:
            entered.set()
            assert go_on.wait(LONG)

        self.jobs.put(job)
        assert entered.wait(LONG), "nobody has run it"
        return go_on

    def runs(self) -> None:
        """See a quick call through: somebody leads."""
        done = Event()
        self.jobs.put(done.set)
        assert done.wait(LONG), "nobody leads"

    def slowly(self, milliseconds: float) -> None:
        done = Event()

        def job() -> None:
            Event().wait(milliseconds / 1000)
            done.set()

        self.jobs.put(job)
        assert done.wait(LONG)


def fail() -> None:
    raise ZeroDivisionError


@pytest.fixture(params=[2, 3, 8])
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    crew = Crew(request.param)
    yield crew
    crew.end()


# One thread


def test_one_thread_alone_keeps_the_lead() -> None:
    alone = Lead(1)
    ran: list[int] = []
    assert alone.call(lambda: ran.append(1)) is True
    assert alone.spare() is True
    with pytest.raises(ZeroDivisionError):
        alone.call(fail)
    assert alone.spare() is True
    assert not alone.pace.slow
    alone.stop()
    assert alone.spare() is False
    assert ran == [1]


def test_one_thread_alone_lives_and_ends() -> None:
    crew = Crew(1)
    crew.runs()
    crew.jobs.put(fail)
    crew.runs()
    crew.blocked().set()
    crew.runs()
    crew.end()


# More


def test_quick_calls_stay_with_their_thread() -> None:
    """Without a sentinel nobody takes the offer, so each caller has it back."""
    several = Lead(4)
    assert [several.call(lambda: None) for _ in range(50)] == [True] * 50


def test_a_call_that_blocks_stops_nobody(crew: Crew) -> None:
    first = crew.blocked()
    for _ in range(20):
        crew.runs()
    first.set()
    crew.runs()


def test_all_threads_inside_calls(crew: Crew) -> None:
    """The last offer stays until one comes back, which leads at once: also if it was not the last to go."""
    for back in range(crew.threads):
        inside = [crew.blocked() for _ in range(crew.threads)]
        waiting = Event()
        crew.jobs.put(waiting.set)
        before = crew.beats
        wait_for(lambda before=before: crew.beats > before + 3, LONG, "the sentinel to say that somebody is at home")
        assert not waiting.is_set()
        inside[back].set()
        assert waiting.wait(LONG), "the one that came back does not lead"
        for go_on in inside:
            go_on.set()
    crew.runs()


def test_all_come_back_at_once(crew: Crew) -> None:
    for _ in range(20):
        for go_on in [crew.blocked() for _ in range(crew.threads)]:
            go_on.set()
    crew.runs()


def test_taken_in_the_very_moment_of_coming_back(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls end around the moment when the sentinel takes the offer: after one to two of its ticks."""
    monkeypatch.setattr(pace, "SLOW", LONG)  # all are called in place
    count = 150
    done: SimpleQueue[int] = SimpleQueue()

    def job(number: int) -> Job:
        def run() -> None:
            Event().wait(lead.TICK * (0.75 + number % 15 / 10))
            done.put(number)

        return run

    for number in range(count):
        crew.jobs.put(job(number))
    assert sorted(done.get(timeout=LONG) for _ in range(count)) == list(range(count))
    crew.runs()
    assert done.empty()


def test_an_exception_passes_through_and_costs_nothing(crew: Crew) -> None:
    for _ in range(3 * crew.threads):
        crew.jobs.put(fail)
    crew.runs()
    assert len(crew.failed) == 3 * crew.threads
    # All threads are still there.
    inside = [crew.blocked() for _ in range(crew.threads)]
    for go_on in inside:
        go_on.set()


def test_an_exception_after_the_lead_was_taken(crew: Crew) -> None:
    entered, go_on = Event(), Event()

    def job() -> None:
        entered.set()
        go_on.wait(LONG)
        fail()

    crew.jobs.put(job)
    assert entered.wait(LONG)
    crew.runs()  # so another thread leads
    go_on.set()
    wait_for(lambda: crew.failed, LONG)
    crew.runs()


def test_an_exception_of_the_last_thread(crew: Crew) -> None:
    """Nobody is there to take the lead that it loses: it must find it again itself."""
    inside = [crew.blocked() for _ in range(crew.threads - 1)]
    crew.jobs.put(fail)
    crew.runs()
    for go_on in inside:
        go_on.set()


def test_a_stop_while_others_are_inside_calls(crew: Crew) -> None:
    inside = [crew.blocked() for _ in range(crew.threads - 1)]
    crew.jobs.put(None)
    assert crew.ended.acquire(timeout=LONG)
    for go_on in inside:
        go_on.set()
    crew.ended.release()  # counted above; the fixture sees all of them


def test_a_stop_while_the_lead_is_on_offer(crew: Crew) -> None:
    """All are inside, nobody leads; the first to come back finds that it is time to leave."""
    inside = [crew.blocked() for _ in range(crew.threads)]
    crew.jobs.put(None)
    inside[0].set()
    assert crew.ended.acquire(timeout=LONG)
    for go_on in inside:
        go_on.set()
    crew.ended.release()


def test_slow_calls_run_at_once_and_quick_ones_in_place(crew: Crew) -> None:
    def gets_slow() -> bool:
        crew.slowly(3)
        return crew.lead.pace.slow

    def gets_quick() -> bool:
        for _ in range(100):
            crew.runs()
        return not crew.lead.pace.slow

    for _ in range(2):
        wait_for(gets_slow, LONG, "calls to be found slow")
        inside = [crew.blocked() for _ in range(crew.threads)]
        for go_on in inside:
            go_on.set()
        wait_for(gets_quick, LONG, "calls to be found quick again")


def test_an_exception_of_a_slow_call(crew: Crew) -> None:
    crew.lead.pace.slow = True
    for _ in range(2 * crew.threads):
        crew.jobs.put(fail)
    crew.runs()


def test_the_sentinel_rests_and_is_woken(crew: Crew) -> None:
    for _ in range(2):
        wait_for(lambda: crew.lead._asleep, LONG, "the sentinel to rest")
        before = crew.beats
        inside = crew.blocked()
        crew.runs()
        inside.set()
        assert crew.beats > before


@pytest.mark.parametrize("asleep", [False, True])
def test_a_stop_ends_the_sentinel(asleep: bool) -> None:
    several = Lead(2)
    sentinel = threading.Thread(target=several.watch, daemon=True)
    sentinel.start()
    if asleep:
        wait_for(lambda: several._asleep, LONG)
    several.stop()
    sentinel.join(LONG)
    assert not sentinel.is_alive()
