"""The quarantine of all sources: documents and entries of the store, rows and files of each account."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from wad.core.errors import Conflict, NotFound
from wad.core.quarantine import Quarantined, Source

_AMBIGUOUS: Final = 3  # ids that an error names


class Quarantine:
    """All quarantined items.  `sources` is called anew each time, since accounts are added and removed."""

    def __init__(self, sources: Callable[[], Iterable[Source]]) -> None:
        self._sources = sources

    @property
    def count(self) -> int:
        """The number of items; no I/O."""
        return sum(source.count for source in self._sources())

    async def items(self, account: str = "") -> list[Quarantined]:
        """The items of an account, or all; the newest first."""
        found = [item for source in self._sources() for item in await source.items()]
        return sorted(
            (item for item in found if account in ("", item.account)),
            key=lambda item: (-item.since_ms, item.id),
        )

    async def find(self, ident: str) -> Quarantined:
        """The item with this id, or with this unique prefix.  Raises NotFound, Conflict (several match)."""
        return (await self._find(ident))[1]

    async def show(self, ident: str) -> tuple[Quarantined, str]:
        """An item and its description.  Raises as `find`."""
        source, item = await self._find(ident)
        return item, await source.show(item.id)

    async def retry(self, ident: str) -> tuple[Quarantined, str]:
        """Process it again; returns the result.  Raises as `find`, and BadInput if it still cannot be processed."""
        source, item = await self._find(ident)
        return item, await source.retry(item.id)

    async def drop(self, ident: str) -> Quarantined:
        """Discard it.  Raises as `find`."""
        source, item = await self._find(ident)
        await source.drop(item.id)
        return item

    async def _find(self, ident: str) -> tuple[Source, Quarantined]:
        matches = []
        for source in self._sources():
            for item in await source.items():
                if item.id == ident:
                    return source, item
                if ident and item.id.startswith(ident):
                    matches.append((source, item))
        if not matches:
            raise NotFound(
                f"item not found in quarantine: {ident}",
                hint="list the items: wadctl quarantine list",
            )
        if len(matches) > 1:
            names = ", ".join(item.id for _, item in matches[:_AMBIGUOUS])
            raise Conflict(f"{ident} is ambiguous: {names}")
        return matches[0]
