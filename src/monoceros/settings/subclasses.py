"""Worker classes that people made from Uvicorn's, of which only the CONFIG_KWARGS mean something here."""

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import MappingProxyType
from typing import Final

# Where Uvicorn's own classes are. They are told by module and name: to import `uvicorn.workers` costs a warning.
MODULES: Final = ("uvicorn.workers", "uvicorn_worker", "uvicorn_worker._workers")
CLASSES: Final = ("UvicornWorker", "UvicornH11Worker")

DEPRECATED: Final = "The `uvicorn.workers` module is deprecated"


class NotImportable(Exception):
    """The class is not there, or the user's module failed, which then is the cause. The text says why, in short."""


@lru_cache(maxsize=4)  # each worker asks again; `load` clears it
def find(name: str, directories: tuple[str, ...]) -> type | None:
    """The class that MODULE.CLASS or MODULE:CLASS names, if it is one of Uvicorn's or made from one, else None.

    None, too, for a name of another form, and if Uvicorn is not installed. `directories` are searched, the last one
    first. Raises NotImportable.
    """
    module_name, _, class_name = name.replace(":", ".").rpartition(".")
    if not module_name or not all(map(str.isidentifier, name.replace(":", ".").split("."))):
        return None
    if importlib.util.find_spec("uvicorn") is None:
        return None
    found = imported(module_name, class_name, directories)
    return found if isinstance(found, type) and any(map(_is_uvicorns, found.__mro__)) else None


def imported(module_name: str, class_name: str, directories: tuple[str, ...]) -> object:
    """What a module calls by this name. Raises NotImportable.

    Modules that come from `directories` are read anew each time.
    """
    with _importing_from(directories):
        try:
            found: object = getattr(importlib.import_module(module_name), class_name)
        except AttributeError:
            raise NotImportable(f"no {class_name!r} in module {module_name!r}") from None
        except ModuleNotFoundError as error:
            if f"{module_name}.".startswith(f"{error.name}."):  # the module itself, or a package on the way to it
                raise NotImportable(str(error)) from None
            raise NotImportable(f"ModuleNotFoundError: {error}") from error
        except (Exception, SystemExit) as error:  # anything that a user's module can do
            raise NotImportable(" ".join(f"{type(error).__name__}: {error}".split())) from error
    return found


@contextmanager
def _importing_from(directories: Sequence[str]) -> Iterator[None]:
    """The modules that come from these directories are forgotten again: workers shall find them as they are then."""
    before, path = set(sys.modules), list(sys.path)
    sys.path[:0] = reversed(directories)
    importlib.invalidate_caches()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", DEPRECATED, DeprecationWarning)
            yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            ours = any(file.startswith(os.path.join(directory, "")) for directory in directories)
            if ours and "site-packages" not in file.split(os.sep):
                del sys.modules[name]


def config_kwargs(worker: type) -> Mapping[str, object]:
    """CONFIG_KWARGS, if the user said them; what stands in Uvicorn's own classes are Uvicorn's defaults."""
    for base in worker.__mro__:
        if _is_uvicorns(base):
            break
        if "CONFIG_KWARGS" in vars(base):
            return MappingProxyType(dict(vars(base)["CONFIG_KWARGS"] or {}))
    return MappingProxyType({})


def is_h11(worker: type) -> bool:
    """Whether it is made from UvicornH11Worker, which runs on asyncio's own loop."""
    return any(_is_uvicorns(base) and base.__name__ == "UvicornH11Worker" for base in worker.__mro__)


def _is_uvicorns(base: type) -> bool:
    return base.__module__ in MODULES and base.__name__ in CLASSES
