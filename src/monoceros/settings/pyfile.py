"""Config files in Python: run one, and say which name was assigned where.

The file is the user's program, so what it does is the user's, too: its errors are reported with its name, the line
and its own traceback, and what it defines besides settings is none of our business.
"""

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final, TypeGuard

from monoceros.settings.table import SettingsError

# Looked for in this order, in the directory the server is started in.
NAMES: Final = ("monoceros.conf.py", "gunicorn.conf.py")

# What a config file sees as its __name__, as with Gunicorn.
MODULE: Final = "__config__"


@dataclass(frozen=True)
class ConfigFile:
    """A config file that has been run. `shown` is its name in messages, `names` what it defines at module level."""

    shown: str
    names: Mapping[str, object]
    tree: ast.Module

    def origin(self, name: str) -> str:
        """FILE:LINE of the assignment to `name`; without the line, if the file does not say it (`from x import *`)."""
        value = self.names[name]
        places = list(_assignments(self.tree, name))
        # Of several (`if`, `else`) it is one that says this very value, if it can be told; else the last.
        lines = [line for line, said in places if said is not None and _says(said, value)] or [at for at, _ in places]
        return f"{self.shown}:{lines[-1]}" if lines else self.shown


def find(cwd: str) -> str | None:
    """The name of the config file that is read without being asked for, None if there is none in `cwd`."""
    return next((name for name in NAMES if os.path.isfile(os.path.join(cwd, name))), None)


def read(config: str, cwd: str) -> ConfigFile:
    """Run the config file that `-c` names: PATH (relative to `cwd`), file:PATH or python:MODULE.

    It is run afresh each time. Raises SettingsError; if the user's code failed, caused by the user's exception with
    a traceback that begins in the user's file.
    """
    if config.startswith("python:"):
        return _read_module(config.removeprefix("python:"), config)
    shown = config.removeprefix("file:")
    path = os.path.abspath(os.path.join(cwd, shown))
    source = _source(path, shown)

    def run() -> ModuleType:
        module = ModuleType(MODULE)
        module.__file__ = path
        sys.modules[MODULE] = module  # dataclasses and pickle look a class's module up there
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)
        return module

    return _run(run, source, path, shown)


def _read_module(name: str, config: str) -> ConfigFile:
    path = _module_path(name, config)
    before = sys.modules.pop(name, None)  # a reload of the settings shall see the file as it is now

    def run() -> ModuleType:
        importlib.invalidate_caches()
        return importlib.import_module(name)

    try:
        return _run(run, _source(path, config), path, config)
    except SettingsError:
        if before is not None:
            sys.modules[name] = before
        raise


def _module_path(name: str, config: str) -> str:
    """The file of a module. Imports the packages around it."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):  # an import in a package's __init__
            raise _failure(error, "", config) from error
        spec = None
    except (Exception, SystemExit) as error:  # the package's own code
        raise _failure(error, "", config) from error
    if spec is None or not spec.origin or not os.path.isfile(spec.origin):
        raise SettingsError(f"config file {config}: no such module")
    return spec.origin


def _source(path: str, shown: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"config file {shown}: {error.strerror} ({path})") from None


def _run(run: Callable[[], ModuleType], source: bytes, path: str, shown: str) -> ConfigFile:
    try:
        tree = ast.parse(source, path)
        module = run()
    except (Exception, SystemExit) as error:  # anything that a user's program can do
        raise _failure(error, path, shown) from _from_file(error, path)
    return ConfigFile(shown, dict(vars(module)), tree)


def _failure(error: BaseException, path: str, shown: str) -> SettingsError:
    """One line that says where the user's file failed, and how."""
    lines = [tb.tb_lineno for tb in _traceback(error) if tb.tb_frame.f_code.co_filename == path]
    text = str(error)
    if isinstance(error, SyntaxError) and error.filename == path:
        lines, text = [error.lineno or 1], error.msg
    where = f"{shown}:{lines[-1]}" if lines else f"config file {shown}"
    return SettingsError(f"{where}: {type(error).__name__}: {' '.join(text.split())}".removesuffix(": "))


def _from_file(error: BaseException, path: str) -> BaseException:
    """The error with a traceback that begins in the user's file, not with how we came there."""
    begin = next((tb for tb in _traceback(error) if tb.tb_frame.f_code.co_filename == path), None)
    return error.with_traceback(begin)


def _traceback(error: BaseException) -> Iterator[TracebackType]:
    tb = error.__traceback__
    while tb is not None:
        yield tb
        tb = tb.tb_next


# What has a scope of its own.
SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.comprehension)


def _assignments(node: ast.AST, name: str) -> Iterator[tuple[int, ast.expr | None]]:
    """The lines at module level that bind `name`, and the expression where it is a plain one."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.Assign | ast.AnnAssign) and name in _targets(inner):
            yield inner.lineno, inner.value
        elif _binds(inner, name):
            yield inner.lineno, None
        elif not isinstance(inner, SCOPES):
            yield from _assignments(inner, name)


def _binds(node: ast.AST, name: str) -> TypeGuard[ast.stmt | ast.expr | ast.alias]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return node.name == name
        case ast.alias():
            return (node.asname or node.name) == name
        case ast.Name(ctx=ast.Store()):
            return node.id == name
    return False


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _says(expression: ast.expr, value: object) -> bool:
    try:
        said: Any = ast.literal_eval(expression)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # it is not a literal
        return False
    return type(said) is type(value) and bool(said == value)
