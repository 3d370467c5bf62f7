"""The port to what is kept, and the adapters behind it; adapters are named only in `open_store`."""

from __future__ import annotations

from pathlib import Path

from wad.store.port import Store as Store


async def open_store(kind: str, state_dir: Path) -> Store:
    """Open the store of this kind; the adapter's library is imported only now."""
    if kind == "sqlite":
        from wad.store.sqlite import SqliteStore

        return await SqliteStore.open(state_dir / "wad.db")
    raise ValueError(f"no store is named {kind!r}")
