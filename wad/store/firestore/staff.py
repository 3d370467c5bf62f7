"""The employees: users with a document `staffProfiles/{uid}`, as in the replaced backend.

See docs/internals/replaced-backend.md#functions-proxies.
"""

from __future__ import annotations

from typing import Final

from wad.store.firestore.client.database import Client, Firestore
from wad.store.firestore.client.decode import get
from wad.store.firestore.client.document_ids import is_key

_TIMEOUT: Final = 5.0  # seconds; a user waits


class StaffProfiles:
    """`wad.store.port.Staff`.  Only the document's existence counts; its content is not read."""

    def __init__(self, firestore: Firestore) -> None:
        self._firestore = firestore

    async def has(self, uid: str) -> bool:
        """Whether this user has a document.  Raises Unavailable."""
        if not is_key(uid):
            return False

        def work(client: Client) -> bool:
            return get(client, f"staffProfiles/{uid}", "name", timeout=_TIMEOUT).exists

        return await self._firestore.call(work)
