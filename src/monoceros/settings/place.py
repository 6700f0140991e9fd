"""Where the application runs: its working directory, its import path, its environment variables.

These belong to the process, not to a value, so they are entered in one place. The arbiter enters them again with the
settings of a reload.
"""

import os
import sys
from collections.abc import Mapping

from monoceros.settings.table import Settings, SettingsError


def here(environ: Mapping[str, str]) -> str:
    """The working directory as the user calls it.

    That is $PWD where it means the same directory. So a server started in /srv/current, a link to /srv/release-1,
    goes to release 2 when it enters /srv/current again.
    """
    directory = os.getcwd()
    pwd = environ.get("PWD", "")
    try:
        return pwd if os.path.isabs(pwd) and os.path.samefile(pwd, directory) else directory
    except OSError:  # $PWD has gone, or was never there
        return directory


def enter(settings: Settings, leaving: Settings | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Go to `chdir`, put it and `pythonpath` in front of `sys.path`, and set the variables of `raw_env`.

    May be called again. `leaving` are the settings that were entered before: what only they asked for is undone, and
    their variables get back the values that they have in `environ`, the environment the server was started with.
    Raises SettingsError if there is no such directory.
    """
    try:
        os.chdir(settings.chdir)
    except OSError as error:
        raise SettingsError(f"chdir = {settings.chdir!r}: {error.strerror}") from None
    if leaving is not None:
        for directory in set(_importable(leaving)) & set(sys.path):
            sys.path.remove(directory)
        for name in _variables(leaving):
            before = (environ or {}).get(name)
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before
    for directory in _importable(settings):
        if directory in sys.path:
            sys.path.remove(directory)
        sys.path.insert(0, directory)
    os.environ.update(_variables(settings))


def _importable(settings: Settings) -> list[str]:
    """The directories to import from, the one to search first last."""
    listed = [settings.chdir, *settings.pythonpath.split(",")] if settings.pythonpath else [settings.chdir]
    return [os.path.abspath(os.path.join(settings.chdir, directory)) for directory in listed]


def _variables(settings: Settings) -> dict[str, str]:
    return {name: text for name, _, text in (pair.partition("=") for pair in settings.raw_env)}
