"""A few seconds of fuzzing with every run of the tests; `fuzz_h1.py` is the one that runs for hours.

The inputs are Hypothesis's, so that what breaks a rule is made as small as it can be.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.fuzz_h1 import BUDGET_SIZE, LIMITS, WORDS, Broken, agree, check, check_budget, inputs
from monoceros.wire.events import Limits
from wire.corpus import Case, cases

CORPUS = cases()

quick = settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))

limits = st.sampled_from(LIMITS)
cutting = st.integers(0, 2**32).map(Random)


def usually(right: bytes) -> st.SearchStrategy[bytes]:
    """What belongs here, or now and then something that does not; the simplest is what belongs here."""
    return st.integers(0, 30).flatmap(lambda n: st.sampled_from(WORDS) if n == 30 else st.just(right))


def several(part: st.SearchStrategy[bytes], *, least: int = 0, most: int = 4) -> st.SearchStrategy[bytes]:
    return st.lists(part, min_size=least, max_size=most).map(b"".join)


def together(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


line = together(
    st.sampled_from([b"GET", b"POST", b"OPTIONS"]),
    usually(b" "),
    st.sampled_from([b"/", b"/a?b", b"http://b/c?d", b"*"]),
    usually(b" "),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]),
    usually(b"\r\n"),
)
field = together(
    st.sampled_from(
        [b"X", b"Connection", b"Content-Length", b"Transfer-Encoding", b"Expect", b"Upgrade", b"Host", b"Content-Type"]
    ),
    usually(b":"),
    st.sampled_from([b" ", b"", b"\t"]),
    st.sampled_from([b"y", b"close", b"keep-alive", b"5", b"0", b"chunked", b"100-continue", b"", b"gzip, chunked"]),
    usually(b"\r\n"),
)
chunk = st.binary(min_size=1, max_size=6).flatmap(
    lambda data: together(usually(b"%x" % len(data)), usually(b"\r\n"), st.just(data), usually(b"\r\n"))
)
framed = st.one_of(
    st.just(b"\r\n"),
    st.binary(max_size=6).map(lambda data: b"Content-Length: %d\r\n\r\n%b" % (len(data), data)),
    together(
        st.just(b"Transfer-Encoding: chunked\r\n\r\n"),
        several(chunk),
        usually(b"0\r\n"),
        several(st.sampled_from([b"X: y\r\n", b"Y:\r\n", b"Host: a\r\n"]), most=2),
        usually(b"\r\n"),
    ),
)
request = together(line, usually(b"Host: a\r\n"), several(field, most=2), framed)


@quick
@given(several(request, least=1, most=3), limits, cutting)
def test_requests(data: bytes, limits: Limits, rng: Random) -> None:
    check(data, limits, rng)


@quick
@given(several(st.one_of(st.sampled_from(WORDS), st.binary(max_size=3)), most=30), limits, cutting)
def test_words(data: bytes, limits: Limits, rng: Random) -> None:
    check(data, limits, rng)


@quick
@given(st.sampled_from(CORPUS), st.data(), cutting)
def test_corpus_with_a_word_in_it(case: Case, data: st.DataObject, rng: Random) -> None:
    whole = case.data
    at = data.draw(st.integers(0, len(whole)))
    gone = data.draw(st.integers(0, 3))
    check(whole[:at] + data.draw(st.sampled_from(WORDS)) + whole[at + gone :], case.limits, rng)


@settings(quick, max_examples=100)
@given(st.sampled_from(CORPUS), st.data())
def test_budget(case: Case, data: st.DataObject) -> None:
    """One thing, as often as 64 KiB hold it, somewhere in a request."""
    whole = case.data
    at = data.draw(st.integers(0, len(whole)))
    unit = data.draw(several(st.sampled_from(WORDS), least=1, most=3))
    count = max(0, BUDGET_SIZE - len(whole)) // len(unit)
    check_budget(whole[:at] + unit * count + whole[at:], LIMITS[1])


@pytest.mark.parametrize("case", CORPUS, ids=str)
def test_corpus_keeps_the_rules(case: Case) -> None:
    check(case.data, case.limits, Random(0))


# The fuzzer itself


def test_same_seed_same_inputs() -> None:
    one, same, other = inputs(1), inputs(1), inputs(2)
    first = [one.next() for _ in range(200)]
    assert [same.next() for _ in range(200)] == first
    assert [other.next() for _ in range(200)] != first
    assert max(len(data) for data, _ in first) <= BUDGET_SIZE


def test_disagreement_is_noticed() -> None:
    assert agree(["Closed"], ["Closed"])
    assert agree(["Refused 505 version"], ["Refused 400 bare CR or LF"])
    assert not agree(["Refused 505 version"], ["Refused 400 invalid"])
    assert not agree(["Closed"], ["Refused 400 bare CR or LF"])
    assert not agree(["Request GET / HTTP/1.1", "Refused 505 version"], ["Refused 400 bare CR or LF"])


def test_slow_input_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.fuzz_h1.BUDGET", 1e-9)
    with pytest.raises(Broken, match="ms for 27 bytes"):
        check_budget(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", LIMITS[0])
