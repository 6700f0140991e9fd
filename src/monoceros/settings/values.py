"""Text to value, for everything that a setting can be.

A parser takes what people write: text from a command line or a variable, or the native value of a config file
(`4`, `True`, `["a", "b"]`, `None`). What it cannot take is a `ValueError` whose text says what would be right, so that
a message can be built around it. The first line of its docstring is the setting's type on the reference page.
"""

import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from monoceros.settings.cpus import available_cpus

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8000

TRUE: Final = frozenset(("true", "yes", "on", "y", "1"))
FALSE: Final = frozenset(("false", "no", "off", "n", "0"))

# poll and epoll count milliseconds in 31 bits, which is 24 days; whoever asks for more means "for ever".
LONGEST: Final = 2_000_000.0

UNITS: Final = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
SIZE: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]+)?) ?(k|m|g)(?:i?b)?", re.IGNORECASE)

# A new pair begins where a comma is followed by NAME=; other commas belong to the value before them.
NEXT_PAIR: Final = re.compile(r",(?=\s*[A-Za-z_][A-Za-z0-9_]*=)")

HEADER_NAME: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")


def boolean(value: object) -> bool:
    """True or false; as text also yes/no, on/off, 1/0."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower() if isinstance(value, str | int) else ""
    if text not in TRUE and text not in FALSE:
        raise ValueError("true or false")
    return text in TRUE


def _whole(value: object) -> int:
    """An int, text of one (0x and 0o forms too), or a float without a fraction, as `cpu_count() / 2` gives."""
    if isinstance(value, str):
        text = value.strip()
        return int(text, 10 if text.isdecimal() else 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != math.floor(value):
        raise ValueError
    return int(value)


def _at_least(least: int, value: object, right: str) -> int:
    try:
        number = _whole(value)
    except (ValueError, OverflowError):  # a float may be nan or infinite
        raise ValueError(right) from None
    if number < least:
        raise ValueError(right)
    return number


def count(value: object) -> int:
    """A whole number, 0 or more."""
    return _at_least(0, value, "a whole number, 0 or more")


def positive(value: object) -> int:
    """A whole number, 1 or more."""
    return _at_least(1, value, "a whole number, 1 or more")


def workers(value: object) -> int:
    """A whole number, 1 or more, or "auto": one for each CPU that this process may use."""
    if isinstance(value, str) and value.strip().lower() == "auto":
        return available_cpus()
    return _at_least(1, value, 'a whole number, 1 or more, or "auto"')


def seconds(value: object) -> float:
    """A duration in seconds, 0 or more, such as 30 or 1.5.

    Beyond `LONGEST` (23 days) it is cut to that, which is what system calls can wait for.
    """
    try:
        duration = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        duration = math.nan
    if not duration >= 0:  # nan is not
        raise ValueError("a number of seconds, 0 or more")
    return min(duration, LONGEST)


def size(value: object) -> int:
    """A size in bytes, such as 65536, or "64K", "10M", "1GiB" (K is 1024)."""
    if isinstance(value, str) and (match := SIZE.fullmatch(value.strip())):
        return int(float(match[1]) * UNITS[match[2].lower()])
    return _at_least(0, value, "a size in bytes, such as 65536, 64K or 10M")


def text(value: object) -> str:
    """Text."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise ValueError("a text")
    return value.strip()


def text_or_blank(value: object) -> str:
    """Text, which may be empty."""
    return "" if value is None else text(value)


def text_or_none(value: object) -> str | None:
    """Text, or None."""
    return text_or_blank(value) or None


def directory(value: object) -> str:
    """A directory that exists."""
    path = text(value)
    if not path:
        raise ValueError("a directory")
    return path


def names(value: object) -> tuple[str, ...]:
    """Names, comma-separated or as a list."""
    return tuple(_pieces(value, "names, comma-separated"))


def header_names(value: object) -> tuple[str, ...]:
    """Names of header fields, comma-separated or as a list; "*" for all. Kept in upper case."""
    right = 'names of header fields, comma-separated, or "*"'
    found = tuple(name.upper() for name in _pieces(value, right))
    if not all(map(HEADER_NAME.fullmatch, found)):
        raise ValueError(right)
    return found


def paths(value: object) -> str:
    """Directories, comma-separated or as a list."""
    return ",".join(_pieces(value, "directories, comma-separated"))


