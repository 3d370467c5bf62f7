"""The lock file: one exact version of every distribution, with the hashes of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(?: ; (.+?))?(?: \\)?$")


@dataclass(frozen=True, slots=True)
class Pin:
    """A distribution at one version.  `marker`: where it applies; `wanted_by`: what needs it."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    wanted_by: tuple[str, ...]

    def line(self) -> str:
        """As a requirements file has it."""
        return f"{self.name}=={self.version} " + " ".join(f"--hash={each}" for each in self.hashes)


def read_lock(path: Path) -> list[Pin]:
    """The pins of a requirements file with hashes, as `make lock` writes it."""
    pins: list[Pin] = []
    head: tuple[str, str, str] | None = None
    hashes: list[str] = []
    via: list[str] = []
    for line in [*path.read_text("utf-8").splitlines(), ""]:
        found = _ENTRY.match(line)
        if (found or not line) and head is not None:
            pins.append(Pin(*head, tuple(hashes), tuple(via)))
            head, hashes, via = None, [], []
        if found:
            head = (found[1], found[2], found[3] or "")
        elif line.startswith("    --hash="):
            hashes.append(line.strip().removesuffix(" \\").removeprefix("--hash="))
        elif line.startswith("    #") and (word := line.strip("# ").removeprefix("via").strip()):
            via.append(word)
    return pins
