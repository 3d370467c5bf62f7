"""Which machines write here: this one, under an id of its working copy's own, and the others.

The id marks who wrote a document last (`wadBy`), so that each machine reads what the others wrote and not what it wrote
itself.  It is drawn at random when the working copy is new, and lies in it: neither a second machine with the same
`instance.id` nor a lost working copy is taken for the one that wrote.

A copy of the state directory (a cloned image) has the same id.  Each process of wad writes a word of its own into its
machine's document, once, and remembers it; whoever finds another word there than it has ever written knows that its id
is somebody else's, too.  It then marks the id as shared and takes a new one; so does the other, when it finds the mark.
From then on both read everything that was written under the old one.
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

EVERY: Final = 900.0  # seconds between two looks
_ALIVE_MS: Final = 2_000_000  # a machine that was seen no longer ago may still run
_PAGE: Final = 500  # machines
_SHOWN: Final = 80  # characters of what another machine says of itself
_TIMEOUT: Final = 20.0  # seconds
_TRIES: Final = 10  # to write our own document, while others write it
_MACHINE, _WORD, _NEXT = "machine", "word", "next word"  # the last: several, apart by blanks


@dataclass(frozen=True, slots=True)
class Machine:
    """Another machine.  `seen_ms`: when it looked last, by the server's clock; `ago_s`: how long that was ago then."""

    id: str
    instance: str
    host: str
    seen_ms: int
    ago_s: float


@dataclass(frozen=True, slots=True)
class _Met:
    """What was found: whether our id is somebody else's as well, whether it is new there, and all machines."""

    shared: bool
    now_ms: int
    all: tuple[Snapshot, ...] = ()
    new: bool = False
    retired: Mapping[str, Retired] = field(default_factory=dict)


class Machines:
    """`collection`: in which each machine has a document.  `instance`, `host`: what people call this one."""

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
        self._word = draw(8)
        self._known: set[str] = set()
        self._said = False
        self._meeting = asyncio.Lock()
        self.id = ""
        """This machine's, once it was opened."""
        self.copied = False
        """Whether the state directory was found to be a copy, or to have been copied, since the start."""
        self._twins: tuple[Machine, ...] = ()
        self.retired: Mapping[str, Retired] = {}
        """Machines that were not seen for long, by id."""

    @property
    def twins(self) -> tuple[Machine, ...]:
        """Other machines that bear the same instance's name, and may run."""
        return self._twins

    async def open(self, chosen: str = "") -> None:
        """Read who we are from the working copy; a new one becomes `chosen`, or draws an id."""
        self.id = await self._replica.identity(_MACHINE)
        if not self.id:
            self.id = chosen or self._draw(8)
            await self._replica.set_identity({_MACHINE: self.id})
        remembered = [await self._replica.identity(name) for name in (_WORD, _NEXT)]
        self._known = {word for words in remembered for word in words.split()}

    async def meet(self) -> list[str]:
        """Say that we are here, and look who else is; the ids of all, but for `retired` ones.  Raises Unavailable.

        `id` may be another one afterwards.
        """
        async with self._meeting:
            return await self._meet_all()

    async def _meet_all(self) -> list[str]:
        if not self._said:
            # Before it is written: should the answer be lost, the word is ours all the same.
            # With those of starts that ended before they knew: any of them may lie there.
            self._known.add(self._word)
            await self._replica.set_identity({_NEXT: " ".join(sorted(self._known))})
        met = await self._firestore.call(self._meet)
        if met.shared:
            await self._part()
            met = await self._firestore.call(self._meet)
        if met.new:
            # Nobody has written under it: nothing is to be read, and a machine alone needs no index for that.
            await self._replica.set_synced(self.id, "known")
        if not self._said:
            await self._replica.set_identity({_WORD: self._word, _NEXT: ""})
            self._said = True
        self._note(met)
        self.retired = met.retired
        return [one.id for one in met.all if is_key(one.id)]

    def introduction(self, client: Client) -> Write:
        """So that others look for what we tell."""
        return upsert(client, self._path(self.id), {"service": "wad"}, ("seenAt",))

    async def _part(self) -> None:
        """Our id is somebody else's as well: it is nobody's from now on."""
        old, new = self.id, self._draw(8)
        await self._firestore.call(lambda client: self._mark_shared(client, old))
        await self._replica.take_identity(old, self._instance, {_MACHINE: new})
        self.id, self.copied = new, True
        log.error(
            "the state directory of this machine was copied, or is a copy: it is %s from now on, not %s",
            new,
            old,
        )

    def _mark_shared(self, client: Client, old: str) -> None:
        commit(client, [upsert(client, self._path(old), {"shared": True})], _TIMEOUT)

    def _meet(self, client: Client) -> _Met:
        # Our own teller touches the document, too, after each batch while we are passive.
        for left in reversed(range(_TRIES)):
            own = get(client, self._path(self.id), timeout=_TIMEOUT)
            word, was_retired = text(own.fields, "word"), False
            if not own.exists:
                register = get(client, self._path(REGISTER), timeout=_TIMEOUT)
                if (before := retired_in(register.fields).get(self.id)) is not None:
                    word, was_retired = before.word, True
            if flag(own.fields, "shared") or (word and word not in self._known):
                return _Met(shared=True, now_ms=0)
            fields = {
                "service": "wad",
                "instance": self._instance,
                "host": self._host,
                "word": self._word,
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
        return _Met(
            shared=False,
            now_ms=now_ms,
            all=tuple(machines),
            new=not own.exists and not was_retired,
            retired=self._retire(client, register, machines, now_ms),
        )

    def _list(self, client: Client) -> list[Snapshot]:
        """All documents of the collection."""
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
        """Retire whoever was not seen for long; all that are retired."""
        old = due(machines, self.id, now_ms)
        writes, known = retiring(client, register, self._path(REGISTER), old)
        if writes:
            try:
                commit(client, writes, _TIMEOUT)
            except (Conflict, NotFound):  # another machine does it just now, or one of them is back
                return retired_in(register.fields)
            log.info("%d machines that were not seen for a month are retired", len(writes) - 1)
        return known

    def _note(self, met: _Met) -> None:
        others = [_machine(one, met.now_ms) for one in met.all if one.id != self.id]
        twins = tuple(
            one for one in others if one.instance == self._instance and one.ago_s * 1000 < _ALIVE_MS
        )
        for one in twins:
            if one.id not in {before.id for before in self._twins}:
                log.error("%s", sentence(self._instance, one))
        self._twins = twins

    def _path(self, ident: str) -> str:
        return f"{self._collection}/{ident}"


def sentence(instance: str, twin: Machine) -> str:
    """What an operator reads of a machine with the same name."""
    where = f"{twin.host} ({twin.id})" if twin.host else twin.id
    return f"another machine, {where}, has the instance.id {instance}, too, and was seen {twin.ago_s:.0f} s ago"


def _machine(found: Snapshot, now_ms: int) -> Machine:
    seen_ms = time_ms(found.fields.get("seenAt")) or 0
    return Machine(
        id=found.id,
        instance="" if flag(found.fields, "shared") else text(found.fields, "instance"),
        host=text(found.fields, "host")[:_SHOWN],
        seen_ms=seen_ms,
        ago_s=max(0.0, (now_ms - seen_ms) / 1000),
    )
