"""What was set aside is listed over all its sources, found by its id or the beginning of it, retried and dropped."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.fake_daemon import FakeDaemon
from wad.api import dispatch
from wad.api.operation import Access
from wad.core.errors import BadInput, Conflict, Denied, NotFound
from wad.core.quarantine import ItemKind, Quarantined
from wad.flow.quarantine import Quarantine


def an_item(ident: str, since_ms: int = 1, account: str = "") -> Quarantined:
    return Quarantined(
        id=ident,
        kind=ItemKind.DOCUMENT,
        account=account,
        name=f"threads/{ident}",
        reason="its field x is damaged",
        since_ms=since_ms,
    )


class Kept:
    """A source in memory."""

    def __init__(self, *items: Quarantined) -> None:
        self.held = {item.id: item for item in items}
        self.mended: set[str] = set()

    @property
    def count(self) -> int:
        return len(self.held)

    async def items(self) -> Sequence[Quarantined]:
        return list(self.held.values())

    async def show(self, ident: str) -> str:
        return f"{self.held[ident].name}\nx: a reference"

    async def retry(self, ident: str) -> str:
        if ident not in self.mended:
            raise BadInput("its field x is damaged")
        del self.held[ident]
        return "handled"

    async def drop(self, ident: str) -> None:
        del self.held[ident]


async def test_the_items_of_all_sources_are_listed_newest_first() -> None:
    first, second = Kept(an_item("a1", 5), an_item("a2", 9)), Kept(an_item("b1", 7, "acc-1"))
    quarantine = Quarantine(lambda: [first, second])
    assert quarantine.count == 3
    assert [item.id for item in await quarantine.items()] == ["a2", "b1", "a1"]
    assert [item.id for item in await quarantine.items("acc-1")] == ["b1"]


async def test_an_item_is_found_by_the_beginning_of_its_id() -> None:
    quarantine = Quarantine(lambda: [Kept(an_item("a1"), an_item("a12"), an_item("b1"))])
    assert (await quarantine.find("b")).id == "b1"
    assert (await quarantine.find("a1")).id == "a1"
    with pytest.raises(Conflict, match="a1, a12"):
        await quarantine.find("a")
    for missing in ("c", ""):
        with pytest.raises(NotFound):
            await quarantine.find(missing)


async def test_an_item_that_fails_again_stays() -> None:
    source = Kept(an_item("a1"))
    quarantine = Quarantine(lambda: [source])
    with pytest.raises(BadInput, match="damaged"):
        await quarantine.retry("a1")
    assert quarantine.count == 1
    source.mended.add("a1")
    item, result = await quarantine.retry("a1")
    assert (item.id, result, quarantine.count) == ("a1", "handled", 0)


async def test_the_operations_list_show_retry_and_drop() -> None:
    daemon = FakeDaemon()
    source = Kept(an_item("a1"), an_item("a2"))
    daemon.store.quarantine = source
    listed = await dispatch.call(daemon, "quarantine.list", {}, Access.READ)
    assert isinstance(listed, list)
    assert {item["id"] for item in listed} == {"a1", "a2"}
    shown = await dispatch.call(daemon, "quarantine.show", {"item": "a1"}, Access.READ)
    assert isinstance(shown, dict)
    assert shown["detail"].endswith("x: a reference")
    with pytest.raises(BadInput):
        await dispatch.call(daemon, "quarantine.retry", {"item": "a1"}, Access.OPERATE)
    with pytest.raises(Denied):
        await dispatch.call(daemon, "quarantine.drop", {"item": "a1"}, Access.OPERATE)
    await dispatch.call(daemon, "quarantine.drop", {"item": "a1"}, Access.ADMIN)
    assert set(source.held) == {"a2"}
