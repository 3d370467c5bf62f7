"""What systemd says of wad.service, asked through `systemctl show`."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wad.audit.doctor.facts import Unit

_RUNNING: Final = Path("/run/systemd/system")  # sd_booted(3)
_ASKED: Final = "LoadState,ActiveState,SubState,UnitFileState,NRestarts,MainPID,User,Environment"
_PATIENCE: Final = 10.0  # seconds


def booted(mark: Path = _RUNNING) -> bool:
    """Whether systemd runs this machine."""
    return mark.is_dir()


def show(unit: str = "wad.service") -> Mapping[str, str]:
    """The properties of a unit; none where systemctl does not answer."""
    command = ["systemctl", "show", unit, f"--property={_ASKED}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse(done.stdout)


def parse(text: str) -> Mapping[str, str]:
    """KEY=VALUE lines."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value for key, equal, value in pairs if equal}


def unit_of(shown: Mapping[str, str]) -> Unit | None:
    """The unit; None where nothing was shown."""
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
    )


def environment_of(shown: Mapping[str, str]) -> dict[str, str]:
    """What the unit puts into the daemon's environment; systemd quotes it as a shell would."""
    pairs = (word.partition("=") for word in shlex.split(shown.get("Environment", "")))
    return {name: value for name, equal, value in pairs if equal}


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
