"""Signals as bytes. They are sent to this process by itself, so they have come when `os.kill` returns."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator

import pytest

from monoceros.signals import Signals, name

NUMBERS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN)


@pytest.fixture
def signals() -> Iterator[Signals]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    wakeup = signal.set_wakeup_fd(-1)
    signals = Signals(NUMBERS)
    yield signals
    signals.close()
    signal.set_wakeup_fd(wakeup)
    for number, handler in before.items():
        signal.signal(number, handler)


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def readable(signals: Signals) -> bool:
    return bool(select.select([signals], [], [], 0)[0])


def test_in_order_of_arrival(signals: Signals) -> None:
    assert not readable(signals)
    assert signals.drain() == b""
    send(signal.SIGUSR2, signal.SIGUSR1, signal.SIGTTIN, signal.SIGUSR2)
    assert readable(signals)
    assert list(signals.drain()) == [signal.SIGUSR2, signal.SIGUSR1, signal.SIGTTIN, signal.SIGUSR2]
    assert not readable(signals)


def test_a_nudge(signals: Signals) -> None:
    signals.nudge()
    send(signal.SIGUSR1)
    assert list(signals.drain()) == [0, signal.SIGUSR1]


def test_more_than_anybody_looks_at(signals: Signals, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither an error nor a warning, nor does anything block."""
    for _ in range(5000):
        signals.nudge()
    send(signal.SIGUSR1)
    while signals.drain():
        pass
    send(signal.SIGUSR2)
    assert list(signals.drain()) == [signal.SIGUSR2]
    assert capfd.readouterr().err == ""


def test_closed() -> None:
    """Who closes in a child does not take the parent's signals away, and its own do no harm."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    signals = Signals(NUMBERS)
    pid = os.fork()
    if not pid:
        signals.close()
        send(signal.SIGUSR1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    send(signal.SIGUSR2)
    assert list(signals.drain()) == [signal.SIGUSR2]
    signals.close()
    send(signal.SIGUSR1)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "expected"), [(15, "SIGTERM"), (9, "SIGKILL"), (40, "SIG40"), (0, "SIG0")])
def test_names(number: int, expected: str) -> None:
    assert name(number) == expected
