"""Each file of the corpus, cut as the network might cut it, means what stands next to it."""

from __future__ import annotations

import pytest

from monoceros.wire.events import END, Data, RemoteError, Request
from monoceros.wire.response import refusal
from wire.corpus import REQUESTS, Case, alone, cases, drive, feeds, meaning, shortened, transcript, wire

CASES = cases()
REFUSED = [case for case in CASES if case.expected[-1].startswith("Refused ")]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_request(case: Case) -> None:
    for how, chunks in feeds(case.data):
        seen = transcript(chunks, case.limits)
        assert shortened(seen, case.expected) == list(case.expected), how


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refusal_is_final_and_can_be_answered(case: Case) -> None:
    """No later look at a refused connection finds a request in it, and the answer says that it ends."""
    connection = wire(case.limits)
    with pytest.raises(RemoteError) as refused:
        list(drive(connection, [case.data]))
    with pytest.raises(type(refused.value)):
        connection.next_event()
    head, body = refusal(refused.value.status)
    answer = connection.send(head)
    assert answer.startswith(b"HTTP/1.1 %d " % refused.value.status)
    assert answer.endswith(b"Connection: close\r\n\r\n")
    assert not connection.keep_alive
    connection.send(Data(body))
    connection.send(END)
    assert not connection.next_cycle()


@pytest.mark.parametrize("case", [case for case in REFUSED if "closed in the middle" not in case.expected[-1]], ids=str)
def test_refusal_stays_whatever_follows(case: Case) -> None:
    connection = wire(case.limits)
    with pytest.raises(RemoteError):
        list(drive(connection, [case.data]))
    for more in (b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"0\r\n\r\n"):
        connection.receive_data(more)
        with pytest.raises(RemoteError):
            connection.next_event()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_accepted_requests_have_one_framing(case: Case) -> None:
    """Whatever else is wrong with a connection, no request in it can be framed in two ways (RFC 9112 §6.3)."""
    try:
        for event in drive(wire(case.limits), [case.data]):
            if isinstance(event, Request):
                names = [field.name for field in event.fields.fields]
                assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
                assert event.fields.chunked == (b"transfer-encoding" in names)
                assert (event.fields.content_length is not None) == (b"content-length" in names)
                assert meaning(event.fields) == meaning(alone(event.fields, case.limits))
    except RemoteError:
        pass


def test_corpus_is_complete() -> None:
    names = {path.stem for path in REQUESTS.glob("*.http")}
    assert names == {path.stem for path in REQUESTS.glob("*.expect")}
    assert len(names) > 400


def test_corpus_is_kept_byte_for_byte() -> None:
    """Git, and whatever else has handled the files, has left their line ends alone."""
    assert (REQUESTS / "line-origin.http").read_bytes() == b"GET /a/b?c=d HTTP/1.1\r\nHost: a\r\n\r\n"
    assert (REQUESTS / "newline-lf-only.http").read_bytes() == b"GET / HTTP/1.1\nHost: a\n\n"
    assert (REQUESTS / "newline-cr-only.http").read_bytes() == b"GET / HTTP/1.1\rHost: a\r\r"
