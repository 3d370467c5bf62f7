"""Writing behind the fence: whole units or nothing, and only if the documents are unchanged since they were read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from wad.audit.firestore.plan import DocumentEdit, Unit
from wad.core.errors import Conflict, Fenced, NotFound
from wad.store.firestore.client.commit import Write, commit, if_there, if_unchanged, removal, upsert
from wad.store.firestore.client.database import Client, Firestore, Snapshot
from wad.store.firestore.client.decode import get
from wad.store.firestore.lease.document import record_of
from wad.store.firestore.lease.fence import Fence
from wad.store.firestore.sync.push import BATCH_BYTES, TIMEOUT, fencing

_BATCH: Final = 400  # documents, the fence not counted; Firestore takes 500


class Writer:
    """Writes the edits of a repair.  `lease`: the path of the lease's document."""

    def __init__(self, firestore: Firestore, lease: str) -> None:
        self._firestore = firestore
        self._lease = lease
        self._fence = Fence(lease)

    def begin(self) -> int:
        """The epoch to write in; the first one begins if no instance was ever active.

        Raises Conflict while the legacy backend holds the lease: its writes and the repair would mix.
        """
        return self._firestore.now(self._begin)

    def _begin(self, client: Client) -> int:
        self._check_no_legacy_backend(get(client, self._lease, timeout=TIMEOUT))
        seen = self._fence.read(client)
        if not seen.epoch:
            self._fence.ensure(client, 1)
        return seen.epoch or 1

    def _check_no_legacy_backend(self, found: Snapshot) -> None:
        if not found.exists:
            return
        age = (found.read_time - found.update_time).total_seconds()
        record = record_of(found.fields, age, round(found.read_time.timestamp() * 1000), 0)
        if record.holder and not record.nonce and age < record.ttl:
            raise Conflict(
                f"{record.holder} holds the lease: the legacy backend runs, and its writes and the repair would mix",
                hint="stop it, and make sure that it does not start again",
            )

    def write(self, units: Sequence[Unit], epoch: int) -> int:
        """Write the units; return the number of written documents.  A unit whose documents have changed is left out.

        Raises Fenced (another epoch has begun: the rest was not written), Unavailable.
        """
        return sum(self._write(batch, epoch) for batch in _batches(units))

    def _write(self, units: Sequence[Unit], epoch: int) -> int:
        try:
            self._firestore.now(lambda client: self._commit(client, units, epoch))
        except (Conflict, NotFound) as error:
            newest = self._firestore.now(self._fence.read).epoch
            if newest != epoch:
                raise Fenced(
                    f"epoch {epoch} is over, epoch {newest} has begun: another machine is active now",
                    hint="run it again: finished repairs stay",
                ) from error
            if len(units) == 1:
                return 0
            half = len(units) // 2
            return self._write(units[:half], epoch) + self._write(units[half:], epoch)
        return sum(map(len, units))

    def _commit(self, client: Client, units: Sequence[Unit], epoch: int) -> None:
        writes = [_write(client, edit) for unit in units for edit in unit]
        guard = fencing(client, self._fence, epoch, units[0][0].document.path)
        commit(client, [guard, *writes], TIMEOUT)


def _write(client: Client, edit: DocumentEdit) -> Write:
    path = edit.document.path
    write = removal(client, path) if edit.fields is None else upsert(client, path, edit.fields)
    if edit.gone:
        write.update_mask.field_paths.extend(edit.gone)
    if edit.document.version is None:
        return if_there(write, there=False)
    return if_unchanged(write, edit.document.version)


def _batches(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Split the units into commits of the size that Firestore accepts."""
    batch: list[Unit] = []
    count = size = 0
    for unit in units:
        weight = sum(_weight(edit) for edit in unit)
        if batch and (count + len(unit) > _BATCH or size + weight > BATCH_BYTES):
            yield batch
            batch, count, size = [], 0, 0
        batch.append(unit)
        count += len(unit)
        size += weight
    if batch:
        yield batch


def _weight(edit: DocumentEdit) -> int:
    """The approximate size in bytes."""
    return 200 + len(repr(edit.fields))
