"""The lock of the replaced backend, by its own rules, on the emulator.

See docs/internals/replaced-backend.md#lease.  Read-write transactions, its own clock, its own field names: no code of
wad is used, so that the two sides meet as they would in the field.
"""

from __future__ import annotations

import time
from typing import Any, Final

from google.cloud import firestore

PATH: Final = "wa_metrics/longrun/locks/wa_connection"
LEASE_MS: Final = 90_000


class Reference:
    """One instance of that backend.  `skew_ms`: how far its clock is ahead."""

    def __init__(self, client: Any, name: str, *, skew_ms: int = 0) -> None:
        self._client = client
        self._document = client.document(PATH)
        self.name = name
        self.skew_ms = skew_ms

    def try_acquire(self) -> bool:
        """Acquire the lock if it is free or expired; extend it if it is its own."""

        @firestore.transactional
        def acquire(transaction: Any) -> bool:
            found = self._document.get(transaction=transaction).to_dict()
            now = round(time.time() * 1000) + self.skew_ms
            stamp = firestore.SERVER_TIMESTAMP
            mine = {"leaseUntil": now + LEASE_MS, "holderInstanceId": self.name, "updatedAt": stamp}
            if found is None:
                transaction.set(self._document, {**mine, "acquiredAt": stamp})
            elif found["holderInstanceId"] == self.name:
                transaction.update(
                    self._document, {"leaseUntil": mine["leaseUntil"], "updatedAt": stamp}
                )
            elif found["leaseUntil"] < now:
                before = found["holderInstanceId"]
                transaction.update(
                    self._document, {**mine, "acquiredAt": stamp, "previousHolder": before}
                )
            else:
                return False
            return True

        return bool(acquire(self._client.transaction()))

    def release(self) -> None:
        """Delete the lock if it is its own."""

        @firestore.transactional
        def release(transaction: Any) -> None:
            found = self._document.get(transaction=transaction).to_dict()
            if found is not None and found["holderInstanceId"] == self.name:
                transaction.delete(self._document)

        release(self._client.transaction())
