"""From everywhere to one `Settings`: defaults, config file, variables, command line; the later wins.

Each source is a list of `Given`, and remembers where a value stood, so that an error can say which place to mend. A
wrong value is an error wherever it stands, also if something later overrides it: better today than on the day when
that something is taken away.
"""

import difflib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import Any, Final, NamedTuple

from monoceros.settings import absent, aliases, pyfile, render
from monoceros.settings.place import here
from monoceros.settings.table import DEFAULTS_FROM_ENVIRONMENT, FILE, ROWS, VARIABLE, Settings, SettingsError

# Both are read: people move in with the first.
ARGUMENTS: Final = ("GUNICORN_CMD_ARGS", "MONOCEROS_CMD_ARGS")

# How alike two names must be for "did you mean". A config file has names of its own, hence the high bar: `log_level`
# is meant for `loglevel` (0.94), `logconfig` is not for `config` (0.80).
ALIKE: Final = 0.85

# The words of flags that people try in config files; shorter ones (`name`, `env`) are anybody's names.
FLAG_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        word: row.name
        for row in ROWS.values()
        for flag in row.flags
        if len(word := flag.strip("-").replace("-", "_")) > 5 and word != row.name and FILE in row.sources
    }
)


class Given(NamedTuple):
    """A value as it was found, and where."""

    name: str
    value: object
    origin: str


def load(argv: Sequence[str], environ: Mapping[str, str] = os.environ, cwd: str | None = None) -> Settings:
    """The settings that hold for a command line (without the program's name), an environment and a directory.

    `cwd` is where relative paths to config files begin; a server that has changed its directory since gives the one
    that it was started in. Raises SettingsError, one line that names the places to mend. For what argparse calls a
    usage error (an unknown flag), exits with status 2.
    """
    directory = cwd or here(environ)
    notes: list[str] = []
    above = [*_variables(environ, notes), *_arguments(environ, notes), *_command_line(list(argv), notes)]
    file = _file([given for given in above if given.name == "config"], directory)
    wrong: list[str] = []
    given = [*_defaults(environ), *(_from_file(file, notes, wrong) if file else ()), *above]
    values = _values(given, wrong)
    if wrong:
        raise SettingsError("; ".join(wrong))

    origins = {one.name: one.origin for one in given}
    if file and "config" not in values:
        values["config"], origins["config"] = file.shown, f"found in {directory}"
    values["chdir"] = os.path.join(directory, values["chdir"]) if "chdir" in values else directory
    settings = Settings(**values, origins=MappingProxyType(origins), notes=tuple(notes))
    _check(settings)
    return settings


def changes(old: Settings, new: Settings) -> list[str]:
    """The names of settings that differ, but cannot change without a restart."""
    return [row.name for row in ROWS.values() if not row.live and getattr(old, row.name) != getattr(new, row.name)]


def _values(given: Sequence[Given], wrong: list[str]) -> dict[str, Any]:
    """The values by name, the last one of each. What cannot be one is told to `wrong`."""
    values = {}
    for one in given:
        try:
            values[one.name] = parsed(one)
        except SettingsError as error:
            wrong.append(str(error))
    return values


def parsed(given: Given) -> Any:
    """The value of a setting. Raises SettingsError, saying what would be right."""
    try:
        return ROWS[given.name].parse(given.value)
    except ValueError as error:
        raise _refusal(given, f"must be {error}") from None


def _refusal(given: Given, wrong: str) -> SettingsError:
    shown = " ".join(repr(given.value).split())
    if len(shown) > 80:
        shown = f"{shown[:77]}..."
    return SettingsError(f"{given.name} = {shown} ({given.origin}): {wrong}")


def _check(settings: Settings) -> None:
    """What one value alone cannot tell."""
    if not os.path.isdir(settings.chdir):
        origin = settings.origins.get("chdir", "default")
        raise _refusal(Given("chdir", settings.chdir, origin), "no such directory")
    aliases.kind(settings)


def _defaults(environ: Mapping[str, str]) -> Iterator[Given]:
    """The defaults that a platform moves by variables of its own."""
    for variable, (name, read) in DEFAULTS_FROM_ENVIRONMENT.items():
        if variable in environ and (value := read(environ[variable].strip())) is not None:
            yield Given(name, value, f"environment variable {variable}")


