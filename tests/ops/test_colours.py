"""Colours of the error log: on a terminal only."""

from __future__ import annotations

import logging
import os
import pty
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from monoceros.ops import log
from monoceros.settings.table import Settings

DEFAULTS = Settings()
PLAIN = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] \[WARNING\] careful")


class Terminal:
    """A terminal that becomes the standard error. `told` is what a warning looks like on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.ours, theirs = pty.openpty()
        self.stream = os.fdopen(theirs, "w", encoding="utf-8")
        monkeypatch.delenv("NO_COLOR", raising=False)

    def told(self, settings: Settings) -> str:
        self._patch.setattr("sys.stderr", self.stream)  # not before: pytest has its own in each phase
        log.setup(settings)
        log.error.warning("careful")
        assert isinstance(log.error.handlers[0], log.Sink)
        assert log.error.handlers[0].stream is self.stream
        return os.read(self.ours, 1000).decode().strip()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = Terminal(monkeypatch)
    yield made
    made.stream.close()
    os.close(made.ours)


def test_the_level_is_coloured_on_a_terminal(terminal: Terminal) -> None:
    line = terminal.told(DEFAULTS)
    assert "[\33[33mWARNING\33[0m] careful" in line
    assert PLAIN.fullmatch(line.replace("\33[33m", "").replace("\33[0m", ""))


def test_no_colours_where_nobody_wants_them(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PLAIN.fullmatch(terminal.told(replace(DEFAULTS, use_colors=False)))
    assert "\33" not in terminal.told(replace(DEFAULTS, log_format="json"))
    monkeypatch.setenv("NO_COLOR", "1")
    assert PLAIN.fullmatch(terminal.told(DEFAULTS))
    assert "\33[33m" in terminal.told(replace(DEFAULTS, use_colors=True))
    monkeypatch.setenv("NO_COLOR", "")
    assert "\33[33m" in terminal.told(DEFAULTS)


@pytest.mark.parametrize("use_colors", [None, True])
def test_a_file_and_a_pipe_are_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_colors: bool | None) -> None:
    settings = replace(DEFAULTS, use_colors=use_colors)
    log.setup(replace(settings, errorlog=str(tmp_path / "error.log")))
    log.error.warning("careful")
    assert PLAIN.fullmatch((tmp_path / "error.log").read_text().strip())
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        log.setup(settings)
        log.error.warning("careful")
        assert PLAIN.fullmatch(os.read(reader, 1000).decode().strip())
    os.close(reader)


def test_the_record_is_left_as_it_was() -> None:
    """Other handlers of the same logger see it as well."""
    record = logging.LogRecord("a", logging.WARNING, __file__, 1, "careful", None, None)
    assert "\33" in log.ColouredLine("%(levelname)s").format(record)
    assert record.levelname == "WARNING"
