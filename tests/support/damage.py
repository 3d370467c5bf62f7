"""Damaging a file as a disk or a person does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

DAMAGES: Final = ("header", "middle", "cut", "text")


def damage(path: Path, how: str) -> None:
    """Overwrite its head or its middle, cut it in half, or replace it by text."""
    data = bytearray(path.read_bytes())
    if how == "header":
        data[:100] = b"\0" * 100
    elif how == "middle":
        data[len(data) // 2 : len(data) // 2 + 20_000] = os.urandom(20_000)
    elif how == "cut":
        del data[len(data) // 2 :]
    else:
        data[:] = b"this was a database once\n" * 1000
    path.write_bytes(data)
