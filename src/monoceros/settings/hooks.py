"""Hooks: functions of the user's config file that the server calls at certain moments, as Gunicorn's are called.

A hook is checked when the settings are read, so that one which cannot be called is an error then, and not when its
moment comes.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Hook = Callable[..., Any]

POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

# What `post_request` is called with. Gunicorn's older users wrote it for the first two or three of these.
POST_REQUEST: Final = ("worker", "req", "environ", "resp")


@dataclass(frozen=True, slots=True)
class Shortened:
    """A hook that takes fewer arguments than it is called with: the first `count` of them."""

    hook: Hook
    count: int

    def __call__(self, *arguments: object) -> object:
        return self.hook(*arguments[: self.count])


def hook(*arguments: str) -> Callable[[object], Hook | None]:
    """The parser of a hook that is called with `arguments`: a function of just so many, its "module.function", or None.

    Like Gunicorn it counts optional parameters, too; `*args` takes any number.
    """
    takes = f"({', '.join(arguments)})"
    many = f"{len(arguments)} arguments" if arguments[1:] else "1 argument"
    right = f"a function that takes {many}, {takes}"

    def parse(value: object) -> Hook | None:
        found = _function(value, right)
        if found is not None and not _takes(found, len(arguments)):
            raise ValueError(f"{right}{_but(found)}")
        return found

    parse.__doc__ = f'A function that takes {takes}, or its "module.function".'
    return parse


def post_request(value: object) -> Hook | None:
    """A function that takes (worker, req), (worker, req, environ) or (worker, req, environ, resp).

    Or its "module.function". What comes of it takes all four.
    """
    if isinstance(value, Shortened):
        return value
    right = f"a function that takes 2, 3 or 4 arguments, ({', '.join(POST_REQUEST)})"
    found = _function(value, right)
    if found is None or _takes(found, len(POST_REQUEST)):
        return found
    for count in (3, 2):
        if _takes(found, count):
            return Shortened(found, count)
    raise ValueError(f"{right}{_but(found)}")


def name_of(function: object) -> str:
    """The "module.function" of a hook, or of the class that a callable object has."""
    hook = function.hook if isinstance(function, Shortened) else function
    named = hook if hasattr(hook, "__qualname__") else type(hook)
    return f"{named.__module__}.{named.__qualname__}"


def is_importable(function: object) -> bool:
    """Whether the "module.function" of a hook leads to it again. It does not to what a config file defines itself."""
    hook = function.hook if isinstance(function, Shortened) else function
    module, _, name = name_of(hook).rpartition(".")
    return module != "__config__" and getattr(sys.modules.get(module), name, None) is hook


def _function(value: object, right: str) -> Hook | None:
    if value is None or value == "":
        return None
    found = _imported(value.strip(), right) if isinstance(value, str) else value
    if not callable(found):
        raise ValueError(right)
    if inspect.iscoroutinefunction(found):
        raise ValueError(f"{right}; an async function is not called by anyone")
    return found


def _imported(path: str, right: str) -> object:
    module, _, name = path.rpartition(".")
    if not module or not all(map(str.isidentifier, path.split("."))):
        raise ValueError(f'{right}, or "module.function"')
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        raise ValueError(f"{right}; there is no {name!r} in module {module!r}") from None
    except (Exception, SystemExit) as error:  # anything that a user's module can do
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{right}; {module!r} cannot be imported: {said}") from None


def _takes(function: Hook, count: int) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return True
    if any(each.kind is each.KEYWORD_ONLY and each.default is each.empty for each in parameters):
        return False
    positional = sum(each.kind in POSITIONAL for each in parameters)
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return positional <= count
    return positional == count


def _but(function: Hook) -> str:
    return f"; this one takes {inspect.signature(function)}"
