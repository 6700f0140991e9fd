"""`wsgi.input` of a request whose content has not all arrived: a file that waits for what is asked of it."""

from collections.abc import Callable, Iterator

from monoceros.wire.events import Data, EndOfMessage, Received, RemoteError


class Input:
    """A readable of the content. `begun` is what has arrived; `next_event` waits for more of it.

    What the wire raises passes through, so that an application does not take half a body for a whole one,
    and is kept in `error`, since a framework may have made something else of it.
    """

    def __init__(self, begun: bytes, next_event: Callable[[], Received]) -> None:
        self._buffer = bytearray(begun)
        self._next_event = next_event
        self._complete = False
        self.error: RemoteError | None = None

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end; all that is left for None or a negative size."""
        if size is None or size < 0:
            while self._more():
                pass
            return self._take(len(self._buffer))
        while len(self._buffer) < size and self._more():
            pass
        return self._take(size)

    def readline(self, size: int | None = -1) -> bytes:
        """One line with its newline, or up to `size` bytes of it; b"" at the end."""
        limit = None if size is None or size < 0 else size
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched, limit)
            if end >= 0:
                return self._take(end + 1)
            searched = len(self._buffer)
            if limit is not None and searched >= limit:
                return self._take(limit)
            if not self._more():
                return self._take(searched)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """The lines that are left; with a positive `hint` no more once they have that many bytes."""
        lines = []
        total = 0
        for line in self:
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _more(self) -> bool:
        """Wait for some content. False if there is no more."""
        if self._complete:
            return False
        if self.error is not None:
            raise self.error
        try:
            event = self._next_event()
        except RemoteError as error:
            self.error = error
            raise
        if isinstance(event, Data):
            self._buffer += event.data
        self._complete = isinstance(event, EndOfMessage)
        return not self._complete

    def _take(self, size: int) -> bytes:
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken
