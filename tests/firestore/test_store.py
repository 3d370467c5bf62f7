"""The store on Firestore: the contract, against the real emulator."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.contracts.store import StoreContract
from tests.contracts.world import Fresh
from tests.firestore.stores import a_store
from wad.store import Store
from wad.store.firestore.access import Access

_NUMBERS = itertools.count()


class TestFirestoreStore(StoreContract):
    """The contract; each store has a database of its own."""

    @pytest.fixture
    def fresh(self, access: Access, tmp_path: Path) -> Fresh:
        """An empty database, and an empty replica."""

        @asynccontextmanager
        async def one() -> AsyncIterator[Store]:
            number = next(_NUMBERS)
            project = f"{access.project}-{number}"
            directory = tmp_path / str(number)
            directory.mkdir()
            async with a_store(
                Access(project=project, emulator=access.emulator), directory
            ) as store:
                yield store
                await store.told()

        return one
