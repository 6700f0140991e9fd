"""Lines of the access log: the format compiled once, the lines written in batches.

A format is Gunicorn's: `%(atom)s` with what Python's % operator knows of flags, width and precision.

    h  address of the client (empty on a Unix socket)     T  duration in whole seconds
    l  always -                                           M  duration in milliseconds
    u  user name of Basic authentication, or -            D  duration in microseconds
    t  time of logging, [10/Sep/2026:10:22:28 +0000]      L  duration in seconds, with six decimals
    r  request line                                       p  process id, as <4711>
    s  status                                             f  Referer, or -
    m  method                                             a  User-Agent, or -
    U  path, decoded                                      {name}i  field of the request, or -
    q  query                                              {name}o  field of the response, or -
    H  protocol                                           {name}e  key of the environ, or -
    b, B  bytes of content sent, 0 included

In Uvicorn's manner the lines are made in `uvicorn`, JSON is made in `jsonlines`; both are only written here.

Secrets are hidden in all of them, as `log_redact` says.

Names in braces may be written in any case; an atom that nobody knows is "-". In Apache `b` is "-" for 0 bytes; in
Gunicorn it is "0", and so it is here. Durations do not start anew after a day, as Gunicorn's do.
"""

import logging
import os
import re
import threading
import time
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from monoceros.ops import jsonlines, log, uvicorn
from monoceros.ops.redact import REDACTED, Redaction
from monoceros.ops.statsd import StatsD
from monoceros.settings.table import Settings

# Characters after which a batch is written without waiting for the tick: what the kernel gives a pipe, and what we
# hold of a worker that logs faster than it ticks.
BATCH: Final = 64 * 1024


class Facts(NamedTuple):
    """What a line may tell of one exchange.

    `peer` is the client's address as text, `target` the target as sent, `path` the decoded path. `fields` are the
    request's, with names in lower case; `response_fields` the response's, as text or bytes. `sent` counts bytes of
    content, `seconds` is the duration. `environ` is there in WSGI only. `port` is the client's, 0 if it is not known.
    `queue_time` is how long the request has waited for us, in seconds, if that is known.
    """

    peer: str
    method: str
    target: str
    path: str
    query: str
    protocol: str
    fields: Iterable[tuple[bytes, bytes]]
    status: int
    response_fields: Sequence[tuple[str | bytes, str | bytes]]
    sent: int
    seconds: float
    environ: Mapping[str, Any] | None = None
    port: int = 0
    request_id: str | None = None
    queue_time: float | None = None


# An atom is a Python expression over `facts`, `fields` (a dict of the request's) and the functions of `compile`: all
# atoms of a format become one function that makes one tuple, with no call per atom.
TEXT: Final = {
    "h": "facts.peer",
    "l": "'-'",
    "u": "user(fields.get(b'authorization'))",
    "t": "stamp()",
    "r": "f'{facts.method} {target(facts.target) if facts.query else facts.target} {facts.protocol}'",
    "m": "facts.method",
    "U": "facts.path",
    "q": "facts.query and query(facts.query)",
    "H": "facts.protocol",
    "f": "target(fields.get(b'referer', b'-').decode('latin-1'))",
    "a": "fields.get(b'user-agent', b'-').decode('latin-1')",
    "L": "'%d.%06d' % divmod(round(facts.seconds * 1e6), 1_000_000)",
    "p": "f'<{getpid()}>'",
}
NUMBERS: Final = {
    "s": "facts.status",
    "b": "facts.sent",
    "B": "facts.sent",
    # All from the rounded microseconds, so that they agree: 0.57 * 1000 is 569.99 for a float.
    "T": "round(facts.seconds * 1e6) // 1_000_000",
    "M": "round(facts.seconds * 1e6) // 1000",
    "D": "round(facts.seconds * 1e6)",
}
NAMED: Final = {
    "i": lambda name: f"fields.get({name.encode()!r}, b'-').decode('latin-1')",
    "o": lambda name: f"response_field(facts.response_fields, {name!r})",
    "e": lambda name: f"environ_value(facts.environ, {name!r})",
}
REQUEST_ID: Final = "(facts.request_id or fields.get(b'x-request-id', b'-').decode('latin-1'))"

# The grammar of Python's % operator (library reference, "printf-style String Formatting").
DIRECTIVE: Final = re.compile(
    r"%(?:\((?P<key>[^()]*)\))?(?P<flags>[-#0 +]*(?:\*|\d+)?)(?:\.(?P<precision>\*|\d*))?[hlL]?(?P<conversion>.?)",
    re.DOTALL,
)

