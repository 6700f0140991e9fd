"""Text to value, for the settings that ASGI and Uvicorn's options brought along. Parsers as in `values`."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from monoceros.settings.values import HEADER_NAME, address, boolean, count, seconds, text, text_or_blank

# RFC 9110 5.5: a field value has visible characters, blanks and tabs, and bytes beyond ASCII. With CR, LF or NUL in it
# a setting could write a second field, or a second response.
FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# How a message ends, and what becomes of the connection: whoever writes the message says that.
FRAMING: Final = frozenset(("connection", "content-length", "keep-alive", "trailer", "transfer-encoding", "upgrade"))

# In one text, a new field begins where a comma is followed by NAME:, but not by the scheme of a URL; other commas
# belong to the value before them.
NEXT_FIELD: Final = re.compile(rf",(?=\s*{HEADER_NAME.pattern}:(?!//))")

WS_ON: Final = ("auto", "websockets", "websockets-sansio", "wsproto")


def _choice(value: object, choices: Mapping[str, str], right: str) -> str:
    """What a word means. Raises ValueError, saying what would be right, for a word that is not among the choices."""
    word = value.strip().lower() if isinstance(value, str) else ""
    if word not in choices:
        raise ValueError(right)
    return choices[word]


def event_loop(value: object) -> str:
    """One of auto, asyncio, uvloop."""
    # The last two are Uvicorn's: whatever asyncio takes, and another loop. "auto" is the nearest.
    choices = {"auto": "auto", "asyncio": "asyncio", "uvloop": "uvloop", "none": "auto", "zuvloop": "auto"}
    return _choice(value, choices, "auto, asyncio or uvloop")


def lifespan(value: object) -> str:
    """One of auto, on, off."""
    return _choice(value, {"auto": "auto", "on": "on", "off": "off"}, "auto, on or off")


def websockets(value: object) -> str:
    """One of auto, none. The names of Uvicorn's implementations mean auto."""
    return _choice(value, {**dict.fromkeys(WS_ON, "auto"), "none": "none"}, "auto or none")


def seconds_or_never(value: object) -> float:
    """A duration in seconds, such as 30 or 1.5; 0, or None, is never."""
    return 0.0 if value is None else seconds(value)


def boolean_or_none(value: object) -> bool | None:
    """True or false; None leaves it open."""
    return None if value is None or value == "" else boolean(value)


def loglevel(value: object) -> str:
    """Text."""
    level = text(value)
    return "debug" if level.lower() == "trace" else level  # Uvicorn's level below debug


def fields(value: object) -> tuple[tuple[str, str], ...]:
    """Header fields: a list of pairs, or of texts such as "Name: Value"; as one text, comma-separated."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = [line for line in NEXT_FIELD.split(value) if line.strip()]
    if isinstance(value, Mapping):
        value = list(value.items())
    if not isinstance(value, list | tuple):
        raise ValueError('header fields such as "Name: Value"')
    return tuple(map(_field, value))


def _field(item: object) -> tuple[str, str]:
    if isinstance(item, str):
        name, colon, content = item.partition(":")
        item = (name.strip(), content) if colon else ()
    match item:
        case (str(name), str(content)) if HEADER_NAME.fullmatch(name) and FIELD_VALUE.fullmatch(content.strip(" \t")):
            if name.lower() in FRAMING:
                raise ValueError(f"header fields without {name}, which is the server's own")
            return name, content.strip(" \t")
    raise ValueError('header fields such as "Name: Value", without control characters')


def host(value: object) -> str | None:
    """The name or the IP address of a host."""
    name = text_or_blank(value)
    if not name:
        return None
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        return address(f"[{bare}]:0" if ":" in bare else f"{bare}:0").host
    except ValueError:
        raise ValueError("the name or the IP address of a host, without a port") from None


def _if_given(parse: Callable[[object], int], value: object) -> int | None:
    return None if value is None or value == "" else parse(value)


def port(value: object) -> int | None:
    """A port, 0 to 65535; 0 lets the kernel pick one."""
    right = "a port from 0 to 65535"
    try:
        number = _if_given(count, value)
    except ValueError:
        raise ValueError(right) from None
    if number is not None and number > 65535:
        raise ValueError(right)
    return number


def socket_path(value: object) -> str | None:
    """The path of a Unix socket."""
    path = text_or_blank(value)
    if path:
        address(f"unix:{path}")  # which knows how long it may be
    return path or None


def descriptor(value: object) -> int | None:
    """The number of an inherited descriptor."""
    return _if_given(count, value)
