"""The command line: read the settings, then run, check or print.

Exit statuses: 0, 1 for settings that are not usable, 2 for usage errors of the command line, 3 for an application that
fails on import, 4 for one that is not there. The arbiter has the last word on a server that ran.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

from monoceros import app
from monoceros.settings import Settings, SettingsError
from monoceros.settings.load import load
from monoceros.settings.place import enter, here
from monoceros.settings.render import print_config

NO_APPLICATION: Final = (
    "No application module specified. Name it as MODULE:VARIABLE, for example: monoceros myproject.wsgi:application"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name; `sys.argv` if None). Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # A reload starts from the same place, whatever `chdir` and `raw_env` did since.
    environ, launched = dict(os.environ), here(os.environ)
    if launched not in sys.path:  # config files, and functions in them, import from here
        sys.path.insert(0, launched)

    def reload_settings() -> Settings:
        return load(arguments, environ, launched)

    try:
        settings = reload_settings()
        if settings.print_config:
            sys.stdout.write(print_config(settings))
        if settings.print_config or settings.check_config:
            return check(settings)
        if settings.wsgi_app is None:
            raise SettingsError(NO_APPLICATION)
        enter(settings)

        from monoceros.arbiter.arbiter import Arbiter  # not needed to say what is wrong

        return Arbiter(settings, reload_settings).run()
    except SettingsError as error:
        if error.__cause__ is not None:  # the user's own code failed, in a config file
            traceback.print_exception(error.__cause__)
        return complain(str(error), error.status)


def check(settings: Settings) -> int:
    """Import the application as a worker would, and say on stderr what is wrong. Returns the exit status."""
    for note in settings.notes:
        print(f"Warning: {note}", file=sys.stderr)
    enter(settings)
    if settings.wsgi_app is None:
        return 0 if settings.print_config else complain(NO_APPLICATION, SettingsError.status)
    try:
        app.load(settings.wsgi_app)
    except app.BootError as error:
        return complain(str(error), error.status)
    except (Exception, SystemExit):  # anything that a user's module can do when it is imported
        traceback.print_exc()
        return app.BootError.status
    return 0


def complain(text: str, status: int) -> int:
    """One line on stderr. Returns `status`."""
    print(f"Error: {text}", file=sys.stderr)
    return status
