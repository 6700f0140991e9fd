"""Who lives and who should: a whole rollout as facts and actions. Time is a number, a worker a row of words."""

from __future__ import annotations

from itertools import count

import pytest

from monoceros.arbiter.children import (
    BOOT_LOOK,
    FIRST_PAUSE,
    LAST_WORDS,
    LONGEST_PAUSE,
    LONGEST_SLEEP,
    Abort,
    Child,
    Children,
    Kill,
    Retire,
    Spawn,
)
from monoceros.scoreboard import BOOTING, DEADLINE, DRAINING, NEVER, READY, STATE, TIRED, Scoreboard, clear

BOOT = 120_000
PATIENCE = 30_000
GRACE = 10_000


class Play:
    """The arbiter's part: it does what `step` says to workers that are only rows of a scoreboard."""

    def __init__(self, target: int) -> None:
        self.children = Children()
        self.scoreboard = Scoreboard()
        self.now = 1_000
        self.pids = count(100)
        self.children.begin(target)

    def step(self) -> list[str]:
        """Do what is due now, and return it as words: "spawn 100", "retire 100"."""
        return [self.do(action) for action in self.children.step(self.now)]

    def do(self, action: object) -> str:
        match action:
            case Spawn():
                slot = self.scoreboard.take()
                assert slot is not None
                slot[STATE], slot[DEADLINE] = BOOTING, self.now + BOOT
                number = self.children.free_number()
                child = Child(next(self.pids), number, self.children.generation, slot, self.now)
                self.children.living.append(child)
                return f"spawn {child.pid}"
            case Retire(child):
                child.leave_by = self.now + GRACE
                return f"retire {child.pid}"
            case Abort(child):
                child.kill_at = self.now + LAST_WORDS
                return f"abort {child.pid}"
            case Kill(child):
                child.killed = True
                return f"kill {child.pid}"
        raise AssertionError(action)

    def pass_time(self, milliseconds: int) -> list[str]:
        self.now += milliseconds
        return self.step()

    def child(self, pid: int) -> Child:
        return next(child for child in self.children.living if child.pid == pid)

    def is_ready(self, *pids: int) -> None:
        for pid in pids:
            self.phase(pid, READY, PATIENCE)

    def phase(self, pid: int, state: int, patience: int) -> None:
        slot = self.child(pid).slot
        slot[STATE], slot[DEADLINE] = state, self.now + patience

    def dies(self, *pids: int) -> None:
        for pid in pids:
            child = self.children.exited(pid, self.now)
            assert child is not None
            clear(child.slot)

    @property
    def pids_living(self) -> list[int]:
        return [child.pid for child in self.children.living]


@pytest.fixture
def three() -> Play:
    """Three workers that serve: 100, 101 and 102."""
    play = Play(3)
    play.step()
    play.now += 100
    play.is_ready(100, 101, 102)
    assert play.step() == []
    return play


# Start


def test_all_start_at_once() -> None:
    play = Play(3)
    assert play.step() == ["spawn 100", "spawn 101", "spawn 102"]
    assert play.step() == []
    assert [child.number for child in play.children.living] == [1, 2, 3]
    assert not play.children.established
    play.is_ready(101)
    assert play.step() == []
    assert play.children.established


def test_a_child_says_its_name(three: Play) -> None:
    assert str(three.child(101)) == "worker=2 gen=1 pid=101"
    assert "memory" not in repr(three.child(101))


def test_who_dies_is_replaced_and_its_number_is_free(three: Play) -> None:
    three.dies(101)
    assert three.children.pause == 0
    assert three.step() == ["spawn 103"]
    assert three.child(103).number == 2
    assert three.children.free_number() == 4


def test_a_stranger_dies(three: Play) -> None:
    assert three.children.exited(4711, three.now) is None
    assert three.step() == []


def test_nothing_is_wanted() -> None:
    children = Children()
    assert children.step(0) == []
    assert children.next_wake(0) == LONGEST_SLEEP / 1000


# TTIN and TTOU


def test_one_more(three: Play) -> None:
    three.children.target += 1
    assert three.step() == ["spawn 103"]
    assert three.step() == []


def test_one_less_is_the_oldest(three: Play) -> None:
    three.children.target -= 1
    assert three.step() == ["retire 100"]
    assert three.step() == []
    three.dies(100)
    assert three.step() == []


