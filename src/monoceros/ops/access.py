"""Lines of the access log, written in batches.

They are made as a format says (`atoms`), as objects (`jsonlines`), or in Uvicorn's manner (`uvicorn`). Here it is
remembered what comes again in them, and here they are written.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import quote

from monoceros.ops import atoms, jsonlines, log, uvicorn
from monoceros.ops.atoms import Facts, Pieces, Shape
from monoceros.ops.redact import Redaction
from monoceros.ops.statsd import StatsD
from monoceros.settings.table import Settings
from monoceros.wire.events import Request
from monoceros.wire.fields import FieldBlock
from monoceros.wire.line import RequestLine
from monoceros.wire.response import Response

# Characters after which a batch is written without waiting for the tick: what the kernel gives a pipe, and what we
# hold of a worker that logs faster than it ticks.
BATCH: Final = 64 * 1024

# And lines, since of most it is not known yet how long they are.
MANY: Final = 256

# Clients choose request lines, so it is a bounded number of bounded ones that is remembered: some 1 MB.
CACHED: Final = 1024
CACHED_LENGTH: Final = 256


# The first arguments of `Shape.line`.
Exchange: TypeAlias = tuple[Pieces, Pieces, float, int, int, float, str | None, float]


class Asker(Protocol):
    """Whose request it was: the address and port of the client, the request's id, how long it had waited."""

    @property
    def client(self) -> tuple[str, int]: ...

    request_id: str | None
    waited: float


class AccessLog:
    """Collects the lines of one process and writes them together; and tells statsD of the same exchanges.

    Any thread may add and flush. Lines are written in the order in which they were added, none is lost but for a
    write that fails: then the batch is dropped, and the error log says so once until a write succeeds again.

    What a line says of a request line is remembered here, what it says of a block of fields is kept on its root.
    """

    def __init__(
        self,
        settings: Settings,
        statsd: StatsD | None = None,
        *,
        elsewhere: bool = False,
        worker: int = 0,
        generation: int = 0,
    ) -> None:
        """Raises ValueError for a bad `access_log_format`. `log.setup` has been called with the same settings.

        `elsewhere` says that somebody else writes the lines, who is told of all exchanges, too.
        """
        self._statsd = statsd
        self._elsewhere = elsewhere
        self._unheard = elsewhere
        self._logger = log.access_logger(settings)
        self._redaction = redaction = Redaction(settings.log_redact)
        self._shape: Shape | None = None
        if self._logger is log.access and settings.log_format == "json":
            self._shape = jsonlines.AccessLine(worker, generation, redaction)
        elif self._logger is log.access:
            self._shape = atoms.compile(settings.access_log_format, redaction=redaction)
        prefix = quote(settings.root_path.rstrip("/"))
        self._line = self._shape or partial(uvicorn.message, root_path=prefix, query_shown=redaction.query)
        self._asked: dict[RequestLine, Pieces] = {}
        self._message: type[str] = jsonlines.Line if settings.log_format == "json" else str
        # Those of which only what does not change is told are made when they are written, which takes half as long.
        self._lines: deque[str | Exchange] = deque()
        self._size = 0
        # It can be entered again, because a signal may come in the middle and want everything flushed.
        self._writing = threading.RLock()
        self._failing = False

    @property
    def enabled(self) -> bool:
        """Whether anyone listens. Asked anew each time: an application may set up logging when it likes.

        What it has said last holds for the lines that are added then.
        """
        heard = wanted(self._logger) and self._logger.hasHandlers()
        self._unheard = self._elsewhere or not heard
        return self._statsd is not None or self._elsewhere or heard

    @property
    def waiting(self) -> bool:
        """Whether there are lines that are not written yet."""
        return bool(self._lines) or (self._statsd is not None and self._statsd.waiting)

    def tell(
        self,
        asker: Asker,
        request: Request,
        status: int,
        sent: int,
        seconds: float,
        response: Response | None,
        environ: Mapping[str, Any] | None,
    ) -> None:
        """Add the line of one exchange; write the batch if that has got long. Never raises for a failing write."""
        if self._statsd is not None:
            self._statsd.request(status, seconds)
        if self._unheard:
            return
        line, fields = request
        shape = self._shape
        if shape is None:
            self._append(self._line(facts_of(asker, line, fields, status)))
            return
        asked, told = self._asked.get(line), fields.told
        if asked is None:
            asked = self._asked_by(shape, asker, line, fields)
        if told is None or fields.overrides:
            told = self._told_by(shape, asker, line, fields)
        rest = (asked, told, shape.clock(), status, sent, seconds, asker.request_id, asker.waited)
        if shape.looks_back:
            self._append(shape.line(*rest, response.given if response is not None else (), environ))
            return
        self._lines.append(rest)
        if len(self._lines) >= MANY:
            self.flush()

    def add(self, facts: Facts) -> None:
        """The same, of an exchange of which nothing is to be remembered."""
        if self._statsd is not None:
            self._statsd.request(facts.status, facts.seconds)
        if not self._unheard:
            self._append(self._line(facts))

    def _append(self, line: str) -> None:
        self._lines.append(line)
        # Threads may count wrong together: then a batch is somewhat longer, or shorter.
        self._size += len(line)
        if self._size > BATCH:
            self.flush()

    def _asked_by(self, shape: Shape, asker: Asker, line: RequestLine, fields: FieldBlock) -> Pieces:
        """What is said of a request line, remembered if it is not too long and has no secret."""
        asked = shape.asked(facts_of(asker, line, fields))
        if len(line.target) <= CACHED_LENGTH and self._redaction.query(line.query) == line.query:
            if len(self._asked) >= CACHED:
                self._asked.clear()
            self._asked[line] = asked
        return asked

    def _told_by(self, shape: Shape, asker: Asker, line: RequestLine, fields: FieldBlock) -> Pieces:
        """What is said of a client and its fields, remembered unless it is there that they differ from the root's."""
        root = fields.root
        differs = any(field.name in shape.names for field in fields.overrides)
        if root.told is not None and not differs:
            return root.told
        told = shape.told(facts_of(asker, line, fields))
        if root.trust is not None and not differs:  # only then it is decided who the client is
            root.told = told
        return told

    def flush(self) -> None:
        """Write what was added. Takes no time if that is nothing; never raises for a failing write."""
        if self._statsd is not None:
            self._statsd.flush()
        if not self._lines:
            return
        with self._writing:
            lines = self._taken()
            if not lines:
                return
            try:
                write(self._logger, lines, self._message)
            except Exception as problem:  # a full disk, a closed pipe, somebody's filter: serving goes on
                if not self._failing:
                    log.error.error("Cannot write to the access log, dropping lines: %s", problem)
                self._failing = True
            else:
                self._failing = False

    def _taken(self) -> list[str]:
        # One by one, because others may add meanwhile, and a signal may flush.
        waiting, taken = self._lines, list[str]()
        line: Callable[..., str] = str if self._shape is None else self._shape.line
        self._size = 0
        try:
            while True:
                each = waiting.popleft()
                taken.append(each if isinstance(each, str) else line(*each))
        except IndexError:
            return taken


