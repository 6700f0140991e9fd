"""Header lines and header blocks, each parsed once.

A keep-alive client sends the same block with every request, so a connection keeps its last `FieldBlock`.
Where blocks differ, most lines are still old acquaintances, so a bounded cache keeps the `Field` of each.
Both caches sit behind the rules: only what has passed them is kept.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from monoceros.wire import grammar
from monoceros.wire.events import (
    BodyTooLarge,
    ExpectationFailed,
    HeadTooLarge,
    Limits,
    NotImplementedHere,
    RemoteError,
)

# At most some 700 KB; when full it is emptied, since a cache that stops growing could be filled with
# rubbish once and for all.
CACHED_LINES: Final = 1024
CACHED_LENGTH: Final = 256

# A block that differs from its root in lines further apart than this is read anew.
LONGEST_SPAN: Final = 4

# What a process should not keep of one client while it serves another.
SECRETS: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization"))

# RFC 9110 §6.5.1: fields that say how the message is framed, routed or authenticated come before it.
NOT_IN_TRAILERS: Final = SECRETS | {
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"expect",
    b"host",
    b"max-forwards",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}

# RFC 9112 §7: codings that exist. We do chunked; to hand on a body that is still compressed would let
# the application read something else than what was sent.
KNOWN_CODINGS: Final = frozenset((b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"))


class Field:
    """One header line: `name` in lower case, `value` without the blanks around it.

    `rule` is what the name means to HTTP itself, if anything; `environ` what the WSGI gateway derived.
    """

    __slots__ = ("environ", "name", "rule", "value")

    def __init__(self, name: bytes, value: bytes, rule: "Rule | None" = None) -> None:
        self.name = name
        self.value = value
        self.rule = rule
        self.environ: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return f"{self.name!r}: {self.value!r}"


_fields: dict[bytes, Field] = {}


def parse_line(line: bytes) -> Field:
    """The field in one header line without its CR LF. Raises `RemoteError`."""
    match = grammar.field_line.fullmatch(line)
    if match is None:
        raise RemoteError(_what_is_wrong(line))
    name = match[1].lower()
    field = Field(name, match[2] or b"", RULES.get(name) or (_underscore if b"_" in name else None))
    if len(line) <= CACHED_LENGTH and field.name not in SECRETS:
        if len(_fields) >= CACHED_LINES:
            _fields.clear()
        _fields[line] = field
    return field


def _what_is_wrong(line: bytes) -> str:
    """In words for the log, why a line is no header line. The value may be a secret and is not shown."""
    name, colon, _ = line.partition(b":")
    if line[:1] in (b" ", b"\t"):
        return "obsolete line folding"
    if not colon:
        return f"header line without a colon: {name[:40]!r}"
    if not grammar.token.fullmatch(name):
        return f"invalid header name: {name[:40]!r}"
    return f"invalid characters in the value of header {name[:40].decode('ascii')!r}"


class FieldBlock:
    """The header lines of a request, and what they mean for its framing and its connection.

    `content_length` is None where none was sent. `keep_alive` is what the client asks for, `expect` whether
    it waits for 100 Continue, `underscores` whether some name has one. `environ`, `scope` and `trust` hold
    what the gateways derive from this block for the one peer of its connection, `told` what the access log does, and
    `called` what the block itself says of the request's id. Iterating gives pairs.

    A block that differs from an earlier one of its connection only in values on which nobody has built, as
    a cookie's, has that as its `root`, and the fields in question as its `overrides`. What was derived from
    the root holds for both but for these. `pinned` are the names on whose values the gateways have built;
    None as long as they have not looked, and then nothing is shared. `raw` are the bytes of the block, or of
    its overrides.
    """

    # What most requests do not have. Values of the class, so that a block costs only what it says.
    content_length: int | None = None
    chunked = False
    has_body = False
    expect = False
    host: bytes | None = None
    connection: frozenset[bytes] = frozenset()
    upgrade: bytes | None = None
    underscores = False
    transfer_encoding: list[bytes] | None = None
    connection_lines: list[bytes] | None = None
    overrides: Sequence["Field"] = ()
    environ: dict[str, Any] | None = None
    scope: Any = None
    trust: Any = None
    told: tuple[str, ...] | None = None
    called: bytes | None = None
    pinned: frozenset[bytes] | None = None
    _span: "Span | None" = None
    _seen: frozenset[bytes] = frozenset()

    def __init__(self, raw: bytes, version: str, limits: Limits) -> None:
        self.raw = raw
        self.version = version
        self.root = self
        self._fields: list[Field] | None = parse_lines(raw, limits)
        for field in self._fields:
            if field.rule is not None:
                field.rule(self, field.value)
        self._agree(limits)
        if self.connection_lines:
            options = b",".join(self.connection_lines).split(b",")
            self.connection = frozenset(option.strip(b" \t").lower() for option in options)
        self.keep_alive = b"close" not in self.connection and (
            version == "HTTP/1.1" or b"keep-alive" in self.connection
        )

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return ((field.name, field.value) for field in self.fields)

    @property
    def fields(self) -> list[Field]:
        """All fields, in the order in which they came."""
        if self._fields is None:
            span = self._span
            assert span is not None
            self._fields = self.root.fields.copy()
            self._fields[span.first : span.first + len(span.fields)] = self.overrides
        return self._fields

    @property
    def first_override(self) -> int:
        """Where in `fields` the overrides stand, one behind the other. Only of a block that has some."""
        assert self._span is not None
        return self._span.first

    def next(self, buffer: bytes, start: int, end: int, version: str, limits: Limits) -> "FieldBlock":
        """The block that follows on the same connection, in a part of `buffer`. Raises `RemoteError`.

        It is this one if the bytes are the same.
        """
        root = self.root
        if version == root.version:
            # With underscores, two names may become one key of the environ, where neither can be changed alone.
            if root.pinned is not None and not root.underscores:
                if root._span is None:
                    root._span = Span.between(root, buffer[start:end])
                block = root._span and root._span.block_in(buffer, start, end, self, limits)
                if block:
                    return block
                root._span = None
            if self is root and buffer[start:end] == root.raw:
                return self
        return FieldBlock(buffer[start:end], version, limits)

    def once(self, name: bytes) -> None:
        """These fields decide how a message is read: of two, someone else may believe the other."""
        if name in self._seen:
            raise RemoteError(f"more than one {name.decode('ascii')} field")
        self._seen |= {name}

    def _agree(self, limits: Limits) -> None:
        """What no single line can tell: do the lines agree with each other and with the version?"""
        old = self.version == "HTTP/1.0"
        if self.host is None and not old:
            raise RemoteError("HTTP/1.1 request without a Host field")  # RFC 9112 §3.2
        if self.transfer_encoding:
            if old:
                raise RemoteError("Transfer-Encoding in HTTP/1.0")  # RFC 9112 §6.1
            if self.content_length is not None:
                raise RemoteError("both Content-Length and Transfer-Encoding")  # RFC 9112 §6.3
            self._decide_coding(self.transfer_encoding)
        self.has_body = self.chunked or bool(self.content_length)
        if limits.body and (self.content_length or 0) > limits.body:
            raise BodyTooLarge(f"Content-Length {self.content_length} is over {limits.body}")
        if old or not self.has_body:
            self.expect = False  # RFC 9110 §10.1.1

    def _decide_coding(self, lines: list[bytes]) -> None:
        codings = [coding.strip(b" \t").lower() for coding in b",".join(lines).split(b",")]
        for coding in codings:
            if coding not in KNOWN_CODINGS and coding not in (b"chunked", b"identity"):
                if not grammar.token.fullmatch(coding):
                    raise RemoteError(f"invalid transfer coding: {coding[:40]!r}")
                raise NotImplementedHere(f"unknown transfer coding: {coding[:40]!r}")
        if codings[-1] != b"chunked" or codings.count(b"chunked") != 1 or b"identity" in codings:
            raise RemoteError("Transfer-Encoding does not end in one chunked")  # RFC 9112 §6.3
        if len(codings) > 1:
            raise NotImplementedHere(f"transfer coding not supported here: {codings[0].decode('ascii')}")
        self.chunked = True


class Span:
    """The few lines of a root in which other blocks of its connection differ from it.

    Before them stands `before`, behind them `behind`, as in the root. They are those of `fields`, the first of
    which has the index `first`; each has a name that stands in the block once, and no rule.
    `names` are these as they were sent, with the colon.
    """

    __slots__ = ("before", "behind", "fields", "first", "names", "root")

    def __init__(self, root: FieldBlock, lines: list[bytes], first: int, end: int) -> None:
        self.root = root
        self.before = b"".join(line + b"\r\n" for line in lines[:first])
        self.behind = b"".join(b"\r\n" + line for line in lines[end:])
        self.fields = root.fields[first:end]
        self.names = [line[: line.index(b":") + 1] for line in lines[first:end]]
        self.first = first

    @classmethod
    def between(cls, root: FieldBlock, raw: bytes) -> "Span | None":
        """Where `raw` differs from the root; None if it does not, or too much, or where it matters."""
        theirs, ours = raw.split(b"\r\n"), root.raw.split(b"\r\n")
        changed = [i for i, (their, our) in enumerate(zip(theirs, ours, strict=False)) if their != our]
        if not changed or len(theirs) != len(ours):
            return None
        first, end = changed[0], changed[-1] + 1
        names = [field.name for field in root.fields]
        fixed = any(field.rule is not None or field.name in (root.pinned or ()) for field in root.fields[first:end])
        if fixed or end - first > LONGEST_SPAN or any(names.count(name) > 1 for name in names[first:end]):
            return None
        return cls(root, ours, first, end)

    def block_in(self, buffer: bytes, start: int, end: int, last: FieldBlock, limits: Limits) -> FieldBlock | None:
        """The block in a part of `buffer`; None if it differs from the root elsewhere, too, or in names."""
        begin, stop = start + len(self.before), end - len(self.behind)
        if begin > stop or not (buffer.startswith(self.before, start) and buffer.endswith(self.behind, stop, end)):
            return None
        raw = buffer[begin:stop]
        if last.overrides and raw == last.raw:  # the root's `raw` is of another kind: not just the span
            return last
        if len(self.names) == 1:
            field = self._field(raw, 0, limits)
            return self._derived(raw, (field,)) if field else None
        lines = raw.split(b"\r\n")
        if len(lines) != len(self.names):
            return None
        overrides = [self._field(line, i, limits) for i, line in enumerate(lines)]
        return None if None in overrides else self._derived(raw, [field for field in overrides if field])

    def _field(self, line: bytes, i: int, limits: Limits) -> Field | None:
        """What takes the place of the field number `i`; None for what is better read with the whole block."""
        name = self.names[i]
        match = grammar.field_value.fullmatch(line, len(name)) if line.startswith(name) else None
        if match is None or len(line) > limits.field_size > 0:
            return None
        return Field(self.fields[i].name, match[1] or b"")

    def _derived(self, raw: bytes, overrides: Sequence[Field]) -> FieldBlock:
        block = FieldBlock.__new__(FieldBlock)
        values = self.root.__dict__.copy()
        values["raw"] = raw
        values["overrides"] = overrides
        values["_fields"] = None
        block.__dict__ = values
        return block


def parse_lines(raw: bytes, limits: Limits) -> list[Field]:
    """The fields of a block of lines that are separated, not ended, by CR LF. Raises `RemoteError`."""
    if not raw:
        return []
    lines = raw.split(b"\r\n")
    if limits.fields and len(lines) > limits.fields:
        raise HeadTooLarge(f"more than {limits.fields} header fields")
    # Only a block longer than a field may be has a field that is too long.
    if limits.field_size and len(raw) > limits.field_size and max(map(len, lines)) > limits.field_size:
        raise HeadTooLarge(f"a header field of over {limits.field_size} bytes")
    return _fields_of(lines)


def _fields_of(lines: list[bytes]) -> list[Field]:
    known = _fields.get
    return [known(line) or parse_line(line) for line in lines]


def parse_trailers(raw: bytes, limits: Limits) -> list[Field]:
    """The fields behind a chunked body, under the same rules and limits as a head. Raises `RemoteError`."""
    fields = parse_lines(raw, limits)
    for field in fields:
        if field.name in NOT_IN_TRAILERS:
            raise RemoteError(f"field not allowed in trailers: {field.name.decode('ascii')}")
    return fields


def _content_length(block: FieldBlock, value: bytes) -> None:
    block.once(b"content-length")
    if not grammar.content_length.fullmatch(value):
        raise RemoteError(f"invalid Content-Length: {value[:40]!r}")
    if len(value) > grammar.CONTENT_LENGTH_DIGITS:
        raise BodyTooLarge(f"Content-Length of {len(value)} digits")
    block.content_length = int(value)


def _transfer_encoding(block: FieldBlock, value: bytes) -> None:
    block.transfer_encoding = _longer(block.transfer_encoding, value)


def _longer(values: list[bytes] | None, value: bytes) -> list[bytes]:
    """The list with one more value, in place: a stranger's thousand lines must not be copied a thousand times."""
    if values is None:
        return [value]
    values.append(value)
    return values


