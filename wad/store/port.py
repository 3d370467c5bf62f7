"""The store port.  Each method states whether it is atomic and idempotent, and which errors it raises.

Received facts (`record`) have deterministic ids and any machine may write them.  Exclusive writes carry the `epoch` of
the lease: a store that has seen a newer epoch raises Fenced and changes nothing.  Any method may raise Unavailable (try
again later; nothing was half done) and StateUnwritable (the disk fails).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import msgspec

from wad.core.auto_reply import AutoReply
from wad.core.change import Change, PutAlias
from wad.core.history import BackfillResult
from wad.core.jid import Jid
from wad.core.message import Message, MessageStatus, Thread
from wad.core.outbox import Entry, Outcome
from wad.core.problem import Problem
from wad.core.quarantine import Source

PAGE_BYTES: Final = 16 << 20
"""The limit of stored messages that are read at once."""


class Cursor(msgspec.Struct, frozen=True, order=True):
    """The read position in a spool: rows up to and including `seq` of the spool file `generation` are recorded."""

    generation: str
    seq: int


class Recorded(msgspec.Struct, frozen=True):
    """The result of `record`: the new messages, the number of duplicates, and the changed messages (edits, reactions,
    ...).

    `lost`: the change of the account's number of messages that are known to be lost.
    """

    new: tuple[Message, ...]
    known: int
    changed: tuple[Message, ...] = ()
    lost: int = 0


class Staff(Protocol):
    """The employees among the users of the apps."""

    async def has(self, uid: str) -> bool:
        """Whether this user is an employee.  Raises Unavailable."""
        ...


class Enqueued(msgspec.Struct, frozen=True):
    """The stored entry, and whether it was stored before."""

    entry: Entry
    duplicate: bool


class Recipient(msgspec.Struct, frozen=True):
    """The address to which messages to a recipient are sent.

    `known`: that is certain.  Otherwise it is a number for which WhatsApp has to be asked first: no LID has it, it has
    sent nothing, and WhatsApp was not asked yet, or a person had it before.
    """

    jid: Jid
    known: bool


class Totals(msgspec.Struct, frozen=True):
    """Counts of one account.  `lost`: messages that are known to be lost.

    `oldest_queued_ms`: when the oldest waiting entry was queued; None if no entry waits.
    """

    threads: int
    messages: int
    outbox: Mapping[MessageStatus, int]
    lost: int = 0
    oldest_queued_ms: int | None = None


class PagePosition(msgspec.Struct, frozen=True):
    """A position in a list sorted newest first: strictly before (`at_ms`, `seen`, `id`).

    `seen` is used for messages only.
    """

    at_ms: int
    id: str
    seen: int = 0


class AccountStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The published status of an account: output only, never read back to decide anything.

    `auto_reply` is None if it was never set, `backfill` if none was ever started.  `created_ms` and `connected_ms`, its
    last login since the start of the daemon, are 0 if they are unknown.
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
    created_ms: int = 0
    connected_ms: int = 0


class SyncStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the push from the working copy to Firestore.

    `waiting`: documents that are not pushed yet, of at most `quota`, the oldest since `oldest_ms`.  `refused`:
    documents that Firestore does not accept.  `error`: why the push fails; empty while it works.
    """

    waiting: int
    oldest_ms: int | None
    refused: int
    quota: int
    error: str

    @property
    def refusal(self) -> str:
        """Why no more messages may be received; empty if they may."""
        if self.waiting < self.quota:
            return ""
        return f"the sync backlog is full: {self.waiting} documents wait for Firestore; accounts stop until it shrinks"

    @property
    def warnings(self) -> list[str]:
        """Warnings for the operator."""
        found = [f"{self.waiting} documents wait for Firestore: {self.error}"] if self.error else []
        if self.quota / 2 <= self.waiting < self.quota:
            found.append(
                f"{self.waiting} documents wait for Firestore; at {self.quota} accounts stop"
            )
        if self.refused:
            found.append(
                f"Firestore refuses {self.refused} documents, which exist only on this machine: see the log"
            )
        return found