def test_one_less_while_one_boots(three: Play) -> None:
    """Nobody is told to leave for a worker that might not get ready."""
    three.children.target += 1
    three.step()
    three.children.target -= 1
    assert three.step() == []
    three.is_ready(103)
    assert three.step() == ["retire 100"]


def test_one_more_while_one_drains(three: Play) -> None:
    three.children.target -= 1
    three.step()
    three.children.target += 1
    assert three.step() == ["spawn 103"]


def test_one_that_drains_on_its_own_is_replaced_at_once(three: Play) -> None:
    three.phase(101, DRAINING, GRACE)
    assert three.step() == ["spawn 103"]
    three.is_ready(103)
    assert three.step() == []


# Boots that fail


def test_pauses_grow(three: Play) -> None:
    three.dies(102)
    pauses = []
    for pid in range(103, 111):
        assert three.step() == [f"spawn {pid}"]
        three.dies(pid)
        pauses.append(three.children.pause)
        assert three.step() == []
        assert three.children.next_wake(three.now) == min(three.children.pause, LONGEST_SLEEP / 1000)
        assert three.pass_time(int(1000 * three.children.pause) - 1) == []
        three.now += 1
        three.is_ready(100, 101)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert LONGEST_PAUSE == 30_000


def test_only_one_tries_after_a_failure(three: Play) -> None:
    three.dies(101, 102)
    assert three.step() == ["spawn 103", "spawn 104"]
    three.dies(103, 104)
    assert three.children.pause == 2
    assert three.pass_time(2_000) == ["spawn 105"]
    assert three.pass_time(60_000) == ["abort 100"]  # still booting: the other waits for it
    three.is_ready(105)
    assert three.step() == ["spawn 106"]


def test_recovery_forgets_the_pause(three: Play) -> None:
    three.dies(102)
    three.step()
    three.dies(103)
    three.pass_time(FIRST_PAUSE)
    three.is_ready(104)
    three.step()
    assert three.children.pause == 0
    three.dies(104)
    assert three.step() == ["spawn 105"]


def test_an_old_worker_that_serves_is_no_recovery(three: Play) -> None:
    three.dies(102)
    three.step()
    three.dies(103)
    three.is_ready(100, 101)
    assert three.step() == []
    assert three.children.pause == 1


def test_ready_for_less_than_a_look_is_ready() -> None:
    """Told to leave in the moment it became ready: it drains, or is gone, when the arbiter looks the next time."""
    play = Play(1)
    play.step()
    play.phase(100, DRAINING, GRACE)
    play.dies(100)
    assert play.children.established
    assert play.children.pause == 0


def test_a_recovery_that_drains_already(three: Play) -> None:
    three.dies(102)
    three.step()
    three.dies(103)
    three.pass_time(FIRST_PAUSE)
    three.phase(104, DRAINING, GRACE)
    assert three.step() == ["spawn 105"]
    assert three.children.pause == 0


def test_a_retired_one_that_had_not_booted_is_no_failure() -> None:
    play = Play(1)
    play.step()
    play.do(Retire(play.child(100)))
    play.dies(100)
    assert play.children.pause == 0
    assert play.step() == ["spawn 101"]


def test_a_fork_that_fails_waits_like_a_boot(three: Play) -> None:
    three.dies(102)
    three.children.failed(three.now)
    assert three.children.step(three.now) == []
    assert three.pass_time(FIRST_PAUSE) == ["spawn 103"]


def test_the_arbiter_sleeps_while_a_retry_boots(three: Play) -> None:
    """The moment of the try is over, and yet not a reason to turn round and round."""
    three.dies(102)
    three.step()
    three.dies(103)
    assert three.pass_time(FIRST_PAUSE) == ["spawn 104"]
    assert three.pass_time(5_000) == []
    assert three.children.next_wake(three.now) == BOOT_LOOK / 1000


def test_the_arbiter_sleeps_when_no_retry_is_wanted(three: Play) -> None:
    three.dies(102)
    three.step()
    three.dies(103)
    three.children.target = 2
    assert three.pass_time(5_000) == []
    assert three.children.next_wake(three.now) == LONGEST_SLEEP / 1000


def test_a_try_that_came_due_between_two_looks_at_the_clock(three: Play) -> None:
    three.dies(102)
    three.step()
    three.dies(103)
    assert three.pass_time(FIRST_PAUSE - 1) == []
    assert three.children.next_wake(three.now + 1) == 0


