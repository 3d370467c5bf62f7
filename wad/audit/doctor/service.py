"""The state of wad.service, from `systemctl show`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Final

from wad.audit.doctor.facts import Unit
from wad.core import start_failure
from wad.systemd import systemctl

_PROPERTIES: Final = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "NRestarts", "MainPID", "User", "Environment",
    "StatusText",
)  # fmt: skip


def booted() -> bool:
    """Whether systemd runs this machine."""
    return systemctl.booted()


def show(unit: str = "wad.service") -> Mapping[str, str]:
    """The properties of a unit; empty if systemctl does not answer."""
    return systemctl.show((unit,), _PROPERTIES).get(unit, {})


def unit_of(shown: Mapping[str, str]) -> Unit | None:
    """The unit; None without properties."""
    if not shown:
        return None
    return Unit(
        load=shown.get("LoadState", ""),
        active=shown.get("ActiveState", ""),
        sub=shown.get("SubState", ""),
        enabled=shown.get("UnitFileState", ""),
        restarts=_number(shown.get("NRestarts", "")),
        pid=_number(shown.get("MainPID", "")),
        user=shown.get("User", ""),
        failure=str(start_failure.parse(shown.get("StatusText", "")) or ""),
    )


def environment_of(shown: Mapping[str, str]) -> dict[str, str]:
    """The environment that the unit sets for the daemon; systemd quotes it like a shell."""
    pairs = (word.partition("=") for word in shlex.split(shown.get("Environment", "")))
    return {name: value for name, equal, value in pairs if equal}


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
