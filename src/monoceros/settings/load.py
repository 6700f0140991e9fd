"""From everywhere to one `Settings`: defaults, Paste, config file, variables, command line; the later wins.

Each source is a list of `Given`, and remembers where a value stood, so that an error can say which place to mend. A
wrong value is an error wherever it stands, also if something later overrides it: better today than on the day when
that something is taken away.
"""

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from monoceros.settings import aliases, pastefile, pyfile, sources, subclasses, tomlfile
from monoceros.settings.binds import bind_of
from monoceros.settings.place import here, importable, read_env_file
from monoceros.settings.process_values import files_missing, is_pattern
from monoceros.settings.sources import Given, Remarks, parsed, refusal
from monoceros.settings.table import ROWS, Settings, SettingsError


@dataclass
class Read:
    """What was read. `layers` are the places, the one that counts most last; `variables` come from `env_file`.

    `by_worker` says that `worker_class` is one of Uvicorn's, or made from one; `paste` is where the application is if
    a PasteDeploy file describes it.
    """

    layers: list[list[Given]]
    file: pyfile.ConfigFile | tomlfile.TomlFile | None
    variables: tuple[tuple[str, str], ...]
    by_worker: bool
    paste: str | None


def load(
    argv: Sequence[str],
    environ: Mapping[str, str] = os.environ,
    cwd: str | None = None,
    call: Mapping[str, object] | None = None,
) -> Settings:
    """The settings that hold for a command line (without the program's name), an environment and a directory.

    `cwd` is where relative paths to config files begin; a server that has changed its directory since gives the one
    that it was started in. `call` are the arguments of `monoceros.run`, which stand in the place of a command line.
    Raises SettingsError, one line that names the places to mend; TypeError for a name in `call` that means nothing.
    For what argparse calls a usage error (an unknown flag), exits with status 2.
    """
    directory = cwd or here(environ)
    remarks = Remarks()
    read = _read(argv, environ, directory, call, remarks)
    given = [one for layer in read.layers for one in layer]
    if bind := bind_of(read.layers, remarks):
        given.append(bind)
    values = _values(given, remarks)
    if remarks.wrong:
        raise SettingsError("; ".join(remarks.wrong))

    origins = {one.name: one.origin for one in given}
    if read.file and "config" not in values:
        values["config"], origins["config"] = read.file.shown, f"found in {directory}"
    if read.paste:
        _take_pastes_application(read.paste, values, origins, remarks)
    _make_absolute(values, directory)
    _decide_access_log(values, origins, remarks)
    settings = Settings(
        **values,
        origins=MappingProxyType(origins),
        manner="uvicorn" if remarks.uvicorn or read.by_worker else "gunicorn",
        env_file_variables=read.variables,
    )
    _check(settings, remarks)
    return replace(settings, notes=tuple(dict.fromkeys(remarks.notes)))


def changes(old: Settings, new: Settings) -> list[str]:
    """The names of settings that differ, but cannot change without a restart."""
    return [row.name for row in ROWS.values() if not row.live and getattr(old, row.name) != getattr(new, row.name)]


def _read(
    argv: Sequence[str],
    environ: Mapping[str, str],
    directory: str,
    call: Mapping[str, object] | None,
    remarks: Remarks,
) -> Read:
    """All places. What a worker class says itself counts more than the file that names it, but a flag counts more."""
    above = [
        list(sources.uvicorns_variables(environ, remarks)),
        list(sources.variables(environ, remarks)),
        *(list(sources.arguments(variable, environ, remarks)) for variable in sources.ARGUMENTS),
        list(sources.command_line(list(argv), remarks) if call is None else sources.call(call, remarks)),
    ]
    asked = _last("paste", above)
    paste = pastefile.uri(asked, directory) if asked else None
    pastes = list(pastefile.settings(asked, paste)) if asked and paste else []
    file = _file(_last("config", above), directory)
    env_file = _last("env_file", above)
    variables = _env_file(env_file, directory, environ)
    # These are not set in the environment, so each stands in one of the two only.
    added = sources.defaults(dict(variables), str(env_file.value) if env_file else "")
    defaults = [*sources.defaults(environ), *added]
    from_file = _from_file(file, remarks)
    by_worker, quirks, kwargs = _of_worker([defaults, from_file, *above], directory, remarks)
    return Read([quirks, defaults, pastes, from_file, kwargs, *above], file, variables, by_worker, paste)


def _last(name: str, layers: Sequence[Sequence[Given]]) -> Given | None:
    """Where a setting is given in the place that counts most."""
    return next((one for layer in reversed(layers) for one in reversed(layer) if one.name == name), None)


def _file(asked: Given | None, directory: str) -> pyfile.ConfigFile | tomlfile.TomlFile | None:
    """The one config file: what was asked for last, or what is found in the directory."""
    config = parsed(asked) if asked else None
    if config is None:
        config = pyfile.find(directory) or tomlfile.find(directory)
    if config is None:
        return None
    return tomlfile.read(config, directory) if tomlfile.is_one(config) else pyfile.read(config, directory)


