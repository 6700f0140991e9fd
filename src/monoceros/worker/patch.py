"""What waits in the standard library is replaced by what yields to gevent's hub.

A worker is patched as soon as it is forked. With `preload_app` the application is imported in the master, and so that
must be patched as well, but for what a master needs to have children: gevent's `os.fork` would handle SIGCHLD by itself
and reap them.
"""

import os
from typing import Final

import gevent
from gevent import events, monkey

# What a master keeps as it is.
KEPT: Final = ("os", "signal", "subprocess")


def process() -> None:
    """Patch this process, which may have been forked from one that is patched already."""
    gevent.reinit()
    monkey.patch_all()
    # If the master has been told to patch them, these are noted as done, but are not.
    monkey.patch_os()
    monkey.patch_subprocess()
    monkey.patch_signal()


def master() -> None:
    """Patch this process, but let it have children as before; the application, too, can patch only the rest."""
    pid = os.getpid()

    def keep(event: object) -> None:
        if isinstance(event, events.GeventWillPatchModuleEvent) and event.module_name in KEPT and os.getpid() == pid:
            raise events.DoNotPatch

    events.subscribers.append(keep)
    monkey.patch_all()
