"""Monoceros: a pre-fork application server for Python."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "run"]


def run(app: Any, **settings: Any) -> None:
    """Serve an application until told to stop: a string such as "main:app", or the application itself.

    The settings go by their names (docs/settings.md), or by those that `uvicorn.run` has for them. They stand in the
    place of a command line: config files and variables count as well, but less. `sys.argv` is not read.

    Returns when the server has ended well, else raises SystemExit with its exit status; SettingsError for a wrong
    value, TypeError for a name that is no setting, RuntimeError in another thread than the main one.
    """
    from monoceros import script  # whoever only asks for the version needs no server

    script.run(app, settings)
