"""The user's logging configuration (`logconfig`): a file for `logging.config`, and the way back if it fails.

By its name it is JSON or YAML for `dictConfig`, else an INI file for `fileConfig`, as with Uvicorn's `--log-config`.
Loggers that it does not name keep what they have: `disable_existing_loggers` is false unless the file says otherwise.
"""

import importlib
import importlib.util
import json
import logging
import logging.config
import os
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from typing import Any, Final

# Configurations written for Uvicorn name its formatters, also where it is not installed.
OURS_FOR_UVICORNS: Final = {
    "uvicorn.logging.ColourizedFormatter": "monoceros.ops.uvicorn.DefaultFormatter",
    "uvicorn.logging.DefaultFormatter": "monoceros.ops.uvicorn.DefaultFormatter",
    "uvicorn.logging.AccessFormatter": "monoceros.ops.uvicorn.AccessFormatter",
}


class LogConfig:
    """A logging configuration that was read. `path` names it; `given` are loggers of which it says who handles them.

    What is said of a logger holds for those below it, as `logging` has it.
    """

    def __init__(self, path: str, given: frozenset[str], configure: Callable[[], None]) -> None:
        self.path = path
        self.given = given
        self._configure = configure

    def gives(self, name: str) -> bool:
        """Whether records of the logger `name` go where this configuration says."""
        parts = name.split(".")
        return any(".".join(parts[:count]) in self.given for count in range(1, len(parts) + 1))

    def apply(self) -> None:
        """Set up logging as it says. Raises OSError with a line for the user; what to go back to is a `Snapshot`.

        All handlers there are get closed by `logging` itself: those that open their file when they need it live on.
        """
        before = {handler for logger in loggers() for handler in logger.handlers}
        try:
            self._configure()
        except Exception as problem:  # the file names classes and calls them: this may be anyone's
            raise OSError(f"cannot use the logging configuration {self.path!r}: {said(problem)}") from problem
        for logger in loggers():
            for handler in set(logger.handlers) - before:
                setattr(handler, MARK, True)


NOTHING: Final = LogConfig("", frozenset(), lambda: None)

# On handlers that a configuration has given: the next one takes them away, also where it does not name their logger.
# On a logger, it is the list of filters that were given to it.
MARK: Final = "given_by_logconfig"


def forget() -> None:
    """Take away the handlers and filters that an earlier configuration has given. They are not closed."""
    for logger in loggers():
        for handler in [handler for handler in logger.handlers if hasattr(handler, MARK)]:
            logger.removeHandler(handler)
        for filter in vars(logger).pop(MARK, ()):
            logger.removeFilter(filter)


def read(path: str) -> LogConfig:
    """The logging configuration in the file `path`. Raises OSError with a line for the user if it cannot be one."""
    reader = {".json": from_json, ".yaml": from_yaml, ".yml": from_yaml}.get(os.path.splitext(path)[1], from_ini)
    try:
        return reader(path)
    except OSError as problem:
        raise OSError(f"cannot read the logging configuration {path!r}: {problem.strerror}") from problem
    except ImportError as problem:
        raise OSError(
            f"cannot read the logging configuration {path!r}: YAML needs the package PyYAML, which the extra `yaml` "
            "brings (pip install 'monoceros[yaml]')"
        ) from problem
    except Exception as problem:  # each of the formats has its own classes of errors, all of which are the file's fault
        raise OSError(f"cannot read the logging configuration {path!r}: {said(problem)}") from problem


def from_json(path: str) -> LogConfig:
    with open(path, encoding="utf-8") as file:
        return from_dict(path, json.load(file))


def from_yaml(path: str) -> LogConfig:
    with open(path, encoding="utf-8") as file:
        return from_dict(path, importlib.import_module("yaml").safe_load(file))


def from_dict(path: str, config: object) -> LogConfig:
    """Of a dictionary for `dictConfig`. Raises TypeError for what is none."""
    if not isinstance(config, dict):
        raise TypeError(f"it is no mapping but {type(config).__name__}")
    config = {"version": 1, "disable_existing_loggers": False} | config
    given = frozenset(
        name
        for name, entry in entries(config, "loggers")
        # To name the level alone leaves open where the records go.
        if not config.get("incremental") and ("handlers" in entry or entry.get("propagate"))
    )
    for _, entry in entries(config, "formatters"):
        for key in ("()", "class"):
            if key in entry:
                entry[key] = at_hand(entry[key])
    return LogConfig(path, given, lambda: logging.config.dictConfig(config))


