"""Root trees of the systems that the lab boots, made once by mmdebstrap and kept in a cache."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Final

SYSTEMS: Final = {"bookworm": "Debian 12", "trixie": "Debian 13"}
_PACKAGES: Final = (
    *("systemd", "systemd-sysv", "dbus", "procps", "curl", "ca-certificates", "faketime"),
    *("python3", "libstdc++6", "sudo", "adduser", "man-db"),
)
"""A small server, as it is before wad is installed: what the package depends on is there, for there is no network."""
_KEPT: Final = 7 * 86400.0


def cache() -> Path:
    """Where trees are kept between runs."""
    given = os.environ.get("WAD_LAB_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "wad-lab"


def tree(system: str) -> Path:
    """The root tree of a system, made if there is none or an old one (a network is needed for that)."""
    place = cache() / system
    made = cache() / f"{system}.made"
    wanted = " ".join(_PACKAGES)
    if made.exists() and made.read_text() == wanted and time.time() - made.stat().st_mtime < _KEPT:
        return place
    cache().mkdir(parents=True, exist_ok=True)
    made.unlink(missing_ok=True)
    subprocess.run(["rm", "-rf", "--one-file-system", str(place)], check=True)
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_PACKAGES)}"),
            *(system, str(place)),
        ],
        check=True,
    )
    made.write_text(wanted)
    return place