def facts_of(asker: Asker, line: RequestLine, fields: FieldBlock, status: int = 0) -> Facts:
    """What is known of a request, without its answer but for that."""
    host, port = asker.client
    return Facts(
        host,
        line.method,
        line.target,
        line.decoded_path,
        line.query,
        line.version,
        fields,
        status,
        (),
        0,
        0.0,
        port=port,
    )


def write(logger: logging.Logger, lines: list[str], message: type[str] = str) -> None:
    """One write for all where only our own handler listens, else a record for each. Raises what the handlers raise.

    `message` is what a record has of a line.
    """
    sink = only_sink(logger)
    if sink is None:
        for line in lines:
            if isinstance(line, uvicorn.Message):
                logger.info(uvicorn.MESSAGE, *line.arguments)
            else:
                logger.info(message(line))
        return
    if isinstance(sink.formatter, uvicorn.AccessLine):
        lines = [sink.formatter.line(line) for line in lines]
    sink.write("\n".join(lines) + "\n")


def wanted(logger: logging.Logger) -> bool:
    return not logger.disabled and logger.isEnabledFor(logging.INFO)


def only_sink(logger: logging.Logger) -> log.Sink | None:
    """The handler of ours, if a record would go to it alone and come out as a line of which we know the shape."""
    if len(logger.handlers) != 1 or logger.filters or logger.propagate or not wanted(logger):
        return None
    handler = logger.handlers[0]
    if not isinstance(handler, log.Sink) or handler.filters or handler.level > logging.INFO:
        return None
    shapes = uvicorn.AccessLine | jsonlines.ObjectLine
    known = handler.formatter is log.ACCESS_LINE or isinstance(handler.formatter, shapes)
    return handler if known else None
