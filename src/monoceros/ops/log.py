"""The error log and the access log: which loggers there are, and where they write.

The loggers bear Gunicorn's names and have real handlers, because config files and applications name the ones and borrow
the others. Those with Uvicorn's names have the same handlers, where the user's logging configuration does not give them
others.
"""

import logging
import os
import sys
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from copy import copy
from typing import Final, NamedTuple, TextIO

from monoceros.ops import jsonlines, logconfig, syslog, uvicorn
from monoceros.ops.sink import FileSink as FileSink
from monoceros.ops.sink import Silence as Silence
from monoceros.ops.sink import Sink as Sink
from monoceros.ops.statsd import Teller
from monoceros.settings.aliases import WORKER_CLASSES, is_uvicorns
from monoceros.settings.process_values import unshared
from monoceros.settings.table import Settings

error: Final = logging.getLogger("gunicorn.error")
access: Final = logging.getLogger("gunicorn.access")
uvicorn_error: Final = logging.getLogger("uvicorn.error")
uvicorn_access: Final = logging.getLogger("uvicorn.access")

# Uvicorn's loggers, and those of ours whose handlers they get.
LIKE: Final = ((logging.getLogger("uvicorn"), error), (uvicorn_error, error), (uvicorn_access, access))

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


class Formats(NamedTuple):
    """How lines look; in the words of `logging.Formatter`."""

    error: str = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
    date: str = "[%Y-%m-%d %H:%M:%S %z]"
    access: str = "%(message)s"
    syslog: str = "[%(process)d] %(message)s"


FORMATS: Final = Formats()
ACCESS_LINE: Final = logging.Formatter(FORMATS.access)

# Handlers that come and go with each setup, and are closed then.
OURS: Final = (Sink, Silence, syslog.Syslog, Teller)

# What an application may write to `wsgi.errors` without a newline before it is written all the same.
LONGEST_LINE: Final = 8192


class ErrorStream:
    """`wsgi.errors` (PEP 3333): a text stream into the error log, where a line is written whole."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._begun = ""
        self._telling = False

    def write(self, text: str) -> int:
        with self._lock:
            lines, newline, self._begun = (self._begun + text).rpartition("\n")
            if newline:
                self._put(lines + newline)
            if len(self._begun) > LONGEST_LINE:
                self.flush()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        """End the line that has begun."""
        with self._lock:
            begun, self._begun = self._begun, ""
            if begun:
                self._put(begun + "\n")

    def _put(self, lines: str) -> None:
        ours = [
            handler
            for handler in error.handlers
            if (isinstance(handler, Sink | Silence) and not isinstance(handler.formatter, jsonlines.ObjectLine))
            or is_gunicorns(handler)
        ]
        for handler in ours:
            if isinstance(handler, Sink):
                handler.write(lines)
            elif isinstance(handler, logging.StreamHandler):
                handler.acquire()
                try:
                    handler.stream.write(lines)
                    handler.flush()
                finally:
                    handler.release()
        if ours:
            return
        # Lines have a shape: that of JSON, or of what a logging configuration says. One of its handlers may write here
        # again: Flask's pages show a handler that does.
        if self._telling:
            print(lines, end="", file=sys.stderr)
            return
        self._telling = True
        try:
            error.error("%s", lines.removesuffix("\n"))
        finally:
            self._telling = False


def is_gunicorns(handler: logging.Handler) -> bool:
    """Whether Gunicorn's own class of loggers has made a handler, for a file or a stream."""
    return hasattr(handler, "_gunicorn") and isinstance(handler, logging.StreamHandler)


def setup(settings: Settings, formats: Formats = FORMATS) -> None:
    """Let the loggers write to where the settings say, at their level. Raises OSError with a line for the user.

    May be called again, for a reload: our handlers and those of `logconfig` are replaced (or all stay as they were, on
    OSError), those that others have added stay. Captured output moves on to the new error log if that is a file, else
    it stays. As in Gunicorn, `logconfig` has the first word on the loggers that it names, the other settings on ours
    that it does not name.
    """
    config = configuration(settings)
    captured = [old for old in error.handlers if isinstance(old, FileSink) and old.captured]
    with ExitStack() as undo:
        error_sink = open_sink("error log", settings.errorlog, sys.stderr) or Silence()
        undo.callback(error_sink.close)
        access_sink = open_sink("access log", settings.accesslog, sys.stdout)
        if access_sink is not None:
            undo.callback(access_sink.close)
        undo.callback(restore, logconfig.Snapshot(), captured)
        old = clear(level_of(settings))
        config.apply()
        undo.pop_all()
    error_sink.setFormatter(error_formatter(settings, error_sink, formats))
    if access_sink is not None:
        access_sink.setFormatter(access_formatter(settings, access_sink, formats))
    to_syslog, complaints = syslog.handlers(settings, formats.syslog)
    sinks = Sinks([error_sink], [access_sink] if access_sink else [], to_syslog)
    hand_out(settings, config, sinks)
    if captured and isinstance(error_sink, FileSink) and error_sink in error.handlers:
        error_sink.capture()
    for sink in (*old, error_sink, *sinks.access, *to_syslog.values()):
        if sink not in error.handlers and sink not in access.handlers:
            sink.close()
    if settings.loglevel.lower() not in LEVELS:
        complaints.append(f"Unknown loglevel {settings.loglevel!r}, using info. Known are: {', '.join(LEVELS)}")
    for complaint in complaints:
        error.warning("%s", complaint)


