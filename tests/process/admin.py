"""What operators see of a server under test, by a client that is not ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from server import Server, free_port, wait_for


class Admin:
    """The site of a server. `flags` have it served; `ready` waits until it is."""

    def __init__(self) -> None:
        self.port = free_port()
        self.flags = ("--admin-bind", str(self.port))

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=10, trust_env=False)

    def status(self, path: str) -> int:
        """0 if nobody answers."""
        try:
            return self.get(path).status_code
        except httpx.TransportError:
            return 0

    def ready(self) -> Admin:
        wait_for(lambda: self.status("/health/ready") == 200, what="the server to be ready")
        return self

    def stats(self) -> dict[str, Any]:
        told: dict[str, Any] = self.get("/stats").json()
        return told

    def expect(self, condition: Callable[[dict[str, Any]], object], what: str) -> dict[str, Any]:
        """Wait until the statistics say so."""
        found: list[dict[str, Any]] = []

        def holds() -> bool:
            found[:] = [self.stats()]
            return bool(condition(found[0]))

        wait_for(holds, what=what)
        return found[0]

    def samples(self) -> dict[str, float]:
        """Prometheus' samples, by name and labels."""
        return {
            sample.name + "".join(f",{name}={value}" for name, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.get("/metrics").text)
            for sample in family.samples
        }

    def counters(self) -> dict[str, float]:
        """Those that may never go back."""
        return {
            name: value
            for name, value in self.samples().items()
            if name.partition(",")[0].endswith(("_total", "_bucket", "_count", "_sum"))
        }

    def responses(self) -> int:
        return sum(int(value) for name, value in self.samples().items() if name.startswith("monoceros_responses_total"))


def site_of(server: Server) -> int:
    """The pid of the process that serves it."""
    return int(server.expect(r"Booting site with pid: (\d+)")[1])
