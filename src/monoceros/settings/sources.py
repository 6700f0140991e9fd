"""The places where settings are given. Each is read into a list of `Given`, a layer.

What is not a setting, but looks as if somebody meant one, is remarked upon.
"""

import difflib
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType
from typing import Any, Final, NamedTuple

from monoceros.settings import absent, aliases, hooks, pyfile, render, tomlfile
from monoceros.settings.table import DEFAULTS_FROM_ENVIRONMENT, FILE, FLAG, ROWS, VARIABLE, SettingsError

# Both are read: people move in with the first.
ARGUMENTS: Final = ("GUNICORN_CMD_ARGS", "MONOCEROS_CMD_ARGS")

# How alike two names must be for "did you mean". A config file has names of its own, hence the high bar: `log_level`
# is meant for `loglevel` (0.94), `logconfig` is not for `config` (0.80).
ALIKE: Final = 0.85
# Where names are meant for us, in TOML and after a prefix, `PROT` is meant for `PORT` (0.75).
ALIKE_AMONG_OURS: Final = 0.75
# But after a prefix, `VERSION` is not for `SSL_VERSION` (0.78): only names of so few letters.
SHORT: Final = 5

# What a value, and what a function of a config file may be meant for.
SETTINGS: Final = (*(name for name, row in ROWS.items() if FILE in row.sources), *absent.GUNICORN)
HOOKS: Final = tuple(name for name, row in ROWS.items() if row.section == "Server Hooks")

# The words of flags that people try in config files; shorter ones (`name`, `env`) are anybody's names.
FLAG_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        word: row.name
        for row in ROWS.values()
        for flag in row.flags
        if len(word := flag.strip("-").replace("-", "_")) > 5 and word != row.name and FILE in row.sources
    }
)

# Kubernetes tells a pod of a service called "monoceros" MONOCEROS_PORT=tcp://10.0.0.1:8000. That is not for us.
SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://")

# What the master has decided when it reads CONFIG_KWARGS: Uvicorn's worker leaves it to the master, too.
NOT_A_WORKERS: Final = ("app", "app_dir", "env_file", "fd", "host", "port", "uds", "workers")


class Given(NamedTuple):
    """A value as it was found, and where."""

    name: str
    value: object
    origin: str


@dataclass
class Remarks:
    """What is said about the places: `notes` are warnings, one of `wrong` is enough not to start.

    `uvicorn` says that somebody has used an option that only Uvicorn has.
    """

    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    uvicorn: bool = False


def parsed(given: Given) -> Any:
    """The value of a setting. Raises SettingsError, saying what would be right."""
    try:
        return ROWS[given.name].parse(given.value)
    except ValueError as error:
        raise refusal(given, f"must be {error}") from None


def refusal(given: Given, wrong: str) -> SettingsError:
    """The error that shows a value and where it stands, and says what is wrong with it."""
    return SettingsError(f"{shown(given)}: {wrong}")


def shown(given: Given) -> str:
    """A value and where it stands, cut to a line."""
    text = hooks.name_of(given.value) if callable(given.value) else " ".join(repr(given.value).split())
    if len(text) > 80:
        text = f"{text[:77]}..."
    return f"{given.name} = {text} ({given.origin})"


def defaults(environ: Mapping[str, str], file: str = "") -> Iterator[Given]:
    """The defaults that a platform moves by variables of its own; `file` is where these stand, if not around us."""
    for variable, (name, read) in DEFAULTS_FROM_ENVIRONMENT.items():
        if variable in environ and (value := read(environ[variable].strip())) is not None:
            yield Given(name, value, f"{variable} in {file}" if file else f"environment variable {variable}")


def variables(environ: Mapping[str, str], remarks: Remarks) -> Iterator[Given]:
    """MONOCEROS_<SETTING>."""
    names = {row.variable: row.name for row in ROWS.values() if VARIABLE in row.sources}
    names |= {f"MONOCEROS_{name.upper()}": name for name in absent.GUNICORN}
    for variable, name in names.items():
        if variable in environ and not _is_service_link(variable, environ):
            remarks.uvicorn |= aliases.only_uvicorns(name)
            yield from taken(name, environ[variable], f"environment variable {variable}", remarks)
    _slips("MONOCEROS_", environ, {*names, *ARGUMENTS}, remarks)


def uvicorns_variables(environ: Mapping[str, str], remarks: Remarks) -> Iterator[Given]:
    """UVICORN_<PARAMETER>, as Uvicorn reads them: an empty one says nothing, several values have blanks between."""
    names = {f"UVICORN_{name.upper()}": name for name in aliases.UVICORN_NAMES}
    for variable, name in names.items():
        text = environ.get(variable, "").strip()
        if text and not _is_service_link(variable, environ):
            remarks.uvicorn = True
            value = text.split() if name in aliases.REPEATED else text
            yield from taken(name, value, f"environment variable {variable}", remarks)
    _slips("UVICORN_", environ, set(names), remarks)


