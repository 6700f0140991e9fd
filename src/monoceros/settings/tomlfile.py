"""Config files in TOML: `monoceros.toml`, or the table `[tool.monoceros]` of a `pyproject.toml`.

Nobody else reads them, so a key that is no setting is a mistake, which in Python it need not be.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from monoceros.settings.table import SettingsError

OURS: Final = "monoceros.toml"
PROJECTS: Final = "pyproject.toml"

# Where in a pyproject.toml we stand.
TABLE: Final = ("tool", "monoceros")

# A line that opens a table, and one that sets a key or something below it. This does not parse, it only finds lines:
# a text of several lines may look like a key, which then has that line in messages.
OPENING: Final = re.compile(r"\s*\[\[?([\w\s.\"'-]+)\]\]?\s*(?:#.*)?")
SETTING: Final = re.compile(r"\s*[\"']?([\w-]+)[\"']?\s*[=.]")


@dataclass(frozen=True)
class TomlFile:
    """A config file that has been read. `shown` is its name in messages, `names` what it sets, `lines` where."""

    shown: str
    names: Mapping[str, object]
    lines: Mapping[str, int]

    def origin(self, name: str) -> str:
        """FILE:LINE of a key; without the line, if it is written in another form than one key a line."""
        return f"{self.shown}:{self.lines[name]}" if name in self.lines else self.shown


def find(cwd: str) -> str | None:
    """The name of the file that is read without being asked for, None if there is none in `cwd`.

    A pyproject.toml without our table is somebody else's, and so is one that nobody can read. Raises SettingsError for
    one that speaks of us but is wrong.
    """
    if os.path.isfile(os.path.join(cwd, OURS)):
        return OURS
    path = os.path.join(cwd, PROJECTS)
    if not os.path.isfile(path) or ".".join(TABLE) not in _text(path, PROJECTS).replace(" ", ""):
        return None
    return PROJECTS if _table(_parsed(_text(path, PROJECTS), PROJECTS), PROJECTS) is not None else None


def is_one(config: str) -> bool:
    """Whether what `-c` names is TOML, by its name."""
    return config.endswith(".toml") and not config.startswith("python:")


def read(config: str, cwd: str) -> TomlFile:
    """What is in the file that `-c` names: PATH (relative to `cwd`) or file:PATH. Raises SettingsError."""
    shown = config.removeprefix("file:")
    path = os.path.abspath(os.path.join(cwd, shown))
    source = _text(path, shown)
    whole, prefix = _parsed(source, shown), ()
    if os.path.basename(path) != PROJECTS:
        return TomlFile(shown, whole, _lines(source, prefix))
    ours = _table(whole, shown)
    if ours is None:
        raise SettingsError(f"config file {shown}: it has no table [{'.'.join(TABLE)}]")
    return TomlFile(shown, ours, _lines(source, TABLE))


def _text(path: str, shown: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        raise SettingsError(f"config file {shown}: {error.strerror} ({path})") from None
    except UnicodeDecodeError:
        raise SettingsError(f"config file {shown}: TOML is UTF-8, which this is not") from None


def _parsed(source: str, shown: str) -> dict[str, Any]:
    import tomllib  # most servers have no such file, and their workers no use for its grammar

    try:
        return tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r" \(at line (\d+), column \d+\)", str(error))
        where = f"{shown}:{line[1]}" if line else shown
        raise SettingsError(f"{where}: not TOML: {str(error).replace(line[0] if line else '', '')}") from None


def _table(whole: Mapping[str, Any], shown: str) -> Mapping[str, Any] | None:
    """Our table of a pyproject.toml, None if there is none."""
    found: Any = whole
    for name in TABLE:
        if not isinstance(found, Mapping):
            raise SettingsError(f"config file {shown}: {name} should be in a table")
        if name not in found:
            return None
        found = found[name]
    if not isinstance(found, Mapping):
        raise SettingsError(f"config file {shown}: {'.'.join(TABLE)} is no table")
    return found


def _lines(source: str, prefix: tuple[str, ...]) -> dict[str, int]:
    """The line of each key below `prefix`, and of each table there."""
    lines: dict[str, int] = {}
    for number, path in _keys(source):
        if path[: len(prefix)] == prefix and len(path) > len(prefix):
            lines.setdefault(path[len(prefix)], number)
    return lines


def _keys(source: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    table: tuple[str, ...] = ()
    for number, line in enumerate(source.split("\n"), 1):
        if opening := OPENING.fullmatch(line.rstrip("\r")):
            table = tuple(part.strip().strip("\"'") for part in opening[1].split("."))
            yield number, table
        elif setting := SETTING.match(line):
            yield number, (*table, setting[1])
