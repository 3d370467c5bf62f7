"""A build of the library that wad does not know: the released one, with a byte more at its end."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.whatsapp.golib import library_path


def another_build(directory: Path) -> Path:
    """Make a directory for PYTHONPATH with a neonize that is not the one that was released."""
    original = library_path()
    copy = directory / "neonize"
    copy.mkdir()
    (copy / "__init__.py").touch()
    shutil.copytree(original.parent / "proto", copy / "proto")
    (copy / original.name).write_bytes(original.read_bytes() + b"\0")
    return directory
