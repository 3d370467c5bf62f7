"""What systemd says of its units, asked through `systemctl show`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_RUNNING: Final = Path("/run/systemd/system")  # sd_booted(3)
_PATIENCE: Final = 10.0  # seconds


def booted(mark: Path = _RUNNING) -> bool:
    """Whether systemd runs this machine."""
    return mark.is_dir()


def show(units: Iterable[str], properties: Iterable[str]) -> dict[str, Mapping[str, str]]:
    """Properties of units, by the unit's name; none where systemctl does not answer."""
    command = ["systemctl", "show", *units, f"--property=Id,{','.join(properties)}"]
    return parse(_said(command))


def parse(text: str) -> dict[str, Mapping[str, str]]:
    """KEY=VALUE lines, an empty line between two units."""
    found: dict[str, Mapping[str, str]] = {}
    for block in text.split("\n\n"):
        pairs = (line.partition("=") for line in block.splitlines())
        shown = {key: value for key, equal, value in pairs if equal}
        if name := shown.get("Id"):
            found[name] = shown
    return found


def last_error(unit: str) -> str:
    """The newest error in a unit's log; empty where there is none, or we may not look."""
    options = ("--quiet", "--no-pager", "--output=cat", "--priority=err", "--lines=1", "--boot")
    return _said(["journalctl", f"--unit={unit}", *options]).strip().partition("\n")[0]


def _said(command: list[str]) -> str:
    import subprocess  # rarely needed, and half of the time that wadctl takes to start

    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
