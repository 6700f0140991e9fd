"""Uvicorn's way to say where to listen, host and port, uds or fd, turned into `bind`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from monoceros.settings.sources import Given, Remarks, parsed, shown
from monoceros.settings.table import ROWS, SettingsError
from monoceros.settings.values import DEFAULT_HOST, DEFAULT_PORT, Address

# Of several in one place the first counts, as with Uvicorn.
PARTS: Final = ("uds", "fd", "host", "port")


def bind_of(layers: Sequence[Sequence[Given]], remarks: Remarks) -> Given | None:
    """What `bind` is by these options, None if they are not given, or only in places that count less than a `bind`.

    `layers` are the places, the one that counts most last. One that says both is told to `remarks.wrong`.
    """
    below = ROWS["bind"].default
    parts: dict[str, Given] = {}
    latest = ""
    for layer in layers:
        bind = next((given for given in reversed(layer) if given.name == "bind"), None)
        here = {given.name: given for given in layer if given.name in PARTS and _value(given) is not None}
        if bind and here:
            both = f"{shown(bind)} and {', '.join(map(shown, here.values()))}"
            remarks.wrong.append(f"{both}: both say where to listen, keep one of them")
        if bind:
            below, parts = _value(bind) or below, {}
        if here:
            parts |= here
            latest = next(name for name in PARTS if name in here)
    return _bind(parts, latest, below) if parts else None


def _bind(parts: Mapping[str, Given], latest: str, below: tuple[Address, ...]) -> Given:
    names = [latest] if latest in ("uds", "fd") else [name for name in ("host", "port") if name in parts]
    said: dict[str, Any] = {name: _value(parts[name]) for name in names}
    if latest == "uds":
        address = Address("unix", path=said["uds"])
    elif latest == "fd":
        address = Address("fd", fd=said["fd"])
    else:
        port = below[0].port if len(below) == 1 and below[0].kind == "tcp" else DEFAULT_PORT
        address = Address("tcp", host=said.get("host", DEFAULT_HOST), port=said.get("port", port))
    return Given("bind", (address,), ", ".join(parts[name].origin for name in names))


def _value(given: Given) -> Any:
    """The value, None for a wrong one, too, which is said elsewhere."""
    try:
        return parsed(given)
    except SettingsError:
        return None
