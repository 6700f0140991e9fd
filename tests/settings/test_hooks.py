"""Hooks: what can be one, what is said of what cannot."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from monoceros.settings.hooks import Shortened, hook, is_importable, name_of, post_request

of_two = hook("server", "worker")


class Pair:
    def __call__(self, server: object, worker: object) -> str:
        return "called"

    def method(self, server: object, worker: object) -> str:
        return "method"

    @staticmethod
    def one(worker: object) -> None: ...


def anything(*arguments: object) -> tuple[object, ...]:
    return arguments


def two(server: object, worker: object) -> None: ...


def three(server: object, worker: object, more: object) -> None: ...


def optional(server: object, worker: object = None) -> None: ...


@pytest.mark.parametrize(
    "function",
    [two, optional, anything, Pair(), Pair().method, lambda a, b: 1, functools.partial(three, 1), max],
)
def test_what_takes_two_arguments(function: Callable[..., object]) -> None:
    assert of_two(function) is function


@pytest.mark.parametrize("nothing", [None, ""])
def test_nothing_to_call(nothing: object) -> None:
    assert of_two(nothing) is None
    assert post_request(nothing) is None


RIGHT = "a function that takes 2 arguments, (server, worker)"


def needs_a_name(server: object, worker: object, *, name: object) -> None: ...


def many(one: object, two: object, three: object, *more: object) -> None: ...


async def waits(server: object, worker: object) -> None: ...


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda a: 1, f"{RIGHT}; this one takes (a)"),
        (lambda: 1, f"{RIGHT}; this one takes ()"),
        (lambda a, b, c=1: 1, f"{RIGHT}; this one takes (a, b, c=1)"),
        (needs_a_name, f"{RIGHT}; this one takes (server: 'object', worker: 'object', *, name: 'object') -> 'None'"),
        (Pair.one, f"{RIGHT}; this one takes (worker: 'object') -> 'None'"),
        (waits, f"{RIGHT}; an async function is not called by anyone"),
        (3, RIGHT),
        (["a"], RIGHT),
        ("print", f'{RIGHT}, or "module.function"'),
        ("a b.c", f'{RIGHT}, or "module.function"'),
        (".c", f'{RIGHT}, or "module.function"'),
        ("os.nothing", f"{RIGHT}; there is no 'nothing' in module 'os'"),
        ("os.sep", RIGHT),
        ("operator.index", f"{RIGHT}; this one takes (a, /)"),
        ("no_such_module.post_fork", f"{RIGHT}; 'no_such_module' cannot be imported: ModuleNotFoundError: No module "),
    ],
)
def test_what_cannot_be_called_with_two(value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        of_two(value)
    assert str(caught.value).startswith(message)


def test_one_argument_is_singular() -> None:
    with pytest.raises(ValueError, match=r"^a function that takes 1 argument, \(server\); this one takes \(a, b\)$"):
        hook("server")(lambda a, b: 1)


def test_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hooks_of_mine.py").write_text("def post_fork(server, worker): ...\nclass post_request: ...\n")
    (tmp_path / "hooks_that_fail.py").write_text("import sys\nsys.exit('no')\n")
    found = of_two(" hooks_of_mine.post_fork ")
    assert found is sys.modules.pop("hooks_of_mine").post_fork
    with pytest.raises(ValueError, match=r"'hooks_that_fail' cannot be imported: SystemExit: no$"):
        of_two("hooks_that_fail.post_fork")


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (lambda worker, req: (worker, req), (1, 2)),
        (lambda worker, req, environ: (worker, req, environ), (1, 2, 3)),
        (lambda worker, req, environ, resp: (worker, req, environ, resp), (1, 2, 3, 4)),
        (anything, (1, 2, 3, 4)),
    ],
)
def test_after_a_request(function: Callable[..., object], arguments: tuple[int, ...]) -> None:
    """Whatever it takes, it can be called with four."""
    called = post_request(function)
    assert called is not None
    assert called(1, 2, 3, 4) == arguments
    assert post_request(called) == called
    assert post_request(function) == called


def test_after_a_request_with_one_argument() -> None:
    with pytest.raises(ValueError) as caught:
        post_request(lambda worker: 1)
    right = "a function that takes 2, 3 or 4 arguments, (worker, req, environ, resp)"
    assert str(caught.value) == f"{right}; this one takes (worker)"


@pytest.mark.parametrize(
    ("function", "name", "importable"),
    [
        (os.path.join, "posixpath.join", True),
        (Shortened(os.path.join, 2), "posixpath.join", True),
        (functools.partial, "functools.partial", True),
        (functools.partial(two), "functools.partial", False),
        (lambda a: 1, f"{__name__}.<lambda>", False),
        (Pair().method, f"{__name__}.Pair.method", False),
        (Pair(), f"{__name__}.Pair", False),
    ],
)
def test_what_it_is_called(function: object, name: str, importable: bool) -> None:
    assert (name_of(function), is_importable(function)) == (name, importable)
