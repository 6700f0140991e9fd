"""The table for people to read: as argparse, as `--print-config`, as a page of reference.

python -m monoceros.settings.render > docs/settings.md
"""

import argparse
import ast
import difflib
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NoReturn

from monoceros import __version__
from monoceros.settings import absent, hooks
from monoceros.settings.table import DEFAULTS_FROM_ENVIRONMENT, FILE, FLAG, ROWS, VARIABLE, Row, Settings
from monoceros.settings.values import Address, Networks

# How alike two flags must be for "did you mean": `--bnid` and `--bind` are (0.83).
ALIKE: Final = 0.75

# The page's own words. What it says about a setting stands in the table.
INTRODUCTION: Final = """\
# Settings

This page is made from the table of settings: `python -m monoceros.settings.render > docs/settings.md`.

A setting can be given in several places. Later ones win, and a list replaces a list:

1. the default, which some variables that platforms set may move (PORT, WEB_CONCURRENCY, FORWARDED_ALLOW_IPS, SENDFILE);
2. the file that `--paste` names, if it says how to log;
3. one config file: `-c FILE`, `-c file:FILE` or `-c python:MODULE`, else the first of these that is in the working
   directory: `monoceros.conf.py`, `gunicorn.conf.py`, `monoceros.toml`, `pyproject.toml` with a table
   `[tool.monoceros]`;
4. variables as Uvicorn has them, `UVICORN_` and the parameter's name; then those with `MONOCEROS_` and the setting's
   name; a list is one text with commas;
5. flags in the variables GUNICORN_CMD_ARGS and MONOCEROS_CMD_ARGS, written as on a command line;
6. flags on the command line, or the arguments of `monoceros.run("main:app", workers=4)` in a script.

A config file in Python is a program: its module-level names that are names of settings are taken, all others are its
own. In TOML every key must be a setting. A value is written as in the examples below, but for Python's True, False and
dicts: `workers = 4`, `preload_app = true`, `bind = ["127.0.0.1:8000", "unix:/run/myproject.sock"]`; a hook is a text,
`post_fork = "deploy.hooks.post_fork"`.

`monoceros --print-config` prints every setting with its value and where it comes from, `monoceros --check-config`
says whether the server would start.

A reload (HUP) reads all places again. A setting that says "at a restart" keeps its value until then. Durations are in
seconds, sizes in bytes.
"""

ABSENTEES: Final = """\
## What is not here

Settings of Gunicorn and options of Uvicorn that this version does not have. Given at their default, they are taken
without a word. With another value, the server does not start, or says that they have no effect.

| setting | default | otherwise |
|---|---|---|"""


class Take(argparse.Action):
    """Keeps the text of a flag, or whether it switches on or off, and in `Parser.used` which flag it was."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        flag = option_string or ""
        value: object = values
        if self.nargs == 0:
            value = not flag.startswith("--no-")
        elif self.const == "append":
            value = [*getattr(namespace, self.dest, ()), values]
        setattr(namespace, self.dest, value)
        if isinstance(parser, Parser):
            parser.used[self.dest] = flag


class Parser(argparse.ArgumentParser):
    """argparse, which knows where the arguments come from, and what somebody may have meant.

    `used` says, by name of setting, which of its flags was found last.
    """

    def __init__(self, source: str = "") -> None:
        """`source` is named in messages, e.g. the variable that the arguments were found in."""
        super().__init__(
            prog="monoceros",
            usage="%(prog)s [OPTIONS] APPLICATION [OPTIONS]",
            description="Serve a Python web application over HTTP.",
            argument_default=argparse.SUPPRESS,
            epilog="APPLICATION is MODULE:VARIABLE or MODULE:FACTORY(), as in myproject.wsgi:application.",
        )
        self.source = source
        self.used: dict[str, str] = {}

    def split(self, argv: list[str]) -> dict[str, Any]:
        """The arguments by name of setting, as raw text; the positional ones as "app".

        Exits with status 2, as argparse does, for a flag that is unknown, lacks its value, or is refused.
        """
        known, unknown = self.parse_known_args(argv)
        found = vars(known)
        slips = [word.partition("=")[0] for word in [*unknown, *found.get("app", ())] if word.startswith("-")]
        if slips:
            self.error(f"{slips[0]}: no such flag{_hint(slips[0])}")
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        refused: dict[str, list[str]] = {}
        for name, value in found.items():
            if absent.verdict(name, value) == "refused":
                refused.setdefault(absent.why(name), []).append(shown_flag(name))
        if refused:
            self.error("; ".join(f"{', '.join(flags)}: {why}" for why, flags in refused.items()))
        return found

    def error(self, message: str) -> NoReturn:
        super().error(f"{self.source}: {message}" if self.source else message)


def _hint(slip: str) -> str:
    """What somebody may have meant by a flag that is none, as far as it would be of use."""
    ours = [flag for row in ROWS.values() for flag in row.flags]
    absentees = [word for usage in absent.FLAGS.values() for word in usage.split()]
    near = difflib.get_close_matches(slip, [*ours, *absentees], 1, ALIKE)
    return f" (did you mean {near[0]}?)" if slip.startswith("--") and near and near[0] in ours else ""


def shown_flag(name: str) -> str:
    """The flags of a setting that is not there, as argparse names them in its messages."""
    return "/".join(word for word in absent.FLAGS[name].split() if word.startswith("-"))


def parser(source: str = "") -> Parser:
    """The table as a command line. Values stay text: who reads them knows better than argparse what is wrong."""
    result = Parser(source)
    result.add_argument("app", nargs="*", metavar="APPLICATION", help="The application to serve.")
    result.add_argument("-v", "--version", action="version", version=f"monoceros (version {__version__})")
    for section, rows in groupby(ROWS.values(), lambda row: row.section):
        group = result.add_argument_group(section)
        for row in filter(lambda row: row.flags, rows):
            extra: dict[str, Any] = {"nargs": 0}
            if row.action in ("store", "append"):
                extra = {"metavar": row.metavar, "const": row.action}
            # A flag that turns something off would seem to be on.
            default = "" if row.action == "store_false" else f" [{shown_default(row)}]"
            help = f"{row.help}{default}".replace("%", "%%")
            group.add_argument(*row.flags, dest=row.name, action=Take, help=help, **extra)
    for name, usage in absent.FLAGS.items():
        flags = [word for word in usage.split() if word.startswith("-")]
        takes: dict[str, Any] = {"nargs": 0}
        if "VALUE" in usage:
            takes = {"nargs": "?", "const": True} if "[VALUE]" in usage else {}
        result.add_argument(*flags, dest=name, action=Take, help=argparse.SUPPRESS, **takes)
    return result


def literal(value: object) -> str:
    """A setting's value as one writes it in a config file."""
    return repr(_plain(value))


