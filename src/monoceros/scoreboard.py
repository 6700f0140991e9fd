"""One page of shared words that everyone reads: heartbeat, balance, statistics.

It is mapped before the first fork. A word has one writer, so there are no locks; an aligned word of eight
bytes is never seen half written. A slot is a worker's row. The worker writes its own; the arbiter writes
pid, generation, state and deadline before the fork, and clears the slot when the worker is gone.
"""

import mmap
import time
from typing import Final

WORD: Final = 8
WORDS: Final = 16  # words in a slot: two cache lines, so that neighbours do not share one
SLOTS: Final = 256

PID, GENERATION, STATE, DEADLINE, CONNECTIONS, BUSY, ACCEPTED, REQUESTS, ERRORS = range(9)

FREE, BOOTING, READY, DRAINING = range(4)
STATES: Final = ("FREE", "BOOTING", "READY", "DRAINING")

NEVER: Final = 2**63 - 1  # a deadline that does not come

Slot = memoryview


def clock() -> int:
    """Now, in milliseconds of the monotonic clock, which is the same for all processes of a machine."""
    return time.monotonic_ns() // 1_000_000


def after(seconds: float) -> int:
    """The moment that many seconds from now; 0 or less is never."""
    return clock() + int(seconds * 1000) if seconds > 0 else NEVER


class Scoreboard:
    """A page of slots, one per worker, shared by all processes forked after it was made."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._words = memoryview(mmap.mmap(-1, slots * WORDS * WORD)).cast("Q")
        self._states = self._words[STATE::WORDS]
        self._connections = self._words[CONNECTIONS::WORDS]
        self.slots = [self._words[n * WORDS : (n + 1) * WORDS] for n in range(slots)]

    def take(self) -> Slot | None:
        """A free slot, emptied; None if all are in use. Only the arbiter takes slots."""
        for slot in self.slots:
            if slot[STATE] == FREE:
                clear(slot)
                return slot
        return None

    def least_connections(self) -> int:
        """How many connections the serving worker has open that has the fewest."""
        counts = zip(self._states.tolist(), self._connections.tolist(), strict=True)
        return min((count for state, count in counts if state == READY), default=0)

    def total(self, word: int) -> int:
        """The sum of one word over all slots."""
        return sum(self._words[word::WORDS].tolist())


def clear(slot: Slot) -> None:
    """Set all words of a slot to 0: its state is FREE then."""
    for n in range(WORDS):
        slot[n] = 0


def describe(slot: Slot) -> str:
    """A slot as one line, for logs and tests."""
    return (
        f"pid={slot[PID]} gen={slot[GENERATION]} {STATES[slot[STATE]]} connections={slot[CONNECTIONS]} "
        f"busy={slot[BUSY]} accepted={slot[ACCEPTED]} requests={slot[REQUESTS]} errors={slot[ERRORS]}"
    )
