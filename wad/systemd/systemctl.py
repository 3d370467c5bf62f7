"""The state of systemd's units, through `systemctl show`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_RUNNING: Final = Path("/run/systemd/system")  # sd_booted(3)
_TIMEOUT: Final = 10.0  # seconds


def booted(mark: Path = _RUNNING) -> bool:
    """Whether systemd is the init system of this machine."""
    return mark.is_dir()


def show(units: Iterable[str], properties: Iterable[str]) -> dict[str, Mapping[str, str]]:
    """Properties of units, by the unit's name; none if systemctl fails."""
    command = ["systemctl", "show", *units, f"--property=Id,{','.join(properties)}"]
    return parse(_output(command))


def parse(text: str) -> dict[str, Mapping[str, str]]:
    """Parse KEY=VALUE lines, with an empty line between two units."""
    found: dict[str, Mapping[str, str]] = {}
    for block in text.split("\n\n"):
        pairs = (line.partition("=") for line in block.splitlines())
        shown = {key: value for key, equal, value in pairs if equal}
        if name := shown.get("Id"):
            found[name] = shown
    return found


def last_error(unit: str) -> str:
    """The newest error in a unit's log; empty if there is none, or we may not read the log."""
    options = ("--quiet", "--no-pager", "--output=cat", "--priority=err", "--lines=1", "--boot")
    return _output(["journalctl", f"--unit={unit}", *options]).strip().partition("\n")[0]


def _output(command: list[str]) -> str:
    import subprocess  # rarely needed, and half of the time that wadctl takes to start

    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
