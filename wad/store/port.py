"""What wad asks of a store.  Each verb says whether it is atomic, idempotent, and which error it raises.

Received facts (`record`) carry deterministic ids and may be written by whoever holds them.  Exclusive writes carry the
`epoch` of the lease: a store that has seen a newer one raises Fenced and changes nothing.  Any verb may raise
Unavailable (try again later; nothing was half done) and StateUnwritable (the disk refuses).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import msgspec

from wad.core.auto_reply import AutoReply
from wad.core.change import Change
from wad.core.history import BackfillResult
from wad.core.message import Message, MessageStatus, Thread
from wad.core.outbox import Entry, Outcome
from wad.core.problem import Problem
from wad.core.quarantine import Source

PAGE_BYTES: Final = 16 << 20
"""Of stored messages that are read at once."""


class Cursor(msgspec.Struct, frozen=True, order=True):
    """How far a spool was read: rows up to and including `seq` of the spool file `generation`."""

    generation: str
    seq: int


class Recorded(msgspec.Struct, frozen=True):
    """What `record` did: messages that were new, how many were known, and which it changed (edits, reactions, ...).

    `lost`: by how many the account has more, or fewer, messages that are known to be lost.
    """

    new: tuple[Message, ...]
    known: int
    changed: tuple[Message, ...] = ()
    lost: int = 0


class Staff(Protocol):
    """The users of the apps who work here."""

    async def has(self, uid: str) -> bool:
        """Whether this user is an employee.  Raises Unavailable."""
        ...


class Enqueued(msgspec.Struct, frozen=True):
    """The entry as it is kept, and whether it was there before."""

    entry: Entry
    duplicate: bool


class Totals(msgspec.Struct, frozen=True):
    """Counts of what is kept for one account; `lost`: messages that are known to have been lost.

    `oldest_queued_ms`: when the entry that was queued first, of those that wait, was; None where none waits.
    """

    threads: int
    messages: int
    outbox: Mapping[MessageStatus, int]
    lost: int = 0
    oldest_queued_ms: int | None = None


class PagePosition(msgspec.Struct, frozen=True):
    """A place in a list that is sorted newest first: strictly before (`at_ms`, `seen`, `id`).

    `seen` counts for messages only.
    """

    at_ms: int
    id: str
    seen: int = 0


class AccountStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What others may know of an account: output only, never read back to decide anything.

    `auto_reply` and `backfill` are None where nobody has set the one, or begun the other.
    """

    account: str
    name: str
    state: str
    reason: str
    since_ms: int
    jid: str = ""
    lid: str = ""
    phone: str = ""
    instance: str = ""
    auto_reply: AutoReply | None = None
    backfill: BackfillResult | None = None


class SyncStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a store on another machine has still to be told, of what lies here.

    `waiting` documents, of at most `quota`, the oldest since `oldest_ms`; `refused` ones are not taken there at all.
    `error`: why it does not go on; empty while it does.
    """

    waiting: int
    oldest_ms: int | None
    refused: int
    quota: int
    error: str

    @property
    def refusal(self) -> str:
        """Why nothing more may be received; empty when it may."""
        if self.waiting < self.quota:
            return ""
        return f"{self.waiting} documents wait to be told, as many as may: accounts wait until some are told"

    @property
    def warnings(self) -> list[str]:
        """What an operator should know."""
        found = [f"{self.waiting} documents wait to be told: {self.error}"] if self.error else []
        if self.quota / 2 <= self.waiting < self.quota:
            found.append(f"{self.waiting} documents wait to be told; at {self.quota} accounts stop")
        if self.refused:
            found.append(
                f"{self.refused} documents are refused there, and lie here only: see the log"
            )
        return found


class Copying(msgspec.Struct, frozen=True, kw_only=True):
    """How far a copy is, in documents; `refused` ones the other store does not take."""

    pushed: int
    waiting: int
    refused: int


class Store(Protocol):
    """Messages, threads, the outbox and the accounts' published status."""

    @property
    def kind(self) -> str:
        """The configured name: `sqlite`, `firestore`."""
        ...

    @property
    def sync_status(self) -> SyncStatus | None:
        """What another machine has still to be told; None where all lies on this one."""
        ...

    def problems(self) -> Sequence[Problem]:
        """What is wrong with it now, beside what `sync_status` says; no I/O."""
        ...

    @property
    def staff(self) -> Staff | None:
        """Who works here, where the apps have written it down; None where nobody has."""
        ...

    @property
    def quarantine(self) -> Source | None:
        """What of another store's documents could not be handled; None where there is no other store."""
        ...

    def lead(
        self, epoch: int, on_queued: Callable[[str], None]
    ) -> AbstractAsyncContextManager[None]:
        """Fence the epoch; while inside, call `on_queued` with the account of what others queue.

        Raises Fenced, Unavailable.
        """
        ...

    async def record(
        self, account: str, changes: Sequence[Change], cursor: Cursor | None = None
    ) -> Recorded:
        """Apply changes in order, then move the account's cursor.  Atomic, idempotent.

        Raises InvalidData where a change holds what no store can keep; nothing was done then.

        The order of changes does not matter for what readers see, nor does repetition, nor how they are cut into calls;
        only which document id a message got, where it was told under several addresses, and contradictory aliases
        (the latest wins) depend on it.

        PutMessage: inserted unless its id, or another document with its WhatsApp id in its thread, of its direction
        and (among several people) its sender, or a message of the outbox with its WhatsApp id, is known; such an echo
        settles an `uncertain` or `failed` entry as Sent.  Of a known message the telling that says more stays
        (`message.merged`): a placeholder gives way to the message itself, which is `new` once more but counted once.
        The thread's last message is the greatest (at_ms, seen, id), whatever the order of arrival.  A thread is named
        by the newest PutChat name, else by the newest non-empty push name of an inbound message in a one-to-one thread.
        Unread are the inbound messages behind the last place that was read, but of those up to PutChat's `unread_ms` no
        more than its `unread`; a message that our phone sent says that what came before was read.

        PutAmendment: kept even when its target is unknown, and applied as `amend.amended` says whenever both are
        there: in the amendment's own thread, and to a message of the outbox with the target's WhatsApp id.  Never a
        document of its own and counted nowhere; a placeholder with the amendment's own WhatsApp id goes.

        PutMark: kept even when the message is unknown, and applied to the message and its outbox entry whenever both
        are there, matched by account and WhatsApp id; never creates a message, never takes a status back.

        PutChat: of name, push name, last place read, number of unread and expiration the newest each (of two numbers of
        one time the smaller); creates no thread.

        PutAlias: from now on whatever names the hidden id means the number.  What lies in the hidden id's thread moves
        to the number's (a message that is in both becomes one; counts, last message, names and unread are those of all
        of it), and messages, reactions and so on by the hidden id are the number's.  Document ids stay.  `thread`,
        `messages` and `mark_read` follow: the old thread's id means the new one.
        """
        ...

    async def cursor(self, account: str) -> Cursor | None:
        """How far this account's spool was recorded."""
        ...

    async def aliases(self, account: str) -> dict[str, str]:
        """Every known LID -> PN of an account."""
        ...

    async def thread(self, thread: str) -> Thread | None:
        """One thread; None before its first message."""
        ...

    async def threads(
        self, account: str | None, *, limit: int, before: PagePosition | None = None
    ) -> list[Thread]:
        """Threads (of all accounts for None), the one with the newest message first."""
        ...

    async def messages(
        self, thread: str, *, limit: int, before: PagePosition | None = None
    ) -> list[Message]:
        """A thread's messages, newest first; fewer than `limit` where more would take PAGE_BYTES, but one at least."""
        ...

    async def message(self, ident: str) -> Message | None:
        """One message."""
        ...

    async def oldest(self, thread: str) -> Message | None:
        """The oldest message of a thread by which the phone can be asked for what came before it."""
        ...

    async def placeholders(self, account: str, *, limit: int) -> list[Message]:
        """The newest messages of which only their place is known: lost, or not to be decrypted."""
        ...

    async def recount(self, account: str) -> int:
        """Make every thread's last message and counts anew from its messages; in how many they were wrong."""
        ...

    async def has_messages(self, account: str, wa_ids: Collection[str]) -> set[str]:
        """Which of these WhatsApp ids are stored."""
        ...

    async def totals(self, account: str) -> Totals:
        """Counts of one account."""
        ...

    async def mark_read(self, thread: str) -> None:
        """All messages up to the newest that is there were read.  Idempotent; creates no thread."""
        ...

    async def epoch(self) -> int:
        """The newest epoch that was ever fenced; 0 for none."""
        ...

    async def fence(self, epoch: int) -> None:
        """From now on refuse exclusive writes of older epochs.  Raises Fenced when a newer one is known."""
        ...

    async def enqueue(self, entry: Entry) -> Enqueued:
        """Queue a message and store it (status queued, document id = entry id) in its thread.  Atomic.

        An entry that amends another message is queued only.  An entry with this id, once there, is returned unchanged
        with `duplicate`.  Raises Conflict when it is for another recipient or content.
        """
        ...

    async def next_entry(self, account: str, *, but: Collection[str] = ()) -> Entry | None:
        """The queued entry whose turn it is, of a chat (a thread's id) that is not among `but`.

        Chats take turns: each sends in the order of enqueuing, and none waits for what another has behind its first.
        Of chats whose turn it is alike, the one goes first whose entry was queued first.
        """
        ...

    async def entry(self, ident: str) -> Entry | None:
        """One outbox entry."""
        ...

    async def entries(
        self,
        account: str | None,
        *,
        states: Collection[MessageStatus] = (),
        limit: int = 100,
        before: PagePosition | None = None,
    ) -> list[Entry]:
        """Outbox entries (in any state for an empty `states`), newest first by created_ms and id."""
        ...

    async def settle(self, ident: str, outcome: Outcome, *, epoch: int) -> Entry:
        """Apply `outbox.advance` to an entry, and its status, WhatsApp id and time to its message.  Atomic.

        With Sent or Unknown the message takes the WhatsApp id, so that its echo is known and receipts find it; an echo
        and receipts that came earlier are applied, and the echo's own document goes.  An entry that amends another
        message does so once it has surely left (`outbox.amendment_of`).

        Raises NotFound, Conflict (the table forbids it), Fenced.
        """
        ...

    async def put_account(self, status: AccountStatus, *, epoch: int) -> None:
        """Publish an account's status.  Idempotent.  Raises Fenced."""
        ...

    async def accounts(self) -> list[AccountStatus]:
        """The published status of every account."""
        ...

    async def auto_reply(self, account: str) -> AutoReply | None:
        """What another program has written down of an account's replies; None where nobody else writes here."""
        ...

    async def forget_account(self, account: str, *, epoch: int) -> None:
        """Withdraw an account's published status; its messages stay.  Idempotent.  Raises Fenced."""
        ...

    async def close(self) -> None:
        """Finish what runs and let go of files.  Idempotent."""
        ...
