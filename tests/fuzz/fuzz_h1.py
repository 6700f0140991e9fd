"""No bytes make the wire raise anything but RemoteError, nor mean one thing whole and another cut into pieces.
No 64 KiB of them cost more than 20 ms of processor time.

    python tests/fuzz/fuzz_h1.py --seconds 600 --seed 1

Inputs are mutations of the corpus and of whatever was seen to do something new, and requests made by a loose grammar.
The same seed gives the same inputs in the same order. What breaks a rule is printed and saved as a file that can move
into the corpus; the exit status is 1.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    import h11
except ImportError:
    h11 = None

from monoceros.wire.events import Closed, Data, EndOfMessage, Limits, RemoteError, Request
from monoceros.wire.fields import NOT_IN_TRAILERS
from wire.corpus import alone, cases, drive, meaning, transcript, wire

BUDGET = 0.020
BUDGET_SIZE = 65536

# Byte by byte is the cut that finds most, but costs a call for each byte.
DRIP_UP_TO = 2048

LIMITS = [
    Limits(),
    Limits(line=0, fields=0, field_size=0),
    Limits(line=40, fields=4, field_size=30, head=120, body=20),
    Limits(line=20, fields=2, field_size=20, head=60, body=1),
]

POOL = 4000
POOL_BYTES = 1024


class Broken(AssertionError):
    """A rule that some input breaks."""


# The rules


def check(data: bytes, limits: Limits, rng: Random) -> list[str]:
    """What these bytes mean. Raises `Broken`, or what the wire should never raise."""
    whole = transcript([data], limits)
    for chunks in cuts(data, rng):
        if not agree(whole, pieces := transcript(chunks, limits)):
            lengths = [len(chunk) for chunk in chunks]
            raise Broken(f"cut into {lengths if len(lengths) < 10 else 'bytes'}: {pieces} instead of {whole}")
    normal = normal_form(data, limits)
    if normal is not None and not agree(whole, again := transcript([normal], Limits(0, 0, 0, 1 << 20, limits.body))):
        raise Broken(f"written out again as {normal!r}: {again} instead of {whole}")
    if (other := second_opinion(data)) is not None and normal is not None:
        hold(other == requests_in(data, limits)[: len(other)], f"h11 agrees, but it reads {other}")
    return whole


def cuts(data: bytes, rng: Random) -> Iterator[list[bytes]]:
    if len(data) <= DRIP_UP_TO:
        yield [data[i : i + 1] for i in range(len(data))]
    if len(data) > 1:
        places = {rng.randrange(1, len(data)) for _ in range(rng.randrange(1, 9))}
        yield [data[start:end] for start, end in pairwise([0, *sorted(places), len(data)])]


def agree(one: list[str], other: list[str]) -> bool:
    """The same events. A bare CR or LF is refused as soon as it comes, which may be before another fault shows."""
    if one == other:
        return True
    last = one[-1], other[-1]
    return (
        one[:-1] == other[:-1]
        and all(line.startswith("Refused ") for line in last)
        and any("bare CR or LF" in line for line in last)
    )


def normal_form(data: bytes, limits: Limits) -> bytes | None:
    """The requests in `data`, each checked and written out again in the plainest way; None if any was refused.

    To read the same from that is to have read it as every other parser does.
    """
    out = bytearray()
    chunked = False
    left = 0
    try:
        for event in drive(wire(limits), [data]):
            match event:
                case Request(line, fields):
                    check_request(event)
                    chunked, left = fields.chunked, fields.content_length or 0
                    out += f"{line}\r\n".encode("ascii")
                    out += b"".join(b"%b:%b\r\n" % (field.name, field.value) for field in fields.fields) + b"\r\n"
                case Data(content):
                    left -= len(content)
                    out += b"%x\r\n%b\r\n" % (len(content), content) if chunked else content
                case EndOfMessage(trailers):
                    hold(chunked or left == 0, "as much content as its length says")
                    hold(not NOT_IN_TRAILERS & {field.name for field in trailers}, "trailers without framing")
                    if chunked:
                        lines = b"".join(b"%b:%b\r\n" % (field.name, field.value) for field in trailers)
                        out += b"0\r\n" + lines + b"\r\n"
                case Closed() | str():
                    return bytes(out)
    except RemoteError:
        pass
    return None


TARGET = re.compile(r"[!-\"$-~]+")
METHOD = re.compile(r"[-!$%&'*+.^_`|~0-9A-Z]{3,20}")
NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-z]+")
VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")


def check_request(request: Request) -> None:
    """Nothing here is asked of the parser: it is what anybody who is handed a request may rely on."""
    line, fields = request
    names = [field.name for field in fields.fields]
    hold(METHOD.fullmatch(line.method), "method")
    hold(TARGET.fullmatch(line.target), "target")
    hold(TARGET.fullmatch(line.path), "path")
    hold(line.path.startswith("/") or line.path == "*", "path begins with a slash")
    hold("?" not in line.path, "path without query")
    hold(line.version in ("HTTP/1.0", "HTTP/1.1"), "version")
    for field in fields.fields:
        hold(NAME.fullmatch(field.name), f"name {field.name!r}")
        hold(VALUE.fullmatch(field.value), f"value {field.value!r}")
    for name in (b"host", b"content-length", b"content-type"):
        hold(names.count(name) <= 1, f"one {name!r}")
    hold(b"host" in names or line.version == "HTTP/1.0", "host in HTTP/1.1")
    hold(not (b"content-length" in names and b"transfer-encoding" in names), "one framing")
    hold(fields.chunked == (b"transfer-encoding" in names), "chunked where there is a transfer coding")
    hold(not fields.chunked or line.version == "HTTP/1.1", "chunked in HTTP/1.1 only")
    hold((fields.content_length is not None) == (b"content-length" in names), "length")
    hold(meaning(fields) == meaning(alone(fields, Limits())), "what came before makes no difference")


def hold(truth: object, rule: str) -> None:
    if not truth:
        raise Broken(f"rule does not hold: {rule}")


Read = tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]


def requests_in(data: bytes, limits: Limits) -> list[Read]:
    """Method, target, fields and content of each complete request in `data`, which is known to have no faults."""
    found: list[Read] = []
    pieces: list[bytes] = []
    request: Request | None = None
    for event in drive(wire(limits), [data]):
        match event:
            case Request():
                request = event
                pieces = []
            case Data(content):
                pieces.append(content)
            case EndOfMessage() if request:
                line, fields = request
                found.append((line.method.encode(), line.target.encode(), [*map(as_h11, fields)], b"".join(pieces)))
    return found


def as_h11(field: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """h11 gives the one transfer coding that it knows in lower case."""
    name, value = field
    return name, value.lower() if name == b"transfer-encoding" else value


def second_opinion(data: bytes) -> list[Read] | None:
    """The same by another parser, up to where that one would go no further; None if it is not installed."""
    if h11 is None:
        return None
    found: list[Read] = []
    other = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    other.receive_data(data)
    pieces: list[bytes] = []
    try:
        while True:
            match other.next_event():
                case h11.Request() as request:
                    pieces = []
                case h11.Data(data=content):
                    pieces.append(bytes(content))
                case h11.EndOfMessage():
                    found.append((request.method, request.target, list(request.headers), b"".join(pieces)))
                    other.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                    other.send(h11.EndOfMessage())
                    other.start_next_cycle()
                case _:
                    return found
    except h11.ProtocolError:
        return found


def check_budget(data: bytes, limits: Limits) -> float:
    """The processor time of the first run of ten that keeps within the budget: the machine may be slow for a while."""
    best = BUDGET
    for _ in range(10):
        start = time.process_time()
        try:
            for _ in drive(wire(limits), [data]):
                pass
        except RemoteError:
            pass
        best = time.process_time() - start
        if best < BUDGET:
            return best
    raise Broken(f"{best * 1000:.1f} ms for {len(data)} bytes")


# The inputs

WORDS = [
    *(b" ", b"\t", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\r\r\n", b"\0", b"\x0b", b"\x0c", b"\x7f", b"\x80"),
    *(b"\xa0", b"\xff", b":", b";", b",", b'"', b"\\", b"=", b"?", b"#", b"/", b"*", b"@", b"[", b"]", b"%", b"%0d%0a"),
    *(b"0", b"1", b"5", b"00", b"0x5", b"+1", b"-1", b"1_0", b"f", b"F", b"ffffffff", b"fffffffffffffff", b"9" * 18),
    *(b"9" * 19, b"7" * 40, b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"get", b"PRI", b"http://b", b"http://"),
    *(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/", b"/", b"/a?b", b"Host: a\r\n"),
    *(b"Host:", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length:", b"Transfer-Encoding:"),
    *(b"Transfer-Encoding: chunked\r\n", b"chunked", b"identity", b"gzip", b"gzip, chunked", b"close", b"keep-alive"),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection:", b"Expect: 100-continue\r\n", b"Expect:"),
    *(b"100-continue", b"Upgrade: websocket\r\n", b"Content-Type: a\r\n", b"Trailer: x\r\n", b"X: y\r\n", b"X:", b" z"),
    *(b"0\r\n\r\n", b"5\r\nhello\r\n", b"1\r\nx\r\n", b";a=b", b';a="\\""', b"hello"),
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
]


@dataclass
class Inputs:
    """A stream of inputs that depends on nothing but the seed and what was fed back by `learn`."""

    rng: Random
    seeds: list[tuple[bytes, Limits]]

    def next(self) -> tuple[bytes, Limits]:
        rng = self.rng
        data, limits = rng.choice(self.seeds)
        if rng.random() < 0.2:
            limits = rng.choice(LIMITS)
        make = rng.choices((self.mutated, self.written, self.blown_up), (70, 25, 5))[0]
        # With more room for the line than for the head, the cut would decide which of them is over its limit first.
        return make(data)[:BUDGET_SIZE], replace(limits, line=min(limits.line, limits.head))

    def learn(self, data: bytes, limits: Limits) -> None:
        if len(data) <= POOL_BYTES and len(self.seeds) < POOL:
            self.seeds.append((data, limits))

    def mutated(self, data: bytes) -> bytes:
        for _ in range(self.rng.choice((1, 1, 1, 2, 2, 3, 5))):
            data = self.rng.choice(MUTATIONS)(self, data)
        return data

    def place(self, data: bytes) -> int:
        return self.rng.randint(0, len(data))

    def span(self, data: bytes) -> tuple[int, int]:
        start = self.place(data)
        return start, min(len(data), start + self.rng.choice((1, 1, 2, 4, 8, 30, 200)))

    def insert_word(self, data: bytes) -> bytes:
        at = self.place(data)
        return data[:at] + self.rng.choice(WORDS) + data[at:]

    def replace_by_word(self, data: bytes) -> bytes:
        start, end = self.span(data)
        return data[:start] + self.rng.choice(WORDS) + data[end:]

    def replace_byte(self, data: bytes) -> bytes:
        at = self.place(data)
        return data[:at] + bytes([self.rng.randrange(256)]) + data[at + 1 :]

    def delete(self, data: bytes) -> bytes:
        start, end = self.span(data)
        return data[:start] + data[end:]

    def repeat(self, data: bytes) -> bytes:
        start, end = self.span(data)
        return data[:end] + data[start:end] * self.rng.choice((1, 2, 5)) + data[end:]

    def cut_short(self, data: bytes) -> bytes:
        return data[: self.place(data)]

    def move(self, data: bytes) -> bytes:
        start, end = self.span(data)
        rest = data[:start] + data[end:]
        at = self.place(rest)
        return rest[:at] + data[start:end] + rest[at:]

    def splice(self, data: bytes) -> bytes:
        other, _ = self.rng.choice(self.seeds)
        return data[: self.place(data)] + other[self.place(other) :]

    def append(self, data: bytes) -> bytes:
        return data + self.rng.choice(self.seeds)[0]

    def swap_lines(self, data: bytes) -> bytes:
        lines = data.split(b"\r\n")
        one, other = self.rng.randrange(len(lines)), self.rng.randrange(len(lines))
        lines[one], lines[other] = lines[other], lines[one]
        return b"\r\n".join(lines)

    def repeat_line(self, data: bytes) -> bytes:
        lines = data.split(b"\r\n")
        at = self.rng.randrange(len(lines))
        return b"\r\n".join([*lines[:at], lines[at], *lines[at:]])

    def again(self, data: bytes) -> bytes:
        """The same once more, with some small change: a connection remembers what came before."""
        request = data[-POOL_BYTES:]
        for _ in range(self.rng.choice((1, 1, 2, 3))):
            data += self.rng.choice((Inputs.replace_byte, Inputs.replace_by_word, Inputs.insert_word))(self, request)
        return data

    def blown_up(self, data: bytes) -> bytes:
        """Up to 64 KiB of one thing, at some place where it may hurt."""
        rng = self.rng
        data = self.mutated(data) if rng.random() < 0.5 else data
        start, end = self.span(data)
        unit = rng.choice((data[start:end], rng.choice(WORDS), rng.choice(WORDS) + rng.choice(WORDS))) or b" "
        room = BUDGET_SIZE - len(data)
        size = rng.choice((room, room, room // 8, rng.randrange(max(room, 1))))
        count = max(0, size // len(unit))
        if rng.random() < 0.3:  # no two alike, so that no cache helps
            return (
                data[:start]
                + b"".join(b"%x%b" % (n, unit) for n in range(count * len(unit) // (len(unit) + 4)))
                + data[start:]
            )
        return data[:start] + unit * count + data[start:]

    def written(self, _: bytes) -> bytes:
        """A few requests by a grammar that is right more often than not."""
        return b"".join(self.request() for _ in range(self.rng.choice((1, 1, 1, 2, 3))))

    def request(self) -> bytes:
        rng = self.rng
        usual: Callable[[bytes], bytes] = lambda right: right if rng.random() < 0.97 else rng.choice(WORDS)  # noqa: E731
        blank, colon, line_end = usual(b" "), usual(b":"), usual(b"\r\n")
        line = rng.choice((b"GET", b"POST", b"PUT", b"OPTIONS")) + blank
        line += usual(rng.choice((b"/", b"/a?b=c", b"http://b/c?d", b"*", b"//x", b"/%41"))) + usual(b" ")
        line += usual(rng.choice((b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"))) + line_end
        content = bytes(rng.choices(b"ab\r\n0\0", k=rng.randrange(8)))
        fields = [b"Host" + colon + usual(b" ") + usual(rng.choice((b"a", b"a:80", b"[::1]", b"")))]
        body = b""
        match rng.randrange(5):
            case 0:
                fields.append(b"Content-Length: " + usual(b"%d" % len(content)))
                body = content
            case 1 | 2:
                fields.append(b"Transfer-Encoding: " + usual(b"chunked"))
                body = self.chunked(content, usual)
        extra = (
            b"Connection: keep-alive",
            b"Connection: close",
            b"Expect: 100-continue",
            b"Upgrade: x",
            b"X: y",
            b"Y:\tz ",
        )
        fields += [usual(field) for field in rng.sample(extra, rng.choice((0, 1, 2)))]
        rng.shuffle(fields)
        return line + b"".join(field + usual(b"\r\n") for field in fields) + usual(b"\r\n") + body

    def chunked(self, content: bytes, usual: Callable[[bytes], bytes]) -> bytes:
        rng = self.rng
        out = b""
        while content:
            size = rng.randint(1, len(content))
            extension = rng.choice((b"", b"", b"", b";a", b" ; a = b", b';a="b;\\""'))
            out += usual(b"%x" % size) + usual(extension) + usual(b"\r\n") + content[:size] + usual(b"\r\n")
            content = content[size:]
        trailers = rng.choice((b"", b"", b"", b"X: y\r\n", b"X: y\r\nY: z\r\n", b"Content-Length: 1\r\n"))
        return out + usual(b"0") + usual(b"\r\n") + usual(trailers) + usual(b"\r\n")


MUTATIONS = [
    Inputs.insert_word,
    Inputs.insert_word,
    Inputs.replace_by_word,
    Inputs.replace_byte,
    Inputs.delete,
    Inputs.repeat,
    Inputs.cut_short,
    Inputs.move,
    Inputs.splice,
    Inputs.append,
    Inputs.swap_lines,
    Inputs.repeat_line,
    Inputs.again,
    Inputs.again,
]


def inputs(seed: int) -> Inputs:
    return Inputs(Random(seed), [(case.data, case.limits) for case in cases()])


# The loop


def shape(lines: list[str]) -> str:
    """What kind of thing happened, so that inputs that do something new are kept and changed further."""
    return "|".join(re.sub(r"^Request .* |[:'].*|\d{4,}", "", line) for line in lines)[:300]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long to run")
    parser.add_argument("--runs", type=int, default=0, help="stop after this many inputs")
    parser.add_argument("--seed", type=int, default=0, help="which inputs")
    parser.add_argument("--save", type=Path, default=Path(tempfile.gettempdir()) / "fuzz_h1", help="where findings go")
    arguments = parser.parse_args()

    stream = inputs(arguments.seed)
    seen: set[str] = set()
    ends: Counter[str] = Counter()
    findings = runs = size = 0
    slowest = 0.0
    start = told = time.monotonic()
    while (now := time.monotonic()) < start + arguments.seconds and not 0 < arguments.runs <= runs:
        data, limits = stream.next()
        runs += 1
        size += len(data)
        try:
            lines = check(data, limits, stream.rng)
            if len(data) > DRIP_UP_TO:
                slowest = max(slowest, check_budget(data, limits))
        except Exception as error:  # anything at all is a finding
            findings += 1
            arguments.save.mkdir(parents=True, exist_ok=True)
            path = arguments.save / f"seed-{arguments.seed}-run-{runs}.http"
            path.write_bytes(data)
            print(f"{path}: {limits}\n  {type(error).__name__}: {error}"[:2000], flush=True)
            continue
        ends[" ".join(lines[-1].split(" ")[:2])] += 1
        if (kind := shape(lines)) not in seen:
            seen.add(kind)
            stream.learn(data, limits)
        if now > told + 30:
            told = now
            print(f"{now - start:.0f} s: {runs} inputs, {len(seen)} shapes, {findings} findings", flush=True)
    print(
        f"{runs} inputs ({size / 1e6:.0f} MB) in {time.monotonic() - start:.0f} s with seed {arguments.seed}: "
        f"{findings} findings; {len(seen)} shapes; slowest {slowest * 1000:.1f} ms; "
        + ", ".join(f"{count} {end}" for end, count in ends.most_common())
    )
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
