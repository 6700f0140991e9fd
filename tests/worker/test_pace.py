"""Whether calls wait: facts in, a decision out."""

from monoceros.worker.pace import CAREFUL, GIVEN, TRIES, Pace


def slow() -> Pace:
    pace = Pace()
    for _ in range(50):
        pace.note(0.010)
    assert pace.slow
    return pace


def kept(pace: Pace, calls: int) -> list[int]:
    """The numbers of the calls, of so many, before which the lead is not given away."""
    return [n for n in range(calls) if not pace.gives()]


def test_calls_that_do_not_wait_keep_the_lead() -> None:
    pace = Pace()
    for _ in range(1000):
        pace.note(0.0)
    assert kept(pace, 1000) == list(range(1000))


def test_calls_that_wait_give_it_away() -> None:
    assert kept(slow(), GIVEN - 1) == []


def test_one_slow_call_in_a_hundred_does_not_matter() -> None:
    pace = Pace()
    for n in range(1000):
        pace.note(0.004 if n % 100 == 0 else 0.0)
        assert not pace.slow


def test_now_and_then_some_keep_it_on_trial() -> None:
    pace = slow()
    assert kept(pace, GIVEN) == [GIVEN - 1]
    for n in range(TRIES - 1):
        assert pace.trying
        assert not pace.gives(), n
        pace.note(0.010)
    pace.note(0.010)
    assert pace.slow
    assert not pace.trying
    assert kept(pace, GIVEN - 1) == []


def test_a_trial_of_quick_calls_ends_it() -> None:
    pace = slow()
    kept(pace, GIVEN)
    # Those given away before may still run beside the first half, and make them wait for the interpreter.
    for waited in [0.005] * (TRIES // 2) + [0.0] * (TRIES // 2):
        assert pace.slow
        pace.note(waited)
    assert pace._wait > 0
    for _ in range(3):
        if not pace.slow:
            break
        kept(pace, GIVEN)
        for _ in range(TRIES):
            pace.note(0.0)
    assert not pace.slow


def test_a_lost_lead_ends_the_trial() -> None:
    pace = slow()
    kept(pace, GIVEN)
    assert pace.trying
    pace.lost()
    assert not pace.trying
    assert pace.slow


def test_what_computes_or_is_kept_from_the_processor_does_not_wait() -> None:
    pace = Pace()
    for _ in range(100):
        pace.run(lambda: sum(range(20_000)), 8)
    assert not pace.slow


def test_one_call_in_eight_is_timed_and_more_after_one_that_waited() -> None:
    pace = Pace()
    timed: list[float] = []
    pace.note = timed.append  # type: ignore[method-assign]
    for serial in range(1, 17):
        pace.run(lambda: None, serial)
    assert len(timed) == 2
    pace.lost()
    for serial in range(1, CAREFUL + 1):
        pace.run(lambda: None, serial)
    assert len(timed) == 2 + CAREFUL