def configuration(settings: Settings) -> logconfig.LogConfig:
    """The one of `logconfig_dict`, `logconfig_json` and `logconfig` that counts. Raises OSError as `logconfig.read`."""
    if settings.logconfig_dict:
        return logconfig.from_dict("logconfig_dict", unshared(settings.logconfig_dict))
    path = settings.logconfig_json
    if not path:
        return logconfig.read(settings.logconfig) if settings.logconfig else logconfig.NOTHING
    try:
        return logconfig.from_json(path)  # whatever it is called
    except (OSError, ValueError, TypeError) as problem:
        said = problem.strerror if isinstance(problem, OSError) else logconfig.said(problem)
        raise OSError(f"cannot read the logging configuration {path!r}: {said}") from problem


def identify(generation: int, worker: int | None = None) -> None:
    """Let lines that name their process know which one this is. `worker` is None for the master."""
    for handler in (*error.handlers, *access.handlers):
        if isinstance(handler.formatter, jsonlines.ObjectLine):
            handler.formatter.generation, handler.formatter.worker = generation, worker


def level_of(settings: Settings) -> int:
    return LEVELS.get(settings.loglevel.lower(), logging.INFO)


def has_uvicorns_options(settings: Settings) -> bool:
    """Whether somebody speaks to us as to Uvicorn itself, rather than as to Gunicorn with a Uvicorn worker.

    The classes that are not in the table are those that people have made from Uvicorn's.
    """
    name = settings.worker_class
    return settings.manner == "uvicorn" and name in WORKER_CLASSES and not is_uvicorns(name)


def clear(level: int) -> list[logging.Handler]:
    """Make the loggers what they are before anything says where they write. Returns handlers of ours that they had."""
    logconfig.forget()
    logging.addLevelName(uvicorn.TRACE, "TRACE")  # configurations written for Uvicorn may say so
    for logger, like in LIKE:
        logger.disabled = False
        if logger.handlers is like.handlers or not logger.handlers:
            logger.handlers, logger.propagate = [], True
            logger.setLevel(logging.NOTSET)
    ours: list[logging.Handler] = []
    for logger, its_level in ((error, level), (access, logging.INFO)):
        logger.setLevel(its_level)
        logger.propagate = logger.disabled = False
        for old in [old for old in logger.handlers if isinstance(old, OURS)]:
            logger.removeHandler(old)  # out of the same list, which the application may have borrowed as a whole
            ours.append(old)
    # Applications read the level of this one to set their own.
    logging.getLogger("gunicorn").setLevel(level)
    return ours


def restore(before: logconfig.Snapshot, captured: list[FileSink]) -> None:
    before.restore()
    for sink in captured:  # it may have been closed meanwhile, and opens its file when it needs it
        sink.captured = True


class Sinks(NamedTuple):
    """Where the two logs go, and in what form they go to syslog, by "error" and "access"."""

    error: list[logging.Handler]
    access: list[logging.Handler]
    syslog: dict[str, syslog.Syslog]

    def also(self, log: str) -> list[logging.Handler]:
        """Where one of the logs goes beside its file."""
        return [self.syslog[log]] if log in self.syslog else []


def hand_out(settings: Settings, config: logconfig.LogConfig, sinks: Sinks) -> None:
    """Give handlers to the loggers of which the configuration does not say who handles them.

    Uvicorn's get what ours have, by the same lists, as Gunicorn's Uvicorn worker does it; but for those that have
    handlers already, from an application. With Uvicorn's own options a configuration is one for Uvicorn: loggers of
    Uvicorn that it does not name hand up, to `uvicorn` or to the root, as they do there, and the error log follows.
    """
    options = has_uvicorns_options(settings)
    above = reached(uvicorn_error) if options and config is not logconfig.NOTHING else []
    for logger, level, its_own in (
        (error, level_of(settings), [*(above or sinks.error), *sinks.also("error")]),
        (access, logging.INFO, [*sinks.access, *sinks.also("access")]),
    ):
        if logger.level == logging.NOTSET:  # so where the configuration names the logger above only
            logger.setLevel(level)
        if not config.gives(logger.name):
            for sink in its_own:
                logger.addHandler(sink)
            logger.propagate = logger.disabled = False
    for logger, like in LIKE:
        # The flag counts before the file, and for access lines as well: so it is in Uvicorn.
        if logger.level == logging.NOTSET or (options and "loglevel" in settings.origins):
            logger.setLevel(level_of(settings) if options else like.level)
        if config.gives(logger.name):
            continue
        logger.disabled = False
        if not (above or logger.handlers) and (logger is not uvicorn_access or settings.manner == "uvicorn"):
            logger.handlers = like.handlers if like.handlers or not like.propagate else reached(like)
            logger.propagate = False
    if above and settings.accesslog is None:
        uvicorn_access.handlers, uvicorn_access.propagate = [], False


