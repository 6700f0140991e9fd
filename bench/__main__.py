"""python -m bench: install the peers, measure, write bench/results/, print the table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from . import HERE, peers, report
from .measure import Cell, Plan, measure
from .peers import say
from .rows import INTERFACES, ROWS, Row
from .servers import BASE, SERVERS

RESULTS = HERE / "results"

# What the first line of a report names, if it is installed.
NAMED = ["monoceros", "bjoern", "django", "fastapi", "flask", "granian", "gunicorn", "httptools", "hypercorn"]
NAMED += ["starlette", "uvicorn", "uvicorn-worker", "uvloop", "waitress"]


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    for program, package in {"wrk": "wrk", "taskset": "util-linux"}.items():
        if shutil.which(program) is None:
            say(f"bench: {program} is missing: apt-get install {package}, or scripts/install-system.sh")
            return 2
    rows, servers = chosen(options), pick(SERVERS, options.servers)
    versions = peers.prepare(afresh=options.reinstall)
    # 1,000 idle connections are two descriptors each: ours and the server's, which inherits the limit.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, interrupt)
    plan = planned(options, frozenset(versions))
    os.sched_setaffinity(0, {plan.client_core})

    results: dict[str, list[Cell]] = {}
    started = time.localtime()
    try:
        for row in rows:
            if any(server.joins(row) for server in servers):
                results[row.name] = measure(row, servers, plan)
    except KeyboardInterrupt:
        say("bench: interrupted, what follows are the rows that were finished")
    found = facts(plan, versions, started)
    text = report.markdown(found, rows, results, BASE)
    data = json.dumps(report.document(found, results, BASE), indent=1)
    write(time.strftime("%Y%m%d-%H%M%S", started), text, data)
    print(data if options.json else text)
    return 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, epilog="Names may be patterns, as in --rows 'asgi-*,hello'."
    )
    parser.add_argument("--interface", choices=INTERFACES, help="only the rows for applications of this kind")
    parser.add_argument("--rows", type=names, help=f"some of: {', '.join(row.name for row in ROWS)}")
    parser.add_argument("--servers", type=names, help=f"some of: {', '.join(server.name for server in SERVERS)}")
    parser.add_argument("--seconds", type=int, help="how long a server is measured in a round (3)")
    parser.add_argument("--rounds", type=int, help="how often each server has its turn (3)")
    parser.add_argument("--connections", type=int, default=64, help="keep-alive connections (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: does it work at all?")
    parser.add_argument("--json", action="store_true", help="print the JSON instead of the table")
    parser.add_argument("--reinstall", action="store_true", help="make the peers' environment anew")
    return parser


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def chosen(options: argparse.Namespace) -> list[Row]:
    rows = [row for row in pick(ROWS, options.rows) if options.interface in (None, row.interface)]
    if not rows:
        raise SystemExit(f"bench: there is no {options.interface} row among these")
    return rows


class Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


def pick(table: list[T], wanted: list[str] | None) -> list[T]:
    """The entries whose names are among those wanted, or match a pattern among them, in the order of the table."""
    if wanted is None:
        return table
    if unknown := [name for name in wanted if not any(fnmatchcase(entry.name, name) for entry in table)]:
        raise SystemExit(f"bench: no such name: {', '.join(sorted(unknown))}")
    return [entry for entry in table if any(fnmatchcase(entry.name, name) for name in wanted)]


def planned(options: argparse.Namespace, installed: frozenset[str]) -> Plan:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        say("bench: only one core here, so server and client share it: only CPU per request means something")
    default = 1 if options.quick else 3
    return Plan(
        rounds=options.rounds or default,
        seconds=options.seconds or default,
        connections=options.connections,
        server_core=cores[0],
        client_core=cores[min(1, len(cores) - 1)],
        installed=installed,
    )


def interrupt(number: int, frame: object) -> NoReturn:
    """TERM ends a run as ^C does: through every `finally`, so that no server is left behind."""
    raise KeyboardInterrupt


def facts(plan: Plan, versions: dict[str, str], started: time.struct_time) -> dict[str, str]:
    found = {
        "when": time.strftime("%Y-%m-%d %H:%M", started),
        "how": f"{plan.rounds} rounds of {plan.seconds} s, {plan.connections} connections, one worker on one core",
        "machine": f"{processor()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "servers": ", ".join(f"{name} {versions[name]}" for name in NAMED if name in versions),
    }
    if commit := revision():
        found["commit"] = commit
    return found


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def revision() -> str | None:
    """The checkout's commit, with a plus if the working tree differs from it."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def write(stem: str, text: str, data: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    for name in (stem, "latest"):
        (RESULTS / f"{name}.md").write_text(text)
        (RESULTS / f"{name}.json").write_text(data)
    picture = RESULTS / f"{stem}.png"
    command = [str(peers.BIN / "python"), str(HERE / "plot.py"), str(RESULTS / f"{stem}.json"), str(picture)]
    if subprocess.run(command, capture_output=True).returncode == 0 and picture.exists():
        shutil.copyfile(picture, RESULTS / "latest.png")
    say(f"bench: written to {RESULTS / stem}.md, .json" + (", .png" if picture.exists() else ""))


if __name__ == "__main__":
    sys.exit(main())
