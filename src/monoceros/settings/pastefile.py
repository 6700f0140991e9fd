"""`--paste FILE#SECTION`: what a PasteDeploy file says to the server. Its `[server:main]` says nothing to us.

The application in it is made by `app.load_paste`.
"""

import configparser
import importlib.util
import os
from collections.abc import Iterator
from typing import Final

from monoceros.settings.sources import Given, parsed, refusal

NEEDED: Final = "PasteDeploy is needed to read it: pip install 'monoceros[paste]'"


def uri(asked: Given, directory: str) -> str | None:
    """PATH or PATH#SECTION, absolute, None if what was asked for is nothing. `directory` is where a path begins.

    Raises SettingsError if there is no such file, or nothing that reads it.
    """
    spec = parsed(asked)
    if spec is None:
        return None
    path, hash, section = str(spec).removeprefix("config:").partition("#")
    path = os.path.abspath(os.path.join(directory, path))
    if not os.path.isfile(path):
        raise refusal(asked, f"there is no file {path}")
    if not _has_pastedeploy():
        raise refusal(asked, NEEDED)
    return f"{path}{hash}{section}"


def settings(asked: Given, uri: str) -> Iterator[Given]:
    """What the file means for our settings: less than any config file, as it is for others, too.

    Raises SettingsError for a file that is none of its kind.
    """
    path = uri.partition("#")[0]
    file = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        with open(path, encoding="utf-8") as lines:
            file.read_file(lines)
    except (OSError, UnicodeError, configparser.Error) as error:
        raise refusal(asked, " ".join(str(error).split())) from None
    yield Given("default_proc_name", path, asked.origin)
    if file.has_section("loggers"):
        yield Given("logconfig", path, asked.origin)


def _has_pastedeploy() -> bool:
    try:
        return importlib.util.find_spec("paste.deploy") is not None
    except ModuleNotFoundError:  # not even a package around it
        return False