def _host(block: FieldBlock, value: bytes) -> None:
    block.once(b"host")
    if not grammar.host.fullmatch(value):
        raise RemoteError(f"invalid Host: {value[:100]!r}")
    block.host = value


def _content_type(block: FieldBlock, value: bytes) -> None:
    block.once(b"content-type")


def _connection(block: FieldBlock, value: bytes) -> None:
    block.connection_lines = _longer(block.connection_lines, value)


def _expect(block: FieldBlock, value: bytes) -> None:
    if block.version == "HTTP/1.0":
        return  # RFC 9110 §10.1.1: to be ignored
    if value.lower() != b"100-continue":
        raise ExpectationFailed(f"unknown expectation: {value[:40]!r}")
    block.expect = True


def _underscore(block: FieldBlock, value: bytes) -> None:
    block.underscores = True


def _upgrade(block: FieldBlock, value: bytes) -> None:
    block.upgrade = value.lower()


Rule = Callable[[FieldBlock, bytes], None]

RULES: Final[dict[bytes, Rule]] = {
    b"connection": _connection,
    b"content-length": _content_length,
    b"content-type": _content_type,
    b"expect": _expect,
    b"host": _host,
    b"transfer-encoding": _transfer_encoding,
    b"upgrade": _upgrade,
}
