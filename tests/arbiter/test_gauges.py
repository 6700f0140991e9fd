"""What the master tells statsD of the sockets."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

from monoceros.arbiter.gauges import backlog
from monoceros.listener import Listener
from monoceros.settings.values import Address
from server import wait_for


def test_who_waits_to_be_accepted(tmp_path: Path) -> None:
    with ExitStack() as stack:
        listeners = [Listener.open(Address("tcp", "127.0.0.1", 0), 16) for _ in range(2)]
        listeners.append(Listener.open(Address("unix", path=str(tmp_path / "a.sock")), 16))
        for listener in listeners:
            stack.callback(listener.close)
        assert backlog(listeners) == 0
        for listener in (listeners[0], listeners[1], listeners[1]):
            stack.enter_context(socket.create_connection(listener.bound))
        wait_for(lambda: backlog(listeners) == 3)
        assert backlog(listeners[2:]) is None
