"""Who lives, who should: facts in, actions out. Nothing here forks, kills, logs or reads a clock."""

from dataclasses import dataclass, field
from typing import Final

from monoceros.scoreboard import BOOTING, DEADLINE, DRAINING, NEVER, READY, STATE, TIRED, Slot

# After a failed boot the next try waits, each time twice as long, in milliseconds: a database that is away
# comes back sooner if it is not knocked at all the time.
FIRST_PAUSE: Final = 1_000
LONGEST_PAUSE: Final = 30_000

# What a worker gets to write down its stacks after SIGABRT, in milliseconds.
LAST_WORDS: Final = 1_000

# Of so many workers one at a time is replaced that has asked for it: its successor is ready before it leaves, so
# more at once would double the memory that an application needs.
ONE_OF: Final = 4

# How often to look at the scoreboard while somebody boots, and at the longest, in milliseconds.
BOOT_LOOK: Final = 50
LONGEST_SLEEP: Final = 10_000


@dataclass(eq=False)
class Child:
    """What the arbiter knows of a worker: only what the kernel and the scoreboard told it.

    `leave_by` is when a worker that was told to leave must be gone, `kill_at` when one that was aborted is
    killed, both in milliseconds. `born` is when it was forked.
    """

    pid: int
    number: int
    generation: int
    slot: Slot = field(repr=False)
    born: int
    leave_by: int = NEVER
    kill_at: int = NEVER
    killed: bool = False

    def __str__(self) -> str:
        return f"worker={self.number} gen={self.generation} pid={self.pid}"

    @property
    def ready(self) -> bool:
        return self.slot[STATE] == READY

    @property
    def booting(self) -> bool:
        return self.slot[STATE] == BOOTING

    @property
    def booted(self) -> bool:
        """It has been ready, for however short: only then can it drain, and perhaps it does by now."""
        return self.slot[STATE] in (READY, DRAINING)

    @property
    def tired(self) -> bool:
        """It serves, but has asked to be replaced."""
        return self.ready and bool(self.slot[TIRED])

    @property
    def late(self) -> bool:
        """It has missed a deadline, and was told so."""
        return self.killed or self.kill_at != NEVER

    @property
    def leaving(self) -> bool:
        """It was told to leave, or has said on its own that it will."""
        return self.leave_by != NEVER or self.slot[STATE] == DRAINING

    @property
    def deadline(self) -> int:
        """When something must be done about it, unless it says something else by then."""
        if self.killed:
            return NEVER
        if self.slot[STATE] == DRAINING:
            # It ends itself at its deadline; a little later we know that it did not.
            return min(self.slot[DEADLINE] + LAST_WORDS, self.leave_by)
        return min(self.slot[DEADLINE], self.leave_by) if self.kill_at == NEVER else self.kill_at


@dataclass(frozen=True)
class Spawn:
    """Fork one worker of the current generation."""


@dataclass(frozen=True)
class Retire:
    """Tell a worker to finish and leave."""

    child: Child


@dataclass(frozen=True)
class Abort:
    """A worker has missed its deadline: let it say where it is stuck."""

    child: Child


@dataclass(frozen=True)
class Kill:
    """End a worker at once."""

    child: Child


Action = Spawn | Retire | Abort | Kill


