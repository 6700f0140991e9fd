"""The plan of the house as a test: which room may import which, and how big things may get.

`docs/design.md` draws the plan. A module imports only from rooms below its own, or from its own room; a package is a
room, and so is a module at the top. Imports inside functions and under TYPE_CHECKING count: they are doors, too.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "monoceros"
NAME = PACKAGE.name

LAYERS = [
    {"wire", "signals", "scoreboard", "settings"},
    {"listener", "tls", "app", "reloader"},
    {"gateway", "ops"},
    {"worker"},
    {"arbiter"},
    {"cli"},
    {"script"},
    {"__init__", "__main__"},  # the front doors: they may lead anywhere, and nothing leads to them
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}

# What a room must do without, though the standard library has it.
FORBIDDEN = {
    "wire": {"asyncio", "os", "select", "selectors", "signal", "socket", "ssl", "subprocess", "threading", "time"},
    "gateway": {"asyncio", "select", "selectors", "socket", "ssl", "subprocess", "threading"},
}

# One conversation with the application that no connection drives, so that it has to wait by itself.
WAITS = PACKAGE / "gateway" / "lifespan.py"

MODULE_LINES = 420
FUNCTION_LINES = 45
LONG_BECAUSE_IT_IS_DATA = {PACKAGE / "settings" / "table.py"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST, package: list[str]) -> Iterator[tuple[int, str]]:
    """The line and the full name of everything that a module of `package` imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *([node.module] if node.module else [])]
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            named = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            yield from ((node.lineno, name) for name in named if isinstance(name, str))


def secret_doors(source: str, room: str, package: list[str]) -> list[str]:
    """What this module imports although it may not."""
    found = []
    for line, name in imported(ast.parse(source), package):
        first, *rest = name.split(".")
        if first != NAME:
            if first in FORBIDDEN.get(room, ()):
                found.append(f"{line}: {room} does without {first}")
            continue
        there = rest[0] if rest else "__version__"
        if there in (room, "__version__"):
            continue
        if LEVEL.get(there, len(LAYERS)) >= LEVEL[room]:
            found.append(f"{line}: {room} must not import {name}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    package = [NAME, *path.relative_to(PACKAGE).parts[:-1]]
    assert room_of(path) in LEVEL, "a room without a level: say in LAYERS where it stands"
    doors = secret_doors(path.read_text(), room_of(path), package)
    assert [door for door in doors if not (path == WAITS and door.endswith(" asyncio"))] == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("wire", "from monoceros.wire.events import Request"),
        ("wire", "from . import events"),
        ("wire", "from .events import Request"),
        ("wire", "import monoceros.wire.body"),
        ("wire", "from monoceros import __version__"),
        ("wire", "import monoceros"),
        ("wire", "from collections.abc import Iterator"),
        ("gateway", "from ..wire import events"),
        ("gateway", "import time"),
        ("worker", "from monoceros import scoreboard, signals"),
        ("worker", "from monoceros.ops.log import access"),
        ("arbiter", "import monoceros.worker"),
    ],
)
def test_a_door_downwards_is_allowed(room: str, source: str) -> None:
    assert secret_doors(source, room, [NAME, room]) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("wire", "from monoceros.settings.table import Settings"),
        ("wire", "from monoceros import settings"),
        ("wire", "from ..settings import table"),
        ("wire", "from .. import settings"),
        ("wire", "import monoceros.gateway.wsgi"),
        ("wire", "from monoceros import run"),
        ("wire", "import socket"),
        ("wire", "def f():\n    from time import monotonic"),
        ("gateway", "from monoceros.ops import log"),
        ("gateway", "import os, threading"),
        ("gateway", "import asyncio.events"),
        ("gateway", "if TYPE_CHECKING:\n    from monoceros.worker.base import Worker"),
        ("ops", "from monoceros.gateway.environ import build"),
        ("listener", "from monoceros.app import load"),
        ("worker", "def f():\n    import monoceros.arbiter.children"),
        ("worker", "importlib.import_module('monoceros.arbiter')"),
        ("arbiter", "from monoceros.cli import main"),
        ("arbiter", "from monoceros.__main__ import main"),
        ("arbiter", "from monoceros.attic import box"),
    ],
)
def test_a_secret_door_is_found(room: str, source: str) -> None:
    assert len(secret_doors(source, room, [NAME, room])) == 1


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_grows_too_long(path: Path) -> None:
    source = path.read_text()
    if path not in LONG_BECAUSE_IT_IS_DATA:
        assert len(source.splitlines()) <= MODULE_LINES, "make two modules of it, each with a name that is a noun"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= FUNCTION_LINES, f"{node.name} in line {node.lineno} has {lines} lines"


def test_the_repository_stands_alone() -> None:
    """No file speaks of what is not in the repository."""
    outside = "../" + "shared"
    found = []
    for directory, names, files in os.walk(ROOT):
        names[:] = [name for name in names if not name.startswith((".", "__pycache__")) or name == ".ci"]
        for path in (Path(directory, file) for file in files):
            if outside.encode() in path.read_bytes():
                found.append(str(path.relative_to(ROOT)))
    assert found == []