class Copying(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a copy, in documents.  `refused`: documents that Firestore does not accept."""

    pushed: int
    waiting: int
    refused: int


class LegacyImport(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of an import of legacy documents.

    `threads` and `messages` are to be read, `read` messages were; of these `imported` are new here, `known` were
    recorded before, and `skipped` are wad's own, marked as duplicates, or not messages.
    """

    threads: int = 0
    messages: int = 0
    read: int = 0
    imported: int = 0
    known: int = 0
    skipped: int = 0


class Store(Protocol):
    """Messages, threads, the outbox and the accounts' published status."""

    @property
    def kind(self) -> str:
        """The configured name: `sqlite`, `firestore`."""
        ...

    @property
    def sync_status(self) -> SyncStatus | None:
        """The state of the sync with Firestore; None for a store that is only on this machine."""
        ...

    def problems(self) -> Sequence[Problem]:
        """The store's problems now, besides those in `sync_status`; no I/O."""
        ...

    @property
    def staff(self) -> Staff | None:
        """The employees, if the apps keep a list of them; None otherwise."""
        ...

    @property
    def quarantine(self) -> Source | None:
        """The documents in Firestore that could not be handled; None for a store that is only on this machine."""
        ...

    def lead(
        self, epoch: int, on_queued: Callable[[str], None]
    ) -> AbstractAsyncContextManager[None]:
        """Act as the holder of this epoch: fence it; while inside, call `on_queued` with the account of each entry that
        another program queues.

        Raises Fenced, Unavailable.
        """
        ...

    async def record(
        self, account: str, changes: Sequence[Change], cursor: Cursor | None = None
    ) -> Recorded:
        """Apply changes in order, then move the account's cursor.  Atomic, idempotent.

        Raises InvalidData for a change that no store can keep; nothing was done then.

        Readers see the same result whatever the order of changes, repetitions, and the division into calls.  Only the
        document id of a message that was received under several addresses, and contradictory aliases without a time,
        depend on the order.

        PutMessage: inserted unless its id, or another document with its WhatsApp id in its thread, of its direction and
        (in a group) its sender, or a message of the outbox with its WhatsApp id, is known; such an echo
        settles an `uncertain` or `failed` entry as Sent.  Of two versions of a message the one with more content is
        kept (`message.merged`): a placeholder is replaced by the message itself, which is `new` once more but counted
        once. The thread's last message is the greatest (at_ms, seen, id), whatever the order of arrival.  A thread is
        named by the newest PutChat name, else by the newest non-empty push name of an inbound message in a one-to-one
        thread. Unread are the inbound messages after the last read position, but of those up to PutChat's `unread_ms`
        at most its `unread`; a message that our phone sent marks everything before it as read.

        PutAmendment: stored even if its target is unknown, and applied by `amendments.amended` as soon as both are
        stored: in the amendment's own thread, to a message whose author is the one that it names.  Never a
        document of its own and never counted; a placeholder with the amendment's own WhatsApp id is deleted.

        PutMark: stored even if the message is unknown, and applied to the message and its outbox entry as soon as both
        are stored, matched by account, thread and WhatsApp id.  It never creates a message and never reverts a status.

        PutChat: keeps the newest of each: name, push name, last read position, number of unread and expiration (of two
        unread numbers of the same time the smaller); creates no thread.

        PutAlias: from now on the LID means the phone number.  The content of the LID's thread moves to the number's
        thread (a message that is in both becomes one; counts, last message, names and unread cover everything), and
        messages, reactions and so on by the LID become the number's.  Document ids stay.  `thread`, `messages` and
        `mark_read` follow: the old thread's id means the new one.  Of contradictory aliases the newest applies, of
        equally old ones the first (`core.addresses.verdict`): the content of the LID's former number moves to the new
        one, and so does what is queued for it; if another LID had the number, its content moves to that LID's thread.

        PutNumber: the same for another number of a person, unless it is a LID's present number.
        """
        ...

    async def cursor(self, account: str) -> Cursor | None:
        """The position up to which this account's spool is recorded."""
        ...

    async def aliases(self, account: str) -> list[PutAlias]:
        """Every LID of an account whose number is known."""
        ...

    async def recipient(self, account: str, to: Jid) -> Recipient:
        """The address to which a message to `to` is sent: the present number of a LID, or of another spelling."""
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
        """A thread's messages, newest first; fewer than `limit` if more would exceed PAGE_BYTES, but at least one."""
        ...

    async def message(self, ident: str) -> Message | None:
        """One message."""
        ...

    async def message_ids(self, beginning: str, *, limit: int) -> list[str]:
        """Ids of messages that begin with this text, in their order."""
        ...

    async def oldest(self, thread: str) -> Message | None:
        """The oldest message of a thread that can be the anchor of a history request to the phone."""
        ...

    async def placeholders(self, account: str, *, limit: int) -> list[Message]:
        """The newest messages without content: lost, or not decryptable."""
        ...

    async def recount(self, account: str) -> int:
        """Compute every thread's last message and counts again from its messages; return in how many they were
        wrong."""
        ...

    async def totals(self, account: str) -> Totals:
        """Counts of one account."""
        ...

    async def mark_read(self, thread: str) -> None:
        """Mark all stored messages of the thread as read.  Idempotent; creates no thread."""
        ...

    async def epoch(self) -> int:
        """The newest epoch that was ever fenced; 0 if none."""
        ...

    async def fence(self, epoch: int) -> None:
        """From now on refuse exclusive writes of older epochs.  Raises Fenced when a newer one is known."""
        ...

    async def enqueue(self, entry: Entry) -> Enqueued:
        """Queue a message and store it (status queued, document id = entry id) in its thread.  Atomic.

        An entry that amends another message is queued only.  If an entry with this id is stored, it is returned
        unchanged with `duplicate`.  Raises Conflict if its recipient or content differs.
        """
        ...

    async def next_entry(self, account: str, *, but: Collection[str] = ()) -> Entry | None:
        """The next queued entry to send, of a chat (a thread's id) that is not in `but`.

        Chats are served round robin: each sends in the order of enqueuing, and none waits for more than the first entry
        of another.  Among chats of the same turn, the entry that was queued first is sent first.
        """
        ...

    async def entry(self, ident: str) -> Entry | None:
        """One outbox entry."""
        ...

    async def entry_ids(self, beginning: str, *, limit: int) -> list[str]:
        """Ids of outbox entries that begin with this text, in their order."""
        ...

    async def entries(
        self,
        account: str | None,
        *,
        states: Collection[MessageStatus] = (),
        limit: int = 100,
        before: PagePosition | None = None,
    ) -> list[Entry]:
        """Outbox entries (in any state if `states` is empty), newest first by created_ms and id."""
        ...

    async def settle(self, ident: str, outcome: Outcome, *, epoch: int) -> Entry:
        """Apply `outbox.advance` to an entry, and its status, WhatsApp id and time to its message.  Atomic.

        With Sent or Unknown the message takes the WhatsApp id, so that its echo is recognized and receipts find it; an
        echo and receipts that arrived earlier are applied, and the echo's own document is deleted.  An entry that
        amends another message is applied once it was certainly sent (`outbox.amendment_of`).

        Raises NotFound, Conflict (the transition is not allowed), Fenced.
        """
        ...

    async def put_account(self, status: AccountStatus, *, epoch: int) -> None:
        """Publish an account's status.  Idempotent.  Raises Fenced."""
        ...

    async def accounts(self) -> list[AccountStatus]:
        """The published status of every account."""
        ...

    async def auto_reply(self, account: str) -> AutoReply | None:
        """The account's auto-reply settings as another program has written them; None if no other program writes
        here."""
        ...

    async def forget_account(self, account: str, *, epoch: int) -> None:
        """Withdraw an account's published status; its messages stay.  Idempotent.  Raises Fenced."""
        ...

    async def close(self) -> None:
        """Finish running work and close the files.  Idempotent."""
        ...
