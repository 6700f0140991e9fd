"""The reloader, on real files and with real processes: which files count, what a change is, and how a watcher ends."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from monoceros.reloader import Watch, Watcher, WatcherGone, start, watch_of
from monoceros.reloader.survey import Survey
from monoceros.reloader.watch import EXCLUDES, INCLUDES, Patterns
from monoceros.reloader.watcher import TOLD, UNTOLD, burst
from monoceros.settings.table import Settings, SettingsError
from monoceros.signals import Signals
from server import wait_for

LONG = 20.0
SOURCE = Path(__file__).parent.parent / "src"

with_watchfiles = pytest.mark.skipif(find_spec("watchfiles") is None, reason="watchfiles is not installed")


def write(path: Path, text: str = "x = 1\n") -> str:
    """Write a file, and the directories above it. Another length each time is a change, however coarse the clock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


# What is watched.


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.py", "/srv/app.py", True),
        ("*.py", "/srv/app.pyc", False),
        ("*.py", "/srv/app.py/x", False),
        (".*", "/srv/.git", True),
        (".*", "/srv/app.py", False),
        ("tests/*.py", "/srv/tests/test_app.py", True),
        ("tests/*.py", "/srv/tests/deep/test_app.py", False),
        ("tests/*.py", "/srv/mytests/test_app.py", False),
        ("/srv/*", "/srv/app.py", True),
        ("/srv/*", "/home/srv/app.py", False),
        ("/srv/a/b/*", "/b/x", False),
        ("*/*/*/*", "/b/x", False),
    ],
)
def test_a_pattern_is_for_a_name_or_for_the_end_of_a_path(pattern: str, path: str, expected: bool) -> None:
    assert Patterns([pattern]).match(path) is expected
    assert Patterns(["nothing", "no/thing", pattern]).match(path) is expected


def test_without_patterns_nothing_matches() -> None:
    assert not Patterns([]).match("/srv/app.py")


def test_the_working_directory_is_watched(tmp_path: Path) -> None:
    watch = watch_of(replace(Settings(), chdir=str(tmp_path), reload_engine="poll"))
    assert watch == Watch((str(tmp_path),), (), INCLUDES, EXCLUDES, "poll", 0.25)


def test_reload_dirs_stand_in_for_the_working_directory(tmp_path: Path) -> None:
    for name in ("app", "lib", "outside"):
        (tmp_path / name).mkdir()
    asked = replace(
        Settings(),
        chdir=str(tmp_path),
        reload_dirs=("app", str(tmp_path / "outside"), "./app"),
        pythonpath="lib,missing",
        app_dir="app",
        reload_delay=1.5,
    )
    watch = watch_of(asked)
    assert watch.directories == tuple(str(tmp_path / name) for name in ("app", "outside", "lib"))
    assert watch.delay == 1.5


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"reload_dirs: '.*/nowhere' is not a directory"):
        watch_of(replace(Settings(), chdir=str(tmp_path), reload_dirs=("nowhere",)))


def test_patterns_are_added_to_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    asked = replace(
        Settings(),
        chdir=str(tmp_path),
        reload_includes=("*.html", "templates"),
        reload_excludes=("./build/", "../other"),
    )
    watch = watch_of(asked)
    assert watch.directories == (str(tmp_path), str(tmp_path / "templates"))
    assert watch.includes == (*INCLUDES, "*.html", "templates")
    assert watch.excludes == (*EXCLUDES, "build", str(tmp_path.parent / "other"))


def test_a_default_pattern_gives_way_to_its_opposite(tmp_path: Path) -> None:
    asked = replace(Settings(), chdir=str(tmp_path), reload_includes=(".*", "*.md"), reload_excludes=("*.py",))
    watch = watch_of(asked)
    assert watch.includes == (".*", "*.md")
    assert watch.excludes == (".py[cod]", ".sw.*", "~*", "*.py")


