"""Who takes the next connection: a worker accepts while no sibling has clearly less to do.

A worker that empties the queue in one go ends up with every kept-alive connection. So one that has clearly
more of them than a sibling looks away for a few milliseconds, and the sibling gets the new one. Where nobody has
many, they take turns: who has taken more lately than an idle sibling leaves the next one to it.
"""

import logging
import socket
from collections.abc import Callable, Sequence
from typing import Final

from monoceros.listener import Listener, Overloaded, Peer
from monoceros.scoreboard import TAKEN, Scoreboard, Slot, clock

log = logging.getLogger("gunicorn.error")

# How long a worker with clearly more connections than a sibling leaves new ones to it, in milliseconds.
LOOK_AWAY: Final = 3
# A worker that is full, or short of descriptors or memory, accepts nothing for this long, in milliseconds.
FULL: Final = 1000
OVERLOADED: Final = 100

# A connection more than the sibling with the fewest is no reason to wait for it, nor is an eighth more.
SLACK: Final = 1
SHARE: Final = 8

# How many more connections a worker may have taken within a second than an idle sibling.
TURNS: Final = 2


class Acceptor:
    """The listeners of a worker, as its loop sees them.

    `take` is given each new connection; `count` says how many are open, of which there may be `limit`;
    `watch` tells the loop whether to wait for a listener. Who is `alone` has no siblings: all connections are its own,
    and it takes one a turn of its loop, so that those who were first are heard before more come.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        scoreboard: Scoreboard,
        slot: Slot,
        limit: int,
        count: Callable[[], int],
        take: Callable[[Listener, socket.socket, Peer], None],
        watch: Callable[[Listener, bool], None],
        alone: bool = False,
    ) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._scoreboard = scoreboard
        self._slot = slot
        self._limit = limit
        self._count = count
        self._take = take
        self._watch = watch
        self._alone = alone
        self._away_until = 0  # no listener is watched until then, or until `_away_while` is False
        self._away_while: Callable[[], bool] = self._outweighed
        self._obliged_until = 0  # until then a new connection is ours: no sibling took it while we looked away
        for listener in listeners:
            watch(listener, True)

    def look(self) -> float | None:
        """Watch the listeners again if it is time to. Else, how many seconds it is until then."""
        if not self._away_until:
            return None
        now = clock()
        if now < self._away_until and self._away_while():
            return (self._away_until - now) / 1000
        if now >= self._away_until:
            self._obliged_until = now + LOOK_AWAY
        self._away_until = 0
        self._watch_all(True)
        return None

    def on_readable(self, fd: int) -> bool:
        """Accept what is for this worker. False if `fd` is none of its listeners."""
        listener = self._listeners.get(fd)
        if listener is None:
            return False
        while not self._full():
            if self._alone:
                self._accept(listener)
                return True
            # What has come to a listener of our own, nobody else can take.
            if listener.shared and self._outweighed() and clock() >= self._obliged_until:
                self._look_away(LOOK_AWAY, self._outweighed)
                return True
            self._obliged_until = 0
            if not self._accept(listener):
                return True
        self._look_away(FULL, self._full)
        return True

    def close(self, most: int) -> None:
        """Take in up to `most` connections a listener that wait already, then close our copies. Only once."""
        listeners, self._listeners = self._listeners, {}
        self._away_until = 0
        for listener in listeners.values():
            if not listener.shared:
                listener.refuse_new()
            for _ in range(most):
                if not self._accept(listener):
                    break
            self._watch(listener, False)
            listener.close()

    def _accept(self, listener: Listener) -> bool:
        """Accept one connection. False if there is none."""
        try:
            accepted = listener.accept()
        except Overloaded as error:
            log.warning("Cannot accept a connection: %s", error)
            self._look_away(OVERLOADED, lambda: True)
            return False
        if accepted is None:
            return False
        second = clock() // 1000
        self._slot[TAKEN] = max(self._slot[TAKEN], second << 32) + 1
        self._take(listener, *accepted)
        return True

    def _full(self) -> bool:
        return self._count() >= self._limit

    def _outweighed(self) -> bool:
        """Does a sibling have clearly fewer connections, or has an idle one taken clearly fewer lately?"""
        mine = self._count()
        if mine > SLACK:
            least = self._scoreboard.least_connections()
            if mine > least + SLACK + least // SHARE:
                return True
        second = clock() // 1000
        taken = self._slot[TAKEN] - (second << 32)
        return taken > TURNS and taken > self._scoreboard.least_taken(second) + TURNS

    def _look_away(self, milliseconds: int, condition: Callable[[], bool]) -> None:
        """Leave new connections to others for so long, but only while `condition` holds."""
        self._away_until = clock() + milliseconds
        self._away_while = condition
        self._watch_all(False)

    def _watch_all(self, watch: bool) -> None:
        for listener in self._listeners.values():
            self._watch(listener, watch)
