"""Log lines as JSON: one object a line (https://jsonlines.org), whatever bytes clients send.

Lines are ASCII. What is not UTF-8 in a path or a header field becomes U+FFFD, as does half of a surrogate pair.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Final

from monoceros.ops.redact import Redaction
from monoceros.wire.fields import FieldBlock

if TYPE_CHECKING:
    from monoceros.ops.access import Facts

# The id of the request that the present thread or task is about, where requests have ids.
current: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)


ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode

# Clients choose request lines, so it is a bounded number of bounded ones that is remembered: some 1 MB.
CACHED: Final = 1024
CACHED_LENGTH: Final = 256


# The fields that a line tells of.
TOLD: Final = (b"user-agent", b"referer")


class Line(str):
    """A line of the access log on its way through a logger. It is an object already."""

    __slots__ = ()


class Moment:
    """Seconds since the epoch as RFC 3339 has them, with microseconds. All but those is rendered once a second."""

    def __init__(self) -> None:
        # One tuple, so that a thread never sees the second of one moment and the text of another.
        self._last = (-1, "", "")

    def __call__(self, seconds: float) -> str:
        whole = int(seconds)
        second, text, zone = self._last
        if whole != second:
            at = time.localtime(whole)
            sign, offset = "-" if at.tm_gmtoff < 0 else "+", abs(at.tm_gmtoff) // 60
            text, zone = time.strftime("%Y-%m-%dT%H:%M:%S.", at), f"{sign}{offset // 60:02}:{offset % 60:02}"
            self._last = (whole, text, zone)
        return "%s%06d%s" % (text, (seconds - whole) * 1e6, zone)  # noqa: UP031 (the quickest way)


class ObjectLine(logging.Formatter):
    """The formatter of our own handlers, in all processes. `worker` is None in the master."""

    def __init__(self) -> None:
        super().__init__()
        self.worker: int | None = None
        self.generation = 1
        self._moment = Moment()

    def format(self, record: logging.LogRecord) -> str:
        """The object of a record."""
        if type(record.msg) is Line:
            return record.msg
        said: dict[str, Any] = {
            "time": self._moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
        }
        if self.worker is not None:
            said["worker"] = self.worker
        said["generation"] = self.generation
        said["message"] = record.getMessage()
        request_id = getattr(record, "request_id", None) or current.get()
        if request_id:
            said["request_id"] = str(request_id)
        if record.exc_text or (record.exc_info and record.exc_info[1] is not None):
            said["exception"] = record.exc_text or self.formatException(record.exc_info)  # type: ignore[arg-type]
        if record.stack_info:
            said["stack"] = self.formatStack(record.stack_info)
        made = ENCODE(said)
        if "\\ud" in made:
            made = ENCODE({name: whole(value) if isinstance(value, str) else value for name, value in said.items()})
        return made


class AccessLine:
    """Makes the line of an exchange. `clock` gives seconds since the epoch.

    What comes again is made once: what a request line says, and what the fields of a block say.
    """

    def __init__(
        self, worker: int, generation: int, redaction: Redaction, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._moment = Moment()
        self._origin = f'","level":"info","logger":"gunicorn.access","worker":{worker},"generation":{generation}'
        self._redaction = redaction
        self._asked: dict[tuple[str, str, str], str] = {}

    def __call__(self, facts: "Facts") -> str:
        method, target, protocol, fields = facts.method, facts.target, facts.protocol, facts.fields
        asked = self._asked.get((method, target, protocol)) or self._asked_for(facts)
        told = self._told_by(fields) if type(fields) is FieldBlock else self._found_in(fields)
        before = "" if facts.request_id is None else f',"request_id":{quoted(facts.request_id)}'
        queued = "" if facts.queue_time is None else f',"queue_time":{facts.queue_time:.6f}'
        return (
            f'{{"time":"{self._moment(self._clock())}{self._origin}{before},"client":{quoted(facts.peer)}{asked}'
            f',"status":{facts.status},"bytes":{facts.sent},"duration":{facts.seconds:.6f}{queued}{told}}}'
        )

    def _asked_for(self, facts: "Facts") -> str:
        """What the request line says; kept, if it has no secret."""
        path, query = facts.path, self._redaction.query(facts.query)
        made = (
            f',"method":{quoted(facts.method)},"path":{quoted(path if path.isascii() else decoded(path))}'
            f',"query":{quoted(query)},"protocol":{quoted(facts.protocol)}'
        )
        if query == facts.query and len(facts.target) <= CACHED_LENGTH:
            if len(self._asked) >= CACHED:
                self._asked.clear()
            self._asked[facts.method, facts.target, facts.protocol] = made
        return made

    def _told_by(self, block: FieldBlock) -> str:
        """What the fields say, kept on the root of the block, unless it is there that they differ."""
        for field in block.overrides:
            if field.name in TOLD:
                return self._found_in(block)
        root = block.root
        if root.told is None:
            root.told = self._found_in(root)
        return root.told

    def _found_in(self, fields: Iterable[tuple[bytes, bytes]]) -> str:
        agent = referer = None
        for name, value in fields:
            if name == b"user-agent":
                agent = value
            elif name == b"referer":
                referer = value
        made = "" if agent is None else f',"user_agent":{quoted(agent.decode(errors="replace"))}'
        if referer is None:
            return made
        return f'{made},"referer":{quoted(self._redaction.target(referer.decode(errors="replace")))}'


def decoded(path: str) -> str:
    """A path of which each character is a byte, as text."""
    try:
        return path.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:  # it is text already
        return path


def quoted(text: str) -> str:
    """A string of JSON."""
    made = encode_basestring_ascii(text)
    return encode_basestring_ascii(whole(text)) if "\\ud" in made else made


def whole(text: str) -> str:
    """The text without halves of surrogate pairs, which some readers of JSON refuse."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
