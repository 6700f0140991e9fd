"""Lines of the access log as a format says them. The format is compiled once, and what comes again is made once.

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

Names in braces may be written in any case; an atom that nobody knows is "-". In Apache `b` is "-" for 0 bytes; in
Gunicorn it is "0", and so it is here. Durations do not start anew after a day, as Gunicorn's do.

Secrets are hidden in all of them, as `log_redact` says.
"""

import os
import re
import time
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from monoceros.ops.redact import REDACTED, Redaction

Fields: TypeAlias = Iterable[tuple[bytes, bytes]]
Pieces: TypeAlias = tuple[str, ...]


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
    fields: Fields
    status: int
    response_fields: Sequence[tuple[str | bytes, str | bytes]]
    sent: int
    seconds: float
    environ: Mapping[str, Any] | None = None
    port: int = 0
    request_id: str | None = None
    queue_time: float | None = None


class Shape:
    """How lines are made, of pieces, most of which come again.

    `asked` makes those that follow from the request line, `told` those that follow from the client's address and from
    the fields called `names`. `line` makes the line of these two, and of what is so of one exchange only: when it ended
    by `clock`, in seconds since the epoch; status, bytes sent, seconds, id, queue time, fields of the response and
    environ, as in `Facts`. Where it `looks_back`, it makes use of the last two.
    """

    asked: Callable[[Facts], Pieces]
    told: Callable[[Facts], Pieces]
    line: Callable[..., str]
    names: frozenset[bytes]
    clock: Callable[[], float]
    looks_back = False

    def __call__(self, facts: Facts) -> str:
        """The line, without its newline, with nothing remembered."""
        return self.line(
            self.asked(facts),
            self.told(facts),
            self.clock(),
            facts.status,
            facts.sent,
            facts.seconds,
            facts.request_id,
            facts.queue_time,
            facts.response_fields,
            facts.environ,
        )


# An atom is a Python expression. All that are of one kind and stand together in a format become one function, with no
# call per atom. These are over `facts`, and follow from the request line.
ASKED: Final = {
    "r": "f'{facts.method} {target(facts.target) if facts.query else facts.target} {facts.protocol}'",
    "m": "facts.method",
    "U": "facts.path",
    "q": "facts.query and query(facts.query)",
    "H": "facts.protocol",
}

# These are over `facts` and `fields`, a dict of the request's.
TOLD: Final = {
    "h": "facts.peer",
    "u": "user(fields.get(b'authorization'))",
    "f": "target(fields.get(b'referer', b'-').decode('latin-1'))",
    "a": "fields.get(b'user-agent', b'-').decode('latin-1')",
}
NAMES: Final = {"u": b"authorization", "f": b"referer", "a": b"user-agent"}

# These are over the arguments of `Shape.line`, and nothing in them needs to be escaped.
NOW: Final = {
    "t": "stamp(now)",
    "L": "'%d.%06d' % divmod(round(seconds * 1e6), 1_000_000)",
    "p": "f'<{getpid()}>'",
}
NUMBERS: Final = {
    "s": "status",
    "b": "sent",
    "B": "sent",
    # All from the rounded microseconds, so that they agree: 0.57 * 1000 is 569.99 for a float.
    "T": "round(seconds * 1e6) // 1_000_000",
    "M": "round(seconds * 1e6) // 1000",
    "D": "round(seconds * 1e6)",
}
ARGUMENTS: Final = "asked, told, now, status, sent, seconds, request_id, queue_time, response_fields=(), environ=None"
NAMED: Final = {
    "i": lambda name: f"fields.get({name.encode()!r}, b'-').decode('latin-1')",
    "o": lambda name: f"response_field(response_fields, {name!r})",
    "e": lambda name: f"environ_value(environ, {name!r})",
}

# The last of what is told is this field, where it is asked for.
REQUEST_ID: Final = b"x-request-id"

# The grammar of Python's % operator (library reference, "printf-style String Formatting").
DIRECTIVE: Final = re.compile(
    r"%(?:\((?P<key>[^()]*)\))?(?P<flags>[-#0 +]*(?:\*|\d+)?)(?:\.(?P<precision>\*|\d*))?[hlL]?(?P<conversion>.?)",
    re.DOTALL,
)

# Not "c": a number is a character or an error, as it happens.
CONVERSIONS: Final = frozenset("diouxXeEfFgGsra")

# By name and not by locale: an application may set one, and a log file has one language.
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

SAMPLE: Final = Facts("192.0.2.1", "GET", "/a?b", "/a", "b", "HTTP/1.1", (), 200, (), 5, 0.25)


def check(format: str) -> None:
    """Raises ValueError, saying what is wrong, if `format` is not one for access lines."""
    compile(format)


def compile(format: str, clock: Callable[[], float] = time.time, redaction: Redaction | None = None) -> Shape:
    """How lines are made as `format` says. `clock` gives seconds since the epoch.

    No text that came from outside can end the line or the quotes around it: what is not printable becomes `\\xNN`
    (or `\\uNNNN`), a quote `\\"`, a backslash two. Raises ValueError for a bad format.
    """
    shape = Compiled(parse(format, redaction or Redaction(())), clock, redaction or Redaction(()))
    try:
        shape(SAMPLE)
    except (TypeError, ValueError, OverflowError) as problem:
        raise ValueError(f"access log format {format!r}: {problem}") from None
    return shape