def reached(logger: logging.Logger) -> list[logging.Handler]:
    """The handlers to which a record of this logger goes."""
    found, each = list(logger.handlers), logger
    while each.propagate and each.parent is not None:
        each = each.parent
        found += each.handlers
    return found


class ColouredLine(logging.Formatter):
    """The same line with its level in colours."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        shown = copy(record)
        shown.levelname = f"{uvicorn.LEVEL_COLOURS.get(record.levelno, '')}{record.levelname}{uvicorn.PLAIN}"
        return super().formatMessage(shown)


def error_formatter(settings: Settings, sink: Sink | Silence, formats: Formats) -> logging.Formatter:
    """What our own error log is formatted with."""
    if settings.log_format == "json":
        return jsonlines.ObjectLine()
    colours = settings.use_colors is not False and isinstance(sink, Sink) and has_colours(settings, sink)
    kind = ColouredLine if colours else logging.Formatter
    return kind(formats.error, formats.date)


def has_colours(settings: Settings, sink: Sink) -> bool:
    """Whether it is a terminal, on which nobody minds colours (https://no-color.org; flags count more)."""
    if isinstance(sink, FileSink) or not (hasattr(sink.stream, "isatty") and sink.stream.isatty()):
        return False
    return settings.use_colors is not None or not os.environ.get("NO_COLOR")


def access_formatter(settings: Settings, sink: Sink, formats: Formats) -> logging.Formatter:
    """What our own access log is formatted with: the bare line, or with Uvicorn's options, what Uvicorn prints."""
    if settings.log_format == "json":
        return jsonlines.ObjectLine()
    if not has_uvicorns_options(settings) or access_logger(settings) is access:
        return ACCESS_LINE if formats.access == FORMATS.access else logging.Formatter(formats.access)
    if settings.use_colors is None:
        return uvicorn.AccessLine(use_colors=has_colours(settings, sink))
    return uvicorn.AccessLine(use_colors=settings.use_colors)


def access_logger(settings: Settings) -> logging.Logger:
    """The logger of access lines. In Uvicorn's manner it is `uvicorn.access`, with Uvicorn's records.

    There, Gunicorn's Uvicorn worker has no use for `access_log_format`. Whoever sets it wants it, so then it is
    `gunicorn.access`, and the lines are made as the format says; but not if somebody has given `uvicorn.access`
    handlers of its own, who expect Uvicorn's five arguments. JSON is `gunicorn.access` in the same way.
    """
    if settings.manner != "uvicorn":
        return access
    given = uvicorn_access.handlers and uvicorn_access.handlers is not access.handlers
    ours = settings.log_format == "json" or "access_log_format" in settings.origins
    return access if ours and not given else uvicorn_access


def worker_logger(settings: Settings) -> logging.Logger:
    """Where a worker tells of its application's start and end: `uvicorn.error` in Uvicorn's manner."""
    return uvicorn_error if settings.manner == "uvicorn" else error


def open_sink(what: str, where: str | None, stream: TextIO | None) -> Sink | None:
    """A sink for the file `where`, or for `stream` if that is "-". None if there is nothing to write to."""
    if where == "-":
        return None if stream is None else Sink(stream)
    if where is None:
        return None
    try:
        return FileSink(where)
    except OSError as problem:
        raise OSError(f"cannot open the {what} {where!r}: {problem.strerror}") from problem


def capture_output(settings: Settings) -> None:
    """Send what is written to descriptors 1 and 2 to the error log, if that is a file and the settings ask for it."""
    for handler in error.handlers if settings.capture_output else ():
        if isinstance(handler, FileSink):
            handler.capture()


def reopen() -> None:
    """Open all log files again by their names, as after logrotate; other threads may be logging.

    This includes files of handlers that are not ours, as with Gunicorn: `--log-config` and applications rely on it.
    A file that cannot be opened is told of in the error log, and its handler goes on with the old one.
    """
    for handler in file_handlers():
        handler.acquire()
        try:
            # Opened first and swapped then, so that the handler never is without a file.
            if handler.stream is not None:  # not opened yet (delay), or closed
                old = handler.setStream(handler._open())
                if old is not None:
                    old.close()
            if isinstance(handler, FileSink) and handler.captured:
                handler.capture()
        except OSError as problem:
            error.error("Cannot reopen %s, writing on as before: %s", handler.baseFilename, problem.strerror)
        finally:
            handler.release()


def file_handlers() -> list[logging.FileHandler]:
    """The handlers of all loggers that append to a file. To open one of mode "w" again would empty its file."""
    handlers = dict.fromkeys(handler for logger in logconfig.loggers() for handler in logger.handlers)
    return [each for each in handlers if isinstance(each, logging.FileHandler) and each.mode.startswith("a")]
