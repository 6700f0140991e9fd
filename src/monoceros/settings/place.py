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


def read_env_file(path: str, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The variables that a file of NAME=VALUE lines adds to an environment: those that are not set there.

    Raises SettingsError if there is no such file, or nothing that reads it.
    """
    try:
        from dotenv import dotenv_values
    except ImportError:
        raise SettingsError("python-dotenv is needed to read it: pip install 'monoceros[dotenv]'") from None
    try:
        with open(path, encoding="utf-8") as file:
            found = dotenv_values(stream=file)
    except (OSError, UnicodeError) as error:
        raise SettingsError(error.strerror if isinstance(error, OSError) else str(error)) from None
    return tuple((name, text) for name, text in found.items() if text is not None and name not in environ)


def enter(settings: Settings, leaving: Settings | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Go to `chdir`, put the directories to import from in front of `sys.path`, and set the application's variables.

    These are what `env_file` adds to the environment, and `raw_env`, which has the last word. May be called again.
    `leaving` are the settings that were entered before: what only they asked for is undone, and their variables get
    back the values that they have in `environ`, the environment the server was started with. Raises SettingsError if
    there is no such directory.
    """
    try:
        os.chdir(settings.chdir)
    except OSError as error:
        raise SettingsError(f"chdir = {settings.chdir!r}: {error.strerror}") from None
    if leaving is not None:
        _leave(leaving, environ or {})
    for directory in importable(settings):
        if directory in sys.path:
            sys.path.remove(directory)
        sys.path.insert(0, directory)
    os.environ.update(settings.env_file_variables)
    os.environ.update(_variables(settings))


def _leave(settings: Settings, environ: Mapping[str, str]) -> None:
    for directory in set(importable(settings)) & set(sys.path):
        sys.path.remove(directory)
    for name in _variables(settings):
        before = environ.get(name)
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
    for name, _ in settings.env_file_variables:  # none of which was set at the start
        os.environ.pop(name, None)


def importable(settings: Settings) -> tuple[str, ...]:
    """The directories to import from, the one to search first last."""
    listed = [settings.chdir, *settings.pythonpath.split(","), settings.app_dir]
    found = [os.path.abspath(os.path.join(settings.chdir, directory)) for directory in listed]
    # An empty one says nothing, and would be `chdir` again.
    return tuple(path for directory, path in zip(listed, found, strict=True) if directory)


def _variables(settings: Settings) -> dict[str, str]:
    return {name: text for name, _, text in (pair.partition("=") for pair in settings.raw_env)}
