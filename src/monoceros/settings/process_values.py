"""Text to value, for the settings of processes, of the reloader and of logging. Parsers as in `values`."""

import grp
import os
import pwd
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from monoceros.settings.values import boolean, text

# The last number, which is -1 to setuid(2), means "leave it as it is".
LAST_ID: Final = 2**32 - 2

ENGINES: Final = ("auto", "poll", "inotify", "watchfiles")

# What makes a path a pattern to `glob`.
WILD: Final = re.compile(r"[*?\[]")


def user(value: object) -> int | None:
    """The name or the number of a user."""
    return _id(value, "user", lambda name: pwd.getpwnam(name).pw_uid)


def group(value: object) -> int | None:
    """The name or the number of a group."""
    return _id(value, "group", lambda name: grp.getgrnam(name).gr_gid)


def _id(value: object, what: str, look_up: Callable[[str], int]) -> int | None:
    right = f"the name or the number of a {what}"
    name = value.strip() if isinstance(value, str) else value
    if name is None or name == "":
        return None
    if isinstance(name, str) and not re.fullmatch("[0-9]{1,10}", name):
        try:
            return look_up(name)
        except (KeyError, ValueError):  # a NUL is a ValueError
            raise ValueError(f"{right}; there is no {what} {name!r}") from None
    number = int(name) if isinstance(name, str | int) and not isinstance(name, bool) else -1
    if not 0 <= number <= LAST_ID:
        raise ValueError(right)
    return number


def umask(value: object) -> int:
    """A mask of file modes, 0 to 0o777; text that begins with 0 is octal."""
    right = 'a mask of file modes from 0 to 0o777, such as "022"'
    try:
        mask = auto_int(value)
    except ValueError:
        raise ValueError(right) from None
    if not 0 <= mask <= 0o777:
        raise ValueError(right)
    return mask


def auto_int(value: object) -> int:
    """An int, or text of one as Python writes it, but "022" is octal. Raises ValueError."""
    if isinstance(value, str):
        number = value.strip()
        return int(number, 8 if re.fullmatch("0[0-7]+", number) else 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number")
    return int(value)


def sendfile(value: object) -> bool:
    """True or false; as text also yes/no, on/off, 1/0. None, which is Gunicorn's default, is true."""
    return value is None or boolean(value)


def reload_engine(value: object) -> str:
    """One of auto, poll, inotify, watchfiles."""
    engine = value.strip().lower() if isinstance(value, str) else ""
    if engine not in ENGINES:
        raise ValueError("auto, poll, inotify or watchfiles")
    return engine


def patterns(value: object) -> tuple[str, ...]:
    """Paths or patterns, comma-separated or as a list."""
    if value is None:
        return ()
    right = "paths or patterns, comma-separated or as a list"
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple | set | frozenset):
        raise ValueError(right)
    try:
        found = [text(item) for item in value]
    except ValueError:
        raise ValueError(right) from None
    if any("\0" in item for item in found):
        raise ValueError(right)
    return tuple(item for item in found if item)


def is_pattern(path: str) -> bool:
    """Whether a path is one for `glob` to expand."""
    return bool(WILD.search(path))


def files_missing(paths: tuple[str, ...]) -> list[str]:
    """Those that name one file which is not there."""
    return [path for path in paths if not is_pattern(path) and not os.path.exists(path)]


def log_config(value: object) -> Mapping[str, Any]:
    """A dict for logging.config.dictConfig, in a config file."""
    if value is None:
        return MappingProxyType({})
    if not isinstance(value, Mapping):
        raise ValueError("a dict for logging.config.dictConfig, which only a config file can give")
    return MappingProxyType(unshared(value))


def unshared(value: Any) -> Any:
    """The same with dicts and lists of its own, so that what changes in one does not change in the other.

    What else is in it, a stream or a class, stays what it is.
    """
    if isinstance(value, Mapping):
        return {name: unshared(part) for name, part in value.items()}
    return [unshared(part) for part in value] if isinstance(value, list) else value
