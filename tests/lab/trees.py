"""Root trees of the systems that the lab boots, made once by mmdebstrap and kept in a cache.

A tree that somebody works with is locked, so that another lab beside it does not make it anew.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PACKAGES: Final = (
    *("systemd", "systemd-sysv", "dbus", "procps", "curl", "ca-certificates", "faketime"),
    *("python3", "libstdc++6", "sudo", "adduser", "man-db"),
)
"""A small server, as it is before wad is installed: what the package depends on is there, for there is no network."""
_KEPT: Final = 7 * 86400.0
_KEYS: Final = Path(__file__).parent / "keys"
"""Ubuntu's: F6EC B376 2474 EDA9 D21B  7022 8719 20D1 991B C93C, of which Debian has no package."""


@dataclass(frozen=True, slots=True)
class System:
    """A release that is supported.  `foreign`: mmdebstrap takes it for Debian's, and has to be told what is not."""

    title: str
    foreign: bool = False

    @property
    def packages(self) -> tuple[str, ...]:
        """What is in its tree, beside what is essential."""
        return (*_PACKAGES, "apt") if self.foreign else _PACKAGES

    @property
    def options(self) -> tuple[str, ...]:
        """Of mmdebstrap."""
        return ("--components=main,universe", f"--keyring={_KEYS}") if self.foreign else ()


SYSTEMS: Final = {
    "bookworm": System("Debian 12"),
    "trixie": System("Debian 13"),
    "noble": System("Ubuntu 24.04", foreign=True),
    "resolute": System("Ubuntu 26.04", foreign=True),
}
USUAL: Final = ("bookworm", "trixie")
"""What the lab boots when it is not told."""


def cache() -> Path:
    """Where trees are kept between runs."""
    given = os.environ.get("WAD_LAB_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "wad-lab"


@contextmanager
def tree(system: str) -> Iterator[Path]:
    """The root tree of a system, made if there is none or an old one (a network is needed for that).

    It is as it is for as long as the block runs.
    """
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{system}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while not _is_good(system):
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_good(system):
                _make(system)
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield cache() / system


def _recipe(system: str) -> str:
    return " ".join(SYSTEMS[system].packages)


def _is_good(system: str) -> bool:
    made = cache() / f"{system}.made"
    return (
        made.exists()
        and made.read_text() == _recipe(system)
        and time.time() - made.stat().st_mtime < _KEPT
    )


def _make(system: str) -> None:
    place, made = cache() / system, cache() / f"{system}.made"
    made.unlink(missing_ok=True)
    subprocess.run(["rm", "-rf", "--one-file-system", str(place)], check=True)
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase"),
            *(f"--include={','.join(SYSTEMS[system].packages)}", *SYSTEMS[system].options),
            *(system, str(place)),
        ],
        check=True,
    )
    made.write_text(_recipe(system))
