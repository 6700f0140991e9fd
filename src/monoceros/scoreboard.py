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

PID, GENERATION, STATE, DEADLINE, CONNECTIONS, BUSY, ACCEPTED, REQUESTS, ERRORS, TIRED, TAKEN = range(11)

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


# The words of the server itself, behind those of the workers; the arbiter writes them: how many slots were in use at
# the most, and whether it is about to stop (`drain_delay`).
USED, LEAVING = range(2)


class Scoreboard:
    """A page of slots, one per worker, shared by all processes forked after it was made. `server` is one more row."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._words = memoryview(mmap.mmap(-1, (slots + 1) * WORDS * WORD)).cast("Q")
        self._states = self._words[STATE::WORDS]
        self._connections = self._words[CONNECTIONS::WORDS]
        self._taken = self._words[TAKEN::WORDS]
        self.server = self._words[slots * WORDS :]
        self.slots = [self._words[n * WORDS : (n + 1) * WORDS] for n in range(slots)]

    def take(self) -> Slot | None:
        """A free slot, emptied; None if all are in use. Only the arbiter takes slots."""
        for number, slot in enumerate(self.slots, 1):
            if slot[STATE] == FREE:
                clear(slot)
                self.server[USED] = max(self.server[USED], number)
                return slot
        return None

    def least_connections(self) -> int:
        """How many connections the serving worker has open that has the fewest."""
        used = self.server[USED]
        counts = zip(self._states[:used].tolist(), self._connections[:used].tolist(), strict=True)
        return min((count for state, count in counts if state == READY), default=0)

    def least_taken(self, second: int) -> int:
        """How many connections a serving worker without any has taken within this second, at the least.

        A `TAKEN` word has the second in its upper half, the number in the lower.
        """
        used, begin = self.server[USED], second << 32
        counts = zip(
            self._states[:used].tolist(), self._connections[:used].tolist(), self._taken[:used].tolist(), strict=True
        )
        return min(
            (max(taken - begin, 0) for state, open, taken in counts if state == READY and not open), default=begin
        )

    def total(self, word: int) -> int:
        """The sum of one word over all workers."""
        return sum(slot[word] for slot in self.slots)


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
