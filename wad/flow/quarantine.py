"""What was set aside, wherever it is kept: documents and entries of the store, rows and files of each account."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from wad.core.errors import Conflict, NotFound
from wad.core.quarantine import Quarantined, Source

_AMBIGUOUS: Final = 3  # ids that an error names


class Quarantine:
    """All items.  `sources` are asked for anew each time, since accounts come and go."""

    def __init__(self, sources: Callable[[], Iterable[Source]]) -> None:
        self._sources = sources

    @property
    def count(self) -> int:
        """How many items there are; no I/O."""
        return sum(source.count for source in self._sources())

    async def items(self, account: str = "") -> list[Quarantined]:
        """The items of an account, or all; the newest first."""
        found = [item for source in self._sources() for item in await source.items()]
        return sorted(
            (item for item in found if account in ("", item.account)),
            key=lambda item: (-item.since_ms, item.id),
        )

    async def find(self, ident: str) -> Quarantined:
        """The item of this id, or of the only id that begins so.  Raises NotFound, Conflict (several do)."""
        return (await self._find(ident))[1]

    async def show(self, ident: str) -> tuple[Quarantined, str]:
        """An item and what can be said of it.  Raises as `find`."""
        source, item = await self._find(ident)
        return item, await source.show(item.id)

    async def retry(self, ident: str) -> tuple[Quarantined, str]:
        """Handle it again; what became of it.  Raises as `find`, and BadInput where it still cannot be handled."""
        source, item = await self._find(ident)
        return item, await source.retry(item.id)

    async def drop(self, ident: str) -> Quarantined:
        """Forget it.  Raises as `find`."""
        source, item = await self._find(ident)
        await source.drop(item.id)
        return item

    async def _find(self, ident: str) -> tuple[Source, Quarantined]:
        alike = []
        for source in self._sources():
            for item in await source.items():
                if item.id == ident:
                    return source, item
                if ident and item.id.startswith(ident):
                    alike.append((source, item))
        if not alike:
            raise NotFound(
                f"there is no item {ident} in quarantine", hint="wadctl quarantine list shows them"
            )
        if len(alike) > 1:
            names = ", ".join(item.id for _, item in alike[:_AMBIGUOUS])
            raise Conflict(f"{ident} is the beginning of several items: {names}")
        return alike[0]
