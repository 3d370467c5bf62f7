"""A configuration file to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.loaded import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration file and gives its path."""

    def write(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "wad.toml"
        path.write_bytes(text.encode())
        path.chmod(mode)
        return path

    return write
