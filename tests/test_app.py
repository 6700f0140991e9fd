"""From MODULE:NAME to an application, and what is said when that leads nowhere."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from monoceros.app import AppNotFound, BootError, agree, load, protocol

MODULE = """
def application(environ, start_response):
    return "application"

def app(environ, start_response):
    return "app"

def create(*args, **options):
    def created(environ, start_response):
        return args, options
    return created

def strict(name, *, debug=False):
    return create(name, debug=debug)

def broken():
    raise TypeError("of the user's own")

def empty():
    return None

class Holder:
    class inner:
        application = staticmethod(app)
    create = staticmethod(create)
    def __call__(self, environ, start_response):
        return "holder"

holder = Holder()
number = 7
nothing = None
"""

Module = Callable[..., str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Write a module; returns its name, which no other module has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str = MODULE, package: str = "") -> str:
        name = f"module_{uuid.uuid4().hex}"
        directory = tmp_path / package.replace(".", "/")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.py").write_text(text)
        return f"{package}.{name}" if package else name

    return write


def called(spec: str) -> object:
    return load(spec)({}, None)


# Forms


def test_the_name_is_application(module: Module) -> None:
    assert called(module()) == "application"
    assert called(f"{module()}:") == "application"


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("app", "app"),
        ("holder", "holder"),
        ("holder.inner.application", "app"),
        ("Holder.inner.application", "app"),
        ("create()", ((), {})),
        ("create('arg', debug=True)", (("arg",), {"debug": True})),
        ("create(1, -2.5, None, [1, 'two'], {'a': (3,)})", ((1, -2.5, None, [1, "two"], {"a": (3,)}), {})),
        ("create('a:b', c=':')", (("a:b",), {"c": ":"})),
        ("holder.create(1)", ((1,), {})),
        ("strict('name')", (("name",), {"debug": False})),
        ("strict('name', debug=True)", (("name",), {"debug": True})),
        ("Holder()", "holder"),
    ],
)
def test_forms(module: Module, expression: str, result: object) -> None:
    assert called(f"{module()}:{expression}") == result


def test_in_a_package(module: Module) -> None:
    assert called(f"{module(package=f'package_{uuid.uuid4().hex}.sub')}:app") == "app"


# What is not there


def fails(spec: str) -> tuple[type[BootError], int, str]:
    with pytest.raises(BootError) as caught:
        load(spec)
    return type(caught.value), caught.value.status, str(caught.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("missing", "no 'missing' in module '{module}' ({file}); it has 'app': did you mean {module}:app?"),
        ("aplication", "no 'aplication' in module '{module}' ({file}); {application}"),
        ("missing.app", "no 'missing' in module '{module}' ({file})"),
        ("holder.missing", "no 'missing' in 'holder' ({file})"),
        ("holder.inner.missing", "no 'missing' in 'holder.inner' ({file})"),
        ("missing()", "no 'missing' in module '{module}' ({file})"),
        ("nothing", "{spec!r} is None, not an application"),
        ("empty()", "{spec!r} is None, not an application"),
        ("number", "{spec!r} is of type 'int', which cannot be called"),
        ("number()", "'number' in '{module}' is no factory: it cannot be called"),
        ("strict()", "the factory in {spec!r} does not take these arguments: missing a required argument: 'name'"),
        ("strict(1, 2)", "the factory in {spec!r} does not take these arguments: too many positional arguments"),
        ("app[0]", "'app[0]' is neither a name nor a call of a factory, in {spec!r}"),
        ("1", "'1' is neither a name nor a call of a factory, in {spec!r}"),
        ("create()()", "'create()' is neither a name nor a call of a factory, in {spec!r}"),
        ("app; import os", "'app; import os' is neither a name nor a call of a factory, in {spec!r}"),
        ("create(", "'create(' is neither a name nor a call of a factory, in {spec!r}"),
        ("create(number)", "the arguments in {spec!r} must be literals"),
        ("create(__import__('os'))", "the arguments in {spec!r} must be literals"),
    ],
)
def test_no_application(module: Module, tmp_path: Path, expression: str, message: str) -> None:
    name = module()
    spec = f"{name}:{expression}"
    file = str(tmp_path / f"{name}.py")
    kind, status, text = fails(spec)
    assert (kind, status) == (AppNotFound, 4)
    application = f"it has 'application': did you mean {name}:application?"
    assert text == message.format(module=name, file=file, spec=spec, application=application)


WSGI_FUNCTION = "def {}(environ, start_response): ...\n"


@pytest.mark.parametrize(
    ("text", "expression", "meant"),
    [
        (WSGI_FUNCTION.format("app"), "", "app"),
        (WSGI_FUNCTION.format("wsgi_app") + "import os as app\n", "", "wsgi_app"),
        (WSGI_FUNCTION.format("api") + "application = None\n", "app", "api"),
        (WSGI_FUNCTION.format("shop") + WSGI_FUNCTION.format("app"), "shopp", "shop"),
        (WSGI_FUNCTION.format("_apps"), "apps", None),
        ("def create_app(): ...", "", "create_app()"),
        ("def create_app(name): ...", "", None),
        ("def create_app(name): ...", "creat_app('x')", None),
        (WSGI_FUNCTION.format("shop"), "", None),
    ],
)
def test_another_name_may_be_meant(module: Module, text: str, expression: str, meant: str | None) -> None:
    name = module(text)
    hint = f"; it has {meant.removesuffix('()')!r}: did you mean {name}:{meant}?" if meant else ")"
    assert fails(f"{name}:{expression}")[2].endswith(hint)


def test_no_module(tmp_path: Path, module: Module) -> None:
    kind, status, text = fails("nowhere_at_all:app")
    assert (kind, status) == (BootError, 3)
    assert text == f"no module named 'nowhere_at_all'; looked in {tmp_path} and on the Python path"


def test_no_module_in_a_package(module: Module) -> None:
    package = module(package=f"package_{uuid.uuid4().hex}").partition(".")[0]
    assert fails(f"{package}.nowhere:app")[2].startswith(f"no module named '{package}.nowhere'; ")
    assert fails(f"{package}x.nowhere:app")[2].startswith(f"no module named '{package}x'; ")


def test_a_module_that_is_no_package(module: Module) -> None:
    name = module()
    assert fails(f"{name}.app")[:2] == (BootError, 3)


def test_a_file_instead_of_a_module(module: Module) -> None:
    name = module()
    assert fails(f"{name}.py:app")[2] == f"no module named '{name}.py'; did you mean {name}:app?"


@pytest.mark.parametrize("path", ["./{}.py", "./{}", "{here}/{}.py", "sub/../{}.py"])
def test_a_path_instead_of_a_module(module: Module, tmp_path: Path, path: str) -> None:
    (tmp_path / "sub").mkdir()
    name = module()
    spec = path.format(name, here=tmp_path) + ":create('./x')"
    assert fails(spec)[2].endswith(f"; did you mean {name}:create('./x')?")


@pytest.mark.parametrize("path", ["{}/{}", "./{}/{}.py", "{}/{}.py"])
def test_a_path_into_a_package(module: Module, path: str) -> None:
    package, _, name = module(package="shop").partition(".")
    assert fails(path.format(package, name) + ":app")[2].endswith(f"; did you mean {package}.{name}:app?")
    assert "did you mean" not in fails(f"{package}/nowhere:app")[2]
    assert "did you mean" not in fails(f"../{package}/{name}.py:app")[2]


@pytest.mark.parametrize("spec", ["", ":app", ".", ".app:app", "..app"])
def test_no_name_of_a_module(spec: str) -> None:
    assert fails(spec) == (AppNotFound, 4, f"{spec!r} names no module: say MODULE:NAME")


@pytest.mark.parametrize("spec", ["a..b:app", "a b:app", "app/wsgi.py", "-:app"])
def test_what_is_no_name_of_a_module(spec: str, module: Module) -> None:
    assert fails(spec)[:2] == (BootError, 3)


# What the user's own code raises is the user's to see


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import elsewhere_entirely", ModuleNotFoundError),
        ("from os import nothing_such", ImportError),
        ("1 / 0", ZeroDivisionError),
        ("def f(:", SyntaxError),
        ("raise SystemExit(1)", SystemExit),
        ("raise KeyboardInterrupt", KeyboardInterrupt),
    ],
)
def test_a_module_that_fails(module: Module, text: str, error: type[BaseException]) -> None:
    with pytest.raises(error):
        load(f"{module(text)}:app")


def test_a_factory_that_fails(module: Module) -> None:
    with pytest.raises(TypeError, match="of the user's own"):
        load(f"{module()}:broken()")


# Which protocol


class WSGI:
    def __call__(self, environ, start_response):  # type: ignore[no-untyped-def]
        return []


class ASGI:
    async def __call__(self, scope, receive, send):  # type: ignore[no-untyped-def]
        pass


class ASGI2:
    def __init__(self, scope):  # type: ignore[no-untyped-def]
        pass

    async def __call__(self, receive, send):  # type: ignore[no-untyped-def]
        pass


class WSGIPerRequest:
    def __init__(self, environ, start_response):  # type: ignore[no-untyped-def]
        pass

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(())


def wsgi(environ, start_response):  # type: ignore[no-untyped-def]
    return []


async def asgi(scope, receive, send):  # type: ignore[no-untyped-def]
    pass


@pytest.mark.parametrize(
    ("application", "expected"),
    [
        (wsgi, "wsgi"),
        (WSGI(), "wsgi"),
        (WSGI().__call__, "wsgi"),
        (WSGIPerRequest, "wsgi"),
        (partial(wsgi), "wsgi"),
        (lambda *args: [], ""),
        (lambda environ, start_response, more=1: [], "wsgi"),
        (max, ""),
        (lambda scope, receive, send: asgi(scope, receive, send), "asgi"),
        (asgi, "asgi"),
        (ASGI(), "asgi"),
        (ASGI().__call__, "asgi"),
        (partial(asgi), "asgi"),
        (ASGI2, "asgi2"),
        (lambda scope: asgi, "asgi2"),
    ],
)
def test_protocols(application: Callable[..., object], expected: str) -> None:
    assert protocol(application) == expected


@pytest.mark.parametrize(
    ("application", "kind", "expected"),
    [
        (wsgi, "auto", "wsgi"),
        (asgi, "auto", "asgi"),
        (ASGI2, "auto", "asgi2"),
        (max, "auto", "wsgi"),
        (wsgi, "sync", "wsgi"),
        (max, "gthread", "wsgi"),
        (asgi, "asgi", "asgi"),
        (ASGI2, "asgi", "asgi2"),
        (max, "asgi", "asgi"),
    ],
)
def test_what_a_kind_of_worker_speaks(application: Callable[..., object], kind: str, expected: str) -> None:
    assert agree(application, kind, "m:a") == expected


@pytest.mark.parametrize(
    ("application", "kind", "said"),
    [
        (asgi, "sync", "'m:a' is an ASGI application, which sync workers do not serve: leave out -k, or take asgi"),
        (
            ASGI2,
            "gthread",
            "'m:a' is an ASGI application, which gthread workers do not serve: leave out -k, or take asgi",
        ),
        (wsgi, "asgi", "'m:a' is a WSGI application, which asgi workers do not serve: leave out -k, or take gthread"),
    ],
)
def test_the_wrong_kind_of_worker(application: Callable[..., object], kind: str, said: str) -> None:
    with pytest.raises(BootError) as caught:
        agree(application, kind, "m:a")
    assert str(caught.value) == said
    assert caught.value.status == 3


@pytest.mark.parametrize("factory", [False, True])
def test_a_factory_without_parameters(module: Module, factory: bool, caplog: pytest.LogCaptureFixture) -> None:
    name = module("def create():\n    return lambda environ, start_response: []")
    assert protocol(load(f"{name}:create", factory=factory)) == "wsgi"
    assert [record.levelname for record in caplog.records] == ([] if factory else ["WARNING"])


def test_a_factory_with_a_default(module: Module) -> None:
    """It is called only where that is asked for: with one required argument less it could be an application."""
    name = module("def create(debug=False):\n    return lambda environ, start_response: []")
    assert load(f"{name}:create").__name__ == "create"
    assert load(f"{name}:create", factory=True).__name__ == "<lambda>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def create(debug):\n    pass", "is no factory that can be called without arguments"),
        ("def create():\n    return 3", "made a 'int', which cannot be called"),
        ("async def create():\n    pass", "is an async function without parameters"),
    ],
)
def test_what_is_no_factory(module: Module, text: str, said: str) -> None:
    with pytest.raises(AppNotFound, match=said):
        load(f"{module(text)}:create", factory=True)
