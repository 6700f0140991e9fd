"""The servers that the contract is checked against: each kind of worker, through a real process and real sockets."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from server import Server

APPS = Path(__file__).parent / "apps"

# Kinds of worker with their options. A new kind is a new row.
KINDS = {
    "sync": ("-k", "sync", "--pythonpath", str(APPS)),
    "gthread": ("-k", "gthread", "--threads", "4", "--pythonpath", str(APPS)),
    "gevent": ("-k", "gevent", "--pythonpath", str(APPS)),
    "asgi": ("-k", "asgi", "--pythonpath", str(APPS / "asgi")),
}

STRICT = (
    *("--header-timeout", "2", "--body-timeout", "2", "--keep-alive", "2"),
    *("--limit-request-line", "200", "--limit-request-fields", "5", "--limit-request-field_size", "100"),
    *("--limit-request-body", "100000"),
)

Start = Callable[..., Server]


@pytest.fixture(scope="package", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="package")
def start(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start a server of this kind that lives as long as the kind is tested."""
    with ExitStack() as stack:

        def started(*args: str, **options: Any) -> Server:
            directory = tmp_path_factory.mktemp(kind)
            return stack.enter_context(Server(*args, *KINDS[kind], directory=directory, **options)).ready()

        yield started


@pytest.fixture(scope="package")
def server(start: Start) -> Server:
    """One worker that serves pages.py. It keeps connections for longer than any client here has time."""
    return start("pages:app", "--access-logfile", "access.log", "--keep-alive", "60")


@pytest.fixture(scope="package")
def strict(start: Start) -> Server:
    """The same with little patience and tight limits."""
    return start("pages:app", *STRICT)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test says what its servers printed."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Server):
                report.sections.append((f"{name}: {value}", value.report()[-20000:]))
    return report
