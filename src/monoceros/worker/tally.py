"""What a worker counts of the requests that it has served, in its slot of the scoreboard."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Final, TypeVar

from monoceros.scoreboard import CALM, DURATION, LATENCY, QUEUE, SENT, WAITED, Slot, bucket, magnitudes

T = TypeVar("T")

# Up to so many it is quicker to write one by one what is to be counted.
FEW: Final = 8


class Tally:
    """Counts in a slot. Any thread may `add`, one at a time may `flush`.

    A word of the scoreboard costs ten times as much as an item of a list, so what was added is written together: once
    in a turn of the loop, so that a worker that is killed has counted all but what it served in that very turn. `soon`
    is called with `flush` when something was added that waits for it.
    """

    def __init__(self, slot: Slot, soon: Callable[[Callable[[], None]], object] | None = None) -> None:
        self._slot = slot
        self._soon = soon
        self._answers: list[tuple[int, int, float, float]] = []

    def add(self, status: int, sent: int, seconds: float, waited: float) -> None:
        """Count a response of this status with `sent` bytes of content, how long it took, and had waited, in seconds.

        How long a WebSocket was open (101) is the time that somebody has spent with it, and not counted.
        """
        if self._soon is not None and not self._answers:
            self._soon(self.flush)
        self._answers.append((status, sent, seconds, waited))

    def flush(self) -> None:
        """Write what was added."""
        if not self._answers:
            return
        slot = self._slot
        answers = _taken(self._answers)
        statuses, sizes, seconds, waits = zip(*answers, strict=True)
        calm, times = statuses, seconds
        if any(waits):
            calm = tuple([status for status, _, _, wait in answers if not wait])
            for status, count in _counted([status for status, _, _, wait in answers if wait]):
                slot[WAITED + status // 100] += count
            for magnitude, count in _counted(magnitudes(filter(None, waits))):
                slot[QUEUE + bucket(magnitude)] += count
        if 101 in statuses:
            times = tuple([time for status, _, time, _ in answers if status != 101])
        for status, count in _counted(calm):
            slot[CALM + status // 100] += count
        for magnitude, count in _counted(magnitudes(times)):
            slot[LATENCY + bucket(magnitude)] += count
        slot[DURATION] += int(sum(times) * 1e6)
        slot[SENT] += sum(sizes)


def _taken(items: list[T]) -> list[T]:
    """The items, out of a list to which another thread may append meanwhile."""
    taken = items[:]
    del items[: len(taken)]
    return taken


def _counted(numbers: Sequence[int]) -> Iterable[tuple[int, int]]:
    return zip(numbers, repeat(1)) if len(numbers) <= FEW else Counter(numbers).items()
