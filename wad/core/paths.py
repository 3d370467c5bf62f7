"""The default paths that the daemon and wadctl share; the settings are in `wad.config`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

STATE_DIR: Final = Path("/var/lib/wad")
"""The state directory of the package."""
RUNTIME_DIR: Final = Path("/run/wad")
SOCKET: Final = "control.sock"


def runtime_dir(state_dir: Path) -> Path:
    """The runtime directory that belongs to a state directory.

    With a state directory other than the package's, as a developer uses it without write access to /run, it is the
    state directory itself, so that two daemons do not collide.
    """
    return RUNTIME_DIR if state_dir == STATE_DIR else state_dir