def test_extra_files_are_relative_to_the_working_directory(tmp_path: Path) -> None:
    base = tmp_path / "a[b]"
    write(base / "x.toml")
    write(base / "y.yaml")
    watch = watch_of(replace(Settings(), chdir=str(base), reload_extra_files=("x.toml", "*.yaml")))
    assert Survey(replace(watch, directories=())).changes() == {str(base / "x.toml"), str(base / "y.yaml")}


def test_the_engine_is_one_that_is_there(tmp_path: Path) -> None:
    there = find_spec("watchfiles") is not None
    assert watch_of(replace(Settings(), chdir=str(tmp_path))).engine == ("watchfiles" if there else "poll")


def without_packages(*lines: str) -> str:
    """What a Python prints that has the standard library only."""
    script = "\n".join(("import os, select, sys", "from dataclasses import replace", *lines))
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-S", "-c", script]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=LONG).stdout


def test_the_engine_asked_for_must_be_installed() -> None:
    said = without_packages(
        "from monoceros.reloader import watch_of",
        "from monoceros.settings.table import Settings, SettingsError",
        "for engine in ('auto', 'poll', 'watchfiles', 'inotify'):",
        "    try: print(watch_of(replace(Settings(), reload_engine=engine)).engine)",
        "    except SettingsError as error: print(error)",
    )
    assert said.splitlines() == [
        "poll",
        "poll",
        "reload_engine = 'watchfiles' needs watchfiles: pip install 'monoceros[reload]'",
        "reload_engine = 'inotify' needs watchfiles: pip install 'monoceros[reload]'",
    ]


# What a change is.


def survey_of(*directories: Path, **rest: tuple[str, ...]) -> Survey:
    return Survey(Watch(tuple(map(str, directories)), **rest))  # type: ignore[arg-type]


def test_files_that_come_are_written_or_go_have_changed(tmp_path: Path) -> None:
    stays, written = write(tmp_path / "a.py"), write(tmp_path / "deep/er/b.py")
    survey = survey_of(tmp_path)
    assert survey.changes() == {stays, written}
    assert survey.changes() == set()
    write(tmp_path / "deep/er/b.py", "longer = True\n")
    come = write(tmp_path / "new/c.py")
    assert survey.changes() == {written, come}
    os.unlink(come)
    assert survey.changes() == {come}
    assert survey.changes() == set()


def test_the_time_of_writing_counts_as_well_as_the_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.py")
    survey = survey_of(tmp_path)
    survey.changes()
    os.utime(path, (1, 1))
    assert survey.changes() == {path}


