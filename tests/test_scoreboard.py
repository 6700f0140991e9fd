"""Shared words: slots, deadlines, and what a child writes for its parent."""

from __future__ import annotations

import os

from monoceros.scoreboard import (
    ACCEPTED,
    BOOTING,
    BUCKETS,
    BUSY,
    CALM,
    CHANGES,
    CONNECTIONS,
    CPU,
    DEADLINE,
    DRAINING,
    ERRORS,
    FREE,
    GENERATION,
    NEVER,
    PID,
    READY,
    SENT,
    STATE,
    TAKEN,
    TOTALS,
    WAITED,
    WORDS,
    Scoreboard,
    after,
    bucket,
    clear,
    clock,
    describe,
    edge,
    magnitudes,
    requests,
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
    slot[ACCEPTED] = 5
    assert board.take() == slot
    assert slot[ACCEPTED] == 0


def test_the_words_of_a_slot_are_its_own() -> None:
    board = Scoreboard(3)
    for n, slot in enumerate(board.slots):
        for word in range(len(slot)):
            slot[word] = 10_000 * n + word
    for row in (board.server, board.gone, *board.sites):
        assert set(row.tolist()) == {0}
    last = WORDS - 1
    assert [slot[word] for slot in board.slots for word in (PID, ERRORS, last)] == [
        PID, ERRORS, last, 10_000 + PID, 10_000 + ERRORS, 10_000 + last, 20_000 + PID, 20_000 + ERRORS, 20_000 + last,
    ]  # fmt: skip
    assert board.total(ERRORS) == 30_000 + 3 * ERRORS


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
    slot[ACCEPTED], slot[CALM + 2], slot[WAITED + 5] = 5, 9, 1
    assert describe(slot) == "pid=4711 gen=2 READY connections=3 busy=0 accepted=5 requests=10 errors=0"


def test_what_was_counted_stays_when_a_worker_goes() -> None:
    board = Scoreboard(2)
    first = board.take()
    assert first is not None
    first[STATE] = READY
    other = board.take()
    assert other is not None
    other[STATE] = BOOTING
    for slot, count in ((first, 3), (other, 4)):
        slot[CALM + 2], slot[SENT], slot[PID], slot[CONNECTIONS], slot[CPU] = count, 10 * count, 100 + count, 7, 5
    before = board.read()
    assert requests(before.totals) == 7
    assert [slot[PID] for slot in before.slots] == [103, 104]
    board.release(first)
    after = board.read()
    assert [after.totals[word] for word in TOTALS] == [before.totals[word] for word in TOTALS]
    assert [slot[PID] for slot in after.slots] == [104]
    assert (board.gone[SENT], board.gone[CPU], board.gone[PID], board.gone[CONNECTIONS]) == (30, 5, 0, 0)
    assert first[STATE] == FREE


def test_the_site_is_none_of_the_workers() -> None:
    board = Scoreboard(1)
    for _ in range(2):  # it and its successor
        site = board.take_site()
        assert site is not None
        site[STATE], site[CALM + 2] = READY, 5
    assert board.take_site() is None
    assert requests(board.read().totals) == 0
    board.release(site)
    assert requests(board.read().totals) == 0
    assert site[STATE] == FREE
    assert board.take_site() is site


def test_reading_while_workers_come_and_go() -> None:
    """However it falls, the counts of those who leave are neither missed nor seen twice."""
    board = Scoreboard(2)
    pid = os.fork()
    if not pid:
        for _ in range(3000):
            slot = board.take()
            assert slot is not None
            slot[STATE] = READY
            slot[CALM + 2] += 1
            board.release(slot)
        os._exit(0)
    last = 0
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        seen = requests(board.read().totals)
        assert last <= seen <= last + 3000
        last = seen
    assert requests(board.read().totals) == 3000


def test_reading_what_a_dead_arbiter_has_left() -> None:
    board = Scoreboard(1)
    slot = board.take()
    assert slot is not None
    slot[STATE], slot[CALM + 2] = READY, 5
    board.server[CHANGES] += 1
    assert requests(board.read().totals) == 5


def test_the_remark() -> None:
    board = Scoreboard(1)
    assert board.remark == ""
    board.remark = "Generation 2 called off: «b\0d»"
    assert board.remark == "Generation 2 called off: «b"
    board.remark = "x" * 100_000
    assert 4000 < len(board.remark) < 100_000
    board.remark = "short"
    assert board.read().remark == "short"


def buckets(times: list[float]) -> list[int]:
    return [bucket(magnitude) for magnitude in magnitudes(times)]


def test_buckets() -> None:
    assert buckets([]) == []
    assert buckets([0.0, 1e-9, 2**-20, 1e6]) == [0, 0, 0, BUCKETS - 1]
    assert [edge(number) for number in buckets([0.5, 1.0, 3.0])] == [0.5, 1.0, 3.0]
    for number in range(BUCKETS):
        begin, end = edge(number), edge(number + 1)
        assert buckets([begin, (begin + end) / 2]) == [number, number]
        assert end / begin <= 1 + 1 / 16
