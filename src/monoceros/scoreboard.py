"""One page of shared words that everyone reads: heartbeat, balance, statistics.

It is mapped before the first fork. A word has one writer, so there are no locks; an aligned word of eight
bytes is never seen half written. A slot is a worker's row. The worker writes its own; the arbiter writes
pid, generation, state, birth and deadline before the fork, and when the worker is gone, adds what it has counted to the
row of those that have gone, and clears the slot.
"""

import mmap
import os
import sys
import time
from array import array
from collections.abc import Iterable, Sequence
from math import ldexp
from typing import Final, NamedTuple

WORD: Final = 8

# The words of a slot. Moments and LAG are in milliseconds, CPU and DURATION in microseconds, SENT and MEMORY in bytes;
# MEMORY is what the process holds, LAG how late the loop last came round; ASYNC says that it runs on asyncio. Then come
# how many responses there were by the first digit of their status, of requests that were served at once (CALM) and of
# those that had waited (WAITED), with room for the digits 0 to 9: an application may say any.
(
    PID, GENERATION, STATE, DEADLINE, CONNECTIONS, BUSY, ACCEPTED, ERRORS, TIRED, TAKEN,
    BORN, NUMBER, SENT, DURATION, REFUSED, CPU, MEMORY, LAG, ASYNC,
) = range(19)  # fmt: skip
CALM: Final = 20
WAITED: Final = 30
CLASSES: Final = 10

# Two histograms of times: how long requests took, and how long those had waited that had to.
# Each power of two is divided into 16 parts, so that the middle of a bucket is wrong by 3 % at most. They go from
# 2^-20 s, a microsecond, to 2^12 s, more than an hour; what is beyond is in the first bucket or in the last.
PARTS: Final = 16
LEAST_EXPONENT: Final = -20
BUCKETS: Final = (12 - LEAST_EXPONENT) * PARTS
# Of a double: what is added to its exponent; its upper two bytes in the first bucket, and where these stand.
BIAS: Final = 1023
FIRST: Final = (LEAST_EXPONENT + BIAS) * PARTS
UPPER: Final = 3 if sys.byteorder == "little" else 0
LATENCY: Final = 64
QUEUE: Final = LATENCY + BUCKETS

WORDS: Final = QUEUE + BUCKETS
SLOTS: Final = 256

# What is only ever counted up, and so is kept when the worker goes.
TOTALS: Final = (ACCEPTED, ERRORS, SENT, DURATION, REFUSED, CPU, *range(CALM, WAITED + CLASSES), *range(LATENCY, WORDS))

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


# How often to read again what has changed meanwhile; the arbiter needs less than a millisecond for it.
TRIES: Final = 1_000


# The words of the server itself, which the arbiter writes: how many slots were in use at the most; whether it is about
# to stop (`drain_delay`, or the stop itself); the present generation, and how many workers there should be; when it
# was started, and until when it will have looked around again; how many workers were started, were killed for missing
# a deadline, and have died of what was not asked of them; how many reloads were asked for, and how many have failed.
# CHANGES is odd while a worker's counts are on their way to those of the gone. The text of REMARK says why the last
# reload has failed, as UTF-8 that ends with a NUL.
(
    USED, LEAVING, NOW_GENERATION, TARGET, STARTED, LOOK_DEADLINE, SPAWNED, OVERDUE, DIED, RELOADS, FAILED, CHANGES,
) = range(12)  # fmt: skip
REMARK: Final = 64
REMARK_BYTES: Final = (WORDS - REMARK) * WORD


class Reading(NamedTuple):
    """The scoreboard at one moment: the slots in use, each a list of its words; `totals` has the sums over all workers
    there have ever been, for the words in `TOTALS`; `server` the server's own words; `remark` is its text.
    """

    slots: Sequence[Sequence[int]]
    totals: Sequence[int]
    server: Sequence[int]
    remark: str


