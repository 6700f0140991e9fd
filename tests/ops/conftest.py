"""What the tests of the logs share: after each, all loggers are what they were before."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


def all_loggers() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict.values()
    return [logging.root, *(logger for logger in known if isinstance(logger, logging.Logger))]


@pytest.fixture(autouse=True)
def loggers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The loggers as they were, and files closed that were opened for them, after each test.

    To set logging up by a file closes all handlers there are, those of pytest and of other tests as well: they are out
    of sight meanwhile.
    """
    monkeypatch.setattr(logging, "_handlerList", [])
    before = {
        logger: (logger.level, logger.propagate, logger.disabled, logger.handlers, list(logger.handlers))
        for logger in all_loggers()
    }
    yield
    for logger in all_loggers():
        level, logger.propagate, logger.disabled, handlers, old = before.get(logger, (0, True, False, [], []))
        for handler in logger.handlers:
            if handler not in old:
                handler.close()
        handlers[:] = old
        logger.handlers, logger.filters = handlers, []
        logger.setLevel(level)
