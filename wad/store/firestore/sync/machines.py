"""The machines that write to this Firestore: this one, under an id of its working copy, and the others.

The id names the machine that wrote a document last (`wadBy`), so that each machine pulls the documents of the others
and not its own.  It is random, created with the working copy and stored in it: neither a second machine with the same
`instance.id` nor a lost working copy is taken for the machine that wrote.

A copy of the state directory (a cloned image) has the same id.  Each process of wad writes a random token into its
machine's document, once, and stores it; a process that finds a token there that it never wrote detects that another
machine uses its id.  It marks the id as shared and takes a new one; so does the other when it finds the mark.  From
then on both pull everything that was written under the old id.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from wad.core.errors import Conflict, NotFound
from wad.core.untrusted import flag, text, time_ms
from wad.store.firestore.client.commit import Write, commit, if_there, if_unchanged, upsert
from wad.store.firestore.client.database import Client, Firestore, Snapshot
from wad.store.firestore.client.decode import after, find, get
from wad.store.firestore.client.document_ids import is_key
from wad.store.firestore.sync.replica import Replica
from wad.store.firestore.sync.retired_machines import REGISTER, Retired, due, retired_in, retiring

log = logging.getLogger(__name__)

EVERY: Final = 900.0  # seconds between two registrations
_ALIVE_MS: Final = 2_000_000  # a machine that was seen within this time may still run
_PAGE: Final = 500  # machines
_SHOWN: Final = 80  # characters of another machine's host name
_TIMEOUT: Final = 20.0  # seconds
_TRIES: Final = 10  # to write our own document while others write it
# Stored names.  The last holds several tokens, separated by blanks.
_MACHINE, _TOKEN, _NEXT = "machine", "word", "next word"


@dataclass(frozen=True, slots=True)
class Machine:
    """Another machine.  `seen_ms`: its last registration, by the server's clock; `ago_s`: how long ago that was."""

    id: str
    instance: str
    host: str
    seen_ms: int
    ago_s: float


@dataclass(frozen=True, slots=True)
class _Registered:
    """The result of a registration: whether another machine uses our id, whether our id is new, and all machines."""

    shared: bool
    now_ms: int
    all: tuple[Snapshot, ...] = ()
    new: bool = False
    retired: Mapping[str, Retired] = field(default_factory=dict)