# Not "c": a number is a character or an error, as it happens.
CONVERSIONS: Final = frozenset("diouxXeEfFgGsra")

# By name and not by locale: an application may set one, and a log file has one language.
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

NO_FIELDS: Final[dict[bytes, bytes]] = {}
SAMPLE: Final = Facts("192.0.2.1", "GET", "/a?b", "/a", "b", "HTTP/1.1", (), 200, (), 5, 0.25)


def check(format: str) -> None:
    """Raises ValueError, saying what is wrong, if `format` is not one for access lines."""
    compile(format)


def compile(
    format: str, clock: Callable[[], float] = time.time, redaction: Redaction | None = None
) -> Callable[[Facts], str]:
    """The function that makes a line, without its newline, as `format` says. `clock` gives seconds since the epoch.

    No text that came from outside can end the line or the quotes around it: what is not printable becomes `\\xNN`
    (or `\\uNNNN`), a quote `\\"`, a backslash two. Raises ValueError for a bad format.
    """
    redaction = redaction or Redaction(())
    template, expressions = parse(format, redaction)
    scope = {
        "environ_value": environ_value,
        "getpid": os.getpid,
        "query": redaction.query,
        "response_field": response_field,
        "stamp": Stamp(clock),
        "target": redaction.target,
        "user": user,
    }
    source = f"lambda facts, fields: ({''.join(f'{each}, ' for each in expressions)})"
    values: Callable[[Facts, dict[bytes, bytes]], tuple[object, ...]] = eval(source, scope)
    asks_for_fields = "fields.get(" in source
    quotes = template.count('"')

    def line(facts: Facts) -> str:
        found = values(facts, dict(facts.fields) if asks_for_fields else NO_FIELDS)
        text = template % found
        # Nearly all lines have nothing to escape, and one look at the whole is cheaper than one at each value.
        if text.isprintable() and text.count('"') == quotes and "\\" not in text:
            return text
        return template % tuple([escape(each) if isinstance(each, str) else each for each in found])

    try:
        line(SAMPLE)
    except (TypeError, ValueError, OverflowError) as problem:
        raise ValueError(f"access log format {format!r}: {problem}") from None
    return line


def parse(format: str, redaction: Redaction) -> tuple[str, list[str]]:
    """The format without the names of its atoms, and for each atom the expression that stands for it."""
    template, expressions, end = [], [], 0
    for directive in DIRECTIVE.finditer(format):
        template.append(format[end : directive.start()])
        end = directive.end()
        key, flags, precision, conversion = directive.group("key", "flags", "precision", "conversion")
        if directive[0] == "%%":
            template.append("%%")
            continue
        if key is None or conversion not in CONVERSIONS or "*" in (flags[-1:], precision):
            problem = what_is_wrong(key, conversion)
            raise ValueError(f"access log format {format!r}: {directive[0]!r} at {directive.start()}: {problem}")
        expression = expression_of(key, redaction)
        if precision is not None and key not in NUMBERS and conversion in "sra":
            # Cut before it is escaped: a cut through `\"` would leave a backslash that takes the next quote with it.
            expression, precision = f"({expression})[:{int(precision or 0)}]", None
        template.append(f"%{flags}{'' if precision is None else f'.{precision}'}{conversion}")
        expressions.append(expression)
    template.append(format[end:])
    return "".join(template), expressions


def what_is_wrong(key: str | None, conversion: str) -> str:
    """In words, why a directive with this key and this conversion is none."""
    if conversion == "(":
        return "the ')' is missing"
    if conversion == "":
        return "the format ends before the directive does; a % itself is written %%"
    if key is None:
        return "an atom has a name, as in %(h)s; a % itself is written %%"
    if conversion not in CONVERSIONS:
        return f"there is no conversion {conversion!r} here"
    return "width and precision are numbers"


def expression_of(key: str, redaction: Redaction) -> str:
    named = re.fullmatch(r"\{(.*)\}([ioe])", key.lower(), re.DOTALL)
    if named is None:
        return TEXT.get(key) or NUMBERS.get(key) or "'-'"
    name, kind = named.groups()
    if kind == "i" and name == "x-request-id":
        return REQUEST_ID
    expression = NAMED[kind](name)
    if redaction.names(name):
        return f"('-' if {expression} == '-' else {REDACTED!r})"
    if kind == "e" and name == "query_string":
        return f"query({expression})"
    return f"target({expression})" if redaction.on else expression


