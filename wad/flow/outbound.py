"""The road out: outbox to engine, one message at a time for each account, in the order of enqueuing.

It runs inside the reign.  An entry is claimed (with a fresh secret, saved) before the engine is asked, and settled with
what became of it; `core.outbox` is the law.  When a reign begins, what an earlier one left in `sending` is judged by
its traces in the session's database, before anything more is sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, assert_never

from wad.clock import Clock
from wad.core.connection import State
from wad.core.errors import Conflict, NotFound, TimedOut, Unavailable, WadError
from wad.core.jid import Jid, ThreadId
from wad.core.message import MessageStatus
from wad.core.outbox import (
    Cancel,
    Claim,
    Claimed,
    Entry,
    NotSent,
    Outcome,
    Refused,
    Retry,
    Sent,
    Unknown,
    entry_id,
)
from wad.core.outgoing import Outgoing, check
from wad.engine.port import Fate, Worker
from wad.flow.account import Account
from wad.flow.accounts import Accounts
from wad.flow.bus import Bus
from wad.flow.reaper import Reaper, is_over
from wad.flow.refusals import Refusals
from wad.store import Store
from wad.store.port import Enqueued

log = logging.getLogger(__name__)

_SECRET_BYTES: Final = 32  # as WhatsApp's own message secrets (engine.md 6)
_RETRY: Final = 2.0  # seconds before the next try after "not sent", or while the store fails
_DRAIN: Final = 4.0  # seconds that a send under way may take when the reign ends
_LOOK: Final = 30.0  # seconds after which the outbox is looked at even if nobody woke us
_SEND: Final = "messages.send"  # the operation, as the log's field names it
_OPEN: Final = frozenset({MessageStatus.QUEUED, MessageStatus.SENDING})


class Outbound:
    """Queues messages at any time; sends them while the lease is held."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        bus: Bus,
        clock: Clock,
        holder: str,
        draw: Callable[[int], bytes],
        permit: Callable[[], float],
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._bus = bus
        self._clock = clock
        self._holder = holder
        self._draw = draw
        self._permit = permit
        self._closing = False
        self._wake: dict[str, asyncio.Event] = {}
        self._epoch: int | None = None
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._settling: dict[str, set[asyncio.Future[Entry]]] = {}

    # --- what can be asked ----------------------------------------------------------------------

    async def enqueue(
        self, account: str, to: Jid, content: Outgoing, *, client_id: str = ""
    ) -> Enqueued:
        """Queue a content.

        Raises TooLong, BadInput, Conflict (too late to edit or revoke; the client id was used for another message).
        """
        client_id = client_id or self._draw(16).hex()
        ident = entry_id(account, client_id)
        now_ms = self._clock.wall_ms()
        if await self._store.entry(ident) is None:  # else it is answered as it is, if late
            check(content, to, now_ms)
        entry = Entry(
            id=ident,
            account=account,
            thread=str(ThreadId.make(account, to)),
            to=str(to),
            content=content,
            client_id=client_id,
            secret=b"",
            created_ms=now_ms,
        )
        queued = await self._store.enqueue(entry)
        if not queued.duplicate:
            self._tell(queued.entry)
            self._waker(account).set()
        return queued

    async def settled(self, ident: str, timeout: float) -> Entry:
        """The entry once it is no longer queued or being sent, or as it is after `timeout` seconds."""
        future: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        waiting = self._settling.setdefault(ident, set())
        waiting.add(future)
        try:
            entry = await self._store.entry(ident)
            if entry is None:
                raise NotFound(f"there is no message {ident}")
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
        self._waker(entry.account).set()
        return entry

    async def cancel(self, ident: str) -> Entry:
        """Do not send it.  Raises NotFound, Conflict."""
        return await self._settle(ident, Cancel())

    def wake(self, account: str) -> None:
        """Somebody else has queued something for this account."""
        self._waker(account).set()

    # --- the reign --------------------------------------------------------------------------------

    @asynccontextmanager
    async def reign(self, epoch: int) -> AsyncIterator[None]:
        """Send while the lease is held; a send under way is finished or left to the crash rule."""
        self._epoch = epoch
        self._accounts.on_new = self._join
        self._accounts.on_gone = self._leave
        reaping = asyncio.create_task(self._reap(epoch), name="reaper")
        try:
            for account in self._accounts.all():
                self._join(account)
            yield
        finally:
            reaping.cancel()
            await asyncio.gather(reaping, return_exceptions=True)
            await self._drain()
            self._epoch = None

    async def _reap(self, epoch: int) -> None:
        reaper = Reaper(self._store, self._clock, self._is_here, self._settle)
        while True:
            try:
                await reaper.look(epoch)
            except WadError as error:
                log.warning("cannot look for stranded messages: %s", error)
            except Exception:
                log.exception("the look for stranded messages failed")
            await asyncio.sleep(_LOOK)

    def _is_here(self, account: str) -> bool:
        return any(one.id == account for one in self._accounts.all())

    async def _drain(self) -> None:
        """Take nothing more; what is being sent may finish for a moment, the crash rule judges the rest."""
        self._closing = True
        senders = list(self._senders.values())
        self._senders.clear()
        for wake in self._wake.values():
            wake.set()
        if senders:
            await asyncio.wait(senders, timeout=min(_DRAIN, self._permit()))
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        self._closing = False

    def _join(self, account: Account) -> None:
        if self._epoch is None or account.id in self._senders:
            return
        account.on_connected = self._waker(account.id).set
        self._senders[account.id] = asyncio.create_task(
            self._send_all(account), name=f"outbound {account.id}"
        )

    async def _leave(self, account: Account) -> None:
        sender = self._senders.pop(account.id, None)
        if sender is not None:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    def _waker(self, account: str) -> asyncio.Event:
        return self._wake.setdefault(account, asyncio.Event())

    async def _send_all(self, account: Account) -> None:
        try:
            await self._keep_sending(account)
        finally:
            account.unsent = ""

    async def _keep_sending(self, account: Account) -> None:
        first = True
        refusals = Refusals(self._clock, _RETRY)
        while not self._closing:
            wake = self._waker(account.id)
            wake.clear()
            pause = _LOOK
            try:
                await self._judge_stranded(account, first=first)
                first = False
                while await self._send_next(account, refusals):
                    pass
                account.unsent = ""
                if refusals:
                    pause = _RETRY
            except WadError as error:
                fields = {"account": account.id, "operation": _SEND, "code": error.code}
                log.warning("cannot send: %s", error, extra=fields)
                account.unsent = f"cannot send: {error}"
                pause = _RETRY
            except Exception as error:
                log.exception("outbound failed", extra={"account": account.id})
                account.unsent = f"cannot send, by a fault of wad's own: {type(error).__name__}"
                pause = _RETRY
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await wake.wait()

    async def _judge_stranded(self, account: Account, *, first: bool) -> None:
        """The crash rule for what was left in `sending`: at first by any sender before us, whatever its epoch.

        Later by one of an earlier epoch: what another machine claimed may become known here at any time.
        """
        sending = await self._store.entries(account.id, states=[MessageStatus.SENDING], limit=1000)
        for entry in sending:
            if not (first or is_over(entry, self._epoch or 0)):
                continue
            found = await asyncio.to_thread(
                self._accounts.engine.sent_as, account.home, entry.secret
            )
            ours = entry.claim is not None and entry.claim.holder == self._holder
            why = "the process that was sending it ended"
            outcome: Outcome = Unknown(found or "", why)
            if found is None and ours:
                # Of what another machine sent, this machine's session need not know.
                outcome = NotSent(why)
            await self._settle(entry.id, outcome)

    async def _send_next(self, account: Account, refusals: Refusals) -> bool:
        """Send the oldest queued message; whether to go on with the next at once."""
        worker = account.worker
        if self._closing or account.status.state is not State.CONNECTED or worker is None:
            return False
        entry = await self._store.next_entry(account.id)
        if entry is None:
            return False
        claim = Claimed(Claim(self._holder, self._epoch or 0), self._draw(_SECRET_BYTES))
        entry = await self._settle(entry.id, claim)
        fate = await self._try(worker, entry)
        connected = account.status.state is State.CONNECTED
        if isinstance(fate, NotSent) and connected and refusals.enough(entry.id, fate):
            fate = Refused("not_sent", fate.why)
        if not isinstance(fate, NotSent):
            refusals.forget(entry.id)
        await self._settle_surely(entry.id, fate)
        _count(account, fate)
        if isinstance(fate, Refused):
            fields = {"account": account.id, "operation": _SEND, "code": fate.code}
            log.warning("message %s has failed: %s", entry.id, fate.code, extra=fields)
        return not isinstance(fate, NotSent)

    async def _try(self, worker: Worker, entry: Entry) -> Fate:
        to = Jid.parse(entry.to)
        try:
            # An edit or a revoke may have waited for too long.
            check(entry.content, to, self._clock.wall_ms())
        except WadError as error:
            return Refused(error.code, str(error))
        try:
            return await worker.send(to, entry.content, entry.secret, entry.created_ms)
        except Exception as error:
            # A fault of ours.  It may have left, and must not stay in `sending` until the reign ends.
            log.exception("sending %s failed", entry.id, extra={"account": entry.account})
            return Unknown("", f"a fault of wad's own while it was sent: {type(error).__name__}")

    async def _settle_surely(self, ident: str, outcome: Outcome) -> None:
        """The message is on its way: what became of it must be written, however long the store takes."""
        while True:
            try:
                await self._settle(ident, outcome)
                return
            except Conflict as error:
                # Its receipt or echo was recorded first: that evidence is better than ours.
                log.info("%s", error)
                return
            except Unavailable as error:
                log.warning("cannot write what became of %s: %s", ident, error)
                await asyncio.sleep(_RETRY)

    async def _settle(self, ident: str, outcome: Outcome) -> Entry:
        if self._epoch is None:
            raise TimedOut("the lease is gone")
        entry = await self._store.settle(ident, outcome, epoch=self._epoch)
        self._tell(entry)
        if entry.state not in _OPEN:
            for future in self._settling.get(ident, ()):
                if not future.done():
                    future.set_result(entry)
        return entry

    def _tell(self, entry: Entry) -> None:
        self._bus.publish(
            "outbox", f"{entry.state}" + (f": {entry.error}" if entry.error else ""), account=entry.account,
            id=entry.id, state=str(entry.state), wa_id=entry.wa_id, client_id=entry.client_id,
        )  # fmt: skip


def _count(account: Account, fate: Fate) -> None:
    match fate:
        case Sent(_, at_ms):
            account.sent += 1
            account.sent_lately.note()
            account.inbound.saw_message(at_ms)
        case Refused():
            account.refused += 1
            account.refused_lately.note()
        case NotSent() | Unknown():
            pass
        case _:
            assert_never(fate)