@pytest.mark.parametrize(
    "name",
    [
        "a.txt",
        "a.py~",
        ".#a.py",
        ".hidden.py",
        "~a.py",
        "__pycache__/a.py",
        "node_modules/x/a.py",
        ".git/hooks/a.py",
        ".tox/a.py",
        "lib/site-packages/a.py",
    ],
)
def test_what_nobody_edits_does_not_count(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    assert survey_of(tmp_path).changes() == set()


@pytest.mark.parametrize("mark", ["pyvenv.cfg", "conda-meta/history"])
def test_an_environment_is_passed_by_whatever_its_name(tmp_path: Path, mark: str) -> None:
    write(tmp_path / "myenv/a.py")
    write(tmp_path / "myenv/lib/b.py")
    write(tmp_path / "myenv" / mark)
    assert survey_of(tmp_path).changes() == set()


def test_a_directory_that_was_asked_for_is_never_passed_by(tmp_path: Path) -> None:
    write(tmp_path / ".hidden/pyvenv.cfg")
    inside = write(tmp_path / ".hidden/a.py")
    assert survey_of(tmp_path / ".hidden").changes() == {inside}


def test_an_excluded_directory_is_not_entered(tmp_path: Path) -> None:
    write(tmp_path / "build/deep/a.py")
    write(tmp_path / "app/migrations/b.py")
    kept = write(tmp_path / "migrations/c.py")
    survey = survey_of(tmp_path, excludes=("build", "app/migrations"))
    assert survey.changes() == {kept}


def test_a_name_that_is_spelled_out_is_not_excluded(tmp_path: Path) -> None:
    variables = write(tmp_path / ".env")
    write(tmp_path / ".env.swp")
    assert survey_of(tmp_path, includes=(".env", "*.swp")).changes() == {variables}


def test_a_linked_directory_is_followed_once(tmp_path: Path) -> None:
    real = tmp_path / "outside"
    write(real / "a.py")
    project = tmp_path / "project"
    project.mkdir()
    (project / "one").symlink_to(real)
    (project / "two").symlink_to(real)
    (real / "loop").symlink_to(project)
    (real / "self").symlink_to(real)
    (project / "nowhere.py").symlink_to(tmp_path / "missing")
    survey = survey_of(project, project / "one")
    seen = survey.changes()
    assert seen in ({str(project / "one/a.py")}, {str(project / "two/a.py")})
    write(real / "a.py", "longer = True\n")
    assert survey.changes() == seen


def test_extra_files_are_looked_up_each_time(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    named, odd = tmp_path / "settings.toml", tmp_path / "data[1].json"
    survey = survey_of(project, extra_files=(str(named), str(odd), str(tmp_path / "templates/**/*.html")))
    assert survey.changes() == set()
    come = {write(named), write(odd), write(tmp_path / "templates/deep/a.html")}
    write(tmp_path / "templates/directory.html/b.css")
    assert survey.changes(trees=False) == come
    assert survey.changes() == set()


def test_a_look_at_the_extra_files_leaves_the_trees_for_later(tmp_path: Path) -> None:
    survey = survey_of(tmp_path)
    path = write(tmp_path / "a.py")
    assert survey.changes(trees=False) == set()
    assert survey.changes() == {path}


def test_what_is_written_all_the_time_is_no_reason_to_look(tmp_path: Path) -> None:
    survey = survey_of(tmp_path, extra_files=())
    assert not survey.concerns(write(tmp_path / "access.log"))
    assert not survey.concerns(write(tmp_path / ".#app.py"))
    assert survey.concerns(write(tmp_path / "app.py"))
    assert survey.concerns(str(tmp_path))
    assert survey.concerns(str(tmp_path / "a directory that was"))


class Restless(Survey):
    """Three times, somebody writes a file shortly before we look."""

    def __init__(self, directory: Path) -> None:
        super().__init__(Watch((str(directory),)))
        self.directory = directory
        self.times = 0

    def changes(self, *, trees: bool = True) -> set[str]:
        self.times += 1
        if self.times <= 3:
            write(self.directory / f"m{self.times}.py")
        return super().changes(trees=trees)


def test_a_burst_lasts_until_nothing_changes(tmp_path: Path) -> None:
    survey = Restless(tmp_path)
    assert burst(survey, trees=True) == {str(tmp_path / f"m{number}.py") for number in (1, 2, 3)}
    assert survey.times == 4
    assert burst(survey, trees=True) == set()
    assert survey.times == 5


def test_a_missing_directory_may_come_back(tmp_path: Path) -> None:
    survey = survey_of(tmp_path / "src")
    assert survey.changes() == set()
    path = write(tmp_path / "src/a.py")
    assert survey.changes() == {path}


def test_a_tree_that_is_too_big_is_watched_in_part_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30):
        write(tmp_path / f"{number:02}/a.py")
    survey = Survey(Watch((str(tmp_path),)), most=10)
    assert 1 <= len(survey.changes()) <= 10
    assert survey.changes() == set()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "and no more" in caplog.text


# A watcher.


@pytest.fixture(params=["poll", pytest.param("watchfiles", marks=with_watchfiles)])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Start = Callable[..., Watcher]


@pytest.fixture
def watching(tmp_path: Path, engine: str) -> Iterator[Start]:
    """Start watchers of tmp_path that end with the test."""
    with ExitStack() as stack:

        def begin(**options: object) -> Watcher:
            watch = Watch((str(tmp_path),), extra_files=(str(tmp_path / "extra/*.toml"),), engine=engine, delay=0.05)
            return stack.enter_context(closing(start(watch, **options)))  # type: ignore[arg-type]

        yield begin


def told(watcher: Watcher) -> list[str]:
    return wait_for(watcher.changes, LONG, "a change")


def tells_of(watcher: Watcher, path: Path) -> None:
    """When this file is written, that is what the watcher tells, and nothing else."""
    expected = write(path)
    assert told(watcher) == [expected]


def ended(watcher: Watcher) -> bool:
    try:
        watcher.changes()
    except WatcherGone:
        return True
    return False


def test_a_change_makes_it_readable(tmp_path: Path, watching: Start) -> None:
    path = write(tmp_path / "app.py")
    write(tmp_path / "other.py")
    watcher = watching()
    assert watcher.changes() == []
    write(tmp_path / "app.py", "longer = True\n")
    assert select.select([watcher], [], [], LONG)[0] == [watcher]
    assert told(watcher) == [path]
    assert watcher.changes() == []


def test_trees_and_extra_files_may_grow(tmp_path: Path, watching: Start) -> None:
    watcher = watching()
    tells_of(watcher, tmp_path / "new/deep/a.py")
    tells_of(watcher, tmp_path / "new/deep/b.py")
    tells_of(watcher, tmp_path / "extra/a.toml")
    os.unlink(tmp_path / "new/deep/a.py")
    assert told(watcher) == [str(tmp_path / "new/deep/a.py")]


@with_watchfiles
def test_watchfiles_does_not_wait_for_the_next_look(tmp_path: Path) -> None:
    text = ["x = 1\n"]

    def written_and_told() -> list[str]:
        text.append("x = 1\n")
        write(tmp_path / "app.py", "".join(text))
        return watcher.changes()

    with closing(start(Watch((str(tmp_path),), engine="watchfiles", delay=10 * LONG))) as watcher:
        assert wait_for(written_and_told, LONG) == [str(tmp_path / "app.py")]
        # The look that nothing gives reason for is further away than this.
        assert wait_for(written_and_told, UNTOLD * 0.8) == [str(tmp_path / "app.py")]


def test_a_burst_is_told_once(tmp_path: Path, watching: Start) -> None:
    watcher = watching()
    for number in range(10):
        write(tmp_path / f"m{number}.py")
    burst = told(watcher)
    # The first names may have been on their way before the last file was written; then a second list has the rest.
    while len(burst) < 10:
        burst += told(watcher)
    assert sorted(burst) == [str(tmp_path / f"m{number}.py") for number in range(10)]
    tells_of(watcher, tmp_path / "last.py")


def test_of_a_big_burst_some_names_are_told(tmp_path: Path, watching: Start) -> None:
    for number in range(TOLD * 3):
        write(tmp_path / f"pkg/m{number}.py")
    watcher = watching()
    os.rename(tmp_path / "pkg", tmp_path / "renamed")
    assert len(told(watcher)) == TOLD


def test_an_atomic_save_counts_once(tmp_path: Path, watching: Start) -> None:
    path = write(tmp_path / "app.py")
    watcher = watching()
    write(tmp_path / "app.py~tmp", "longer = True\n")
    os.unlink(path)
    os.rename(tmp_path / "app.py~tmp", path)
    assert told(watcher) == [path]
    tells_of(watcher, tmp_path / "last.py")


def test_a_name_is_text_for_one_log_line(tmp_path: Path, watching: Start) -> None:
    watcher = watching()
    write(tmp_path / "two\nlines.py")
    assert told(watcher) == [rf"{tmp_path}/two\nlines.py"]


def test_a_closed_watcher_is_gone_and_reaped(watching: Start) -> None:
    watcher = watching()
    watcher.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(watcher.pid, os.WNOHANG)
    watcher.close()


def test_a_stopped_watcher_can_be_closed(watching: Start) -> None:
    watcher = watching()
    os.kill(watcher.pid, signal.SIGSTOP)
    watcher.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(watcher.pid, os.WNOHANG)


def test_an_end_is_told(watching: Start) -> None:
    watcher = watching()
    os.kill(watcher.pid, signal.SIGTERM)
    assert select.select([watcher], [], [], LONG)[0] == [watcher]
    wait_for(lambda: ended(watcher), LONG)
    assert os.waitstatus_to_exitcode(os.waitpid(watcher.pid, 0)[1]) == -signal.SIGTERM
    watcher.close()  # somebody else has reaped it: that is no error


def test_signals_of_the_terminal_are_for_the_arbiter(tmp_path: Path, watching: Start) -> None:
    numbers = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGWINCH)
    before = {number: signal.getsignal(number) for number in numbers}
    signals = Signals(numbers)
    try:
        watcher = watching()
        for number in (*numbers, signal.SIGINT):
            os.kill(watcher.pid, number)
        tells_of(watcher, tmp_path / "app.py")
        assert signals.drain() == b""
    finally:
        signals.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def test_signals_are_not_blocked_for_long(watching: Start) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR2,))
    try:
        watching()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before | {signal.SIGUSR2}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_listener_is_not_kept_open(watching: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        watching(close=[listener.fileno()])
    with pytest.raises(ConnectionRefusedError), socket.create_connection(address, LONG):
        pass


def test_begin_runs_in_the_watcher(tmp_path: Path, watching: Start) -> None:
    watcher = watching(begin=lambda: write(tmp_path / "pid", str(os.getpid())))
    assert (tmp_path / "pid").read_text() == str(watcher.pid)


def test_a_failure_is_logged_and_ends_the_watcher(watching: Start, capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        logging.getLogger("gunicorn.error").addHandler(logging.StreamHandler(os.fdopen(2, "w", closefd=False)))
        raise ValueError("out of order")

    watcher = watching(begin=fail)
    wait_for(lambda: ended(watcher), LONG)
    assert "The reloader has failed" in (said := capfd.readouterr().err)
    assert "ValueError: out of order" in said


def test_a_worker_closes_only_its_copy(tmp_path: Path, watching: Start) -> None:
    watcher = watching()
    pid = os.fork()
    if not pid:
        watcher.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    tells_of(watcher, tmp_path / "app.py")


# The arbiter dies, and its worker, which has a copy of the socket, does not yet.
ORPHANING = """
import os, sys
from monoceros.reloader import Watch, start
watcher = start(Watch((os.getcwd(),), engine=sys.argv[1]))
assert not watcher.changes()
if sys.argv[2] == "worker" and not os.fork():
    os.close(1)
    os.read(0, 1)
os._exit(0)
"""


@pytest.mark.parametrize("left", ["nobody", "worker"])
def test_it_does_not_outlive_the_arbiter(tmp_path: Path, engine: str, left: str) -> None:
    command = [sys.executable, "-c", ORPHANING, engine, left]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), *sys.path])}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stdin=pipe, stdout=pipe) as arbiter:
        assert arbiter.stdout is not None
        # The watcher has the other end, too.
        assert select.select([arbiter.stdout], [], [], LONG)[0] == [arbiter.stdout]
        assert arbiter.stdout.read() == b""


def test_without_watchfiles_it_polls_in_the_end(tmp_path: Path) -> None:
    said = without_packages(
        "import logging; logging.basicConfig(stream=sys.stdout, format='%(message)s')",
        "from monoceros.reloader import Watch, start",
        f"os.chdir({str(tmp_path)!r})",
        "watcher = start(Watch((os.getcwd(),), engine='watchfiles'))",
        "open('app.py', 'w').close()",
        "found = []",
        "while not found and select.select([watcher], [], [], 10)[0]: found = watcher.changes()",
        "print(found)",
    )
    assert said.splitlines() == [
        "watchfiles does not work here, so the reloader polls: No module named 'watchfiles'",
        str([str(tmp_path / "app.py")]),
    ]
