"""The send queue: accepts messages at any time, and sends them while the lease is held.

It runs inside the leadership term.  Each account has its own `Sender`; entries that no sender can settle, since their
account is not on this machine, are handled by the `Reaper`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from wad.core.errors import NotFound, TimedOut
from wad.core.jid import Jid, ThreadId
from wad.core.message import MessageStatus, shown_party
from wad.core.outbox import (
    Cancel,
    Entry,
    Outcome,
    Retry,
    entry_id,
    readdressed,
    same_message,
)
from wad.core.outgoing import Outgoing
from wad.core.outgoing_rules import check
from wad.flow.accounts.account import Account
from wad.flow.accounts.accounts import Accounts
from wad.flow.event_bus import Bus
from wad.flow.outbound.group_membership import GroupRoles
from wad.flow.outbound.numbers import Numbers
from wad.flow.outbound.reaper import Reaper
from wad.flow.outbound.sender import CHECK_INTERVAL, MAX_PAUSE, Sender, Tools
from wad.lib.clock import Clock
from wad.lib.loops import Loop, Loops
from wad.store import Store
from wad.store.port import Enqueued

log = logging.getLogger(__name__)

_DRAIN: Final = 4.0  # seconds that a pending send may take when the term ends
_OPEN: Final = frozenset({MessageStatus.QUEUED, MessageStatus.SENDING})


class Outbound:
    """Queues messages at any time; sends them while the lease is held."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        bus: Bus,
        clock: Clock,
        loops: Loops,
        holder: str,
        draw: Callable[[int], bytes],
        permit: Callable[[], float],
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._bus = bus
        self._clock = clock
        self._loops = loops
        self._draw = draw
        self._permit = permit
        self._epoch: int | None = None
        self._senders: dict[str, tuple[Sender, asyncio.Task[None]]] = {}
        self._group_roles = GroupRoles(clock)
        self._settling: dict[str, set[asyncio.Future[Entry]]] = {}
        self._numbers = Numbers(store, clock, loops)
        self._tools = Tools(
            store,
            accounts.engine,
            clock,
            loops,
            holder,
            draw,
            self._settle,
            self._numbers,
            outcomes={},
        )

    # --- requests -------------------------------------------------------------------------------

    async def enqueue(
        self, account: str, to: Jid, content: Outgoing, *, client_id: str = ""
    ) -> Enqueued:
        """Queue a content.

        Raises TooLong, BadInput, NotSupported (nothing is sent to such an address), NotOnWhatsApp, Conflict (too late
        to edit or revoke; not in the group; the client id was used for another message).
        """
        if client_id and (known := await self._store.entry(entry_id(account, client_id))):
            same_message(known, await self._as_addressed(known, to), content)
            return Enqueued(known, duplicate=True)  # even if it is too late now
        client_id = client_id or self._draw(16).hex()
        now_ms = self._clock.wall_ms()
        entry = Entry(
            id=entry_id(account, client_id),
            account=account,
            thread=str(ThreadId.make(account, to)),
            to=str(to),
            content=content,
            client_id=client_id,
            secret=b"",
            created_ms=now_ms,
        )
        recipient = await self._store.recipient(account, to)
        entry = self._addressed(entry, recipient.jid)
        check(entry.content, Jid.parse(entry.to), now_ms)
        if (here := self._accounts.get(account)) is not None:
            await self._group_roles.check(here, to)
            if not recipient.known:
                entry = self._addressed(entry, await self._numbers.to_queue(here, to))
        queued = await self._store.enqueue(entry)
        if not queued.duplicate:
            self._publish(queued.entry)
            self._wake(account)
        return queued

    @staticmethod
    def _addressed(entry: Entry, to: Jid) -> Entry:
        """The entry for this recipient, who is the same person."""
        return entry if entry.to == str(to) else readdressed(entry, to)

    async def _as_addressed(self, entry: Entry, to: Jid) -> Jid:
        """The entry's recipient if `to` is another address of the same person, else `to`."""
        ours = Jid.parse(entry.to)
        found = [await self._store.recipient(entry.account, one) for one in (ours, to)]
        return ours if found[0].jid == found[1].jid else to

    async def settled(self, ident: str, timeout: float) -> Entry:
        """The entry once it is no longer queued or being sent, or as it is after `timeout` seconds."""
        future: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        waiting = self._settling.setdefault(ident, set())
        waiting.add(future)
        try:
            entry = await self._store.entry(ident)
            if entry is None:
                raise NotFound(f"message not found: {ident}")
            if entry.state not in _OPEN:
                return entry
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    return await future
            return await self._store.entry(ident) or entry
        finally:
            waiting.discard(future)
            if not waiting:
                self._settling.pop(ident, None)

    async def retry(self, ident: str) -> Entry:
        """Send a failed or uncertain message again.  Raises NotFound, Conflict."""
        entry = await self._settle(ident, Retry())
        self._wake(entry.account)
        return entry

    async def cancel(self, ident: str) -> Entry:
        """Do not send it.  Raises NotFound, Conflict."""
        return await self._settle(ident, Cancel())

    def wake(self, account: str) -> None:
        """Another process has queued or claimed an entry of this account."""
        if account in self._senders:
            self._senders[account][0].check_stranded()

    def _wake(self, account: str) -> None:
        if account in self._senders:
            self._senders[account][0].wake()

    # --- the leadership term ----------------------------------------------------------------------

    @asynccontextmanager
    async def lead(self, epoch: int) -> AsyncIterator[None]:
        """Send while the lease is held; a pending send is finished or left to the crash rule."""
        self._epoch = epoch
        self._accounts.on_new = self._join
        self._accounts.on_gone = self._leave
        reaping = self._loops.start("reaper", self._reap, cap=MAX_PAUSE)
        try:
            for account in self._accounts.all():
                self._join(account)
            yield
        finally:
            reaping.cancel()
            await asyncio.gather(reaping, return_exceptions=True)
            while self._senders:  # an account may be added while the others end
                await asyncio.gather(*(self._end(account) for account in list(self._senders)))
            await self._numbers.close()
            self._epoch = None

    async def _reap(self, loop: Loop) -> None:
        reaper = Reaper(self._store, self._clock, self._is_here, self._settle)
        while True:
            await reaper.run()
            loop.progress()
            await asyncio.sleep(CHECK_INTERVAL)

    def _is_here(self, account: str) -> bool:
        return self._accounts.get(account) is not None

    def _join(self, account: Account) -> None:
        if self._epoch is None or account.id in self._senders:
            return
        sender = Sender(account, self._tools, self._epoch)
        account.on_connected = sender.connected
        task = self._loops.start("outbound", sender.run, account=account.id, cap=MAX_PAUSE)
        self._senders[account.id] = (sender, task)

    async def _leave(self, account: Account) -> None:
        await self._end(account.id)

    async def _end(self, account: str) -> None:
        """Start no more sends; pending ones may finish within a short time, the crash rule settles the rest."""
        if account not in self._senders:
            return
        sender, task = self._senders.pop(account)
        closing = asyncio.create_task(sender.close(min(_DRAIN, self._permit())))
        task.cancel()
        await asyncio.gather(closing, task, return_exceptions=True)

    async def _settle(self, ident: str, outcome: Outcome) -> Entry:
        if self._epoch is None:
            raise TimedOut("the lease is gone")
        entry = await self._store.settle(ident, outcome, epoch=self._epoch)
        self._publish(entry)
        if entry.state is MessageStatus.FAILED:
            self._group_roles.forget(entry.account, entry.to)
        if entry.state not in _OPEN:
            for future in self._settling.get(ident, ()):
                if not future.done():
                    future.set_result(entry)
        return entry

    def _publish(self, entry: Entry) -> None:
        self._bus.publish(
            "outbox", f"{entry.state} to {shown_party(entry.to)}" + (f": {entry.error}" if entry.error else ""),
            account=entry.account, id=entry.id, state=str(entry.state), wa_id=entry.wa_id, client_id=entry.client_id,
        )  # fmt: skip
