"""A configuration that no file and no variable of this machine has a part in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from wad.config import LoadedConfig, examine, load

NOWHERE: Final = Path("/nowhere/wad.toml")

Write: TypeAlias = Callable[..., Path]


def defaults(**environ: str) -> LoadedConfig:
    """What a machine without a file runs on, with these variables."""
    return load(None, environ, default_file=NOWHERE, hostname="box")


def problems(file: Path | None, environ: dict[str, str] | None = None) -> list[str]:
    """The problems of this file and these variables."""
    loaded, found = examine(file, environ or {}, default_file=NOWHERE, hostname="box")
    assert (loaded is None) == bool(found)
    return found
