"""The class that keeps the logs (`logger_class`): ours, with the interface of Gunicorn's, and what users make of it.

    from monoceros.ops.logger import Logger

    class Quiet(Logger):
        def access(self, resp, req, environ, request_time):
            if req.path != "/health":
                super().access(resp, req, environ, request_time)

An object of it is what hooks know as `server.log` and `worker.log`. Our own writes the access log in batches, without a
call for each request; so does one that leaves `access` and what that uses as they are.
"""

import inspect
import logging
import os
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, NamedTuple

from monoceros.ops import access, log, logconfig
from monoceros.ops import statsd as metrics
from monoceros.ops.atoms import escape, user
from monoceros.ops.redact import Redaction
from monoceros.settings.log_values import GUNICORNS_LOGGER, OUR_LOGGER
from monoceros.settings.place import importable
from monoceros.settings.subclasses import NotImportable, imported
from monoceros.settings.table import Settings, SettingsError

# What a class may change about the lines of the access log.
OF_ACCESS: Final = ("access", "atoms", "now", "atoms_wrapper_class", "_get_user")


class SafeAtoms(dict[str, Any]):
    """Atoms by name: "-" for what is not there, names in braces in any case, and nothing that ends a line."""

    def __init__(self, atoms: Mapping[str, Any]) -> None:
        super().__init__((key, escape(each) if isinstance(each, str) else each) for key, each in atoms.items())

    def __getitem__(self, name: str) -> Any:
        return self.get(name.lower() if name.startswith("{") else name, "-")


class Logger:
    """The error log and the access log. `cfg` are the settings; `setup` is called by the constructor only.

    What `setup` of a class made from this adds to loggers, handlers and filters, is taken away by the next reload,
    which makes another object. What it raises ends the start, or the reload.
    """

    LOG_LEVELS: Mapping[str, int] = log.LEVELS
    loglevel: int = logging.INFO

    error_fmt = log.FORMATS.error
    datefmt = log.FORMATS.date
    access_fmt = log.FORMATS.access
    syslog_fmt = log.FORMATS.syslog

    atoms_wrapper_class: type[dict[str, Any]] = SafeAtoms

    def __init__(self, cfg: Settings) -> None:
        self.error_log = log.error
        self.access_log = log.access
        self.cfg = cfg
        self._redaction = Redaction(cfg.log_redact)
        self.setup(cfg)

    def setup(self, cfg: Settings) -> None:
        """Let the loggers write to where the settings say. Raises OSError with a line for the user."""
        self.cfg = cfg
        self.loglevel = log.level_of(cfg)
        log.setup(cfg, log.Formats(self.error_fmt, self.datefmt, self.access_fmt, self.syslog_fmt))

    # The error log.

    def critical(self, msg: object, *args: object, **kwargs: Any) -> None:
        self.error_log.critical(msg, *args, **kwargs)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        self.error_log.error(msg, *args, **kwargs)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        self.error_log.warning(msg, *args, **kwargs)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        self.log(logging.INFO, msg, *args, **kwargs)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        self.log(logging.DEBUG, msg, *args, **kwargs)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        self.error_log.exception(msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: object, *args: object, **kwargs: Any) -> None:
        """A line of this level, which may be a name. A metric in `extra` is told to statsD whatever the level."""
        level = self.LOG_LEVELS.get(lvl.lower(), logging.INFO) if isinstance(lvl, str) else lvl
        extra = kwargs.get("extra")
        if extra and not (msg and self.error_log.isEnabledFor(level)):
            for handler in self.error_log.handlers:
                if isinstance(handler, metrics.Teller):
                    metrics.carried(handler.statsd, extra)
                    return
        self.error_log.log(level, msg, *args, **kwargs)

    # The access log.

    @property
    def access_log_enabled(self) -> bool:
        """Whether anyone listens."""
        return access.wanted(self.access_log) and self.access_log.hasHandlers()

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Write the line of one request."""
        if not self.access_log_enabled:
            return
        try:
            atoms = self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))
            self.access_log.info(self.cfg.access_log_format, atoms)
        except Exception:  # of somebody's atoms, filter or handler: the request is served by now
            self.error(traceback.format_exc())

    def atoms(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> dict[str, Any]:
        """What a format may name, by these names; without secrets, as `log_redact` says."""
        microseconds = request_time // timedelta(microseconds=1)
        whole, rest = divmod(microseconds, 1_000_000)
        sent = getattr(resp, "sent", None)
        status = resp.status.split(None, 1)[0] if isinstance(resp.status, str) else resp.status
        target, shown = environ.get("RAW_URI"), self._redaction.named
        return {
            "h": environ.get("REMOTE_ADDR", "-"),
            "l": "-",
            "u": self._get_user(environ) or "-",
            "t": self.now(),
            "r": f"{environ.get('REQUEST_METHOD')} {shown('RAW_URI', target)} {environ.get('SERVER_PROTOCOL')}",
            "s": status,
            "m": environ.get("REQUEST_METHOD"),
            "U": environ.get("PATH_INFO"),
            "q": shown("QUERY_STRING", environ.get("QUERY_STRING")),
            "H": environ.get("SERVER_PROTOCOL"),
            "b": "-" if sent is None else str(sent),
            "B": sent,
            "f": shown("HTTP_REFERER", environ.get("HTTP_REFERER", "-")),
            "a": environ.get("HTTP_USER_AGENT", "-"),
            "T": whole,
            "M": microseconds // 1000,
            "D": microseconds,
            "L": f"{whole}.{rest:06}",
            "p": f"<{os.getpid()}>",
            **{f"{{{name.lower()}}}i": shown(name, value) for name, value in pairs(getattr(req, "headers", req))},
            **{f"{{{name.lower()}}}o": shown(name, value) for name, value in pairs(resp.headers)},
            **{f"{{{name.lower()}}}e": shown(name, value) for name, value in environ.items()},
        }

    def now(self) -> str:
        """The time as Apache writes it."""
        return time.strftime("[%d/%b/%Y:%H:%M:%S %z]")

    def _get_user(self, environ: Mapping[str, Any]) -> str | None:
        authorization = environ.get("HTTP_AUTHORIZATION")
        return user(authorization.encode("latin-1")) if authorization else None

    # Files.

    def reopen_files(self) -> None:
        """Open all log files again by their names."""
        log.reopen()

    def close_on_exec(self) -> None:
        """See to it that no program that is executed has the log files open."""
        for handler in log.file_handlers():
            if handler.stream is not None:
                os.set_inheritable(handler.stream.fileno(), False)


def pairs(headers: Any) -> Iterable[tuple[str, str]]:
    """The fields of a mapping or of a list."""
    found: Iterable[tuple[str, str]] = headers.items() if hasattr(headers, "items") else headers
    return found


class Logs(NamedTuple):
    """What keeps the logs, and where metrics go. `logger` is of our class, or of a user's."""

    logger: Any
    statsd: metrics.StatsD | None = None

    @property
    def is_asked(self) -> bool:
        """Whether each request is to call `logger.access`, because that may do something else than ours."""
        bases = type(self.logger).__mro__
        base = next((base for base in bases if base is Logger or name_of(base) == GUNICORNS_LOGGER), None)
        if base is None:
            return callable(getattr(self.logger, "access", None))
        # What an object has itself counts as well.
        return any(
            inspect.getattr_static(self.logger, name, None) is not inspect.getattr_static(base, name, None)
            for name in OF_ACCESS
        )

    def reopen(self) -> None:
        """Open the log files again."""
        reopen_files = getattr(self.logger, "reopen_files", log.reopen)
        reopen_files()


