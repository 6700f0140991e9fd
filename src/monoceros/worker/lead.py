"""Who runs the loop: a lead that moves between threads, so that a request need not.

A thread pool costs two thread switches a request. Here the thread that leads polls, reads, parses, and runs
the application itself. Before the call it offers the lead, after the call it takes it back: one append and
one pop. A sentinel thread looks every few milliseconds whether the same call still runs; then it takes the
offer, and a spare thread leads on. Where calls have been waiting a lot lately, the lead is given away first.

The lead is always in exactly one of three places: with a thread in the loop, on offer by a thread inside a
call, or handed to a spare that is waking up. `deque.append` and `deque.pop` are atomic, and whoever pops
the one token has what it stands for.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

from monoceros.worker.pace import Pace

# How often the sentinel looks, in seconds; a call is slow to it after one to two of these.
TICK: Final = 0.005
# The sentinel rests when nothing was on offer for this many ticks in a row.
RESTLESS: Final = 40


class Lead:
    """The lead of a loop among `threads` threads; with one thread there is nobody to move it to.

    `beat` is called by the sentinel now and then while calls run: there is still somebody at home.
    """

    def __init__(self, threads: int, beat: Callable[[], None] = lambda: None) -> None:
        self._alone = threads == 1
        self._beat = beat
        self._serial = itertools.count(1)
        self._offer: deque[int] = deque()
        self._resting: deque[None] = deque()
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._stale = 0  # the serial of an offer that has outlived a tick
        self._asleep = False
        self._stopped = False
        self.pace = Pace()

    def call(self, work: Callable[[], None]) -> bool:
        """Run `work` on the leading thread. True if it still leads when it comes back.

        What `work` raises passes through; then the thread does not lead, unless it is the only one.
        """
        if self._alone:
            work()
            return True
        if self.pace.gives() and self._give():
            work()
            return False
        serial = self._put_on_offer()
        try:
            self.pace.run(work, serial)
        except BaseException:
            if self._pop(self._offer):
                self._give_or_offer()
            raise
        try:
            self._offer.pop()
        except IndexError:
            self.pace.lost()
            return False
        return True

    def spare(self) -> bool:
        """Wait, without a request, until this thread leads. False when it is to end instead."""
        if self._stopped or self._alone or self._take(self._stale):
            return not self._stopped
        self._resting.append(None)
        if self._stopped and self._pop(self._resting):
            return False
        return self._wake.get()

    def watch(self) -> None:
        """The sentinel's life: it looks, and never works."""
        seen = idle = 0
        while not self._stopped:
            serial = self._on_offer()
            idle = 0 if serial else idle + 1
            if serial and serial == seen:
                self._stale = serial
                if self._resting and self._take(serial):
                    self._give_or_offer()
            seen = serial
            if serial:
                self._beat()
            elif idle > RESTLESS:
                idle = 0
                self._rest()
            time.sleep(TICK)

    def stop(self) -> None:
        """Let all threads that wait come back with False. To be called by the thread that leads."""
        self._stopped = True
        self._bell.put(None)
        while self._pop(self._resting):
            self._wake.put(False)

    def _on_offer(self) -> int:
        try:
            return self._offer[0]
        except IndexError:
            return 0

    def _take(self, serial: int) -> bool:
        """Take the lead that is on offer, if it is the offer meant.

        A newer offer may have come in between; to take that one is early, but not wrong.
        """
        return bool(serial) and self._on_offer() == serial and self._pop(self._offer)

    @staticmethod
    def _pop(tokens: deque[Any]) -> bool:
        try:
            tokens.pop()
        except IndexError:
            return False
        return True

    def _give(self) -> bool:
        """Hand the lead to a spare thread, if there is one."""
        if not self._pop(self._resting):
            return False
        self._wake.put(True)
        return True

    def _put_on_offer(self) -> int:
        """Offer the lead. Returns the serial of the offer."""
        serial = next(self._serial)
        if self.pace.slow and not self.pace.trying:
            self._stale = serial  # it will outlive a tick: who comes back first need not wait to see that
        self._offer.append(serial)
        if self._asleep:
            self._asleep = False
            self._bell.put(None)
        return serial

    def _give_or_offer(self) -> None:
        """Hand on the lead that this thread has and does not keep: to a spare now, or to the next there is."""
        if not self._give():
            self._put_on_offer()

    def _rest(self) -> None:
        """Sleep until there is an offer again: an idle worker does not wake up."""
        self._asleep = True
        if self._on_offer() or self._stopped:
            self._asleep = False
            return
        self._bell.get()


def start(threads: int, lead: Lead, live: Callable[[], None]) -> None:
    """Start the threads that take turns beside the calling one, and the sentinel. All are daemons."""
    for number in range(2, threads + 1):
        threading.Thread(target=live, name=f"monoceros-{number}", daemon=True).start()
    if threads > 1:
        threading.Thread(target=lead.watch, name="monoceros-sentinel", daemon=True).start()