def _from_file(file: pyfile.ConfigFile | tomlfile.TomlFile | None, remarks: Remarks) -> list[Given]:
    if isinstance(file, tomlfile.TomlFile):
        return list(sources.toml_file(file, remarks))
    return list(sources.config_file(file, remarks)) if file else []


def _env_file(asked: Given | None, directory: str, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The variables that `env_file` adds. Its path begins, like that of a config file, where the server is started."""
    path = parsed(asked) if asked else None
    if asked is None or path is None:
        return ()
    try:
        return read_env_file(os.path.join(directory, path), environ)
    except SettingsError as error:
        raise refusal(asked, str(error)) from None


def _of_worker(
    layers: Sequence[Sequence[Given]], directory: str, remarks: Remarks
) -> tuple[bool, list[Given], list[Given]]:
    """Whether `worker_class` is one of Uvicorn's, the default that it moves, and what its CONFIG_KWARGS say."""
    asked = {name: _last(name, layers) for name in ("worker_class", "chdir", "pythonpath", "app_dir")}
    # A wrong value is told to the remarks when all are parsed.
    values = _values([one for one in asked.values() if one], Remarks())
    name, kwargs = values.pop("worker_class", "auto"), []
    if aliases.is_uvicorns(name):
        h11 = name.endswith("H11Worker")
    elif aliases.known_as(name) is None:
        values["chdir"] = os.path.join(directory, values.get("chdir", "."))
        subclasses.find.cache_clear()
        try:
            worker = subclasses.find(name, importable(Settings(**values)))
        except subclasses.NotImportable:  # `_check` meets it again, and says so
            worker = None
        if worker is None:
            return False, [], []
        h11 = subclasses.is_h11(worker)
        kwargs = list(sources.worker_kwargs(subclasses.config_kwargs(worker), name, remarks))
    else:
        return False, [], []
    return True, [Given("asgi_loop", "asyncio", f"worker_class = {name!r}")] if h11 else [], kwargs


def _values(given: Sequence[Given], remarks: Remarks) -> dict[str, Any]:
    """The values by name, the last one of each. What cannot be one is told to `remarks.wrong`."""
    values = {}
    for one in given:
        try:
            values[one.name] = parsed(one)
        except SettingsError as error:
            remarks.wrong.append(str(error))
    loop = _last("asgi_loop", [given])
    if loop and str(loop.value).strip().lower() in ("none", "zuvloop"):
        remarks.notes.append(f"{sources.shown(loop)} counts as auto: it is asyncio or uvloop here")
    return values


def _take_pastes_application(uri: str, values: dict[str, Any], origins: dict[str, str], remarks: Remarks) -> None:
    """The application is the one in the PasteDeploy file, whatever else is named."""
    if origins.get("wsgi_app") == "command line":
        remarks.notes.append(f"command line: {values['wsgi_app']!r} is not used, the application is in {uri!r}")
    values |= {"paste": uri, "wsgi_app": uri}
    origins["wsgi_app"] = origins["paste"]


def _make_absolute(values: dict[str, Any], directory: str) -> None:
    """Paths that begin where the server is started, which is not where it runs, if there is a `chdir`."""
    values["chdir"] = os.path.join(directory, values["chdir"]) if "chdir" in values else directory
    for name in ("reload_dirs", "reload_extra_files"):
        if values.get(name):
            values[name] = tuple(
                os.path.join(glob.escape(directory) if is_pattern(path) else directory, path) for path in values[name]
            )


def _decide_access_log(values: dict[str, Any], origins: dict[str, str], remarks: Remarks) -> None:
    """The access log that `access_log` asks for, or that Uvicorn's users expect, as `uvicorn` has one by default."""
    wanted = values.get("access_log")
    if wanted is None and remarks.uvicorn and "accesslog" not in values:
        values["accesslog"], origins["accesslog"] = "-", "as Uvicorn, whose options are used"
    elif wanted is False:
        values["accesslog"], origins["accesslog"] = None, origins["access_log"]
    elif wanted and values.get("accesslog") is None:
        values["accesslog"], origins["accesslog"] = "-", origins["access_log"]


def _check(settings: Settings, remarks: Remarks) -> None:
    """What one value alone cannot tell."""
    if not os.path.isdir(settings.chdir):
        origin = settings.origins.get("chdir", "default")
        raise refusal(Given("chdir", settings.chdir, origin), "no such directory")
    if both := set(settings.bind) & set(settings.admin_bind):
        where = next(iter(both)).name
        admin = Given("admin_bind", where, settings.origins["admin_bind"])
        raise refusal(admin, "clients come there (bind), and operators need a place of their own")
    if missing := files_missing(settings.reload_extra_files):
        files = Given("reload_extra_files", settings.reload_extra_files, settings.origins["reload_extra_files"])
        raise refusal(files, f"there is no file {', '.join(missing)}")
    kind = aliases.kind(settings)
    if kind in ("asgi", "gevent") and settings.threads > 1:
        threads = Given("threads", settings.threads, settings.origins["threads"])
        who = "an asgi" if kind == "asgi" else "a gevent"
        remarks.notes.append(f"{sources.shown(threads)} has no effect: {who} worker serves all in one thread")