def _is_service_link(variable: str, environ: Mapping[str, str]) -> bool:
    return variable.endswith("_PORT") and bool(SERVICE_LINK.match(environ[variable]))


def _slips(prefix: str, environ: Mapping[str, str], known: set[str], remarks: Remarks) -> None:
    # Without the prefix, which makes everything alike.
    words = [variable.removeprefix(prefix) for variable in known.difference(ARGUMENTS)]
    for variable in environ:
        if variable.startswith(prefix) and variable not in known:
            word = variable.removeprefix(prefix)
            bar = ALIKE if len(word) > SHORT else ALIKE_AMONG_OURS
            for near in difflib.get_close_matches(word, words, 1, bar):
                remarks.notes.append(f"environment variable {variable} is not known, did you mean {prefix}{near}?")


def taken(name: str, value: object, origin: str, remarks: Remarks) -> Iterator[Given]:
    """The setting that a name means, be it ours, Gunicorn's or Uvicorn's. What is not there is remarked upon."""
    setting = name if name in ROWS else aliases.UVICORN_NAMES.get(name, name)
    if setting == "logconfig" and isinstance(value, Mapping):
        setting = "logconfig_dict"
    if setting in ROWS:
        yield Given(setting, value, origin)
    elif (verdict := absent.verdict(setting, value)) == "refused":
        remarks.wrong.append(f"{origin}: {absent.why(setting)}")
    elif verdict == "ignored":
        remarks.notes.append(f"{origin} has no effect: {absent.why(setting)}")


def arguments(variable: str, environ: Mapping[str, str], remarks: Remarks) -> Iterator[Given]:
    """Flags in a variable, written as on a command line."""
    try:
        argv = shlex.split(environ.get(variable, ""))
    except ValueError as error:
        raise SettingsError(f"{variable}: {error}") from None
    parser = render.parser(variable)
    found = parser.split(argv)
    for app in found.pop("app", ()):
        remarks.notes.append(
            f"{variable}: {app!r} is not used: name the application on the command line or by wsgi_app"
        )
    yield from _flags(found, parser.used, remarks, f"{variable} ")


def command_line(argv: list[str], remarks: Remarks) -> Iterator[Given]:
    """Flags, and the application."""
    parser = render.parser()
    found = parser.split(argv)
    apps = found.pop("app", ())
    if apps:
        yield Given("wsgi_app", apps[0], "command line")
    for more in apps[1:]:
        remarks.notes.append(f"command line: {more!r} is not used, the application is {apps[0]!r}")
    yield from _flags(found, parser.used, remarks)


def _flags(found: Mapping[str, Any], used: Mapping[str, str], remarks: Remarks, source: str = "") -> Iterator[Given]:
    """What flags say, but for those that are not there: they get a note, if they are missed at all."""
    for name, value in found.items():
        flag = used[name]
        remarks.uvicorn |= flag in aliases.UVICORN_FLAGS
        if name in ROWS:
            # An alias or a short form goes by the proper name, but Uvicorn's user knows Uvicorn's.
            yield Given(name, value, source + (flag if flag in aliases.UVICORN_FLAGS else ROWS[name].flag))
        elif absent.verdict(name, value):
            remarks.notes.append(f"{source}{render.shown_flag(name)} has no effect: {absent.why(name, 'flag')}")


def call(arguments: Mapping[str, object], remarks: Remarks) -> Iterator[Given]:
    """The arguments of `monoceros.run`, by our names and by Uvicorn's. Raises TypeError for a name that is neither.

    As with Uvicorn, None says nothing for a parameter that has another default.
    """
    # `wsgi_app` is the first argument, and what only a flag says is something to do, on a command line.
    ours = {name for name, row in ROWS.items() if row.sources != {FLAG}} - {"wsgi_app", "paste"}
    theirs = {*aliases.UVICORN_NAMES, *absent.GUNICORN}
    for name, value in arguments.items():
        if name not in ours | theirs:
            near = difflib.get_close_matches(name, sorted(ours | aliases.UVICORN_NAMES.keys()), 1, ALIKE - 0.1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"run() got an unexpected keyword argument {name!r}{hint}")
        if not _says_nothing(name, value):
            remarks.uvicorn |= aliases.only_uvicorns(name)
            yield from taken(name, value, "run(app)" if name == "app" else f"run({name}=...)", remarks)


def worker_kwargs(kwargs: Mapping[str, object], worker: str, remarks: Remarks) -> Iterator[Given]:
    """CONFIG_KWARGS of a class made from one of Uvicorn's workers."""
    for name, value in kwargs.items():
        origin = f"{name} in CONFIG_KWARGS of {worker}"
        if name not in aliases.UVICORN_NAMES:
            remarks.notes.append(f"{origin} has no effect: Uvicorn has no such option")
        elif name in NOT_A_WORKERS:
            remarks.notes.append(f"{origin} has no effect: it is not for a worker to say")
        elif not _says_nothing(name, value):
            yield from taken(name, value, origin, remarks)


