"""The client: wrk, on a core of its own."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import HERE

# A request that waited as long as this counts as an error. wrk's own default, 2 s, would count a slow peer's queue.
TIMEOUT = 10

UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}


@dataclass(frozen=True)
class Load:
    """What wrk says at the end."""

    requests: int
    rps: float
    p50: float
    p99: float
    """Milliseconds."""
    errors: int
    """Connections that failed, time-outs, and answers that are neither 2xx nor 3xx."""


def parse(text: str) -> Load:
    total = found(r"(\d+) requests in ", text)
    errors = sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    if refused := re.search(r"Non-2xx or 3xx responses: (\d+)", text):
        errors += int(refused[1])
    return Load(
        requests=int(total),
        rps=float(found(r"Requests/sec:\s+([\d.]+)", text)),
        p50=milliseconds(found(r"^ +50% +(\S+)", text)),
        p99=milliseconds(found(r"^ +99% +(\S+)", text)),
        errors=errors,
    )


def found(pattern: str, text: str) -> str:
    if (match := re.search(pattern, text, re.MULTILINE)) is None:
        raise ValueError(f"no {pattern!r} in what wrk wrote: {text!r}")
    return match[1]


def milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)([a-z]+)", text)
    if match is None or match[2] not in UNITS:
        raise ValueError(f"not a duration: {text!r}")
    return float(match[1]) * UNITS[match[2]]


def run(url: str, *, core: int, connections: int, seconds: int, script: str | None) -> Load:
    command = ["taskset", "-c", str(core), "wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency"]
    command += ["--timeout", f"{TIMEOUT}s"]
    if script:
        command += ["-s", str(Path(HERE, "wrk", script))]
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=seconds + 3 * TIMEOUT, check=True)
    return parse(done.stdout)
