"""Retired machines: machines that were not seen for 30 days; one document keeps their ids in place of their own
documents.

A new working copy pulls what every machine ever wrote, so no id may be lost; but each machine costs a document read at
every pull, and a query for each collection.  A retired machine that was pulled completely is not queried again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wad.core.untrusted import LATEST_MS, Fields, integer, map_, text, time_ms
from wad.store.firestore.client.commit import Write, if_there, if_unchanged, removal, upsert
from wad.store.firestore.client.database import Client, Snapshot
from wad.store.firestore.client.document_ids import is_key

REGISTER: Final = "retired"
"""The id of the document that keeps the ids; it is in the machines' collection."""
AFTER_MS: Final = 30 * 86_400_000
"""A machine that was not seen for this time is retired."""
AT_ONCE: Final = 100  # in one commit
MAX_IDS: Final = 5_000  # about 500 kB; the documents of more machines stay
_MAX_TOKEN: Final = 40  # characters


@dataclass(frozen=True, slots=True)
class Retired:
    """A retired machine: when it was last seen, by the server's clock, and the token of its last process."""

    seen_ms: int
    token: str = ""


def retired_in(register: Fields) -> dict[str, Retired]:
    """The retired machines in the document, by id; invalid entries are left out."""
    found = {}
    ids = map_(register, "ids")
    for ident in ids:
        entry = map_(ids, ident)
        seen_ms = integer(entry, "seen", low=1, high=LATEST_MS)
        if is_key(ident) and seen_ms is not None:
            found[ident] = Retired(seen_ms, text(entry, "word")[:_MAX_TOKEN])
    return found


def due(machines: Sequence[Snapshot], own: str, now_ms: int) -> list[Snapshot]:
    """The machines to retire, the longest unseen first.

    An id that two machines shared is never among them: its document tells a third machine so.
    """
    found = [
        one
        for one in machines
        if one.id != own
        and one.fields.get("shared") is not True
        and now_ms - _seen_ms(one) > AFTER_MS
    ]
    return sorted(found, key=_seen_ms)[:AT_ONCE]


def _seen_ms(machine: Snapshot) -> int:
    """When it was last seen: the update time of its document, since its fields may have been written by any program."""
    return time_ms(machine.update_time) or 0


def retiring(
    client: Client, register: Snapshot, path: str, machines: Sequence[Snapshot]
) -> tuple[list[Write], Mapping[str, Retired]]:
    """The writes that retire these machines, refused if anything has changed since it was read; and all retired
    machines."""
    known = retired_in(register.fields)
    machines = machines[: max(0, MAX_IDS - len(known))]
    if not machines:
        return [], known
    for one in machines:
        known[one.id] = Retired(_seen_ms(one), text(one.fields, "word")[:_MAX_TOKEN])
    ids = {ident: {"seen": each.seen_ms, "word": each.token} for ident, each in known.items()}
    write = upsert(client, path, {"service": "wad", "ids": ids})
    if register.exists:
        if_unchanged(write, register.update_time)
    else:
        if_there(write, there=False)
    gone = [if_unchanged(removal(client, one.path), one.update_time) for one in machines]
    return [write, *gone], known