def _says_nothing(name: str, value: object) -> bool:
    # For the pings of WebSockets None is a value: never.
    return value is None and name in aliases.UVICORN_NAMES and not name.startswith("ws_ping")


def config_file(file: pyfile.ConfigFile, remarks: Remarks) -> Iterator[Given]:
    """The settings among the names of a config file in Python. Unknown names are its own; likely slips get a note.

    Gunicorn's settings that are not there are noted, or are wrong, all in one.
    """
    settings = {name for name, row in ROWS.items() if FILE in row.sources}
    values = {name: value for name, value in file.names.items() if not isinstance(value, ModuleType)}
    _absentees(values, file, remarks)
    for name, value in file.names.items():
        if name in settings and name in values:
            given = Given(name, value, file.origin(name))
            remarks.uvicorn |= aliases.only_uvicorns(name) and not _is_default(given)
            yield given
        elif name in settings:
            remarks.notes.append(f"{name} ({file.origin(name)}) is a module there, not taken as the setting")
        elif name == "paste" and isinstance(value, str):
            remarks.notes.append(f"{name} ({file.origin(name)}) has no effect: it counts on the command line")
        elif name in values and (meant := _meant(name, value, file.names)):
            what = "hook" if callable(value) else "setting"
            remarks.notes.append(f"{name} ({file.origin(name)}) is not a {what}, did you mean {meant}?")


def toml_file(file: tomlfile.TomlFile, remarks: Remarks) -> Iterator[Given]:
    """The settings in a config file in TOML. As it is for nobody else, a key that is none is wrong."""
    _absentees(file.names, file, remarks)
    for name, value in file.names.items():
        given = Given(name, value, file.origin(name))
        if name in ROWS and FILE in ROWS[name].sources:
            remarks.uvicorn |= aliases.only_uvicorns(name) and not _is_default(given)
            yield given
        elif name in ROWS:
            remarks.wrong.append(f"{name} ({given.origin}) can be set by a flag or a variable, but not in a file")
        elif name not in absent.GUNICORN:
            remarks.wrong.append(f"{name} ({given.origin}) is not a setting{_key_meant(name)}")


def _absentees(names: Mapping[str, object], file: pyfile.ConfigFile | tomlfile.TomlFile, remarks: Remarks) -> None:
    """Say what becomes of Gunicorn's settings that are not there: of those that are refused for one reason at once."""
    refused: dict[str, list[str]] = {}
    for name in filter(absent.GUNICORN.__contains__, names):
        place = f"{name} ({file.origin(name)})"
        said = absent.verdict(name, names[name])
        if said == "refused":
            refused.setdefault(absent.why(name), []).append(place)
        elif said == "ignored":
            remarks.notes.append(f"{place} has no effect: {absent.why(name)}")
    for why, places in refused.items():
        remove = "remove the lines" if places[1:] else "remove the line"
        remarks.wrong.append(f"{', '.join(places)}: {why}; {remove}")


def _is_default(given: Given) -> bool:
    """Whether it says what holds anyway: what --print-config prints may be a config file, and has every setting."""
    try:
        return bool(parsed(given) == ROWS[given.name].default)
    except SettingsError:  # it will be said
        return False


def _meant(name: str, value: object, names: Mapping[str, object]) -> str | None:
    """The setting, or for a function the hook, that somebody may have meant by a name that is none."""
    if name.startswith("_") or name in ROWS or name in absent.GUNICORN:
        return None
    word = name.lower()
    # Gunicorn's settings that are not there count as well: who means `certfile` must learn that there is no TLS.
    known = HOOKS if callable(value) else SETTINGS
    near = [word] if word in known else difflib.get_close_matches(word, known, 1, ALIKE)
    meant = (not callable(value) and FLAG_WORDS.get(word)) or (near[0] if near else None)
    if meant is None or meant in names:
        return None  # `worker = 4; workers = worker * 2` is not a slip
    # `graceful_timeout_text` and `old_workers` are names made of a setting's, on purpose.
    return None if word.startswith(f"{meant}_") or word.endswith(f"_{meant}") else meant


def _key_meant(key: str) -> str:
    """What somebody may have meant by a key of a TOML file that is no setting."""
    word = key.lower().replace("-", "_")
    settings = [name for name, row in ROWS.items() if FILE in row.sources]
    near = [word] if word in settings else difflib.get_close_matches(word, settings, 1, ALIKE_AMONG_OURS)
    meant = FLAG_WORDS.get(word) or aliases.UVICORN_NAMES.get(word) or (near[0] if near else None)
    return f", did you mean {meant}?" if meant in settings else ""
