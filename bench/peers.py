"""The environment in which every server of a run lives: bench/.peers, pinned, on the Python that runs the bench."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys

from . import HERE

HOME = HERE / ".peers"
BIN = HOME / "bin"
REPO = HERE.parent
REQUIRED = HERE / "requirements.txt"
OPTIONAL = HERE / "requirements-optional.txt"
STAMP = HOME / "stamp.json"


def prepare(*, afresh: bool = False) -> dict[str, str]:
    """See that the environment is there and up to date. Returns the versions it holds, by distribution."""
    fingerprint = hashlib.sha256(sys.version.encode() + REQUIRED.read_bytes() + OPTIONAL.read_bytes()).hexdigest()
    if afresh or not STAMP.exists() or json.loads(STAMP.read_text()) != fingerprint:
        install()
        STAMP.write_text(json.dumps(fingerprint))
    return versions()


def install() -> None:
    say("bench: installing the peers into bench/.peers (once)")
    shutil.rmtree(HOME, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
    pip("-r", str(REQUIRED)).check_returncode()
    pip("--no-deps", "-e", str(REPO)).check_returncode()
    for line in OPTIONAL.read_text().splitlines():
        requirement = line.partition("#")[0].strip()
        if requirement and pip(requirement).returncode:
            say(f"bench: {requirement} did not build, its cells stay empty (try again: --reinstall)")


def pip(*words: str) -> subprocess.CompletedProcess[bytes]:
    # stdout is the report's.
    command = [str(BIN / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *words]
    return subprocess.run(command, stdout=sys.stderr)


def versions() -> dict[str, str]:
    program = (
        "import json; from importlib.metadata import distributions as d;"
        "print(json.dumps({x.metadata['Name'].lower(): x.version for x in d()}))"
    )
    answer = subprocess.run([str(BIN / "python"), "-c", program], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(answer.stdout)
    return found


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
