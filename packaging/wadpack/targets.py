"""What the package is made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Python:
    """A CPython that a supported system brings; `release` is the oldest patch release among them."""

    version: str
    release: str
    system: str

    @property
    def tag(self) -> str:
        """As in the name of a wheel."""
        return "cp" + self.version.replace(".", "")

    @property
    def site(self) -> str:
        """Its directory of modules, below the prefix."""
        return f"lib/python{self.version}/site-packages"


@dataclass(frozen=True, slots=True)
class Architecture:
    """A processor: Debian's name, the name in wheels, and the ELF machine number."""

    debian: str
    wheel: str
    machine: int


PYTHONS: Final = (
    Python("3.11", "3.11.2", "Debian 12"),
    Python("3.12", "3.12.3", "Ubuntu 24.04"),
    Python("3.13", "3.13.5", "Debian 13"),
    Python("3.14", "3.14.0", "Ubuntu 26.04"),
)
ARCHITECTURES: Final = {
    each.debian: each
    for each in (Architecture("amd64", "x86_64", 62), Architecture("arm64", "aarch64", 183))
}
GLIBC: Final = 36
"""Of Debian 12, the oldest: 2.36."""

PREFIX: Final = "usr/lib/wad"
"""Where everything lies: a virtual environment, so that the interpreter itself chooses the modules of its version."""


def platforms(architecture: Architecture) -> list[str]:
    """The platform tags whose wheels run there, the newest first."""
    tags = [f"manylinux_2_{minor}_{architecture.wheel}" for minor in range(GLIBC, 4, -1)]
    return [*tags, f"manylinux2014_{architecture.wheel}"]
