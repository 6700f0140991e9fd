"""A signal is a byte on a socket, and a selector waits for it like for any other byte."""

import signal
import socket
from collections.abc import Iterable


def _nothing(number: int, frame: object) -> None:
    """What a handler does: its being there makes the interpreter write the byte."""


class Signals:
    """A socket that becomes readable when one of `numbers` arrives; the handlers themselves do nothing.

    To be made by the main thread, which `signal.signal` insists on.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        # A full buffer loses bytes, but four thousand signals that nobody has looked at are no news any more.
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _nothing)

    def fileno(self) -> int:
        return self._reader.fileno()

    def drain(self) -> bytes:
        """The numbers of the signals that came, one byte each, in order of arrival."""
        try:
            return self._reader.recv(4096)
        except BlockingIOError:
            return b""

    def nudge(self) -> None:
        """Make it readable without a signal: a byte 0 comes out of `drain`."""
        try:
            self._writer.send(b"\0")
        except BlockingIOError:
            return  # it is readable already

    def close(self) -> None:
        """Take down the byte's way. The handlers stay: who closes is about to install others, or to exit."""
        signal.set_wakeup_fd(-1)
        self._reader.close()
        self._writer.close()


def name(number: int) -> str:
    """SIGTERM for 15; a number that has no name, as a real-time signal, is called SIG40."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
