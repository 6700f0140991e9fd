"""What to watch, as a value made of the settings, and the patterns that say which files are meant."""

import fnmatch
import glob
import importlib.util
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from monoceros.settings import place
from monoceros.settings.table import Settings, SettingsError

# Uvicorn's patterns, which what the user asks for is added to.
INCLUDES: Final = ("*.py",)
EXCLUDES: Final = (".*", ".py[cod]", ".sw.*", "~*")


@dataclass(frozen=True, slots=True)
class Watch:
    """What to watch. Paths are absolute; `delay` is in seconds; `engine` is "poll" or "watchfiles".

    In the trees below `directories`, files that match `includes` and not `excludes`; and wherever they are, what the
    paths and globs in `extra_files` match at the moment.
    """

    directories: tuple[str, ...]
    extra_files: tuple[str, ...] = ()
    includes: tuple[str, ...] = INCLUDES
    excludes: tuple[str, ...] = EXCLUDES
    engine: str = "poll"
    delay: float = 0.25


def watch_of(settings: Settings) -> Watch:
    """What these settings ask to watch.

    As with Uvicorn, `reload_dirs` stands in for the working directory, an include that is a directory is one more, and
    a default pattern holds unless the opposite is asked for. Raises SettingsError if a directory does not exist, or
    the engine is not installed.
    """
    base = os.path.abspath(settings.chdir)
    named = [os.path.join(base, name) for name in settings.reload_dirs]
    for directory in named:
        if not os.path.isdir(directory):
            raise SettingsError(f"reload_dirs: {directory!r} is not a directory")
    working, *others = place.importable(settings)
    others += [os.path.join(base, name) for name in settings.reload_includes]
    directories = map(os.path.abspath, [*(named or [working]), *filter(os.path.isdir, others)])
    includes = [_pattern(name, base) for name in settings.reload_includes]
    excludes = [_pattern(name, base) for name in settings.reload_excludes]
    extra = [
        os.path.join(glob.escape(base) if glob.has_magic(name) else base, name) for name in settings.reload_extra_files
    ]
    return Watch(
        directories=tuple(dict.fromkeys(directories)),
        extra_files=tuple(dict.fromkeys(extra)),
        includes=_together(INCLUDES, includes, excludes),
        excludes=_together(EXCLUDES, excludes, includes),
        engine=_engine(settings.reload_engine),
        delay=settings.reload_delay,
    )


def _pattern(given: str, base: str) -> str:
    """A pattern as it is compared: "./build/" is "build"; one that leaves the working directory is absolute."""
    pattern = os.path.normpath(given)
    return os.path.normpath(os.path.join(base, pattern)) if pattern.split("/")[0] == ".." else pattern


def _together(defaults: Iterable[str], given: list[str], opposite: list[str]) -> tuple[str, ...]:
    kept = [pattern for pattern in defaults if pattern not in opposite]
    return tuple(dict.fromkeys([*kept, *(pattern for pattern in given if pattern not in defaults)]))


def _engine(asked: str) -> str:
    """The engine that is meant: who asks for inotify wants the kernel to tell, which is what watchfiles is for."""
    if asked == "poll":
        return "poll"
    if importlib.util.find_spec("watchfiles") is not None:
        return "watchfiles"
    if asked == "auto":
        return "poll"
    raise SettingsError(f"reload_engine = {asked!r} needs watchfiles: pip install 'monoceros[reload]'")


class Patterns:
    """Globs as pathlib's `match` understands them: one without a slash is for a name, another for the end of a path."""

    def __init__(self, patterns: Iterable[str]) -> None:
        names = [pattern for pattern in patterns if "/" not in pattern]
        ends = [pattern for pattern in patterns if "/" in pattern]
        self._name = re.compile("|".join(map(fnmatch.translate, names)) or "(?!)")
        self._ends = [[re.compile(fnmatch.translate(part)) for part in reversed(end.split("/"))] for end in ends]

    def match(self, path: str) -> bool:
        """Whether one of the patterns is for this absolute path."""
        if self._name.match(path.rpartition("/")[2]):
            return True
        if not self._ends:
            return False
        parts = path.split("/")
        parts.reverse()
        return any(
            len(end) <= len(parts) and all(part.match(text) for part, text in zip(end, parts, strict=False))
            for end in self._ends
        )
