"""Where daemon and wadctl meet when nothing else was said.  Both go by this; the settings are in `wad.config`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

STATE_DIR: Final = Path("/var/lib/wad")
"""The state directory of the package."""
RUNTIME_DIR: Final = Path("/run/wad")
SOCKET: Final = "control.sock"


def runtime_dir(state_dir: Path) -> Path:
    """The runtime directory that belongs to a state directory.

    Another state directory than the package's is that of a developer, who may not write to /run: there all is in one
    place, and two daemons do not meet.
    """
    return RUNTIME_DIR if state_dir == STATE_DIR else state_dir
