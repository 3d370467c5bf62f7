"""Where the installation is that an audit looks at: what the daemon would be configured with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from wad.config import load


class Place(NamedTuple):
    """The kind of store, and the state directory."""

    store: str
    state_dir: Path


def place_of(file: Path | None, environ: Mapping[str, str]) -> Place:
    """By the same file and environment as the daemon goes by.  Raises BadConfig."""
    config = load(file, environ).config
    return Place(config.store.kind, config.state.dir)
