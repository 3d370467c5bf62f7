"""Moving a session to another machine, as one sealed file that an operator transfers.

A session must never run on two machines, since its keys advance with every message.  So it is exported only while its
account does not run here; the remaining file is set aside, and the account shows that it was exported.  Only the holder
of the lease, which alone runs accounts, imports it: it first registers the session's location, and then starts it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from wad.core.connection import State
from wad.core.decoding import decoding
from wad.core.errors import BadInput, Conflict
from wad.core.jid import Jid, account_id, stored_digits
from wad.core.names import LONGEST, shown_name
from wad.core.text import cut, repaired
from wad.flow.accounts.account import Account
from wad.flow.accounts.accounts import Accounts
from wad.lib.cancellation import uncancellable
from wad.lib.sealed import LIMIT, seal, unseal
from wad.state.account_dir import AccountCard

_OVERHEAD: Final = 4096  # bytes of a sealed file in addition to its content


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file."""

    card: AccountCard
    session: bytes


class Moving:
    """Exports and imports sessions.  `draw` returns random bytes."""

    def __init__(self, accounts: Accounts, draw: Callable[[int], bytes]) -> None:
        self._accounts = accounts
        self._draw = draw
        self._exported: dict[str, bytes] = {}
        self._upload: tuple[str, int, bytearray] = ("", 0, bytearray())
        self._sealing = asyncio.Lock()  # one key at a time: deriving it takes 128 MB

    # --- export -----------------------------------------------------------------------------------

    async def export(self, account: Account, secret: str) -> bytes:
        """The sealed session.  Changes nothing.  Raises Conflict, BadInput, Damaged, Unavailable."""
        _check_stopped(account)
        engine, account_dir = self._accounts.engine, account.account_dir
        if not await account.session.is_paired():
            raise Conflict(f"account {account.id} has no session here", hint=account.status.reason)

        def work() -> bytes:
            session = engine.copy_session(account_dir)
            self._exported[account.id] = hashlib.sha256(session).digest()
            parcel = Parcel(card=account.card, session=session)
            return seal(msgspec.msgpack.encode(parcel), secret, self._draw)

        async with self._sealing:
            return await asyncio.to_thread(work)

    async def finish_export(self, account: Account) -> str:
        """Finish the export once the file is stored: the session is not here any more.  Returns the old file's name.

        Raises Conflict if it runs, has run since, or was not exported.
        """
        exported = self._exported.pop(account.id, b"")
        if not exported:
            raise Conflict(
                f"the session of {account.id} was not exported since wad started",
                hint=f"wadctl session export {account.id}",
            )
        return (await uncancellable(_finished_export(account, exported))).name

    # --- import -----------------------------------------------------------------------------------

    def add_piece(self, upload: str, size: int, offset: int, data: bytes) -> tuple[str, bool]:
        """Add the next piece of a file; the first has no upload name.  Returns the name, and whether it is whole.

        One at a time: a new upload discards the previous one.  Raises BadInput.
        """
        if not upload:
            if size > LIMIT + _OVERHEAD:
                raise BadInput(f"a session has at most {LIMIT >> 20} MB")
            self._upload = (self._draw(8).hex(), size, bytearray())
        known, size, arrived = self._upload
        if upload not in ("", known) or offset != len(arrived) or offset + len(data) > size:
            raise BadInput("these bytes do not continue the file that is being imported")
        arrived += data
        return known, len(arrived) == size

    async def import_session(self, upload: str, secret: str) -> Account:
        """Import the uploaded file and run the account.  Raises BadInput, Conflict, Fenced, Unavailable."""
        known, size, arrived = self._upload
        if upload != known or len(arrived) != size:
            raise BadInput("the upload of the file is not complete")
        self._upload = ("", 0, bytearray())
        async with self._sealing:
            plain = await asyncio.to_thread(unseal, bytes(arrived), secret)
        with decoding("the session in the file"):
            parcel = msgspec.msgpack.decode(plain, type=Parcel)
        return await self._settle(parcel.session, _checked(parcel.card))

    async def _settle(self, session: bytes, card: AccountCard) -> Account:
        engine = self._accounts.engine
        account = self._accounts.get(card.id)
        if account is None:
            fresh = msgspec.structs.replace(card, enabled=True, exported_ms=0, ended=None, gap=None)
            account = await self._accounts.creation.create(
                fresh, lambda account_dir: engine.put_session(account_dir, session)
            )
            try:
                await self._accounts.locations.register(account)
            finally:
                await self._accounts.resume(account)
            return account
        is_changed = False
        try:
            async with account.session.lock:
                await _check_unpaired(account)
                is_changed = True
                await uncancellable(_put_session(account, session, card))
            await self._accounts.locations.register(account)
        finally:
            if is_changed:
                await self._accounts.resume(account)
        return account


def _checked(card: AccountCard) -> AccountCard:
    """The card in a file, which is untrusted.  Raises BadInput."""
    for address in filter(None, (card.jid, card.lid)):
        Jid.parse(address)
    return msgspec.structs.replace(
        card,
        id=account_id(card.id),
        name=shown_name(card.name),
        phone=f"+{stored_digits(card.phone)}" if card.phone else "",
        push_name=cut(repaired(card.push_name), LONGEST),
    )


async def _finished_export(account: Account, digest: bytes) -> Path:
    """Set the exported session aside, and let the account show that; returns the new path."""
    old = await _set_exported_aside(account, digest)
    if account.status.state is not State.PASSIVE:
        await account.begin()
    return old


async def _set_exported_aside(account: Account, digest: bytes) -> Path:
    """Set the session aside if this is still its SHA-256, and record that it was exported."""
    async with account.session.lock:
        found = await account.session.digest()
        account.check_not_removed()
        _check_stopped(account)
        if found != digest:
            raise Conflict(f"the session of {account.id} has changed since it was exported")
        old = await account.session.set_aside("exported")
        await account.keeper.change(exported_ms=account.clock.wall_ms(), enabled=True, ended=None)
        return old


async def _put_session(account: Account, session: bytes, card: AccountCard) -> None:
    """Write an imported session, and what its card says; with the session's lock held."""
    await account.session.put(session)
    await account.keeper.change(
        jid=card.jid, lid=card.lid, push_name=card.push_name, phone=card.phone, enabled=True, exported_ms=0,
        auto_reply=card.auto_reply, backfill=card.backfill, ended=None,
    )  # fmt: skip


async def _check_unpaired(account: Account) -> None:
    """Raise Conflict if it has a session, or a worker that may create one."""
    _check_stopped(account)
    paired = await account.session.is_paired()
    account.check_not_removed()
    if paired:
        raise Conflict(
            f"account {account.id} has a session here already",
            hint=f"remove it first (restorable): wadctl account remove {account.id}",
        )


def _check_stopped(account: Account) -> None:
    """Raise Conflict while it runs or is about to start."""
    if account.worker is not None or account.status.worker or account.status.retry_at is not None:
        raise Conflict(
            f"account {account.id} is {account.status.state}: its session is in use",
            hint=f"wadctl account stop {account.id}",
        )
