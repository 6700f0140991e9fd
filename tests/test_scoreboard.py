"""Shared words: slots, deadlines, and what a child writes for its parent."""

from __future__ import annotations

import os

from monoceros.scoreboard import (
    ACCEPTED,
    BOOTING,
    BUSY,
    CONNECTIONS,
    DEADLINE,
    DRAINING,
    ERRORS,
    FREE,
    GENERATION,
    NEVER,
    PID,
    READY,
    REQUESTS,
    STATE,
    TAKEN,
    Scoreboard,
    after,
    clear,
    clock,
    describe,
)


def test_taking_slots() -> None:
    board = Scoreboard(2)
    first = board.take()
    assert first is not None
    assert first[STATE] == FREE
    first[STATE] = BOOTING
    second = board.take()
    assert second is not None
    second[STATE] = READY
    assert board.take() is None
    clear(first)
    again = board.take()
    assert again is not None
    again[PID] = 7
    assert first[PID] == 7
    assert second[PID] == 0


def test_a_slot_is_empty_when_it_is_taken() -> None:
    board = Scoreboard(1)
    slot = board.take()
    assert slot is not None
    slot[REQUESTS] = 5
    assert board.take() == slot
    assert slot[REQUESTS] == 0


def test_the_words_of_a_slot_are_its_own() -> None:
    board = Scoreboard(3)
    for n, slot in enumerate(board.slots):
        for word in range(len(slot)):
            slot[word] = 100 * n + word
    assert [slot[word] for slot in board.slots for word in (PID, ERRORS, len(slot) - 1)] == [
        PID, ERRORS, 15, 100 + PID, 100 + ERRORS, 115, 200 + PID, 200 + ERRORS, 215,
    ]  # fmt: skip
    assert board.total(ERRORS) == 300 + 3 * ERRORS


def test_the_least_connections_of_those_that_serve() -> None:
    board = Scoreboard()
    assert board.least_connections() == 0
    for state, connections in zip((READY, DRAINING, READY, BOOTING), (9, 1, 5, 0), strict=True):
        slot = board.take()
        assert slot is not None
        slot[STATE], slot[CONNECTIONS] = state, connections
    assert board.least_connections() == 5


def test_who_has_taken_the_fewest_lately() -> None:
    """Of those that serve and have no connection; what was taken in another second does not count."""
    board = Scoreboard()
    assert board.least_taken(7) == 7 << 32, "nobody is there to leave a connection to"
    now = 7 << 32
    rows = ((READY, 1, now + 1), (DRAINING, 0, now), (READY, 0, now + 5), (READY, 0, now + 3))
    for state, connections, taken in rows:
        slot = board.take()
        assert slot is not None
        slot[STATE], slot[CONNECTIONS], slot[TAKEN] = state, connections, taken
    assert board.least_taken(7) == 3
    assert board.least_taken(8) == 0


def test_a_child_writes_and_its_parent_reads() -> None:
    board = Scoreboard()
    slot = board.slots[17]
    pid = os.fork()
    if not pid:
        slot[DEADLINE] = NEVER
        slot[BUSY] = os.getpid()
        os._exit(0)
    os.waitpid(pid, 0)
    assert (slot[BUSY], slot[DEADLINE]) == (pid, NEVER)
    assert board.total(BUSY) == pid


def test_the_clock_is_that_of_all_processes() -> None:
    before = clock()
    pid = os.fork()
    if not pid:
        os._exit(0 if clock() >= before else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert clock() >= before


def test_after() -> None:
    before = clock()
    assert before + 1500 <= after(1.5) <= clock() + 1500
    assert after(0) == after(-1) == NEVER


def test_a_slot_as_a_line() -> None:
    slot = Scoreboard(1).slots[0]
    slot[PID], slot[GENERATION], slot[STATE], slot[CONNECTIONS] = 4711, 2, READY, 3
    slot[ACCEPTED], slot[REQUESTS] = 5, 10
    assert describe(slot) == "pid=4711 gen=2 READY connections=3 busy=0 accepted=5 requests=10 errors=0"