def _plain(value: object) -> object:
    if isinstance(value, Address | Networks):
        return str(value)
    if callable(value):
        return hooks.name_of(value)
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def print_config(settings: Settings) -> str:
    """Every setting, sorted, with a comment that says where it comes from. A config file could be made of it.

    What a config file cannot give again is in a comment: a hook that such a file defines itself, an open stream.
    """
    lines = []
    for name in sorted(ROWS):
        value = getattr(settings, name)
        line = f"{name} = {literal(value)}"
        origin = settings.origins.get(name)
        # The application of a PasteDeploy file is there by that, not by a name.
        again = _can_be_given_again(value) and not (name == "wsgi_app" and settings.paste)
        lines.append(("" if again else "# ") + (f"{line}  # {origin}" if origin else line))
    return "\n".join(lines) + "\n"


def _can_be_given_again(value: object) -> bool:
    if callable(value):
        return hooks.is_importable(value)
    try:
        ast.literal_eval(literal(value))
    except (ValueError, SyntaxError):
        return False
    return True


def shown_default(row: Row) -> str:
    """The default in words or as a literal."""
    return row.shown or literal(row.default)


def reference() -> str:
    """The page of reference, in Markdown."""
    parts = [INTRODUCTION]
    for section, rows in groupby(ROWS.values(), lambda row: row.section):
        parts += [f"## {section}\n", *map(_entry, rows)]
    return "\n".join([*parts, ABSENTEES, *map(_absentee, sorted(absent.ALL))]) + "\n"


def _absentee(name: str) -> str:
    """What the page says about a setting that is not there."""
    row = absent.ALL[name]
    flags = [f"`{word}`" for word in row.usage.split() if word.startswith("-")]
    said = " ".join([f"`{name}`", *([f"({', '.join(flags)})"] if flags else [])])
    default = f"`{literal(row.defaults[0])}`" if name != "control_socket_mode" else "`0o600`"
    return f"| {said} | {default} | {'refused' if row.refused else 'no effect'}: {absent.why(name)} |"


def _entry(row: Row) -> str:
    """What the page says about one setting."""
    defaults = [variable for variable, (name, _) in DEFAULTS_FROM_ENVIRONMENT.items() if name == row.name]
    default = row.shown or f"`{literal(row.default)}`"
    cells = {
        "Flag": ", ".join(f"`{flag}`" for flag in row.flags) or "none",
        "Variable": f"`{row.variable}`" if VARIABLE in row.sources else "none",
        "Type": (row.parse.__doc__ or "").splitlines()[0].removesuffix("."),
        "Default": default + "".join(f", or by `{variable}`" for variable in defaults),
        "Changes": "at a reload" if row.live else "at a restart",
    }
    if row.sources == frozenset((FLAG,)):
        del cells["Changes"]  # it is something to do, not something to be
    lines = [f"### {row.name}\n", f"{row.help}\n"]
    lines += ["| | |", "|---|---|", *(f"| {title} | {cell} |" for title, cell in cells.items()), ""]
    if FILE in row.sources:
        example = row.example if row.example.startswith("def ") else f"{row.name} = {row.example}"
        lines += ["```python", example, "```\n"]
    else:
        value = row.example.strip("'")
        said = row.flags[-1] if row.action == "switch" else f"{row.flag} {value}".rstrip()
        application = "" if row.name == "paste" else " myproject.wsgi"
        lines += ["```sh", f"monoceros {said}{application}", "```\n"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(reference())