class Atom(NamedTuple):
    """An atom in a format: the text before it, its directive without the name, and what it says.

    `kind` is "asked", "told" or "now"; None for text alone. `name` is of the field that it is about, if it is.
    """

    before: str
    directive: str = ""
    expression: str = ""
    kind: str | None = None
    name: bytes | None = None


class Compiled(Shape):
    """A format as functions. Raises ValueError, TypeError or OverflowError, if not here, then for each line."""

    def __init__(self, atoms: list[Atom], clock: Callable[[], float], redaction: Redaction) -> None:
        self._scope = {
            "clean": clean,
            "environ_value": environ_value,
            "getpid": os.getpid,
            "query": redaction.query,
            "response_field": response_field,
            "stamp": Stamp(),
            "target": redaction.target,
            "user": user,
        }
        self.clock = clock
        self.looks_back = any("response_fields" in atom.expression or "environ" in atom.expression for atom in atoms)
        self.names = frozenset(atom.name for atom in atoms if atom.name is not None)
        # What stands together is one piece, from its first atom to its last.
        pieces: dict[str, list[list[Atom]]] = {"asked": [], "told": []}
        template, expressions, last = "", [], None
        for atom in atoms:
            kind = atom.kind
            if kind in pieces and kind == last:
                pieces[kind][-1].append(atom)
            elif kind in pieces:
                expressions.append(f"{kind}[{len(pieces[kind])}]")
                pieces[kind].append([atom._replace(before="")])
                template += f"{atom.before}%s"
            else:
                template += atom.before + atom.directive
                expressions += [atom.expression] * (kind is not None)
            last = kind
        # Python makes the same of "%s" % (x,) with a constant template as of an f-string, which is twice as quick.
        self.line = self._function(ARGUMENTS, f"{template!r} % ({_listed(expressions)})")
        asked = [self._piece("facts", piece) for piece in pieces["asked"]]
        told = [self._piece("facts, fields", piece) for piece in pieces["told"]]
        if REQUEST_ID in self.names:
            told.append(lambda facts, fields: fields.get(REQUEST_ID, b"-").decode("latin-1"))
        self.asked = lambda facts: tuple([piece(facts) for piece in asked])
        self.told = lambda facts: tuple([piece(facts, fields) for fields in (dict(facts.fields),) for piece in told])

    def _piece(self, arguments: str, atoms: list[Atom]) -> Callable[..., str]:
        template = "".join([atom.before + atom.directive for atom in atoms])
        values = self._function(arguments, f"({_listed([atom.expression for atom in atoms])})")
        return lambda *facts: template % tuple([clean(each) for each in values(*facts)])

    def _function(self, arguments: str, expression: str) -> Callable[..., Any]:
        function: Callable[..., Any] = eval(f"lambda {arguments}: {expression}", self._scope)
        return function


def _listed(expressions: list[str]) -> str:
    return "".join([f"{each}, " for each in expressions])


def parse(format: str, redaction: Redaction) -> list[Atom]:
    """The atoms of a format, and what is behind the last of them."""
    atoms, before, end = [], "", 0
    for directive in DIRECTIVE.finditer(format):
        before += format[end : directive.start()]
        end = directive.end()
        key, flags, precision, conversion = directive.group("key", "flags", "precision", "conversion")
        if directive[0] == "%%":
            before += "%%"
            continue
        if key is None or conversion not in CONVERSIONS or "*" in (flags[-1:], precision):
            problem = what_is_wrong(key, conversion)
            raise ValueError(f"access log format {format!r}: {directive[0]!r} at {directive.start()}: {problem}")
        kind, expression, name = meaning(key, redaction)
        if precision is not None and key not in NUMBERS and conversion in "sra":
            # Cut before it is escaped: a cut through `\"` would leave a backslash that takes the next quote with it.
            expression, precision = f"({expression})[:{int(precision or 0)}]", None
        if kind == "now" and key not in NUMBERS and key not in NOW:
            expression = f"clean({expression})"
        cut = "" if precision is None else f".{precision}"
        atoms.append(Atom(before, f"%{flags}{cut}{conversion}", expression, kind, name))
        before = ""
    return [*atoms, Atom(before + format[end:])]


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


def meaning(key: str, redaction: Redaction) -> tuple[str, str, bytes | None]:
    """Kind, expression and field of the atom with this key."""
    named = re.fullmatch(r"\{(.*)\}([ioe])", key.lower(), re.DOTALL)
    if named is None:
        for kind, known in (("asked", ASKED), ("told", TOLD), ("now", NOW), ("now", NUMBERS)):
            if key in known:
                return kind, known[key], NAMES.get(key)
        return "told", "'-'", None
    name, sort = named.groups()
    if sort == "i" and name.encode() == REQUEST_ID:
        return "now", "(request_id or told[-1])", REQUEST_ID
    expression = NAMED[sort](name)
    if redaction.names(name):
        expression = f"('-' if {expression} == '-' else {REDACTED!r})"
    elif sort == "e" and name == "query_string":
        expression = f"query({expression})"
    elif redaction.on:
        expression = f"target({expression})"
    return ("told", expression, name.encode()) if sort == "i" else ("now", expression, None)


class Stamp:
    """Seconds since the epoch as access logs have them, rendered once a second."""

    def __init__(self) -> None:
        # One tuple, so that a thread never sees the second of one moment and the text of another.
        self.last = (-1, "")

    def __call__(self, seconds: float) -> str:
        now = int(seconds)
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


def clean(text: str) -> str:
    """The text with nothing in it that could end a line, or the quotes around it."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return escape(text)


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
