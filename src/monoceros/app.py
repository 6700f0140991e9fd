"""From what the user typed to the application: import it, call a factory, tell which protocol it speaks."""

import ast
import difflib
import importlib
import inspect
import logging
import os
import re
from collections.abc import Callable, Sequence
from types import ModuleType, TracebackType
from typing import Any, Final

from monoceros.settings import Settings, SettingsError

log = logging.getLogger("gunicorn.error")

DEFAULT_NAME: Final = "application"

# Which protocol calls an application with so many arguments.
BY_ARGUMENTS: Final[dict[int | None, str]] = {1: "asgi2", 2: "wsgi", 3: "asgi"}

# What people call an application, and a factory of one.
USUAL: Final = ("app", "application", "wsgi_app", "api")
USUAL_FACTORIES: Final = ("create_app", "make_app")

# Where our own frames are, and those of the import machinery between them and the user's.
OURS: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep

Application = Callable[..., Any]


class BootError(Exception):
    """The application cannot be served. The text is one line for the user; `status` is the exit status."""

    status = 3


class AppNotFound(BootError):
    """The module is there, but what was named in it is missing or is no application."""

    status = 4


def find(settings: Settings) -> Application:
    """The application that the settings name. Raises what `load` and `load_paste` raise."""
    if settings.paste is not None:
        return load_paste(settings.paste, settings.raw_paste_global_conf)
    return load(settings.wsgi_app or "", factory=settings.factory)


def load(spec: str, *, factory: bool = False) -> Application:
    """The application that `spec` names: MODULE, MODULE:NAME, MODULE:OBJECT.ATTRIBUTE or MODULE:FACTORY(ARGUMENTS).

    Without a name it is `application`. The arguments of a factory are literals. With `factory`, what is named
    is called without arguments; so is a function without parameters, which can be nothing but a factory. Raises
    `AppNotFound` or `BootError`; an exception of the user's own module passes through.
    """
    module_name, _, expression = spec.partition(":")
    if not module_name or module_name.startswith("."):
        raise AppNotFound(f"{spec!r} names no module: say MODULE:NAME{_dotted(module_name, spec)}")
    module = _import(module_name, spec)
    application = _evaluate(module, expression or DEFAULT_NAME, spec)
    if application is None:
        raise AppNotFound(f"{spec!r} is None, not an application")
    if not callable(application):
        raise AppNotFound(f"{spec!r} is of type {type(application).__name__!r}, which cannot be called")
    if factory or _is_factory(application):
        return _made(application, spec, asked=factory)
    return application  # type: ignore[no-any-return]


def load_paste(spec: str, global_conf: Sequence[str] = ()) -> Application:
    """The application that a PasteDeploy file describes. `spec` is PATH or PATH#SECTION, without which it is `main`.

    `global_conf` adds KEY=VALUE to the file's `[DEFAULT]`; in a key, `\\=` is an equals sign. Raises SettingsError
    without PasteDeploy, and `AppNotFound` if there is no such file or section; an exception of what the file names
    passes through.
    """
    try:
        from paste.deploy import loadapp
    except ImportError:
        raise SettingsError("PasteDeploy is needed for paste: pip install 'monoceros[paste]'") from None
    from urllib.parse import quote

    path, _, section = spec.partition("#")
    if not os.path.isfile(path):
        raise AppNotFound(f"{spec!r} is no PasteDeploy file: there is no file {path!r}")
    pairs = (re.split(r"(?<!\\)=", pair, maxsplit=1) for pair in global_conf)
    words = {key.replace("\\=", "="): "".join(rest).replace("\\=", "=") for key, *rest in pairs}
    try:
        application = loadapp(f"config:{quote(os.path.abspath(path))}", name=section or None, global_conf=words)
    except LookupError as error:
        if type(error) is not LookupError:  # a KeyError or so is the user's; PasteDeploy's own are of the plain class
            raise
        raise AppNotFound(f"{spec!r}: {' '.join(str(error).split())}") from None
    if not callable(application):
        raise AppNotFound(f"{spec!r} is of type {type(application).__name__!r}, which cannot be called")
    return application  # type: ignore[no-any-return]