# A new generation


def test_a_rollout(three: Play) -> None:
    three.children.begin(3)
    assert three.step() == ["spawn 103"]  # the scout goes alone
    assert three.step() == []
    three.is_ready(103)
    assert three.step() == ["spawn 104", "spawn 105", "retire 100"]
    assert three.step() == []
    three.dies(100)
    three.is_ready(105)
    assert three.step() == ["retire 101"]
    three.is_ready(104)
    assert three.step() == ["retire 102"]
    three.dies(101, 102)
    assert three.step() == []
    assert [str(child) for child in three.children.living] == [
        "worker=4 gen=2 pid=103",
        "worker=5 gen=2 pid=104",
        "worker=6 gen=2 pid=105",
    ]


def test_never_fewer_serve_than_should(three: Play) -> None:
    three.children.begin(3)
    booting: list[int] = []
    for _ in range(20):
        booting += [int(done.split()[1]) for done in three.step() if done.startswith("spawn")]
        staying = [child for child in three.children.living if child.ready and not child.leaving]
        assert len(staying) >= 3
        for pid in [child.pid for child in three.children.living if child.leaving]:
            three.dies(pid)
        if booting:
            three.is_ready(booting.pop())
    assert {child.generation for child in three.children.living} == {2}
    assert len(three.children.living) == 3


def test_a_scout_that_fails(three: Play) -> None:
    three.children.begin(3)
    three.step()
    three.dies(103)
    assert three.step() == []
    assert three.pids_living == [100, 101, 102]
    assert three.pass_time(FIRST_PAUSE) == ["spawn 104"]  # and again alone
    three.is_ready(104)
    assert three.step() == ["spawn 105", "spawn 106", "retire 100"]


def test_a_rollout_to_fewer(three: Play) -> None:
    three.children.begin(1)
    assert three.step() == ["spawn 103"]  # it might be called off
    three.is_ready(103)
    assert three.step() == ["retire 100", "retire 101", "retire 102"]


def test_a_rollout_that_is_called_off(three: Play) -> None:
    three.children.begin(5)
    three.step()
    assert three.children.dispensable
    three.dies(103)
    three.children.call_off()
    assert not three.children.dispensable
    assert three.step() == []
    assert three.pids_living == [100, 101, 102]
    three.dies(101)
    assert three.step() == ["spawn 104"]
    assert str(three.child(104)) == "worker=2 gen=1 pid=104"
    three.is_ready(104)
    three.children.begin(3)
    assert three.children.generation == 3, "numbers are not given twice"


def test_called_off_while_the_scout_boots(three: Play) -> None:
    three.children.begin(3)
    three.step()
    three.children.call_off()
    assert three.step() == ["retire 103"]


def test_a_reload_before_anybody_has_looked(three: Play) -> None:
    """Those of before are ready, though no step has seen it: they are what to go back to."""
    play = Play(2)
    play.step()
    play.is_ready(100, 101)
    play.children.begin(2)
    play.step()
    assert play.children.dispensable
    play.children.call_off()
    assert (play.children.generation, play.children.target) == (1, 2)


def test_the_first_generation_is_not_called_off() -> None:
    play = Play(2)
    play.step()
    play.is_ready(100)
    play.children.begin(2)  # while the other boots
    play.step()
    play.children.call_off() if play.children.dispensable else None
    assert play.children.target == 2


# Replaced for what they have become


def tires(play: Play, *pids: int) -> None:
    for pid in pids:
        play.child(pid).slot[TIRED] = 1


def test_a_tired_one_leaves_when_its_successor_is_ready(three: Play) -> None:
    tires(three, 101)
    assert three.step() == ["spawn 103"]
    assert three.step() == []
    three.is_ready(103)
    assert three.step() == ["retire 101"]
    three.dies(101)
    assert three.step() == []


def test_tired_ones_leave_one_after_the_other(three: Play) -> None:
    tires(three, 100, 101, 102)
    for pid, successor in ((100, 103), (101, 104), (102, 105)):
        assert three.step() == [f"spawn {successor}"]
        assert three.step() == []
        three.is_ready(successor)
        assert three.step() in ([f"retire {pid}"], [f"retire {pid}", f"spawn {successor + 1}"])
        three.dies(pid)
    assert len(three.children.living) >= 3


