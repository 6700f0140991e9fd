"""The command line as its users meet it: what is printed, and the exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from monoceros import __version__, cli
from monoceros.settings import Settings, SettingsError

APP = """
def app(environ, start_response):
    start_response("200 OK", [])
    return []

async def speaks_asgi(scope, receive, send):
    pass

nothing = None
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    (tmp_path / "myapp.py").write_text(APP)
    (tmp_path / "failing.py").write_text("import elsewhere_entirely\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)\n")


def run(directory: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-W", "error", "-m", "monoceros", *args]
    return subprocess.run(
        command, cwd=directory, env={**inherited, **environ}, capture_output=True, text=True, timeout=60, check=False
    )


def test_version(tmp_path: Path) -> None:
    result = run(tmp_path, "--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"monoceros (version {__version__})\n", "")


def test_the_console_script(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("monoceros")
    result = subprocess.run([script, "--check-config", "nowhere"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 3
    result = subprocess.run([script, "--check-config", "myapp:app"], cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("args", [[], ["--check-config"], ["-w", "4"]])
def test_no_application(tmp_path: Path, args: list[str]) -> None:
    result = run(tmp_path, *args)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: No application module specified.")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "environ", "message"),
    [
        (
            ["-w", "four", "myapp:app"],
            {},
            """workers = 'four' (--workers): must be a whole number, 1 or more, or "auto\"""",
        ),
        (
            ["myapp:app"],
            {"WEB_CONCURRENCY": "x"},
            """workers = 'x' (environment variable WEB_CONCURRENCY): must be a whole number, 1 or more, or "auto\"""",
        ),
        (["-c", "missing.py", "myapp:app"], {}, "config file missing.py: No such file or directory"),
        (["--access-logformat", "%(h", "myapp:app"], {}, "access_log_format = '%(h' (--access-logformat): "),
        (
            ["--check-config"],
            {"MONOCEROS_ACCESS_LOG_FORMAT": "%"},
            "access_log_format = '%' (environment variable MONOCEROS_ACCESS_LOG_FORMAT): '%' at 0",
        ),
        (["-k", "eventlet", "myapp:app"], {}, "worker_class = 'eventlet' (--worker-class): eventlet workers are not"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, args: list[str], environ: dict[str, str], message: str) -> None:
    result = run(tmp_path, *args, **environ)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {message}")
    assert len(result.stderr.splitlines()) == 1


def test_a_config_file_that_fails(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("workers = 4\nthreads = four\n")
    result = run(tmp_path, "myapp:app")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[:2] == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path}/gunicorn.conf.py", line 2, in <module>',
    ]
    assert lines[-1] == "Error: gunicorn.conf.py:2: NameError: name 'four' is not defined"


def test_ctrl_c_while_the_settings_are_read(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    result = run(tmp_path, "myapp:app")
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_an_unknown_flag(tmp_path: Path) -> None:
    result = run(tmp_path, "--wrokers", "4", "myapp:app")
    assert result.returncode == 2
    assert result.stderr.endswith("\nmonoceros: error: --wrokers: no such flag (did you mean --workers?)\n")


def test_flags_of_existing_deployments(tmp_path: Path) -> None:
    flags = "-p a.pid --worker-tmp-dir /dev/shm -D -R -u root -g 0 -m 022 --initgroups --reload --no-control-socket"
    result = run(tmp_path, "--check-config", "myapp:app", GUNICORN_CMD_ARGS=f"{flags} --control-socket a")
    assert result.returncode == 0
    no_effect = "has no effect: this version does not have this flag"
    assert result.stderr == f"Warning: GUNICORN_CMD_ARGS --control-socket {no_effect}\n"


@pytest.mark.parametrize(
    "flags",
    [["--ssl-keyfile", "a.pem"], ["--ssl-certfile=a.pem"], ["--ssl-ca-certs", "a.pem"], ["--certfile", "a.pem"]],
)
def test_encryption_is_not_ignored(tmp_path: Path, flags: list[str]) -> None:
    result = run(tmp_path, "myapp:app", "--host", "0.0.0.0", *flags)
    assert result.returncode == 2
    flag = flags[0].partition("=")[0]
    why = "this version does not do TLS, and will not start as if it did"
    assert result.stderr.endswith(f"\nmonoceros: error: {flag}: {why}\n")


def test_a_config_file_in_toml(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n\n[tool.monoceros]\nworkers = 3\n')
    result = run(tmp_path, "--print-config", "myapp:app")
    assert (result.returncode, result.stderr) == (0, "")
    assert "workers = 3  # pyproject.toml:5" in result.stdout.splitlines()
    (tmp_path / "monoceros.toml").write_text("wrokers = 3\n")
    result = run(tmp_path, "--check-config", "myapp:app")
    message = "Error: wrokers (monoceros.toml:1) is not a setting, did you mean workers?\n"
    assert (result.returncode, result.stderr) == (1, message)


def test_a_hook_that_cannot_be_called(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("def post_fork(server): ...\n")
    result = run(tmp_path, "--check-config", "myapp:app")
    right = "a function that takes 2 arguments, (server, worker); this one takes (server)"
    message = f"Error: post_fork = __config__.post_fork (gunicorn.conf.py:1): must be {right}\n"
    assert (result.returncode, result.stderr) == (1, message)


def test_a_hook_of_a_module_beside_the_config_file(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text("def post_fork(server, worker): ...\n")
    (tmp_path / "gunicorn.conf.py").write_text("post_fork = 'hooks.post_fork'\ndef on_exit(server): ...\n")
    result = run(tmp_path, "--print-config", "myapp:app")
    assert (result.returncode, result.stderr) == (0, "")
    assert "post_fork = 'hooks.post_fork'  # gunicorn.conf.py:1" in result.stdout.splitlines()
    assert "# on_exit = '__config__.on_exit'  # gunicorn.conf.py:2" in result.stdout.splitlines()


def test_a_command_line_of_uvicorn(tmp_path: Path) -> None:
    argv = "myapp:app --host 0.0.0.0 --port 8080 --workers 4 --loop uvloop --http httptools --no-server-header"
    result = run(tmp_path, "--print-config", *argv.split(), UVICORN_LIMIT_MAX_REQUESTS="9")
    assert (result.returncode, result.stderr) == (0, "Warning: --http has no effect: there is one HTTP parser\n")
    assert set(result.stdout.splitlines()) >= {
        "bind = ['0.0.0.0:8080']  # --host, --port",
        "host = '0.0.0.0'  # --host",
        "asgi_loop = 'uvloop'  # --loop",
        "server_header = False  # --no-server-header",
        "max_requests = 9  # environment variable UVICORN_LIMIT_MAX_REQUESTS",
        "accesslog = '-'  # as Uvicorn, whose options are used",
    }


def test_variables_from_a_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("COLOUR=red\nWEB_CONCURRENCY=x\n")
    (tmp_path / "coloured.py").write_text("import os\nassert os.environ['COLOUR'] == 'red'\n" + APP)
    result = run(tmp_path, "--check-config", "--env-file", ".env", "coloured:app")
    assert (result.returncode, result.stderr.partition(":")[0]) == (1, "Error")
    assert "workers = 'x' (WEB_CONCURRENCY in .env): must be " in result.stderr
    assert run(tmp_path, "--check-config", "--env-file", ".env", "coloured:app", WEB_CONCURRENCY="2").returncode == 0
    assert run(tmp_path, "--check-config", "coloured:app").returncode == 3


def test_a_worker_class_that_fails(tmp_path: Path) -> None:
    result = run(tmp_path, "-k", "failing.Worker", "myapp:app")
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")
    last = result.stderr.splitlines()[-1]
    assert last.startswith(
        "Error: worker_class = 'failing.Worker' (--worker-class): cannot be imported: ModuleNotFound"
    )


@pytest.mark.parametrize("verb", ["--check-config", "--print-config"])
@pytest.mark.parametrize(
    ("app", "status", "error"),
    [
        ("myapp:app", 0, ""),
        ("myapp:other", 4, "Error: "),
        ("myapp:nothing", 4, "Error: "),
        ("nowhere:app", 3, "Error: "),
        ("failing:app", 3, "Traceback"),
        ("leaving:app", 3, "Traceback"),
        ("myapp:speaks_asgi", 0, ""),
    ],
)
def test_checking_imports_the_application(tmp_path: Path, verb: str, app: str, status: int, error: str) -> None:
    result = run(tmp_path, verb, app)
    assert result.returncode == status
    assert result.stderr.startswith(error)
    assert bool(result.stderr) == bool(error)


def test_checking_goes_where_the_application_is(tmp_path: Path) -> None:
    (tmp_path / "sub" / "lib").mkdir(parents=True)
    (tmp_path / "sub" / "lib" / "deep.py").write_text("import os\nassert os.environ['COLOUR'] == 'red'\n" + APP)
    args = ["--check-config", "--chdir", "sub", "--pythonpath", "lib", "deep:app"]
    assert run(tmp_path, *args, "-e", "COLOUR=red").returncode == 0
    assert run(tmp_path, *args, "-e", "COLOUR=blue").returncode == 3


def test_checking_tells_the_notes(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("worker = 4\n")
    result = run(tmp_path, "--check-config", "myapp:app")
    assert result.returncode == 0
    assert result.stderr == "Warning: worker (gunicorn.conf.py:1) is not a setting, did you mean workers?\n"


@pytest.mark.parametrize(
    ("flag", "path", "message"),
    [
        ("--error-logfile", "missing/a.log", "cannot open the error log 'missing/a.log': No such file or directory"),
        ("--access-logfile", ".", "cannot open the access log '.': Is a directory"),
    ],
)
def test_checking_looks_at_log_files(tmp_path: Path, flag: str, path: str, message: str) -> None:
    result = run(tmp_path, "--check-config", flag, path, "myapp:app")
    assert (result.returncode, result.stderr) == (1, f"Error: {message}\n")


def test_checking_makes_no_log_files(tmp_path: Path) -> None:
    args = ["--check-config", "--error-logfile", "e.log", "--access-logfile", str(tmp_path / "a.log"), "myapp:app"]
    assert run(tmp_path, *args).returncode == 0
    assert list(tmp_path.glob("*.log")) == []


def test_print_config(tmp_path: Path) -> None:
    result = run(tmp_path, "--print-config", "-w", "3", PORT="5000")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert "workers = 3  # --workers" in lines
    assert "bind = ['0.0.0.0:5000']  # environment variable PORT" in lines
    assert f"chdir = '{tmp_path}'" in lines


def test_running_and_reloading_start_from_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arbiter is a stand-in here, which reads the settings again where `chdir` and `raw_env` have led."""
    seen: list[Settings] = []

    class Arbiter:
        def __init__(self, settings, reload_settings, launch, launcher) -> None:  # type: ignore[no-untyped-def]
            self.settings, self.reload_settings = settings, reload_settings

        def run(self) -> int:
            assert Path.cwd() == tmp_path / "sub"
            assert os.environ["MONOCEROS_WORKERS"] == "9"
            seen.extend([self.settings, self.reload_settings()])
            (tmp_path / "conf.py").write_text("access_log_format = '%'")
            with pytest.raises(SettingsError, match=r"access_log_format = .* \(conf\.py:1\): "):
                self.reload_settings()
            return 7

    module = ModuleType("monoceros.arbiter.arbiter")
    module.Arbiter = Arbiter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("MONOCEROS_WORKERS", "2")
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "conf.py").write_text("threads = 2")

    args = ["-c", "conf.py", "--chdir", "sub", "-e", "MONOCEROS_WORKERS=9", "myapp:app"]
    assert cli.main(args) == 7
    assert seen[0] == seen[1]
    assert (seen[0].workers, seen[0].threads, seen[0].chdir) == (2, 2, str(tmp_path / "sub"))
    assert str(tmp_path) in sys.path