def entries(config: dict[Any, Any], section: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The named mappings of a section. What has another shape is left for `dictConfig` to refuse."""
    found = config.get(section)
    for name, entry in found.items() if isinstance(found, dict) else ():
        if isinstance(name, str) and isinstance(entry, dict):
            yield name, entry


def from_ini(path: str) -> LogConfig:
    """Of a file for `fileConfig`, in which `%(here)s` is its directory and `%(__file__)s` its path, as in Gunicorn."""
    full = os.path.abspath(path)
    defaults = {"__file__": full, "here": os.path.dirname(full)}
    parser = ConfigParser({name: value.replace("%", "%%") for name, value in defaults.items()})
    with open(path, encoding="utf-8") as file:
        parser.read_file(file)
    for section in ("loggers", "handlers", "formatters"):
        parser[section]["keys"]  # what `fileConfig` would look for, when it is too late to say so well
    names = [name.strip() for name in parser["loggers"]["keys"].split(",")]
    given = frozenset(parser[f"logger_{name}"]["qualname"] for name in names if name != "root")
    for name in parser.sections():
        if name.startswith("formatter_") and "class" in parser[name]:
            parser[name]["class"] = at_hand(parser[name]["class"])
    return LogConfig(path, given, lambda: logging.config.fileConfig(parser, disable_existing_loggers=False))


def at_hand(name: object) -> Any:
    """The name of a formatter's class, or of ours that stands in where Uvicorn is not installed."""
    if not isinstance(name, str) or name not in OURS_FOR_UVICORNS or importlib.util.find_spec("uvicorn"):
        return name
    return OURS_FOR_UVICORNS[name]


def said(problem: BaseException | None) -> str:
    """What an error and its causes say, in one line. Those of `dictConfig` name the place, their causes the reason."""
    words: list[str] = []
    while problem is not None:
        text = " ".join(str(problem).split()) or type(problem).__name__
        text = f"{text} is missing" if isinstance(problem, KeyError) else text
        if text not in words:
            words.append(text)
        problem = problem.__cause__
    return ": ".join(words)


class Snapshot:
    """How all loggers are set up, to restore it."""

    def __init__(self) -> None:
        self._states = {
            logger: (logger.level, logger.propagate, logger.disabled, logger.handlers, list(logger.handlers))
            for logger in loggers()
        }
        self._filters = {
            logger: (list(logger.filters), vars(logger).get(MARK, ())) for logger in loggers() if logger.filters
        }

    def mark(self, ours: tuple[type, ...]) -> None:
        """Note that what has come since, but for handlers of these types, goes with the next configuration.

        Handlers that had come in this way, and that no logger has any more, are closed.
        """
        for logger in loggers():
            handlers = self._states[logger][-1] if logger in self._states else []
            for handler in logger.handlers:
                if handler not in handlers and not isinstance(handler, ours):
                    setattr(handler, MARK, True)
            filters = self._filters.get(logger, ((), ()))[0]
            if added := [filter for filter in logger.filters if filter not in filters]:
                setattr(logger, MARK, added)
        for handler in {handler for *_, handlers in self._states.values() for handler in handlers} - attached():
            if hasattr(handler, MARK):
                handler.close()

    def restore(self) -> None:
        """Set up as it was, with the same lists of handlers. Loggers that were not there have none then."""
        for logger in loggers():
            logger.filters, given = map(list, self._filters.get(logger, ((), ())))
            vars(logger).pop(MARK, None)
            if given:
                setattr(logger, MARK, given)
            state = self._states.get(logger)
            if state is None:
                logger.handlers, logger.propagate, logger.disabled = [], True, False
                logger.setLevel(logging.NOTSET)
                continue
            level, logger.propagate, logger.disabled, logger.handlers, handlers = state
            logger.handlers[:] = handlers
            logger.setLevel(level)


def attached() -> set[logging.Handler]:
    """The handlers that some logger has."""
    return {handler for logger in loggers() for handler in logger.handlers}


def loggers() -> list[logging.Logger]:
    """All there are, the root first."""
    known = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    return [logger for logger in known if isinstance(logger, logging.Logger)]