def test_a_successor_that_cannot_boot_is_tried_again(three: Play) -> None:
    tires(three, 101)
    three.step()
    three.dies(103)
    assert three.step() == []
    assert three.pass_time(FIRST_PAUSE) == ["spawn 104"]
    assert three.pids_living == [100, 101, 102, 104]


def test_a_tired_one_that_dies_is_replaced_once(three: Play) -> None:
    tires(three, 101)
    assert three.step() == ["spawn 103"]
    three.dies(101)
    assert three.step() == []


def test_a_rollout_to_more(three: Play) -> None:
    three.children.begin(5)
    assert three.step() == ["spawn 103"]
    three.is_ready(103)
    assert three.step() == [f"spawn {pid}" for pid in range(104, 108)]
    three.is_ready(104, 105, 106, 107)
    assert three.step() == ["retire 100", "retire 101", "retire 102"]


def test_a_second_reload_before_the_first_is_done(three: Play) -> None:
    three.children.begin(3)
    three.step()
    three.children.begin(3)
    # The scout of the first is of no use any more; those that serve stay until there are others.
    assert three.step() == ["spawn 104", "retire 103"]
    assert three.step() == []
    three.is_ready(104)
    assert three.step() == ["spawn 105", "spawn 106", "retire 100"]


def test_a_reload_gives_a_failing_boot_another_chance_at_once(three: Play) -> None:
    three.dies(102)
    three.step()
    three.dies(103)
    three.children.begin(3)
    assert three.step() == ["spawn 104"]


# Deadlines


def test_abort_then_kill(three: Play) -> None:
    three.is_ready(100, 101)
    three.child(102).slot[DEADLINE] = three.now + 500
    assert three.children.next_wake(three.now) == 0.5
    assert three.pass_time(499) == []
    assert three.pass_time(1) == ["abort 102"]
    assert three.child(102).late
    assert three.step() == []
    assert three.children.next_wake(three.now) == LAST_WORDS / 1000
    assert three.pass_time(LAST_WORDS) == ["kill 102"]
    assert three.step() == []
    assert three.children.next_wake(three.now) > 1  # nothing more to be done about it
    three.dies(102)
    assert three.step() == ["spawn 103"]


def test_a_deadline_put_off_in_time_is_none(three: Play) -> None:
    for _ in range(5):
        assert three.pass_time(PATIENCE - 1) == []
        three.is_ready(100, 101, 102)


def test_no_deadline(three: Play) -> None:
    for child in three.children.living:
        child.slot[DEADLINE] = NEVER
    assert three.pass_time(10**9) == []
    assert three.children.next_wake(three.now) == LONGEST_SLEEP / 1000


def test_a_boot_that_takes_too_long() -> None:
    play = Play(1)
    play.step()
    assert play.children.next_wake(play.now) == BOOT_LOOK / 1000
    assert play.pass_time(BOOT) == ["abort 100"]
    assert play.pass_time(LAST_WORDS) == ["kill 100"]
    assert play.child(100).late
    play.dies(100)
    assert play.children.pause == 1


def test_a_retired_worker_that_does_not_leave(three: Play) -> None:
    """It still promises to be fine, but it was told to go."""
    three.children.target = 2
    assert three.step() == ["retire 100"]
    for _ in range(3):
        three.is_ready(100, 101, 102)
        assert three.pass_time(GRACE // 4) == []
    three.is_ready(100, 101, 102)
    assert three.pass_time(GRACE // 4) == ["kill 100"]


def test_a_retired_worker_that_hangs(three: Play) -> None:
    """Where it is stuck is of interest even now."""
    three.children.target = 2
    three.step()
    three.child(100).slot[DEADLINE] = three.now + 10
    assert three.pass_time(10) == ["abort 100"]
    assert three.pass_time(LAST_WORDS) == ["kill 100"]


def test_a_draining_worker_ends_itself_or_is_killed(three: Play) -> None:
    three.phase(100, DRAINING, GRACE)
    assert three.step() == ["spawn 103"]
    three.is_ready(103)
    assert three.pass_time(GRACE) == []
    assert three.children.next_wake(three.now) == LAST_WORDS / 1000
    assert three.pass_time(LAST_WORDS) == ["kill 100"]


def test_waking_in_time_for_whoever_is_first(three: Play) -> None:
    three.phase(100, READY, 9_000)
    three.phase(101, READY, 7_500)
    assert three.children.next_wake(three.now) == 7.5
    assert three.children.next_wake(three.now + 7_600) == 0