def _is_factory(application: Application) -> bool:
    """No protocol calls without arguments, so what takes none can only be meant to make the application."""
    try:
        return not inspect.signature(application).parameters
    except (TypeError, ValueError):
        return False


def _made(factory: Application, spec: str, *, asked: bool) -> Application:
    """The application that a factory makes."""
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise AppNotFound(f"{spec!r} is no factory that can be called without arguments: {error}") from None
    except ValueError:
        pass  # a builtin without a signature
    if not asked:
        log.warning("%r is a factory of an application, and used as one. To say so: --factory, or %s()", spec, spec)
    application = factory()
    if inspect.iscoroutine(application):
        application.close()
        raise AppNotFound(f"{spec!r} is an async function without parameters: neither an application nor a factory")
    if not callable(application):
        raise AppNotFound(f"the factory {spec!r} made a {type(application).__name__!r}, which cannot be called")
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


def _import(name: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module itself, or a package on the way to it. What it imports in turn is the user's to see whole.
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        hint = _dotted(name, spec) or f"; looked in {os.getcwd()} and on the Python path"
        raise BootError(f"no module named {error.name!r}{hint}") from None


def _dotted(path: str, spec: str) -> str:
    """The hint for who names a file instead of a module, "" if there is no such file below the working directory."""
    file = os.path.relpath(path).removesuffix(".py") if path else ""
    name = file.replace(os.sep, ".")
    if name == path or not all(map(str.isidentifier, name.split("."))) or not os.path.isfile(f"{file}.py"):
        return ""
    return f"; did you mean {name}{spec.removeprefix(path)}?"


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
        # Of a longer expression only a part would be right.
        alone = isinstance(node, ast.Name) and node.id == (spec.partition(":")[2] or DEFAULT_NAME)
        meant = _meant(module, attribute) if alone else None
        hint = f"; it has {meant.removesuffix('()')!r}: did you mean {module.__name__}:{meant}?" if meant else ""
        raise AppNotFound(f"no {attribute!r} in {where}{file}{hint}") from None


def _meant(module: ModuleType, name: str) -> str | None:
    """What may be meant by a name that is not in the module."""
    there = {each: thing for each, thing in vars(module).items() if callable(thing) and not each.startswith("_")}
    near = difflib.get_close_matches(name, there, 1, cutoff=0.75)
    factories = [f"{each}()" for each in USUAL_FACTORIES if each in there and _required(there[each]) == 0]
    return next(iter([*near, *(each for each in USUAL if each in there), *factories]), None)


def protocol(application: Application) -> str:
    """Which protocol it speaks: "asgi" (3.0), "asgi2" (double callable), "wsgi", or "" where nothing tells."""
    if inspect.isclass(application):
        if hasattr(application, "__await__"):
            return "asgi"
    else:
        call = application if inspect.isroutine(application) else getattr(application, "__call__", None)  # noqa: B004
        if inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(call):
            return "asgi"
    return BY_ARGUMENTS.get(_required(application), "")


def agree(application: Application, kind: str, spec: str) -> str:
    """Which protocol a worker of this kind is to speak with the application: "asgi", "asgi2" or "wsgi".

    `spec` is what the user calls it. Raises `BootError` where the two cannot go together.
    """
    spoken = protocol(application)
    if kind == "auto":
        return spoken or "wsgi"
    if kind == "asgi":
        if spoken == "wsgi":
            raise BootError(
                f"{spec!r} is a WSGI application, which asgi workers do not serve: leave out -k, or take gthread"
            )
        return spoken or "asgi"
    if spoken.startswith("asgi"):
        raise BootError(
            f"{spec!r} is an ASGI application, which {kind} workers do not serve: leave out -k, or take asgi"
        )
    return "wsgi"


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
