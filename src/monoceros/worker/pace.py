"""Do calls of the application wait? Then the lead is better given away before the call.

What a call computes does not count: a second thread would not make it faster, it would only fight for the
interpreter. Nor does a call count that was merely kept from the processor; so it must have given the
processor up of its own accord, which the kernel counts.
"""

import resource
import time
from collections.abc import Callable
from typing import Final

# Seconds that a call waits, as a moving average: above the first the lead is given away before the call,
# below the second no more.
SLOW: Final = 0.0005
QUICK: Final = 0.0002
WEIGHT: Final = 0.1

# As long as calls do not wait, one in eight is timed (those whose serial has none of these bits). After one
# that waited, or lost the lead, so many are, each.
SAMPLE: Final = 7
CAREFUL: Final = 32

# While the lead is given away, calls disturb each other, and their times say little. So after this many
# calls a few keep the lead, and those of the second half, when the others have ended, are timed.
GIVEN: Final = 128
TRIES: Final = 8


class Pace:
    """The pace of the calls that one worker makes. `slow` says that they have been waiting lately."""

    def __init__(self) -> None:
        self.slow = False
        self._wait = 0.0
        self._careful = 0
        self._given = 0
        self._tries = 0

    def gives(self) -> bool:
        """Should the lead be given away before the next call?"""
        if not self.slow or self._tries:
            return False
        self._given += 1
        if self._given < GIVEN:
            return True
        self._given = 0
        self._tries = TRIES
        return False

    @property
    def trying(self) -> bool:
        """Calls have been waiting, and it is being tried whether they still do."""
        return self._tries > 0

    def run(self, work: Callable[[], None], serial: int) -> None:
        """Run `work`, a call that keeps the lead, and time it if that is of interest."""
        if not (self._careful or self._tries) and serial & SAMPLE:
            work()
            return
        begun, computed, switches = time.perf_counter(), time.thread_time(), _switches()
        work()
        waited = time.perf_counter() - begun - (time.thread_time() - computed)
        self.note(waited if _switches() > switches else 0.0)

    def note(self, waited: float) -> None:
        """A call that kept the lead has waited for so many seconds."""
        if self._tries:
            self._tries -= 1
            if self._tries < TRIES // 2:
                self._wait += (waited - self._wait) / 2
            if not self._tries:
                self.slow = self._wait > QUICK
            return
        self._wait += (waited - self._wait) * WEIGHT
        self.slow = self._wait > (QUICK if self.slow else SLOW)
        self._careful = CAREFUL if self._wait > QUICK else max(0, self._careful - 1)

    def lost(self) -> None:
        """A call took so long that the lead was taken: no need to try further."""
        self._careful = CAREFUL
        self._tries = 0


def _switches() -> int:
    """How often this thread has given the processor up to wait for something."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
