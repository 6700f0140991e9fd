"""From what the user typed to the application: import it, call a factory, tell which protocol it speaks."""

import ast
import importlib
import inspect
import os
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, Final

DEFAULT_NAME: Final = "application"

# Where our own frames are, and those of the import machinery between them and the user's.
OURS: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep

Application = Callable[..., Any]


class BootError(Exception):
    """The application cannot be served. The text is one line for the user; `status` is the exit status."""

    status = 3


class AppNotFound(BootError):
    """The module is there, but what was named in it is missing or is no application."""

    status = 4


def load(spec: str) -> Application:
    """The application that `spec` names: MODULE, MODULE:NAME, MODULE:OBJECT.ATTRIBUTE or MODULE:FACTORY(ARGUMENTS).

    Without a name it is `application`. The arguments of a factory are literals. Raises `AppNotFound` or
    `BootError`; an exception of the user's own module passes through.
    """
    module_name, _, expression = spec.partition(":")
    if not module_name or module_name.startswith("."):
        raise AppNotFound(f"{spec!r} names no module: say MODULE:NAME")
    module = _import(module_name)
    application = _evaluate(module, expression or DEFAULT_NAME, spec)
    if application is None:
        raise AppNotFound(f"{spec!r} is None, not an application")
    if not callable(application):
        raise AppNotFound(f"{spec!r} is of type {type(application).__name__!r}, which cannot be called")
    return application  # type: ignore[no-any-return]


def users_traceback(traceback: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins in the user's file; all of it if there is none."""
    users = traceback
    while users is not None:
        file = users.tb_frame.f_code.co_filename
        if (
            not file.startswith(OURS)
            and not file.startswith("<frozen importlib")
            and "importlib" not in file.split(os.sep)
        ):
            return users
        users = users.tb_next
    return traceback


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module itself, or a package on the way to it. What it imports in turn is the user's to see whole.
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        if name.endswith(".py") and os.path.exists(name):
            hint = f"; did you mean {name.removesuffix('.py').replace(os.sep, '.')!r}?"
        else:
            hint = f"; looked in {os.getcwd()} and on the Python path"
        raise BootError(f"no module named {error.name!r}{hint}") from None


def _evaluate(module: ModuleType, expression: str, spec: str) -> Any:
    """The value of NAME, NAME.ATTRIBUTE or a call of one of them, without `eval`."""
    try:
        node = ast.parse(expression, mode="eval").body
    except SyntaxError:
        raise AppNotFound(f"{expression!r} is neither a name nor a call of a factory, in {spec!r}") from None
    if not isinstance(node, ast.Call):
        return _look_up(module, node, spec)
    factory = _look_up(module, node.func, spec)
    try:
        arguments = [ast.literal_eval(argument) for argument in node.args]
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
    except ValueError:
        raise AppNotFound(f"the arguments in {spec!r} must be literals") from None
    if not callable(factory):
        raise AppNotFound(f"{ast.unparse(node.func)!r} in {module.__name__!r} is no factory: it cannot be called")
    try:
        inspect.signature(factory).bind(*arguments, **named)
    except TypeError as error:
        raise AppNotFound(f"the factory in {spec!r} does not take these arguments: {error}") from None
    except ValueError:
        pass  # a builtin without a signature
    return factory(*arguments, **named)


def _look_up(module: ModuleType, node: ast.expr, spec: str) -> Any:
    if isinstance(node, ast.Attribute):
        owner, attribute, where = _look_up(module, node.value, spec), node.attr, f"{ast.unparse(node.value)!r}"
    elif isinstance(node, ast.Name):
        owner, attribute, where = module, node.id, f"module {module.__name__!r}"
    else:
        raise AppNotFound(f"{ast.unparse(node)!r} is neither a name nor a call of a factory, in {spec!r}")
    try:
        return getattr(owner, attribute)
    except AttributeError:
        file = f" ({module.__file__})" if getattr(module, "__file__", None) else ""
        raise AppNotFound(f"no {attribute!r} in {where}{file}") from None


def protocol(application: Application) -> str:
    """Which protocol it speaks: "asgi" (3.0), "asgi2" (double callable) or "wsgi"."""
    if inspect.isclass(application):
        if hasattr(application, "__await__"):
            return "asgi"
        return "asgi2" if _required(application) == 1 else "wsgi"
    call = application if inspect.isroutine(application) else getattr(application, "__call__", application)  # noqa: B004
    if inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(call):
        return "asgi"
    return "asgi2" if _required(application) == 1 else "wsgi"


def _required(application: Application) -> int | None:
    """How many positional arguments must be given, or None where Python cannot tell."""
    try:
        parameters = inspect.signature(application).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional and parameter.default is parameter.empty for parameter in parameters)