class Children:
    """The workers there are, and the number there should be.

    `established` says that some worker has been ready at some time: from then on a failed boot is retried
    instead of ending the server. `proven` says that of the present generation: before, it may be called off.
    """

    def __init__(self) -> None:
        self.living: list[Child] = []
        self.generation = 0
        self.target = 0
        self.established = False
        self.proven = True
        self._generations = 0
        self._before = 0, 0  # generation and target to return to
        self._pause = 0
        self._failed_at = 0

    def begin(self, target: int) -> None:
        """A new generation of `target` workers is to take over; the one before serves until it can."""
        self.look()
        if self.proven:
            self._before = self.generation, self.target
        self.proven = False
        self._generations += 1
        self.generation = self._generations
        self.target = target
        self._pause = 0

    def call_off(self) -> None:
        """The new generation, of which nobody has been ready, is not to come: the one before goes on."""
        self.generation, self.target = self._before
        self.proven = True
        self._pause = 0

    @property
    def dispensable(self) -> bool:
        """May the new generation be called off? It is not proven, there was one before, and that serves."""
        self.look()
        return not self.proven and self._before[0] > 0 and any(child.ready for child in self.living)

    def free_number(self) -> int:
        """The lowest number that no living worker has."""
        taken = {child.number for child in self.living}
        return next(number for number in range(1, len(taken) + 2) if number not in taken)

    def look(self) -> None:
        """Take note of who has become ready."""
        booted = [child for child in self.living if child.booted]
        self.established |= bool(booted)
        self.proven |= any(child.generation == self.generation for child in booted)
        if any(child.born >= self._failed_at for child in booted):
            self._pause = 0

    def step(self, now: int) -> list[Action]:
        """What brings us closer to `target` ready workers of this generation. Only says; the arbiter does.

        A new generation sends one scout first. As its workers get ready, as many of the old retire; those of
        the old that have not got ready by now are not needed any more. Tired ones retire as they are replaced.
        """
        self.look()
        fresh, others = self._staying()
        stale = [child for child in others if child.ready]
        obsolete = [child for child in others if not child.ready]
        ready = sorted((child for child in fresh if child.ready), key=lambda child: not child.tired)
        missing = self._missing(fresh, stale)
        if self._pause:
            missing = min(missing, 1) if now >= self._failed_at + self._pause else 0
        # A generation that may still be called off must find the one before as it was.
        enough = self.target if self.proven else max(self.target, self._before[1])
        surplus = max(0, len(ready) + len(stale) - enough)
        return [
            *self._overdue(now),
            *(Spawn() for _ in range(missing)),
            *(Retire(child) for child in obsolete + (stale + ready)[:surplus]),
        ]

    def _staying(self) -> tuple[list[Child], list[Child]]:
        """Who is not about to leave: of this generation, and of others."""
        staying = [child for child in self.living if not child.leaving]
        return (
            [child for child in staying if child.generation == self.generation],
            [child for child in staying if child.generation != self.generation],
        )

    def _missing(self, fresh: list[Child], stale: list[Child]) -> int:
        """How many to spawn, now or, after a failed boot, when the pause is over: then only when the last try is."""
        if self._pause and any(child.booting for child in fresh):
            return 0
        scouting = stale and not any(child.ready for child in fresh)
        if scouting:
            return max(0, min(1, self.target) - len(fresh))
        tired = sum(child.tired for child in fresh)
        # A successor that is there already, or on its way, is one more than there should be.
        wanted = self.target + min(tired, max(1, self.target // ONE_OF))
        return max(0, min(wanted - len(fresh), self.target - (len(fresh) - tired)))

    def _overdue(self, now: int) -> list[Action]:
        late = [child for child in self.living if child.deadline <= now]
        return [
            Kill(child)
            if child.kill_at <= now or child.leave_by <= now or child.slot[STATE] == DRAINING
            else Abort(child)
            for child in late
        ]

    def exited(self, pid: int, now: int) -> Child | None:
        """A process is gone. The child that it was, or None if it was none of ours."""
        child = next((child for child in self.living if child.pid == pid), None)
        if child is None:
            return None
        self.look()
        self.living.remove(child)
        if child.booting and child.leave_by == NEVER:
            self.failed(now)
        return child

    def failed(self, now: int) -> None:
        """A worker could not be forked, or not boot: the next try waits."""
        self._failed_at = now
        self._pause = min(2 * self._pause, LONGEST_PAUSE) if self._pause else FIRST_PAUSE

    @property
    def pause(self) -> float:
        """How long the next try to boot waits after the last one failed, in seconds; 0 if none did."""
        return self._pause / 1000

    def next_wake(self, now: int) -> float:
        """Seconds until the first deadline could be missed: how long the arbiter may sleep."""
        moments = [child.deadline for child in self.living]
        if self._pause and self._missing(*self._staying()):
            moments.append(self._failed_at + self._pause)
        longest = BOOT_LOOK if any(child.booting for child in self.living) else LONGEST_SLEEP
        return max(0, min([longest, *(moment - now for moment in moments)])) / 1000
