"""Ids that are given by their beginning, on a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wad.api.short_ids import find_entry, find_message
from wad.core.change import PutMessage
from wad.core.content import Content, MessageKind
from wad.core.errors import Conflict
from wad.core.message import Message, MessageStatus
from wad.core.outbox import Entry
from wad.core.outgoing import Text
from wad.store.sqlite.store import SqliteStore

CHAT = "15550000002@s.whatsapp.net"
THREAD = f"shop__{CHAT}"
ONE, TWO = "abcd1" + "0" * 35, "abcd2" + "0" * 35


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """Two messages and two entries whose ids begin alike."""
    opened = await SqliteStore.open(tmp_path / "wad.db")
    for number, ident in enumerate((ONE, TWO)):
        message = Message(
            id=ident, account="shop", thread=THREAD, chat=CHAT, sender=CHAT, from_me=False,
            at_ms=1_700_000_000_000 + number, content=Content(MessageKind.TEXT, "hi"),
            status=MessageStatus.DELIVERED, wa_id=f"W{number}", stable_key=ident, fingerprint=ident,
        )  # fmt: skip
        await opened.record("shop", [PutMessage(message)])
        await opened.enqueue(
            Entry(
                id=ident[::-1].replace("0", "e"), account="shop", thread=THREAD, to=CHAT,
                content=Text("hi"), client_id=ident, secret=b"", created_ms=1,
            )
        )  # fmt: skip
    yield opened
    await opened.close()


async def test_a_unique_beginning_is_enough(store: SqliteStore) -> None:
    """As a table shows it; the whole id, too."""
    for given in ("abcd1", ONE):
        found = await find_message(store, given)
        assert found is not None
        assert found.id == ONE


async def test_a_beginning_of_several_ids(store: SqliteStore) -> None:
    """Both are named, so that one can be copied."""
    with pytest.raises(Conflict, match="several ids begin with 'abcd'") as error:
        await find_message(store, "abcd")
    assert ONE in error.value.hint
    assert TWO in error.value.hint
    with pytest.raises(Conflict, match="several ids begin with 'eeee'"):
        await find_entry(store, "eeee")


@pytest.mark.parametrize("given", ["", "abc", "abcd3", "%", "abcd_", "\U0010ffff" * 5])
async def test_no_such_beginning(store: SqliteStore, given: str) -> None:
    """Too short, unknown, or characters that a pattern would have."""
    assert await find_message(store, given) is None
    assert await find_entry(store, given) is None


async def test_an_entry_by_its_beginning(store: SqliteStore) -> None:
    """The outbox works alike."""
    ident = TWO[::-1].replace("0", "e")
    found = await find_entry(store, ident[:-4])
    assert found is not None
    assert found.id == ident
