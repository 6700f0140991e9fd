"""wsgi.input of a request whose content is still arriving, with io.BytesIO as the judge of every read."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monoceros.gateway.input import Input
from monoceros.wire.events import END, BodyTooLarge, Data, PeerGone, Received, RemoteError

# Few bytes and many newlines, so that lines end wherever they can.
content = st.lists(st.sampled_from([b"a", b"b", b"\n", b"\r\n"]), max_size=40).map(b"".join)
sizes = st.one_of(st.none(), st.integers(-2, 12))
operations = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "readline", "readlines"]), sizes),
        st.tuples(st.sampled_from(["read", "readline", "readlines"])),
        st.tuples(st.just("next")),
        st.tuples(st.just("list")),
    ),
    max_size=12,
)


def arriving(pieces: Iterable[bytes], end: Received | Exception = END) -> Callable[[], Received]:
    """What a connection does that gets these pieces, and then `end`; it must not be asked for more."""
    events: list[Received | Exception] = [*(Data(piece) for piece in pieces), end]

    def next_event() -> Received:
        event = events.pop(0)
        if isinstance(event, Exception):
            raise event
        return event

    return next_event


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    return [data[start:end] for start, end in pairwise(at)]


def do(file: Any, operation: tuple[Any, ...]) -> Any:
    name, *arguments = operation
    if name == "next":
        return next(iter(file), "the end")
    if name == "list":
        return list(file)
    return getattr(file, name)(*arguments)


@given(content, st.lists(st.integers(0, 60), max_size=6), st.integers(0, 6), operations)
@example(b"a\nb", [1], 0, [("readline",), ("readline", 0), ("readline", -1), ("read", None)])
@example(b"a\n" * 10, [3], 1, [("readlines", 4), ("readlines", 3), ("readlines", 0), ("readlines",)])
def test_it_reads_like_a_file_in_memory(data: bytes, cuts: list[int], begun: int, ops: list[tuple[Any, ...]]) -> None:
    file = io.BytesIO(data)
    input = Input(data[:begun], arriving(pieces_of(data[begun:], cuts)))
    for operation in [*ops, ("read",), ("read",), ("readline",), ("readlines",), ("read", 5), ("next",)]:
        assert do(input, operation) == do(file, operation), operation


def test_every_size_from_every_place() -> None:
    data = b"one\ntwo\n\nfour"
    for name in ("read", "readline"):
        for size in range(-1, len(data) + 2):
            for piece in range(1, len(data) + 1):
                file = io.BytesIO(data)
                cut = [data[i : i + piece] for i in range(0, len(data), piece)]
                input = Input(b"", arriving(cut))
                while expected := do(file, (name, size)):
                    assert do(input, (name, size)) == expected, (name, size, piece)
                assert do(input, (name, size)) == b""


def test_no_more_is_waited_for_than_is_asked() -> None:
    asked: list[int] = []

    def next_event() -> Received:
        asked.append(1)
        return Data(b"more\n")

    input = Input(b"begun\n", next_event)
    assert input.read(0) == b""
    assert input.readline(0) == b""
    assert input.read(3) == b"beg"
    assert input.readline() == b"un\n"
    assert not asked
    assert input.read(1) == b"m"
    assert len(asked) == 1
    assert input.readline() == b"ore\n"
    assert len(asked) == 1


def test_iteration_gives_lines() -> None:
    assert list(Input(b"a\n", arriving([b"b", b"\n\n", b"c"]))) == [b"a\n", b"b\n", b"\n", b"c"]


def test_an_empty_piece_is_not_the_end() -> None:
    assert Input(b"", arriving([b"", b"a", b"", b"b"])).read() == b"ab"


def test_after_the_end_nothing_is_waited_for() -> None:
    input = Input(b"", arriving([b"a"]))
    assert input.read() == b"a"
    assert [input.read(), input.read(1), input.readline(), input.readlines(), list(input)] == [b"", b"", b"", [], []]


@pytest.mark.parametrize("operation", [("read",), ("read", 100), ("readline",), ("readlines",), ("list",)], ids=repr)
def test_what_breaks_off_is_never_taken_for_whole(operation: tuple[Any, ...]) -> None:
    fault = RemoteError("connection closed in the middle of the content")
    input = Input(b"begun", arriving([b" and"], fault))
    for _ in range(3):  # an application that tries again is not lulled by an empty string
        with pytest.raises(RemoteError) as caught:
            do(input, operation)
        assert caught.value is fault
    assert input.error is fault


def test_what_came_before_the_fault_can_still_be_read() -> None:
    input = Input(b"12", arriving([b"34\n5"], RemoteError("broken")))
    assert input.readline() == b"1234\n"
    with pytest.raises(RemoteError):
        input.read(2)
    assert input.read(1) == b"5"
    with pytest.raises(RemoteError):
        input.read(1)


def test_the_kind_of_the_error_is_kept() -> None:
    fault = BodyTooLarge("chunked content of over 10 bytes")
    input = Input(b"", arriving([], fault))
    with pytest.raises(BodyTooLarge):
        input.read()
    assert input.error is fault


def test_a_client_that_is_gone_is_an_os_error() -> None:
    """So frameworks know it; and there is nobody to answer, so it is not kept."""
    input = Input(b"", arriving([], PeerGone("cannot receive: Connection reset by peer")))
    with pytest.raises(OSError):
        input.read()
    assert input.error is None


def test_a_large_body_in_small_pieces_costs_no_square() -> None:
    pieces = [b"x" * 1000 + b"\n"] * 3000
    assert sum(map(len, Input(b"", arriving(pieces)))) == 3003000
    assert len(Input(b"", arriving(pieces)).read()) == 3003000
    # One line of 3 MB: what was searched is not searched again.
    assert len(Input(b"", arriving([b"x" * 1000] * 3000)).readline()) == 3000000
