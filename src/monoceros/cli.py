"""The command line: read the settings, then run, check or print.

Exit statuses: 0, 1 for settings that are not usable, 2 for usage errors of the command line, 3 for an application that
fails on import, 4 for one that is not there. The arbiter has the last word on a server that ran.
"""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Final

from monoceros import app, worker
from monoceros.ops import atoms, logger
from monoceros.settings import Settings, SettingsError, aliases
from monoceros.settings.load import load
from monoceros.settings.place import enter, here
from monoceros.settings.render import print_config

# What shells say of a command that Ctrl-C has ended.
INTERRUPTED: Final = 128 + signal.SIGINT

NO_APPLICATION: Final = (
    "No application module specified. Name it as MODULE:VARIABLE, for example: monoceros myproject.wsgi:application"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name; `sys.argv` if None). Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    environ, launched = starting_point()

    def reload_settings() -> Settings:
        return checked(load(arguments, environ, launched))

    try:
        settings = reload_settings()
        if settings.print_config:
            sys.stdout.write(print_config(settings))
        if settings.print_config or settings.check_config:
            return check(settings)
        if settings.wsgi_app is None:
            raise SettingsError(NO_APPLICATION)
        from monoceros.arbiter.arbiter import Arbiter  # not needed to say what is wrong
        from monoceros.arbiter.daemon import DaemonError, daemonize
        from monoceros.arbiter.reexec import PREDECESSOR, Launch

        launch = Launch.remember(environ)
        enter(settings)
        # Who takes over from a daemon is one already.
        background = settings.daemon and PREDECESSOR not in environ
        try:
            launcher = daemonize(settings.enable_stdio_inheritance) if background else None
        except (DaemonError, OSError) as error:
            raise SettingsError(str(error)) from None
        return Arbiter(settings, reload_settings, launch, launcher=launcher).run()
    except SettingsError as error:
        if error.__cause__ is not None:  # the user's own code failed, in a config file
            traceback.print_exception(error.__cause__)
        return complain(str(error), error.status)
    except KeyboardInterrupt:  # while settings are read or checked; a server that runs handles the signal itself
        return INTERRUPTED


def starting_point() -> tuple[dict[str, str], str]:
    """The environment and the directory to read settings in.

    A reload reads them there again, whatever `chdir`, `env_file` and `raw_env` did since.
    """
    environ, launched = dict(os.environ), here(os.environ)
    if launched not in sys.path:  # config files, and functions in them, import from here
        sys.path.insert(0, launched)
    return environ, launched


def checked(settings: Settings) -> Settings:
    """The same settings. Raises SettingsError for what the table cannot know, because it is others who do."""
    format = settings.access_log_format
    try:
        atoms.check(format)
    except ValueError as error:
        origin, wrong = (
            settings.origins["access_log_format"],
            str(error).removeprefix(f"access log format {format!r}: "),
        )
        raise SettingsError(f"access_log_format = {format!r} ({origin}): {wrong}") from None
    return settings


def check(settings: Settings) -> int:
    """Import the application as a worker would, and say on stderr what is wrong. Returns the exit status."""
    for note in settings.notes:
        print(f"Warning: {note}", file=sys.stderr)
    enter(settings)
    for what, path in (("error log", settings.errorlog), ("access log", settings.accesslog)):
        if path not in (None, "-") and (wrong := why_not_written(path)):
            return complain(f"cannot open the {what} {path!r}: {os.strerror(wrong)}", SettingsError.status)
    logger.class_of(settings)
    if settings.wsgi_app is None:
        return 0 if settings.print_config else complain(NO_APPLICATION, SettingsError.status)
    kind = aliases.kind(settings)
    worker.prepare_to_load(kind)
    try:
        app.agree(app.find(settings), kind, settings.wsgi_app)
    except app.BootError as error:
        return complain(str(error), error.status)
    except (Exception, SystemExit):  # anything that a user's module can do when it is imported
        traceback.print_exc()
        return app.BootError.status
    return 0


def why_not_written(path: str) -> int:
    """The errno that opening a log would meet, 0 if none is foreseen.

    It is not tried: an empty file that belongs to who checks could keep the server from writing to it.
    """
    if os.path.isdir(path):
        return errno.EISDIR
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        return errno.ENOENT
    return 0 if os.access(path if os.path.exists(path) else directory, os.W_OK) else errno.EACCES


def complain(text: str, status: int) -> int:
    """One line on stderr. Returns `status`."""
    print(f"Error: {text}", file=sys.stderr)
    return status
