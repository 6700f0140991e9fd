"""What lines of the access log have in common is made once, and each says what its own request was."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from monoceros.gateway.trust import Policy
from monoceros.ops import access, log
from monoceros.ops.access import AccessLog
from monoceros.settings.table import Settings
from monoceros.wire.events import Limits, Request
from monoceros.wire.fields import FieldBlock
from monoceros.wire.line import request_line
from monoceros.wire.response import Response

OK = Response(200, [(b"Content-Type", b"text/plain")])
POLICY = Policy(Settings(forwarded_allow_ips=frozenset({"192.0.2.1"})))


@dataclass
class Asker:
    """A connection, as far as the access log knows it."""

    client: tuple[str, int] = ("192.0.2.7", 4711)
    request_id: str | None = None
    waited: float = 0.0


class Log:
    """An access log, and what was written."""

    def __init__(self, path: Path, **changes: object) -> None:
        self._path = path
        settings = replace(Settings(), accesslog=str(path), **changes)  # type: ignore[arg-type]
        log.setup(settings)
        self.lines = AccessLog(settings, worker=3, generation=2)
        self.block: FieldBlock | None = None

    def ask(self, target: str, *fields: str, asker: Asker | None = None, trust: bool = True, sent: int = 5) -> None:
        """A request on the one connection there is."""
        raw = "\r\n".join(["Host: a", *fields]).encode("latin-1")
        limits = Limits()
        if self.block is None:
            self.block = FieldBlock(raw, "HTTP/1.1", limits)
        else:
            self.block = self.block.next(raw, 0, len(raw), "HTTP/1.1", limits)
        if trust and self.block.trust is None:
            POLICY.apply(self.block, "192.0.2.1")
        request = Request(request_line(f"GET {target} HTTP/1.1".encode()), self.block)
        self.lines.tell(asker or Asker(), request, 200, sent, 0.25, OK, {"WHERE": target})

    @property
    def written(self) -> list[str]:
        self.lines.flush()
        return self._path.read_text().splitlines()

    @property
    def objects(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.written]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_blocks_that_differ_in_a_few_fields_are_told_apart(log_format: str, path: Path) -> None:
    using = Log(path, log_format=log_format)
    for agent, cookie in [(1, 1), (1, 2), (2, 2), (3, 2), (3, 3), (1, 1)]:
        using.ask("/", f"User-Agent: agent-{agent}", "Accept: x", f"Cookie: {cookie}")
    assert [re.findall("agent-.", line) for line in using.written] == [[f"agent-{n}"] for n in (1, 1, 2, 3, 3, 1)]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_request_lines_are_told_apart(log_format: str, path: Path) -> None:
    using = Log(path, log_format=log_format)
    for number in (1, 2, 2, 1, 3):
        using.ask(f"/page-{number}", sent=number)
    assert [re.findall("page-.", line) for line in using.written] == [[f"page-{n}"] for n in (1, 2, 2, 1, 3)]
    assert len(using.lines._asked) == 3


def test_what_is_so_of_one_exchange_is_not_remembered(path: Path) -> None:
    using = Log(path, access_log_format="%(U)s %(b)s %({where}e)s %({x-request-id}i)s %(h)s %({content-type}o)s")
    using.ask("/1", "X-Request-ID: theirs")
    using.ask("/1", "X-Request-ID: theirs", asker=Asker(request_id="ours-1"), sent=6)
    using.ask("/1", "X-Request-ID: theirs", asker=Asker(request_id="ours-2"), sent=7)
    assert using.written == [
        "/1 5 /1 theirs 192.0.2.7 text/plain",
        "/1 6 /1 ours-1 192.0.2.7 text/plain",
        "/1 7 /1 ours-2 192.0.2.7 text/plain",
    ]


def test_times_and_ids_in_objects(path: Path) -> None:
    using = Log(path, log_format="json")
    for asker in (Asker(request_id='a"1'), Asker(request_id="a2", waited=0.5), Asker()):
        using.ask("/", asker=asker)
    assert [(said.get("request_id"), said["queue_time"]) for said in using.objects] == [
        ('a"1', 0.0),
        ("a2", 0.5),
        (None, 0.0),
    ]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_client_is_remembered_only_where_it_is_decided_who_that_is(log_format: str, path: Path) -> None:
    using = Log(path, log_format=log_format)
    using.ask("/", "X-Forwarded-For: 192.0.2.8", asker=Asker(client=("192.0.2.1", 1)), trust=False)
    using.ask("/", "X-Forwarded-For: 192.0.2.8", asker=Asker(client=("192.0.2.8", 0)))
    using.ask("/", "X-Forwarded-For: 192.0.2.9", asker=Asker(client=("192.0.2.9", 0)))
    assert [re.findall(r"192\.0\.2\..", line) for line in using.written] == [[f"192.0.2.{n}"] for n in (1, 8, 9)]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_is_remembered_has_no_secret_and_a_bound(log_format: str, path: Path) -> None:
    using = Log(path, log_format=log_format)
    using.ask("/?token=abc")
    assert not using.lines._asked
    using.ask("/" + "x" * access.CACHED_LENGTH)
    assert not using.lines._asked
    for number in range(3000):
        using.ask(f"/page?{number}")
    assert 0 < len(using.lines._asked) <= access.CACHED
    first, _, *rest = using.written
    assert "abc" not in first
    assert [re.findall(r"\d+", line.partition("page")[2])[0] for line in rest] == [str(n) for n in range(3000)]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_is_remembered_cannot_be_forged(log_format: str, path: Path) -> None:
    using = Log(path, log_format=log_format)
    for _ in range(2):
        using.ask('/a%22%0a"\\', 'User-Agent: "x" \\ \xe9\x85', 'Referer: "')
    first, second = using.written
    if log_format == "json":
        assert [json.loads(line)["path"] for line in (first, second)] == ['/a"\n"\\'] * 2
    else:
        assert first.endswith('"GET /a%22%0a\\"\\\\ HTTP/1.1" 200 5 "\\"" "\\"x\\" \\\\ \xe9\\x85"')
    assert first.partition("path")[2] == second.partition("path")[2]
