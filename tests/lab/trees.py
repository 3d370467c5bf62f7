"""Root trees of the systems that the lab boots, made once by mmdebstrap and kept in a cache.

A tree in use is locked, so that another lab on the machine does not rebuild it.
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

_KEPT: Final = 7 * 86400.0
_KEYS: Final = Path(__file__).parent / "keys"
"""Ubuntu's: F6EC B376 2474 EDA9 D21B  7022 8719 20D1 991B C93C, of which Debian has no package."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The content of a tree: mmdebstrap's variant, and additional packages.  `name` ends the name of its directory.

    `disabled`: units of these packages that do not start at boot.
    """

    name: str
    variant: str
    packages: tuple[str, ...]
    disabled: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """Options for mmdebstrap."""
        return tuple(
            f'--customize-hook=chroot "$1" systemctl disable --quiet {unit}'
            for unit in self.disabled
        )


SERVER: Final = Recipe(
    "",
    "minbase",
    (
        *("systemd", "systemd-sysv", "dbus", "procps", "curl", "ca-certificates", "faketime"),
        *("python3", "libstdc++6", "sudo", "adduser", "man-db", "nginx"),
    ),
    disabled=("nginx.service",),
)
"""A small server before wad is installed: with the package's dependencies, since the containers have no network.

Only the trials with a proxy start nginx.
"""
BARE: Final = Recipe(
    "-bare", "apt", ("python3", "git", "make", "sudo", "passwd", "ca-certificates")
)
"""An unused machine: what README requires, sudo for a user, and nothing else."""


class NotInReach(Exception):
    """A system's archive did not answer, or not correctly."""


@dataclass(frozen=True, slots=True)
class System:
    """A supported release.  `foreign`: mmdebstrap assumes Debian, and needs options for what differs."""

    title: str
    foreign: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Options for mmdebstrap."""
        return ("--components=main,universe", f"--keyring={_KEYS}") if self.foreign else ()


SYSTEMS: Final = {
    "bookworm": System("Debian 12"),
    "trixie": System("Debian 13"),
    "noble": System("Ubuntu 24.04", foreign=True),
    "resolute": System("Ubuntu 26.04", foreign=True),
}
USUAL: Final = ("bookworm", "trixie")
"""The default systems of the lab."""


def cache() -> Path:
    """The cache directory of trees."""
    given = os.environ.get("WAD_LAB_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "wad-lab"


@contextmanager
def tree(system: str, recipe: Recipe = SERVER) -> Iterator[Path]:
    """The root tree of a system, made if it is missing or old (which needs a network).

    It stays unchanged for as long as the block runs.  Raises NotInReach.
    """
    cache().mkdir(parents=True, exist_ok=True)
    name = f"{system}{recipe.name}"
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while not _is_good(name, recipe):
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_good(name, recipe):
                _make(system, name, recipe)
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield cache() / name


def _made_of(recipe: Recipe) -> str:
    return " ".join((recipe.variant, *recipe.packages, *recipe.options))


def _is_good(name: str, recipe: Recipe) -> bool:
    made = cache() / f"{name}.made"
    return (
        made.exists()
        and made.read_text() == _made_of(recipe)
        and time.time() - made.stat().st_mtime < _KEPT
    )


def _make(system: str, name: str, recipe: Recipe) -> None:
    directory, made = cache() / name, cache() / f"{name}.made"
    known = SYSTEMS[system]
    # mmdebstrap leaves apt out for a system that is not Debian's.
    packages = (*recipe.packages, "apt") if known.foreign else recipe.packages
    made.unlink(missing_ok=True)
    subprocess.run(["rm", "-rf", "--one-file-system", str(directory)], check=True)
    done = subprocess.run(
        [
            *("mmdebstrap", "--quiet", f"--variant={recipe.variant}"),
            *(f"--include={','.join(packages)}", *recipe.options, *known.options),
            *(system, str(directory)),
        ],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        why = next((line for line in done.stderr.splitlines() if line.startswith("E: ")), "")
        raise NotInReach(f"the archive of {known.title} is not in reach: {why or done.stderr}")
    made.write_text(_made_of(recipe))
