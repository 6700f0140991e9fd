"""What all tests share: which of them start processes, and a fixture for those that do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from server import Server

HERE = Path(__file__).parent

# Tests in these directories start the real server: `-m "not process"` selects the fast ones.
PROCESS_DIRECTORIES = ("process", "frameworks", "contract")

STARTED = pytest.StashKey[list[Server]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and item.path.relative_to(HERE).parts[0] in PROCESS_DIRECTORIES:
            item.add_marker(pytest.mark.process)


@pytest.fixture
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers with `serve(*args, **options)`, as for Server; they live until the test ends."""
    started = request.node.stash.setdefault(STARTED, [])
    with ExitStack() as stack:

        def start(*args: str, **options: Any) -> Server:
            server = stack.enter_context(Server(*args, **{"directory": tmp_path, **options}))
            started.append(server)
            return server

        yield start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test says what its servers printed."""
    report = yield
    if report.failed:
        for server in item.stash.get(STARTED, []):
            report.sections.append((str(server), server.report()))
    return report