def _pieces(value: object, right: str) -> list[str]:
    """The pieces of a comma-separated text, or of a list of such texts, without blanks and without empty ones."""
    if value is None:
        return []
    listed = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    try:
        found = [piece.strip() for item in listed for piece in text(item).split(",")]
    except ValueError:
        raise ValueError(right) from None
    return [piece for piece in found if piece]


def worker_class(value: object) -> str:
    """The name of a kind of worker, such as "gthread"."""
    if isinstance(value, type):  # a config file may import the class itself
        return f"{value.__module__}.{value.__qualname__}"
    name = text(value) if isinstance(value, str) else ""
    if not name:
        raise ValueError('the name of a kind of worker, such as "sync" or "gthread"')
    return name


def header_map(value: object) -> str:
    """One of drop, refuse, dangerous."""
    choice = value.strip().lower() if isinstance(value, str) else ""
    if choice not in ("drop", "refuse", "dangerous"):
        raise ValueError("drop, refuse or dangerous")
    return choice


def environment(value: object) -> tuple[str, ...]:
    """NAME=VALUE pairs: a list of them; as one text, comma-separated.

    In a list a comma belongs to its pair, and so does, in one text, a comma that no NAME= follows.
    """
    right = "NAME=VALUE"
    if value is None:
        return ()
    if isinstance(value, str):
        value = [pair.strip() for pair in NEXT_PAIR.split(value) if pair.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError(right)
    for pair in value:
        if not isinstance(pair, str) or not pair.partition("=")[0] or "=" not in pair or "\0" in pair:
            raise ValueError(right)
    return tuple(value)


def mapping(value: object) -> Mapping[str, str]:
    """A dict of header names to texts, in a config file."""
    if not isinstance(value, Mapping) or not all(isinstance(part, str) for item in value.items() for part in item):
        raise ValueError("a dict of header names to texts, which only a config file can give")
    return MappingProxyType({name.upper(): expected for name, expected in value.items()})


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. `kind` says which of the other fields mean something.

    tcp     `host` (a name, or an IP address without brackets) and `port` (0: the kernel picks one)
    unix    `path`; an abstract socket's begins with a NUL
    fd      `fd`, the number of an inherited descriptor
    """

    kind: str
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1

    @property
    def name(self) -> str:
        """The canonical text: equal for equal addresses, and `address()` understands it."""
        if self.kind == "tcp":
            return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        if self.kind == "unix":
            return "unix:" + self.path.replace("\0", "@", 1)
        return f"fd://{self.fd}"

    def __str__(self) -> str:
        return self.name


def address(value: object) -> Address:
    """Where to listen: HOST, HOST:PORT, [IPV6]:PORT, unix:PATH or fd://NUMBER.

    What is left out is 127.0.0.1, or 8000. So "8000" is port 8000 here (Gunicorn looks for a host of that name). As
    with Gunicorn, ":8000" is that port on all IPv4 addresses, and "" is ":8000". An IPv6 address alone needs no
    brackets, unless its end looks like a port. "unix:@name" is an abstract socket (for a file of that name:
    "unix:./@name").
    """
    if isinstance(value, Address):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(ADDRESS)
    where = value.strip()
    if where.startswith("unix:"):
        return Address("unix", path=_socket_path(where.removeprefix("unix:").removeprefix("//")))
    if where.startswith("fd://"):
        number = where.removeprefix("fd://")
        if not number.isdecimal():
            raise ValueError(ADDRESS)
        return Address("fd", fd=int(number))
    return _tcp(where.removeprefix("tcp://"))


ADDRESS: Final = "HOST:PORT, PORT, [IPV6]:PORT, unix:PATH or fd://NUMBER"


def _socket_path(path: str) -> str:
    if path.startswith("@"):
        path = "\0" + path[1:]
    # sun_path has 108 bytes (unix(7)); a file's name ends with a NUL there.
    if len(path.strip("\0")) == 0 or "\0" in path[1:] or len(os.fsencode(path)) > 107:
        raise ValueError("unix:PATH with a path of 1 to 107 bytes")
    return path


def _tcp(where: str) -> Address:
    if where.isdecimal():
        host, port = DEFAULT_HOST, where
    elif where.startswith("["):
        host, bracket, rest = where[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(ADDRESS)
        host, port = _ipv6(host), rest[1:] if rest else str(DEFAULT_PORT)
    elif where.count(":") > 1:
        host, port = _bare_ipv6(where), str(DEFAULT_PORT)
    else:
        host, colon, port = where.partition(":")
        host, port = host.lower() or "0.0.0.0", port if colon else str(DEFAULT_PORT)
    if not re.fullmatch(r"[^\s/@,\[\]]+", host) or not port.isdecimal():
        raise ValueError(ADDRESS)
    if len(port) > 5 or int(port) > 65535:
        raise ValueError("HOST:PORT with a port from 0 to 65535")
    return Address("tcp", host=host, port=int(port))


def _bare_ipv6(where: str) -> str:
    """The address; not if it could as well be one with a port: "::1:8000" is an address, too, but nobody means it."""
    host, _, port = where.rpartition(":")
    if re.fullmatch("[0-9]{2,5}", port) and _is_ipv6(host):
        whole = f" or [{where}]" if _is_ipv6(where) else ""
        raise ValueError(f"[{host}]:{port}{whole}: an IPv6 address with a port goes in brackets")
    return _ipv6(where)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _ipv6(host: str) -> str:
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise ValueError(ADDRESS) from None


def addresses(value: object) -> tuple[Address, ...]:
    """Addresses, comma-separated or as a list.

    One that is named twice counts once. There must be at least one.
    """
    found = []
    for item in value if isinstance(value, list | tuple) else [value]:
        pieces = item.split(",") if isinstance(item, str) else [item]
        # A comma at the end adds nothing, but "" alone means something.
        found += [address(piece) for piece in pieces if len(pieces) == 1 or str(piece).strip()]
    if not found:
        raise ValueError(f"at least one address: {ADDRESS}")
    return tuple(dict.fromkeys(found))


def admin_addresses(value: object) -> tuple[Address, ...]:
    """Addresses for operators, of which there may be none; without a host they are on the loopback interface."""
    if value is None or value == "" or value == () or value == []:
        return ()
    found = []
    for item in value if isinstance(value, list | tuple) else [value]:
        pieces = [piece.strip() for piece in item.split(",")] if isinstance(item, str) else [item]
        found += [f"{DEFAULT_HOST}{piece}" if str(piece).startswith(":") else piece for piece in pieces if piece]
    return addresses(found)


class Networks:
    """A set of IP networks. `"10.1.2.3" in networks` is quick, and False for what is no IP address.

    An IPv4 address that comes in over an IPv6 socket ("::ffff:10.1.2.3") counts as the IPv4 address. `everyone` is
    True for "*", which holds any text at all.
    """

    __slots__ = ("_holds", "everyone", "text")

    everyone: Final[bool]
    text: Final[str]

    def __init__(self, *items: str) -> None:
        """Of IP addresses, networks and "*"; raises ValueError for what is none of them."""
        self.everyone = "*" in items
        found = [ipaddress.ip_network(item) for item in items if item != "*"]
        self.text = "*" if self.everyone else ",".join(str(net).removesuffix(f"/{net.max_prefixlen}") for net in found)

        # Peers come again and again, and parsing an address takes microseconds. Bounded, since strangers fill it.
        @lru_cache(maxsize=1024)
        def holds(ip: str) -> bool:
            try:
                peer = ipaddress.ip_address(ip)
            except ValueError:
                return False
            inner = peer.ipv4_mapped if peer.version == 6 else None
            return any(peer in net or (inner is not None and inner in net) for net in found)

        self._holds: Callable[[str], bool] = holds

    def __contains__(self, ip: object) -> bool:
        # Longer than any address: not worth a place in the cache.
        return self.everyone or (isinstance(ip, str) and len(ip) <= 64 and self._holds(ip))

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Networks) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Networks({self.text!r})"


def networks(value: object) -> Networks:
    """IP addresses and networks, comma-separated or as a list; "*" for everyone."""
    if isinstance(value, Networks):
        return value
    right = 'IP addresses and networks such as 10.0.0.0/8, comma-separated, or "*"'
    items = _pieces(value, right)
    for item in items:
        try:
            Networks(item)
        except ValueError as error:
            # ipaddress says what is wrong ("10.0.0.1/8 has host bits set"), which our sentence does not.
            raise ValueError(f"{right} ({error})") from None
    return Networks(*items)
