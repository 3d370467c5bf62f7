"""Machines that were not seen for long: their documents go, and one document keeps their ids.

A working copy that is new reads what every machine ever wrote, so that no id may be forgotten; but each would be a
document to read at every look, and a query for each collection.  Who has read a retired one to its end asks no more.
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
"""The id of the document, beside those of the machines."""
AFTER_MS: Final = 30 * 86_400_000
"""Since a machine was seen last."""
AT_ONCE: Final = 100  # in one commit
MOST: Final = 5_000  # ids, about 500 kB; the documents of more machines stay
_WORD: Final = 40  # characters


@dataclass(frozen=True, slots=True)
class Retired:
    """When a machine was seen last, by the server's clock, and the word that its last process had written."""

    seen_ms: int
    word: str = ""


def retired_in(register: Fields) -> dict[str, Retired]:
    """Whom the document names; what makes no sense in it is left out."""
    found = {}
    ids = map_(register, "ids")
    for ident in ids:
        entry = map_(ids, ident)
        seen_ms = integer(entry, "seen", low=1, high=LATEST_MS)
        if is_key(ident) and seen_ms is not None:
            found[ident] = Retired(seen_ms, text(entry, "word")[:_WORD])
    return found


def due(machines: Sequence[Snapshot], own: str, now_ms: int) -> list[Snapshot]:
    """Those that are to be retired, the longest unseen first.

    An id that two machines had is never among them: its document says so to a third.
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
    """By the server's own note of the last write: what the document says anybody may have written."""
    return time_ms(machine.update_time) or 0


def retiring(
    client: Client, register: Snapshot, path: str, machines: Sequence[Snapshot]
) -> tuple[list[Write], Mapping[str, Retired]]:
    """The writes that retire these, refused where anything of it is other than it was read; and who is retired then."""
    known = retired_in(register.fields)
    machines = machines[: max(0, MOST - len(known))]
    if not machines:
        return [], known
    for one in machines:
        known[one.id] = Retired(_seen_ms(one), text(one.fields, "word")[:_WORD])
    ids = {ident: {"seen": each.seen_ms, "word": each.word} for ident, each in known.items()}
    write = upsert(client, path, {"service": "wad", "ids": ids})
    if register.exists:
        if_unchanged(write, register.update_time)
    else:
        if_there(write, there=False)
    gone = [if_unchanged(removal(client, one.path), one.update_time) for one in machines]
    return [write, *gone], known
