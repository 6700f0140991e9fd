"""The servers that the contract is checked against: each kind of worker, through a real process and real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from server import Server

APPS = Path(__file__).parent / "apps"

# Kinds of worker with their options. A new kind is a new row.
KINDS = {
    "sync": ("-k", "sync"),
    "gthread": ("-k", "gthread", "--threads", "4"),
}

STRICT = (
    *("--header-timeout", "1", "--body-timeout", "1", "--keep-alive", "1"),
    *("--limit-request-line", "200", "--limit-request-fields", "5", "--limit-request-field_size", "100"),
    *("--limit-request-body", "100000"),
)


@pytest.fixture(scope="package", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="package")
def start(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start a server of this kind that lives as long as the kind is tested."""
    with ExitStack() as stack:

        def started(*args: str, **options: Any) -> Server:
            directory = tmp_path_factory.mktemp(kind)
            every = ("--pythonpath", str(APPS), *KINDS[kind])
            return stack.enter_context(Server(*args, *every, directory=directory, **options)).ready()

        yield started


@pytest.fixture(scope="package")
def server(start: Callable[..., Server]) -> Server:
    """One worker that serves apps/pages.py."""
    return start("pages:app", "--access-logfile", "access.log")


@pytest.fixture(scope="package")
def strict(start: Callable[..., Server]) -> Server:
    """The same with little patience and tight limits."""
    return start("pages:app", *STRICT)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test says what its servers printed."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Server):
                report.sections.append((f"{name}: {value}", value.report()[-20000:]))
    return report