class Scoreboard:
    """A page of slots, one per worker, shared by all processes forked after it was made.

    `server` is one more row; `gone` has the counts of workers that are no more. `sites` are slots for the worker that
    serves operators, which is none of those that serve clients, and for its successor.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        rows = memoryview(mmap.mmap(-1, (slots + 4) * WORDS * WORD)).cast("Q")
        self._words = words = rows[: slots * WORDS]
        self._states = words[STATE::WORDS]
        self._connections = words[CONNECTIONS::WORDS]
        self._taken = words[TAKEN::WORDS]
        self.slots = [words[n * WORDS : (n + 1) * WORDS] for n in range(slots)]
        others = [rows[n * WORDS : (n + 1) * WORDS] for n in range(slots, slots + 4)]
        self.server, self.gone, *self.sites = others

    def take(self) -> Slot | None:
        """A free slot, emptied; None if all are in use. Only the arbiter takes slots."""
        for number, slot in enumerate(self.slots, 1):
            if slot[STATE] == FREE:
                clear(slot)
                self.server[USED] = max(self.server[USED], number)
                return slot
        return None

    def take_site(self) -> Slot | None:
        """The same for who serves operators."""
        return next((slot for slot in self.sites if slot[STATE] == FREE), None)

    def release(self, slot: Slot) -> None:
        """The worker is gone: what it has counted stays, its slot is free. Only the arbiter releases slots."""
        server, gone = self.server, self.gone
        server[CHANGES] += 1
        for word in () if any(slot is site for site in self.sites) else TOTALS:
            if slot[word]:
                gone[word] += slot[word]
        clear(slot)
        server[CHANGES] += 1

    def read(self) -> Reading:
        """All of it, so that no worker's counts are missed or seen twice when it goes meanwhile.

        Unless the arbiter has died in the middle of that: then it is as it was left.
        """
        server = self.server
        for _ in range(TRIES):
            before = server[CHANGES]
            used = [slot.tolist() for slot in self.slots[: server[USED]]]
            gone, words = self.gone.tolist(), server.tolist()
            if server[CHANGES] == before and not before % 2:
                break
            os.sched_yield()
        living = [slot for slot in used if slot[STATE] != FREE]
        totals = [sum(column) for column in zip(gone, *living, strict=True)]
        return Reading(living, totals, words, self.remark)

    @property
    def remark(self) -> str:
        """What the arbiter has to say to who asks how it is."""
        return bytes(self.server[REMARK:].cast("B")).partition(b"\0")[0].decode("utf-8", "replace")

    @remark.setter
    def remark(self, text: str) -> None:
        self.server[REMARK:].cast("B")[:] = text.encode("utf-8", "replace")[: REMARK_BYTES - 1].ljust(
            REMARK_BYTES, b"\0"
        )

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
        """The sum of one word over all workers there are."""
        return sum(self._words[word::WORDS].tolist())


NOTHING: Final = memoryview(bytes(WORDS * WORD)).cast("Q")


def clear(slot: Slot) -> None:
    """Set all words of a slot to 0: its state is FREE then."""
    slot[:] = NOTHING


def magnitudes(times: Iterable[float]) -> list[int]:
    """The upper two bytes of each time as a double (IEEE 754): a sign, eleven bits of exponent, four of mantissa.

    Times that share them share a bucket.
    """
    return memoryview(array("d", times)).cast("B").cast("H")[UPPER::4].tolist()


def bucket(magnitude: int) -> int:
    """The number of the bucket that holds times, in seconds, of this magnitude."""
    return min(max(magnitude - FIRST, 0), BUCKETS - 1)


def edge(number: int) -> float:
    """Where the bucket of this number begins, in seconds; it ends where the next one begins."""
    exponent, part = divmod(number, PARTS)
    return ldexp(PARTS + part, exponent + LEAST_EXPONENT - (PARTS - 1).bit_length())


def requests(slot: Sequence[int] | Slot) -> int:
    """How many requests were answered, by a slot or in all."""
    return sum(slot[CALM : WAITED + CLASSES])


def describe(slot: Slot) -> str:
    """A slot as one line, for logs and tests."""
    return (
        f"pid={slot[PID]} gen={slot[GENERATION]} {STATES[slot[STATE]]} connections={slot[CONNECTIONS]} "
        f"busy={slot[BUSY]} accepted={slot[ACCEPTED]} requests={requests(slot)} errors={slot[ERRORS]}"
    )