def _variables(environ: Mapping[str, str], notes: list[str]) -> Iterator[Given]:
    """MONOCEROS_<SETTING>."""
    rows = {row.variable: row for row in ROWS.values() if VARIABLE in row.sources}
    for variable, row in rows.items():
        if variable in environ:
            yield Given(row.name, environ[variable], f"environment variable {variable}")
    for variable in environ:
        if variable.startswith("MONOCEROS_") and variable not in rows and variable not in ARGUMENTS:
            for near in difflib.get_close_matches(variable, rows, 1, ALIKE):
                notes.append(f"environment variable {variable} is not known, did you mean {near}?")


def _arguments(environ: Mapping[str, str], notes: list[str]) -> Iterator[Given]:
    """Flags in variables, written as on a command line."""
    for variable in ARGUMENTS:
        try:
            argv = shlex.split(environ.get(variable, ""))
        except ValueError as error:
            raise SettingsError(f"{variable}: {error}") from None
        found = render.parser(variable).split(argv)
        for app in found.pop("app", ()):
            notes.append(f"{variable}: {app!r} is not used: name the application on the command line or by wsgi_app")
        for name, value in _present(found, notes, f"{variable} "):
            yield Given(name, value, f"{variable} {ROWS[name].flag}")


def _command_line(argv: list[str], notes: list[str]) -> Iterator[Given]:
    found = render.parser().split(argv)
    apps = found.pop("app", ())
    if apps:
        yield Given("wsgi_app", apps[0], "command line")
    for more in apps[1:]:
        notes.append(f"command line: {more!r} is not used, the application is {apps[0]!r}")
    for name, value in _present(found, notes):
        yield Given(name, value, ROWS[name].flag)


def _present(found: Mapping[str, Any], notes: list[str], source: str = "") -> Iterator[tuple[str, Any]]:
    """What flags say, but for those of Gunicorn's that are not there: they get a note, if they are missed at all."""
    for name, value in found.items():
        if name in ROWS:
            yield name, value
        elif absent.verdict(name, value):
            notes.append(f"{source}{render.shown_flag(name)} has no effect: this version does not have this flag")


def _file(asked: list[Given], directory: str) -> pyfile.ConfigFile | None:
    """The one config file: what was asked for last, or what is found in the directory."""
    config = parsed(asked[-1]) if asked else None
    if config is None:
        config = pyfile.find(directory)
    return pyfile.read(config, directory) if config else None


def _from_file(file: pyfile.ConfigFile, notes: list[str], wrong: list[str]) -> Iterator[Given]:
    """The settings among the names of a config file. Unknown names are its own; likely slips get a note.

    Gunicorn's settings that are not there are noted, or are told to `wrong`, all in one.
    """
    refused = []
    settings = {name for name, row in ROWS.items() if FILE in row.sources}
    for name, value in file.names.items():
        if name in absent.REFUSED | absent.IGNORED:
            said = "" if isinstance(value, ModuleType) else absent.verdict(name, value)
            if said == "refused":
                refused.append(f"{name} ({file.origin(name)})")
            elif said == "ignored":
                notes.append(f"{name} ({file.origin(name)}) has no effect: this version does not have this setting")
        elif name not in settings:
            meant = None if isinstance(value, ModuleType) or callable(value) else _meant(name, file.names)
            if meant:
                notes.append(f"{name} ({file.origin(name)}) is not a setting, did you mean {meant}?")
        elif isinstance(value, ModuleType):
            notes.append(f"{name} ({file.origin(name)}) is a module there, not taken as the setting")
        else:
            yield Given(name, value, file.origin(name))
    if refused:
        remove = "remove the lines" if refused[1:] else "remove the line"
        cannot = "this version cannot do this, and will not start as if it had"
        wrong.append(f"{', '.join(refused)}: {cannot}; {remove}")


def _meant(name: str, names: Mapping[str, object]) -> str | None:
    """The setting that somebody may have meant by a name that is none."""
    if name.startswith("_") or name in ROWS:
        return None
    word = name.lower()
    near = [word] if word in ROWS else difflib.get_close_matches(word, ROWS, 1, ALIKE)
    meant = FLAG_WORDS.get(word) or (near[0] if near else None)
    if meant is None or meant in names or FILE not in ROWS[meant].sources:
        return None  # `worker = 4; workers = worker * 2` is not a slip
    # `graceful_timeout_text` and `old_workers` are names made of a setting's, on purpose.
    return None if word.startswith(f"{meant}_") or word.endswith(f"_{meant}") else meant
