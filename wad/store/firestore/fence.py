"""The fence: exclusive writes of an epoch that is over are refused by the server.

Each epoch has a few documents of its own, and every batch of exclusive writes updates one of them: an update of a
document that is not there refuses the whole batch.  Who begins an epoch deletes those of the epoch before, in the same
commit that takes the lease, so that there is no moment at which both can write.

Measured on the emulator, for two writes and the fence: 2.1 ms, where they take 1.7 ms without, and 7.0 ms where a
transaction reads the fence instead.  Time was not what decided: a holder that freezes between the read and the commit
of a transaction keeps its lock on the fence, and the successor's take-over is refused for as long ("Transaction lock
timeout").  A batch locks nothing between two calls.
Cost: one document write more for each exclusive batch.  Production takes about one sustained write a second to a
document, hence several documents, chosen by account.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

from wad.store.firestore.client import Batch, Client, Snapshot, moment_of, version_of

SHARDS: Final = 8  # documents of one epoch
TIMEOUT: Final = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Begun:
    """The newest epoch that began, and the version of the document that says so; 0 and None for none."""

    epoch: int = 0
    version: str | None = None


class Fence:
    """Where the epochs of one lease lie: below the lease's document, which renewals alone touch."""

    def __init__(self, lease: str) -> None:
        self.pointer = f"{lease}/wad/epoch"
        self._fences = f"{lease}/fences"

    def _path(self, epoch: int, shard: int) -> str:
        return f"{self._fences}/{epoch}.{shard}"

    def path(self, epoch: int, account: str) -> str:
        """The document that must be there for writes of this epoch, chosen by account."""
        return self._path(epoch, zlib.crc32(account.encode()) % SHARDS)

    def read(self, client: Client) -> int:
        """The newest epoch that began; 0 for none."""
        return epoch_of(client.document(self.pointer).get(retry=None, timeout=TIMEOUT))

    def begin(
        self, client: Client, batch: Batch, before: int, epoch: int, *, seen: Begun | None = None
    ) -> None:
        """Add to a batch what ends the epoch `before` and begins another.

        `seen`: the batch is refused with Conflict, whole, if yet another has begun since that was read.
        """
        pointer = client.document(self.pointer)
        if seen is None:
            batch.set(pointer, {"epoch": epoch})
        elif seen.version is None:
            batch.create(pointer, {"epoch": epoch})
        else:
            option = client.write_option(last_update_time=moment_of(seen.version))
            batch.update(pointer, {"epoch": epoch}, option=option)
        for shard in range(SHARDS):
            batch.set(client.document(self._path(epoch, shard)), {"account": ""})
            if before:
                batch.delete(client.document(self._path(before, shard)))

    def check(self, client: Client, batch: Batch, epoch: int, account: str) -> None:
        """Add to a batch what refuses it, whole and with NotFound, unless this epoch is the newest."""
        batch.update(client.document(self.path(epoch, account)), {"account": account})


def epoch_of(pointer: Snapshot) -> int:
    """What the pointer's document says."""
    return int((pointer.to_dict() or {}).get("epoch", 0))


def begun_of(pointer: Snapshot) -> Begun:
    """The same with its version."""
    found = pointer.update_time
    return Begun(epoch_of(pointer), version_of(found) if found is not None else None)