class Stamp:
    """The time as access logs have it, rendered once a second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        # One tuple, so that a thread never sees the second of one moment and the text of another.
        self.last = (-1, "")

    def __call__(self) -> str:
        now = int(self.clock())
        second, text = self.last
        if now != second:
            at = time.localtime(now)
            sign, offset = "-" if at.tm_gmtoff < 0 else "+", abs(at.tm_gmtoff) // 60
            text = (
                f"[{at.tm_mday:02}/{MONTHS[at.tm_mon - 1]}/{at.tm_year:04}:{at.tm_hour:02}:{at.tm_min:02}"
                f":{at.tm_sec:02} {sign}{offset // 60:02}{offset % 60:02}]"
            )
            self.last = (now, text)
        return text


def user(authorization: bytes | None) -> str:
    """The user of Basic authentication (RFC 7617), never the password, or "-"."""
    if authorization is None:
        return "-"
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return "-"
    try:
        name, colon, _ = b64decode(credentials).partition(b":")
        # Without a colon it may be anything, a password as well.
        return (colon and name.decode()) or "-"
    except (Base64Error, UnicodeDecodeError):
        return "-"


def response_field(fields: Sequence[tuple[str | bytes, str | bytes]], name: str) -> str:
    """The last field called `name` (in lower case), or "-"."""
    for key, value in reversed(fields):
        if (key if isinstance(key, str) else key.decode("latin-1")).lower() == name:
            return value if isinstance(value, str) else value.decode("latin-1")
    return "-"


def environ_value(environ: Mapping[str, Any] | None, name: str) -> str:
    """The value of the key `name` (in lower case, whatever the key's is) as text, or "-"."""
    if environ is None:
        return "-"
    key: str | None = name.upper()  # as nearly all are
    if key not in environ:
        key = next((each for each in environ if isinstance(each, str) and each.lower() == name), None)
    if key is None:
        return "-"
    try:
        return str(environ[key])
    except Exception:  # an application keeps there what it likes, and __str__ may be anyone's code
        return f"<{type(environ[key]).__name__}>"


def escape(text: str) -> str:
    return re.sub(r"[^ !#-\[\]-~]", escaped, text)


def escaped(match: re.Match[str]) -> str:
    """One character as it stands in the log. Those beyond ASCII stay if they can be seen: no C1, no bidi marks."""
    character = match[0]
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class AccessLog:
    """Collects the lines of one process and writes them together; and tells statsD of the same exchanges.

    Any thread may add and flush. Lines are written in the order in which they were added, none is lost but for a
    write that fails: then the batch is dropped, and the error log says so once until a write succeeds again.
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
        self._logger = log.access_logger(settings)
        self._line: Callable[[Facts], str]
        redaction = Redaction(settings.log_redact)
        if self._logger is log.access and settings.log_format == "json":
            self._line = jsonlines.AccessLine(worker, generation, redaction)
        elif self._logger is log.access:
            self._line = compile(settings.access_log_format, redaction=redaction)
        else:
            prefix = quote(settings.root_path.rstrip("/"))
            self._line = partial(uvicorn.message, root_path=prefix, query_shown=redaction.query)
        self._message: type[str] = jsonlines.Line if settings.log_format == "json" else str
        self._lines: list[str] = []
        self._size = 0
        # Both can be entered again, because a signal may come in the middle and want everything flushed.
        self._adding = threading.RLock()
        self._writing = threading.RLock()
        self._failing = False

    @property
    def enabled(self) -> bool:
        """Whether anyone listens. Asked anew each time: an application may set up logging when it likes."""
        return self._statsd is not None or self._elsewhere or self._heard()

    def _heard(self) -> bool:
        return wanted(self._logger) and self._logger.hasHandlers()

    @property
    def waiting(self) -> bool:
        """Whether there are lines that are not written yet."""
        return bool(self._lines) or (self._statsd is not None and self._statsd.waiting)

    def add(self, facts: Facts) -> None:
        """Make the line of one exchange; write the batch if that has got long. Never raises for a failing write."""
        if self._statsd is not None:
            self._statsd.request(facts.status, facts.seconds)
        if self._elsewhere or (self._statsd is not None and not self._heard()):
            return
        line = self._line(facts)
        with self._adding:
            self._lines.append(line)
            self._size += len(line)
            full = self._size > BATCH
        if full:
            self.flush()

    def flush(self) -> None:
        """Write what was added. Takes no time if that is nothing; never raises for a failing write."""
        if self._statsd is not None:
            self._statsd.flush()
        if not self._lines:
            return
        with self._writing:
            with self._adding:
                lines, self._lines, self._size = self._lines, [], 0
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