def begin(settings: Settings) -> Logs:
    """Set logging up as the settings say, by the class that they name. May be called again, for a reload.

    Raises OSError and `SettingsError` with a line for the user; then all is as it was.
    """
    kind = class_of(settings)
    before = logconfig.Snapshot()
    captured = [old for old in log.error.handlers if isinstance(old, log.FileSink) and old.captured]
    try:
        logger = made(kind, settings)
    except (Exception, SystemExit) as error:  # a user's class may do anything
        came = logconfig.attached()
        log.restore(before, captured)
        for handler in came - logconfig.attached():
            handler.close()
        if isinstance(error, OSError) and issubclass(kind, Logger):
            raise  # what cannot be opened says so itself
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise refusal(settings, f"its setup has failed: {said}{place_of(error.__traceback__)}") from error
    before.mark(log.OURS)
    return Logs(logger, tell_statsd(settings, kind))


def made(kind: type, settings: Settings) -> Any:
    """An object of the class, which sets logging up."""
    seen = as_gunicorn(settings)
    if not issubclass(kind, Logger):
        # What is not made from our class opens the files by itself.
        log.setup(
            replace(
                settings,
                errorlog=None,
                accesslog=None,
                syslog=False,
                logconfig=None,
                logconfig_json=None,
                logconfig_dict={},
            )
        )
        for silence in [silence for silence in log.error.handlers if isinstance(silence, log.Silence)]:
            log.error.removeHandler(silence)
    return kind(seen)


def as_gunicorn(settings: Settings) -> Settings:
    """The settings with those values filled in that Gunicorn's have by then."""
    address = settings.statsd_host
    where: Any = address and (address.path if address.kind == "unix" else (address.host, address.port))
    return replace(
        settings,
        proc_name=settings.proc_name or settings.wsgi_app,
        user=os.geteuid() if settings.user is None else settings.user,
        group=os.getegid() if settings.group is None else settings.group,
        statsd_host=where,
    )


def tell_statsd(settings: Settings, kind: type) -> metrics.StatsD | None:
    """Let what is logged be told to statsD, if there is one, and if the class does not do that itself."""
    if any(base.__module__ == "gunicorn.instrument.statsd" for base in kind.__mro__):
        return None
    try:
        found = metrics.of(settings)
    except OSError as problem:
        log.error.warning("No metrics go to statsD at %s: %s", settings.statsd_host, problem.strerror)
        return None
    if found is not None:
        log.error.addHandler(metrics.Teller(found))
    return found


def class_of(settings: Settings) -> type:
    """The class that `logger_class` means. Raises `SettingsError`."""
    named = settings.logger_class
    if isinstance(named, str):
        if named == GUNICORNS_LOGGER:
            return Logger
        module, _, name = named.replace(":", ".").rpartition(".")
        try:
            found = imported(module, name, importable(settings))
        except NotImportable as error:
            hint = f"; {OUR_LOGGER} has the same interface" if "'gunicorn" in str(error) else ""
            raise refusal(settings, f"cannot be imported: {error}{hint}") from error.__cause__
        if not isinstance(found, type):
            raise refusal(settings, f"must be a class, not {type(found).__name__}")
        named = found
    return Logger if name_of(named) == GUNICORNS_LOGGER else named


def name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def refusal(settings: Settings, wrong: str) -> SettingsError:
    """The error that says what is wrong with `logger_class`, and where it was given."""
    named = settings.logger_class
    name = repr(named) if isinstance(named, str) else name_of(named)
    return SettingsError(f"logger_class = {name} ({settings.origins.get('logger_class', 'default')}): {wrong}")


def place_of(trace: TracebackType | None) -> str:
    """The file and the line at the end of a traceback, in parentheses."""
    last = traceback.extract_tb(trace)[-1:]
    return "".join(f" ({frame.filename}:{frame.lineno})" for frame in last)
