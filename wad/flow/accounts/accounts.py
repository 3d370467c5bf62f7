"""Every account of this machine: their tasks, their reign, adding one and putting one away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from wad.core.account_reference import Names, clash, reference_kind
from wad.core.connection import State
from wad.core.errors import Conflict, NotFound, TimedOut, UnknownAccount, WadError
from wad.core.jid import account_id, phone_digits
from wad.core.names import check_name
from wad.core.session_location import SessionLocation, elsewhere_reason
from wad.engine import Engine
from wad.flow.accounts.account import Account, Surroundings
from wad.flow.inbound.pipeline import forget_spool
from wad.lib.clock import stamp
from wad.lib.loops import Loop
from wad.state.account_dir import AccountCard, AccountDir, AccountDirs, RemovedAccount
from wad.state.card import ReadCard

log = logging.getLogger(__name__)

T = TypeVar("T")

_NAMED: Final = 10  # accounts that a hint names
_BEGINNING: Final = 1.0  # seconds that the reign waits for its accounts to begin
_TURNS: Final = 60.0  # seconds in which what has arrived is looked at again


class Accounts:
    """Every account whose home lies on this machine."""

    def __init__(self, homes: AccountDirs, around: Surroundings, draw: Callable[[], str]) -> None:
        self._homes = homes
        self._around = around
        self._draw = draw
        self._accounts: dict[str, Account] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._epoch: int | None = None
        self._places: dict[str, SessionLocation] = {}
        self._news = asyncio.Event()
        self._gone: dict[str, Account] = {}
        self.changing = asyncio.Lock()
        """Held by whoever makes an account, brings one back, or gives one another name: one after the other."""
        self.on_new: Callable[[Account], None] = lambda account: None
        self.on_gone: Callable[[Account], Awaitable[None]] = _nothing

    @property
    def engine(self) -> Engine:
        """The engine that runs them."""
        return self._around.engine

    def all(self) -> list[Account]:
        """Every account, by id."""
        return [self._accounts[ident] for ident in sorted(self._accounts)]

    def here(self, ident: str) -> Account | None:
        """The account of this id, if it has a home here."""
        return self._accounts.get(ident)

    def elsewhere(self) -> list[SessionLocation]:
        """The accounts of which nothing lies here but what the other machines say, by id; known while we reign."""
        places = sorted(self._places.values(), key=lambda place: place.account)
        return [place for place in places if place.account not in self._accounts]

    def find(self, ref: str) -> Account:
        """The account of this id, name or whole number (`core.reference`).

        Raises UnknownAccount, Conflict when it means several accounts or one that is on another machine.
        """
        if (account := choose(ref, self.all(), lambda account: names_of(account.card))) is not None:
            return account
        place = choose(ref, self.elsewhere(), _names_of_place)
        raise self._unknown(ref) if place is None else _is_elsewhere(place)

    def by_id(self, ident: str) -> Account:
        """The account of this id, and nothing else that it is called by.  Raises as `find`."""
        if ident in self._accounts:
            return self._accounts[ident]
        raise next(
            (_is_elsewhere(place) for place in self.elsewhere() if place.account == ident),
            self._unknown(ident),
        )

    def _unknown(self, ref: str) -> WadError:
        known = [account.id for account in self.all()]
        more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
        named = ", ".join(known[:_NAMED]) + more or "none"
        return UnknownAccount(f"there is no account {ref!r}", hint=f"accounts here: {named}")

    @property
    def reigning(self) -> bool:
        """Whether the lease is held, so that workers may run."""
        return self._epoch is not None

    # --- their tasks ------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the accounts' tasks; workers run only within a reign."""
        try:
            homes = await asyncio.to_thread(self._homes.all)
            threads = self._around.threads
            cards = [threads.run(home.mended_card) for home in homes]
            for home, card in zip(homes, await asyncio.gather(*cards), strict=True):
                self._make(home, card)
            yield
        finally:
            tasks = [task for tasks in self._tasks.values() for task in tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for account in self.all():
                await account.inbound.close()
                await account.keeper.settle()

    async def _take(self, home: AccountDir) -> Account:
        account = self._make(home, await self._around.threads.run(home.mended_card))
        if self._epoch is not None:
            await self._join_reign(account)
        return account

    def _make(self, home: AccountDir, card: ReadCard) -> Account:
        account = Account(home, card, self._around, self._news)
        account.whose = lambda phone: self._whose(phone, but=account.id)
        self._accounts[account.id] = account
        self._run(account)
        return account

    def _whose(self, phone: str, *, but: str) -> str:
        found = (one.id for one in self.all() if one.id != but and one.card.phone == phone)
        return next(found, "")

    def _run(self, account: Account) -> None:
        loops = self._around.loops
        self._tasks[account.id] = [
            loops.start("account", account.run, account=account.id, cap=30),
            loops.start("inbound", account.inbound.run, account=account.id, cap=30, within=_TURNS),
        ]

    async def _join_reign(self, account: Account) -> None:
        if account.is_leaving:
            return
        account.place = self._places.get(account.id)
        await account.begin()
        if self._epoch is not None:
            self.on_new(account)

    async def _begin(self, accounts: Sequence[Account]) -> None:
        """Let accounts run that were here before; which of them starts when, their turns decide."""
        for account in accounts:
            try:
                if self._accounts.get(account.id) is account and not account.is_leaving:
                    await account.begin()
            except Exception as error:  # the others begin all the same
                self._around.loops.fault("beginning", error, account=account.id)

    @asynccontextmanager
    async def lead(self, epoch: int) -> AsyncIterator[None]:
        """While the lease is held: workers run.  On the way out every worker is dead before this returns."""
        self._places = await self._around.places.all()
        self._epoch = epoch
        publisher = self._around.loops.start(
            "publishing", lambda loop: self._publish(loop, epoch), cap=30
        )
        accounts = [account for account in self.all() if not account.is_leaving]
        for account in accounts:
            account.place = self._places.get(account.id)
        beginning = asyncio.create_task(self._begin(accounts), name="begin accounts")
        try:
            for account in accounts:
                self.on_new(account)
            # The reign waits for a few accounts, and not for hundreds: its lease has to be renewed.
            await asyncio.wait([beginning], timeout=_BEGINNING)
            yield
        finally:
            self._epoch, self._places = None, {}
            publisher.cancel()
            beginning.cancel()
            # All of them have to be at rest before anything is said of it: what one raises must not hide the others.
            steps = [account.step_down() for account in self.all()]
            ended = await asyncio.gather(*steps, publisher, beginning, return_exceptions=True)
            for error in ended:
                if isinstance(error, Exception):
                    raise error

    async def _publish(self, loop: Loop, epoch: int) -> None:
        while True:
            self._news.clear()
            failed: Exception | None = None
            for account in self.all():
                try:
                    await account.publish(epoch)
                    await self._settle_place(account)
                except Exception as error:
                    failed = failed or error
            await self._forget_gone(epoch)
            if failed is not None:
                raise failed
            loop.progress()
            await self._news.wait()

    async def let_run(self, account: Account) -> None:
        """Let it run if the lease is held: an order that took long may have outlived the reign it was given in."""
        if self._epoch is not None:
            await account.begin()

    # --- where sessions lie ---------------------------------------------------------------------------

    async def own(self, account: Account) -> None:
        """Write down that the account's session lies here.

        Raises Fenced, Unavailable, TimedOut (the lease is gone).
        """
        if self._epoch is None:
            raise TimedOut("the lease is gone")
        card = account.card
        place = SessionLocation(
            account=account.id,
            instance=self._around.instance,
            since_ms=self._around.clock.wall_ms(),
            jid=card.jid,
            name=card.name,
            phone=card.phone,
        )
        await self._around.places.put(place, epoch=self._epoch)
        if self._epoch is None:  # its workers are down, and none may start any more
            raise TimedOut("the lease is gone")
        account.place = self._places[account.id] = place

    async def _settle_place(self, account: Account) -> None:
        """Who is logged in here has its session here; who was logged out has none anywhere."""
        place, instance, card = account.place, self._around.instance, account.card
        ours = place is not None and place.instance == instance
        match account.status.state:
            case State.CONNECTED if place is None or not (ours and place.jid == card.jid):
                await self.own(account)
            case State.LOGGED_OUT if ours:
                await self._disown(account)

    async def _disown(self, account: Account) -> None:
        if self._epoch is not None and self._places.pop(account.id, None) is not None:
            account.place = None
            await self._around.places.forget(account.id, epoch=self._epoch)

    async def start(self, account: Account) -> None:
        """Run again after stopped, replaced or failed; after elsewhere, where an operator says that it is here.

        Raises Conflict, Damaged, Fenced, Unavailable.
        """
        if account.status.state is State.ELSEWHERE and account.status.paired:
            await self.own(account)
        await account.start()

    def kill(self) -> None:
        """End every worker now; what they were sending is judged by the crash rule."""
        for account in self.all():
            if account.worker is not None:
                killing = account.worker.stop(0)
                self._around.loops.once("kill", killing, account=account.id)

    def permit(self, until: float) -> None:
        """The lease was renewed: workers may act until then, however long it takes to say so to each."""
        for account in self._accounts.values():
            try:
                account.permit(until)
            except Exception as error:
                # That worker's permission runs out; the others, and the lease, have nothing to do with it.
                self._around.loops.fault("permission", error, account=account.id)

    def reconsider(self) -> None:
        """Workers may no longer run on this machine, or may again (`Surroundings.refusal`): let each account see."""
        for account in self.all():
            if account.status.worker or account.status.state is State.RECONNECTING:
                account.restart()

    # --- adding and putting away ----------------------------------------------------------------------

    async def add(self, name: str, *, phone: str = "", ident: str = "") -> Account:
        """A new account, not paired yet.  Raises BadInput, Conflict, StateUnwritable."""
        if phone:
            phone = f"+{phone_digits(phone)}"
        now_ms = self._around.clock.wall_ms()
        ident = account_id(ident or self._new_id(phone))
        card = AccountCard(
            id=ident, name=check_name(name), phone=phone, created_ms=now_ms, enabled=True
        )
        return await self.make(card)

    async def make(
        self, card: AccountCard, fill: Callable[[AccountDir], None] | None = None
    ) -> Account:
        """A new account with this card, in whose home `fill` puts what else it has; all of it, or nothing.

        Raises BadInput, Conflict, StateUnwritable, and what `fill` raises.
        """
        async with self.changing:
            self.check_names(card)

            def work() -> AccountDir:
                if fill is None:
                    return self._homes.create(card)
                with self._homes.incoming(card.id) as home:
                    fill(home)
                    home.write_card(card)
                    return self._homes.settle(home)

            await self.expect_new(card.id)
            account = await self._take(await asyncio.to_thread(work))
        self._around.bus.publish("account", "added", account=account.id)
        return account

    async def expect_new(self, ident: str) -> None:
        """An account of this id is about to be made: the spool of one that had it before is not missed.

        Raises Unavailable, StateUnwritable.
        """
        await forget_spool(self._around.store, ident)

    def check_names(self, card: AccountCard) -> None:
        """Raise Conflict where what an account is called by would mean another one as well."""
        others = [names_of(account.card) for account in self.all() if account.id != card.id]
        if why := clash(names_of(card), others):
            raise Conflict(why, hint="choose another name, or remove that account first")

    async def rename(self, ident: str, name: str) -> None:
        """Give an account another name.  Raises BadInput, UnknownAccount, Conflict, StateUnwritable."""
        name = check_name(name)
        async with self.changing:
            account = self.by_id(ident)
            if account.card.name != name:
                self.check_names(msgspec.structs.replace(account.card, name=name))
                await account.rename(name)
                self._news.set()
                self._around.bus.publish("account", "renamed", account=account.id)

    def _new_id(self, phone: str) -> str:
        return f"acc-{phone[1:]}" if phone else f"acc-{self._draw()}"

    async def adopt(self, home: AccountDir) -> Account:
        """An account whose home was made elsewhere, with its session; with `changing` held."""
        account = await self._take(home)
        self._around.bus.publish("account", "imported", account=account.id)
        return account

    async def remove(self, ident: str) -> Path:
        """Stop an account and rename its home; where it lies now.  Its messages stay in the store.

        Raises UnknownAccount, Conflict (it is being removed), StateUnwritable; then it stays as it was.
        """
        account = self.by_id(ident)
        account.leave()
        # Whoever asked may not wait for it: half of it would be neither an account nor a removed one.
        removing = asyncio.create_task(self._remove(account), name=f"remove {account.id}")
        path = await asyncio.shield(removing)
        self._around.bus.publish("account", "removed", account=account.id)
        return path

    async def _remove(self, account: Account) -> Path:
        try:
            await account.step_down("it is being removed")
            await self.on_gone(account)
            await self._end_tasks(account)
            await account.keeper.settle()
            async with self.changing:
                now = stamp(self._around.clock)
                path = await asyncio.to_thread(self._homes.remove, account.id, now)
                del self._accounts[account.id]
        except BaseException:
            await self._stay(account)
            raise
        self._gone[account.id] = account
        if self._epoch is not None:
            try:
                await self._forget_gone(self._epoch)
            except WadError as error:
                log.warning(
                    "what was published of it stays for now: %s",
                    error,
                    extra={"account": account.id},
                )
                self._news.set()  # the loop that publishes tries again
        return path

    async def _end_tasks(self, account: Account) -> None:
        tasks = self._tasks.pop(account.id)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await account.inbound.close()

    async def _stay(self, account: Account) -> None:
        """It could not be put away: it goes on."""
        account.stay()
        if account.id not in self._tasks:
            self._run(account)
        if self._epoch is not None:
            await self._join_reign(account)

    async def _forget_gone(self, epoch: int) -> None:
        """Withdraw what was published of accounts that were put away."""
        for ident, account in list(self._gone.items()):
            if ident not in self._accounts:
                await self._around.store.forget_account(ident, epoch=epoch)
                if account.place is not None and account.place.instance == self._around.instance:
                    await self._disown(account)
            self._gone.pop(ident, None)

    async def restore(self, ref: str) -> Account:
        """Bring back the removed account of this id, name or whole number, as it was removed last.

        Raises NotFound, Conflict (it means several, or one of that name is here), StateUnwritable.
        """
        async with self.changing:
            removed = await asyncio.to_thread(self._homes.removed)
            found = _latest(ref, removed)
            self.check_names(found.card)
            account = await self._take(await asyncio.to_thread(self._homes.restore, found))
        self._around.bus.publish("account", "restored", account=account.id)
        return account


def names_of(card: AccountCard) -> Names:
    """What an account is called by."""
    return Names(card.id, card.name, card.phone)


def _names_of_place(place: SessionLocation) -> Names:
    return Names(place.account, place.name, place.phone)


def choose(ref: str, among: Iterable[T], names: Callable[[T], Names]) -> T | None:
    """The one that a reference means; None where it means none.  Raises Conflict where it means several."""
    found = [(one, how) for one in among if (how := reference_kind(ref, names(one))) is not None]
    if len(found) > 1:
        means = " and ".join(f"the {how} of {names(one).id}" for one, how in found[:_NAMED])
        raise Conflict(f"{ref!r} is {means}", hint="give what only one of them is called by")
    return found[0][0] if found else None


def _latest(ref: str, removed: Iterable[RemovedAccount]) -> RemovedAccount:
    """The removed account that a reference means.  Raises NotFound, Conflict where it means several."""
    latest = {one.id: one for one in removed}  # they come in the order of their removal
    found = latest.get(ref) or choose(ref, latest.values(), lambda one: names_of(one.card))
    if found is None:
        known = sorted(latest)
        more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
        named = ", ".join(known[:_NAMED]) + more or "none"
        raise NotFound(f"no account {ref!r} was removed", hint=f"removed accounts: {named}")
    return found


def _is_elsewhere(place: SessionLocation) -> Conflict:
    return Conflict(
        f"account {place.account} is elsewhere: {elsewhere_reason(place)}",
        hint=f"ask {place.instance}, or move the session: wadctl session export",
    )


async def _nothing(account: Account) -> None:
    pass
