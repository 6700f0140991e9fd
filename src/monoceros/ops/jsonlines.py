"""Log lines as JSON: one object a line (https://jsonlines.org), whatever bytes clients send.

Lines are ASCII. What is not UTF-8 in a path or a header field becomes U+FFFD, as does half of a surrogate pair.
"""

import json
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from monoceros.ops.atoms import Facts, Pieces, Shape
from monoceros.ops.redact import Redaction

# The id of the request that the present thread or task is about, where requests have ids.
current: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)


ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode


# Up to 1000, as which rounding may show what is just below.
DIGITS: Final = [*(f"{number:03}" for number in range(1000)), "999"]


class Line(str):
    """A line of the access log on its way through a logger. It is an object already."""

    __slots__ = ()


class Moment:
    """Seconds since the epoch as RFC 3339 has them, with microseconds.

    All but the fraction is rendered once a second, and of that, all but the last three digits once a millisecond.
    """

    def __init__(self) -> None:
        # One tuple each, so that a thread never sees the begin of one span and the text of another.
        self._second = (-1, "", "")
        self._millisecond = (-1.0, "", "")

    def __call__(self, seconds: float) -> str:
        begin, text, zone = self._millisecond
        if not begin <= seconds < begin + 0.001:
            begin, text, zone = self._enter(seconds)
        return f"{text}{DIGITS[int((seconds - begin) * 1e6)]}{zone}"

    def _enter(self, seconds: float) -> tuple[float, str, str]:
        whole = int(seconds)
        second, text, zone = self._second
        if whole != second:
            at = time.localtime(whole)
            sign, offset = "-" if at.tm_gmtoff < 0 else "+", abs(at.tm_gmtoff) // 60
            text, zone = time.strftime("%Y-%m-%dT%H:%M:%S.", at), f"{sign}{offset // 60:02}:{offset % 60:02}"
            self._second = (whole, text, zone)
        milliseconds = int((seconds - whole) * 1000)
        self._millisecond = entered = (whole + milliseconds / 1000, text + DIGITS[milliseconds], zone)
        return entered


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


class AccessLine(Shape):
    """Makes the line of an exchange. `clock` gives seconds since the epoch."""

    names = frozenset((b"user-agent", b"referer"))

    def __init__(
        self, worker: int, generation: int, redaction: Redaction, clock: Callable[[], float] = time.time
    ) -> None:
        self.clock = clock
        self._moment = Moment()
        self._origin = f'","level":"info","logger":"gunicorn.access","worker":{worker},"generation":{generation}'
        self._redaction = redaction
        self.asked = self._asked_for
        self.told = self._told_by
        self.line = self._line

    def _line(
        self,
        asked: Pieces,
        told: Pieces,
        now: float,
        status: int,
        sent: int,
        seconds: float,
        request_id: str | None,
        queue_time: float | None,
        response_fields: object = (),
        environ: object = None,
    ) -> str:
        before = "" if request_id is None else f',"request_id":{encode_basestring_ascii(request_id)}'
        if queue_time:
            queued = f',"queue_time":{queue_time:.6f}'
        else:
            queued = "" if queue_time is None else ',"queue_time":0.000000'
        return (
            f'{{"time":"{self._moment(now)}{self._origin}{before}{told[0]}{asked[0]}'
            f',"status":{status},"bytes":{sent},"duration":{seconds:.6f}{queued}{told[1]}}}'
        )

    def _asked_for(self, facts: Facts) -> Pieces:
        """What the request line says."""
        path, query = facts.path, self._redaction.query(facts.query)
        made = (
            f',"method":{quoted(facts.method)},"path":{quoted(path if path.isascii() else decoded(path))}'
            f',"query":{quoted(query)},"protocol":{quoted(facts.protocol)}'
        )
        return (made,)

    def _told_by(self, facts: Facts) -> Pieces:
        """What the client's address and the fields say: the one stands before the request line, the others behind."""
        agent = referer = None
        for name, value in facts.fields:
            if name == b"user-agent":
                agent = value
            elif name == b"referer":
                referer = value
        made = "" if agent is None else f',"user_agent":{quoted(agent.decode(errors="replace"))}'
        if referer is not None:
            made += f',"referer":{quoted(self._redaction.target(referer.decode(errors="replace")))}'
        return f',"client":{quoted(facts.peer)}', made


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
