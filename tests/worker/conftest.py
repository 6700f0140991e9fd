"""Lines to a worker, closed when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from monoceros.listener import Listener
from monoceros.settings.table import Settings
from monoceros.settings.values import Address
from worker.line import App, Line, echo


@pytest.fixture
def dial() -> Iterator[Callable[..., Line]]:
    """`dial(application, **settings)` makes a line."""
    lines: list[Line] = []
    listener = Listener.open(Address("tcp", host="127.0.0.1", port=0), 8)

    def dialled(app: App = echo, **using: Any) -> Line:
        lines.append(Line(listener, app, Settings(**using)))
        return lines[-1]

    yield dialled
    for line in lines:
        line.close()
    listener.close()
