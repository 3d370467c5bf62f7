"""The embedded store, opened for a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from wad.store.sqlite.store import SqliteStore


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[SqliteStore]:
    """An open store."""
    store = await SqliteStore.open(path, **options)
    try:
        yield store
    finally:
        await store.close()
