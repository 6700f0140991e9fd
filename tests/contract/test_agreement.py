"""The same bytes from every kind of worker: what one client was answered, another is answered by another kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from contract.client import Client, CutOff
from contract.conftest import KINDS
from contract.exceptions import BYTES
from contract.test_exchanges import ANSWERED, FAILING, REFUSED, Case
from server import Server

# The seconds pass while the kinds are asked.
DATE = re.compile(rb"\r\nDate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n")


@pytest.fixture(scope="module")
def each(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """A server of each kind."""
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(Server("pages:app", *options, directory=tmp_path_factory.mktemp(kind))).ready()
            for kind, options in KINDS.items()
        }


def answer(server: Server, case: Case) -> bytes:
    """All the bytes of one answer, but for the date."""
    seen: list[bytes] = []

    class Recorder(Client):
        def _recv(self) -> bytes:
            data = super()._recv()
            seen.append(data)
            return data

    with server.connect() as sock:
        client = Recorder(sock, 5)
        client.send(case.bytes)
        if case.ends:
            client.finish()
        with suppress(CutOff):
            client.answer(case.method)
    text, dates = DATE.subn(b"\r\nDate: now\r\n", b"".join(seen))
    assert dates == 1, text
    return text


CASES = (*ANSWERED, *REFUSED, *FAILING)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_kinds_answer_alike(each: dict[str, Server], case: Case) -> None:
    answers = {kind: answer(server, case) for kind, server in each.items()}
    for kind, seen in answers.items():
        if case.name in BYTES.get(kind, {}):
            assert seen != answers["sync"], "this is no exception any more"
        else:
            assert seen == answers["sync"], kind
