"""What proxies say about a client: the `X-Forwarded-` fields, and `Forwarded` (RFC 7239).

Bytes go in, and only values that were checked come out. Whether any of it is believed, `trust` decides.

A list of hops is read from its end: each proxy appends what it saw, so what a trusted one appended stands to the
right of what a client may have made up.
"""

import re
from collections.abc import Container, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

from monoceros.wire import grammar
from monoceros.wire.events import RemoteError

Address = tuple[str, int]

# What lies further from the end than this is not looked at. Nobody has so many proxies, and a stranger could
# make us read 64 KiB of addresses.
MOST_HOPS: Final = 64
LONGEST_LIST: Final = 4096

# Quotes, brackets, the longest IPv6 address, colon, port: 55 characters.
LONGEST_NODE: Final = 64

# A socket that was upgraded is to WSGI what it was before; ASGI has words of its own for it.
SCHEMES: Final = {b"http": "http", b"ws": "http", b"https": "https", b"wss": "https"}

# RFC 7239 §6: node = nodename [ ":" node-port ], an IPv6 address in brackets. X-Forwarded-For has them without, too.
# IPv4 is spelled out (RFC 3986 §3.2.2), as the library takes microseconds; of IPv6 that has the last word, but for
# zones ("%eth0"), in which it would take any text.
_OCTET: Final = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_node_form = re.compile(
    rb"(?:(%s(?:\.%s){3})|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?|([0-9A-Fa-f:.]+)" % (_OCTET, _OCTET)
)

# RFC 7239 §4: forwarded-pair = token "=" value; value = token / quoted-string; ";" between pairs, "," between
# elements. Blanks around both, and ":", "[" and "]" without the quotes they need, are common and cannot be misread.
# The runs of blanks are possessive: two of them side by side would cost n².
_pair = re.compile(
    rb"[ \t]*+(?:(%s)=(?:([-!#$%%&'*+.^_`|~0-9A-Za-z:\[\]]+)|"
    rb'"((?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*)"))?[ \t]*+(,|;|\Z)' % grammar.TOKEN
)
_escape = re.compile(rb"\\(.)")

# A backslash is a slash to browsers, and "//evil.example" another site.
_prefix_form = re.compile(rb"/(?:[ !-.0-\[\]-~\x80-\xff][ -\[\]-~\x80-\xff]*)?")


def node(text: bytes) -> Address | None:
    """The IP address and the port (0: not said) of a hop; None for what is no address, as "unknown" or "_hidden".

    The address is in its shortest form, and an IPv4 address that was mapped into IPv6 is the IPv4 address.
    """
    return _node(text) if len(text) <= LONGEST_NODE else None


@lru_cache(maxsize=1024)
def _node(text: bytes) -> Address | None:
    match = _node_form.fullmatch(text)
    if match is None:
        return None
    plain, bracketed, digits, bare = match.groups()
    port = int(digits or 0)
    if port > 65535:
        return None
    if plain:
        return plain.decode("ascii"), port
    try:
        address = IPv6Address((bracketed or bare).decode("ascii"))
    except ValueError:
        return None
    return str(address.ipv4_mapped or address), port


def hops(lines: Sequence[bytes]) -> Iterable[bytes]:
    """The entries of the X-Forwarded-For `lines`, the nearest first, without blanks and quotes around them."""
    text = b",".join(lines)
    if len(text) > LONGEST_LIST:
        text = text[-LONGEST_LIST:].partition(b",")[2]  # half an address may be another address
    entries = text.rsplit(b",", MOST_HOPS)[-MOST_HOPS:]
    for entry in reversed(entries):
        entry = entry.strip(b" \t")
        yield entry[1:-1] if len(entry) > 1 and entry[:1] == entry[-1:] == b'"' else entry


def client(nodes: Iterable[bytes], trusted: Container[str]) -> Address | None:
    """The client at the end of a way that is given hop by hop, the nearest first; None if it is the peer itself.

    It is the first address that is not trusted, for only a trusted one is believed about the hop before it. If all
    are trusted, it is the furthest. What is no address ends the way, an empty entry as well: whoever wrote it
    did not know better, and what stands before it may be anybody's.
    """
    found = None
    for text in nodes:
        address = node(text)
        if address is None:
            break
        found = address
        if address[0] not in trusted:
            break
    return found


def elements(lines: Sequence[bytes]) -> list[dict[bytes, bytes]]:
    """The elements of the Forwarded `lines`, the nearest last, each with its pairs, names in lower case.

    Raises `RemoteError` for what RFC 7239 §4 does not allow. Unlike X-Forwarded-For, such a list cannot be read from
    its end: an open quote that a client began would take in what the proxy appended, or the other way round. So
    what cannot be read whole is refused, and so is what is too long.
    """
    if sum(map(len, lines)) > LONGEST_LIST:
        raise RemoteError(f"Forwarded field of over {LONGEST_LIST} bytes")
    found: list[dict[bytes, bytes]] = []
    for line in lines:
        at, end = 0, b","
        while end:
            if end == b",":
                if len(found) == MOST_HOPS:
                    raise RemoteError(f"Forwarded field of over {MOST_HOPS} elements")
                found.append({})
            match = _pair.match(line, at)
            if match is None:
                raise RemoteError("malformed Forwarded field")
            name, bare, quoted, end = match.groups()
            if name is not None:
                name = name.lower()
                if name in found[-1]:
                    raise RemoteError("malformed Forwarded field")  # RFC 7239 §4: each parameter once
                found[-1][name] = _escape.sub(rb"\1", quoted) if bare is None else bare
            at = match.end()
    return found


def last(lines: Sequence[bytes]) -> bytes:
    """The last value of a field that is a list: what the nearest proxy says. Empty if there is none."""
    return lines[-1].rpartition(b",")[2].strip(b" \t") if lines else b""


def scheme(value: bytes) -> str:
    """ "http" or "https", or "" for another one."""
    return SCHEMES.get(value.lower(), "")


def host(value: bytes) -> str | None:
    """A host and perhaps a port, as in a Host field but not empty; None for what is none."""
    if value[:1] in (b"", b":") or not grammar.host.fullmatch(value):
        return None
    _, colon, digits = value.rpartition(b":")
    if colon and digits.isdigit() and port(digits) is None:
        return None
    return value.decode("ascii")


def port(value: bytes) -> int | None:
    """A TCP port; None for what is none."""
    if value.isdigit() and len(value) <= 5 and 0 < int(value) <= 65535:
        return int(value)
    return None


def prefix(value: bytes) -> str:
    """A path that a proxy took off, without the slash at its end; "" for what cannot be one."""
    return value.decode("latin-1").rstrip("/") if _prefix_form.fullmatch(value) else ""