class Machines:
    """The registry of machines.

    `collection`: each machine has a document in it.  `instance`, `host`: the names of this machine.
    """

    def __init__(
        self,
        firestore: Firestore,
        replica: Replica,
        collection: str,
        instance: str,
        host: str,
        draw: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self._firestore = firestore
        self._replica = replica
        self._collection = collection
        self._instance = instance
        self._host = host
        self._draw = draw
        self._token = draw(8)
        self._known: set[str] = set()
        self._announced = False
        self._registering = asyncio.Lock()
        self.id = ""
        """This machine's id, set by `open`."""
        self.copied = False
        """Whether a copy of the state directory was detected since the start."""
        self._duplicates: tuple[Machine, ...] = ()
        self.retired: Mapping[str, Retired] = {}
        """Machines that were not seen for a long time, by id."""

    @property
    def duplicates(self) -> tuple[Machine, ...]:
        """Other machines with the same instance name that may still run."""
        return self._duplicates

    async def open(self, chosen: str = "") -> None:
        """Read this machine's id from the working copy; a new copy gets `chosen`, or a random id."""
        self.id = await self._replica.identity(_MACHINE)
        if not self.id:
            self.id = chosen or self._draw(8)
            await self._replica.set_identity({_MACHINE: self.id})
        stored = [await self._replica.identity(name) for name in (_TOKEN, _NEXT)]
        self._known = {token for tokens in stored for token in tokens.split()}

    async def register(self) -> list[str]:
        """Register this machine; return the ids of all machines except the `retired` ones.  Raises Unavailable.

        `id` may change.
        """
        async with self._registering:
            return await self._register_all()

    async def _register_all(self) -> list[str]:
        if not self._announced:
            # Stored before it is written: if the answer is lost, the token is ours all the same.
            # With the tokens of earlier starts that ended before the answer: any of them may be in the document.
            self._known.add(self._token)
            await self._replica.set_identity({_NEXT: " ".join(sorted(self._known))})
        found = await self._firestore.call(self._register)
        if found.shared:
            await self._take_new_id()
            found = await self._firestore.call(self._register)
        if found.new:
            # Nothing was written under this id: nothing to pull, and a single machine needs no index for that.
            await self._replica.set_synced(self.id, "known")
        if not self._announced:
            await self._replica.set_identity({_TOKEN: self._token, _NEXT: ""})
            self._announced = True
        self._set_duplicates(found)
        self.retired = found.retired
        return [one.id for one in found.all if is_key(one.id)]

    def registration(self, client: Client) -> Write:
        """The write that registers this machine, so that others pull its documents."""
        return upsert(client, self._path(self.id), {"service": "wad"}, ("seenAt",))

    async def _take_new_id(self) -> None:
        """Take a new id, since another machine uses ours, too; mark the old one as shared."""
        old, new = self.id, self._draw(8)
        await self._firestore.call(lambda client: self._mark_shared(client, old))
        await self._replica.take_identity(old, self._instance, {_MACHINE: new})
        self.id, self.copied = new, True
        log.error(
            "the state directory of this machine was copied, or is a copy: the machine id is now %s, not %s",
            new,
            old,
        )

    def _mark_shared(self, client: Client, old: str) -> None:
        commit(client, [upsert(client, self._path(old), {"shared": True})], _TIMEOUT)

    def _register(self, client: Client) -> _Registered:
        # Our own push touches the document, too, after each batch while we are passive.
        for left in reversed(range(_TRIES)):
            own = get(client, self._path(self.id), timeout=_TIMEOUT)
            token, was_retired = text(own.fields, "word"), False
            if not own.exists:
                register = get(client, self._path(REGISTER), timeout=_TIMEOUT)
                if (before := retired_in(register.fields).get(self.id)) is not None:
                    token, was_retired = before.token, True
            if flag(own.fields, "shared") or (token and token not in self._known):
                return _Registered(shared=True, now_ms=0)
            fields = {
                "service": "wad",
                "instance": self._instance,
                "host": self._host,
                "word": self._token,
            }
            write = upsert(client, self._path(self.id), fields, ("seenAt",))
            if own.exists:
                if_unchanged(write, own.update_time)
            else:
                if_there(write, there=False)
            try:
                commit(client, [write], _TIMEOUT)
                break
            except Conflict:
                if not left:
                    raise
        found = self._list(client)
        now_ms = time_ms(found[0].read_time) or 0 if found else 0
        machines = [one for one in found if one.id != REGISTER]
        register = next(
            (one for one in found if one.id == REGISTER), Snapshot(self._path(REGISTER))
        )
        return _Registered(
            shared=False,
            now_ms=now_ms,
            all=tuple(machines),
            new=not own.exists and not was_retired,
            retired=self._retire(client, register, machines, now_ms),
        )

    def _list(self, client: Client) -> list[Snapshot]:
        """Read all documents of the collection."""
        found: list[Snapshot] = []
        query = client.collection(self._collection).order_by("__name__").limit(_PAGE)
        page = find(query, timeout=_TIMEOUT)
        while page:
            found += page
            page = find(after(query, page[-1]), timeout=_TIMEOUT) if len(page) == _PAGE else []
        return found

    def _retire(
        self, client: Client, register: Snapshot, machines: Sequence[Snapshot], now_ms: int
    ) -> Mapping[str, Retired]:
        """Retire machines that were not seen for a long time; return all retired machines."""
        old = due(machines, self.id, now_ms)
        writes, known = retiring(client, register, self._path(REGISTER), old)
        if writes:
            try:
                commit(client, writes, _TIMEOUT)
            except (Conflict, NotFound):  # another machine does it now, or one of them is back
                return retired_in(register.fields)
            log.info("%d machines that were not seen for a month are retired", len(writes) - 1)
        return known

    def _set_duplicates(self, found: _Registered) -> None:
        others = [_machine(one, found.now_ms) for one in found.all if one.id != self.id]
        duplicates = tuple(
            one for one in others if one.instance == self._instance and one.ago_s * 1000 < _ALIVE_MS
        )
        for one in duplicates:
            if one.id not in {before.id for before in self._duplicates}:
                log.error("%s", duplicate_text(self._instance, one))
        self._duplicates = duplicates

    def _path(self, ident: str) -> str:
        return f"{self._collection}/{ident}"


def duplicate_text(instance: str, other: Machine) -> str:
    """The message about a machine with the same name."""
    name = f"{other.host} ({other.id})" if other.host else other.id
    return f"another machine, {name}, has the same instance.id {instance} and was seen {other.ago_s:.0f} s ago"


def _machine(found: Snapshot, now_ms: int) -> Machine:
    seen_ms = time_ms(found.fields.get("seenAt")) or 0
    return Machine(
        id=found.id,
        instance="" if flag(found.fields, "shared") else text(found.fields, "instance"),
        host=text(found.fields, "host")[:_SHOWN],
        seen_ms=seen_ms,
        ago_s=max(0.0, (now_ms - seen_ms) / 1000),
    )
