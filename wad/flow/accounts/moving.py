"""Moves a session to another machine, as one sealed file that an operator carries.

A session must never run in two places, since its keys move on with every message.  So it is given away only while its
account does not run here; what is left behind is set aside, and the account says that it was exported.  It is taken in
by the holder of the lease, who alone runs accounts, writes down first that it has the session, and then lets it run.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from wad.core.decoding import decoding
from wad.core.errors import BadInput, Conflict
from wad.core.jid import Jid, account_id, phone_digits
from wad.core.names import LONGEST, shown_name
from wad.core.text import cut, repaired
from wad.flow.accounts.account import Account
from wad.flow.accounts.accounts import Accounts
from wad.lib.clock import stamp
from wad.lib.sealed import LIMIT, seal, unseal
from wad.state.account_dir import AccountCard

_OVERHEAD: Final = 4096  # bytes of a sealed file beside what is in it


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the file."""

    card: AccountCard
    session: bytes


class Moving:
    """Gives sessions away and takes them in.  `draw` gives random bytes."""

    def __init__(self, accounts: Accounts, draw: Callable[[int], bytes]) -> None:
        self._accounts = accounts
        self._draw = draw
        self._packed: dict[str, bytes] = {}
        self._arriving: tuple[str, int, bytearray] = ("", 0, bytearray())
        self._sealing = asyncio.Lock()  # one key at a time: each takes 128 MB while it is made

    # --- giving away ------------------------------------------------------------------------------

    async def pack(self, account: Account, secret: str) -> bytes:
        """The session, sealed.  Changes nothing.  Raises Conflict, BadInput, Damaged, Unavailable."""
        _check_at_rest(account)
        engine, home = self._accounts.engine, account.home
        if not await account.is_paired():
            raise Conflict(f"account {account.id} has no session here", hint=account.status.reason)

        def work() -> bytes:
            session = engine.copy_session(home)
            self._packed[account.id] = hashlib.sha256(session).digest()
            parcel = Parcel(card=account.card, session=session)
            return seal(msgspec.msgpack.encode(parcel), secret, self._draw)

        async with self._sealing:
            return await asyncio.to_thread(work)

    async def give_up(self, account: Account) -> str:
        """The file is in safe hands: from now on the session is not here.  The name of what was set aside.

        Raises Conflict when it runs, has run since, or was not exported.
        """
        home, packed = account.home, self._packed.pop(account.id, b"")
        if not packed:
            raise Conflict(
                f"the session of {account.id} was not exported since wad started",
                hint=f"wadctl session export {account.id}",
            )
        session = await asyncio.to_thread(self._accounts.engine.copy_session, home)
        _check_at_rest(account)
        if hashlib.sha256(session).digest() != packed:
            raise Conflict(f"the session of {account.id} has changed since it was exported")
        aside = home.set_aside(home.session_db, stamp(account.clock), "exported")
        await account.exported()
        return aside.name

    # --- taking in --------------------------------------------------------------------------------

    def take_piece(self, upload: str, size: int, offset: int, data: bytes) -> tuple[str, bool]:
        """A piece of a sealed file, in order; the first names no upload.  Which upload, and whether it is whole.

        One at a time: another that begins ends it.  Raises BadInput.
        """
        if not upload:
            if size > LIMIT + _OVERHEAD:
                raise BadInput(f"a session has at most {LIMIT >> 20} MB")
            self._arriving = (self._draw(8).hex(), size, bytearray())
        known, size, arrived = self._arriving
        if upload not in ("", known) or offset != len(arrived) or offset + len(data) > size:
            raise BadInput("these are not the next bytes of the file that is being imported")
        arrived += data
        return known, len(arrived) == size

    async def unpack(self, upload: str, secret: str) -> Account:
        """Take in what has arrived; the account, which then runs.  Raises BadInput, Conflict, Fenced, Unavailable."""
        known, size, arrived = self._arriving
        if upload != known or len(arrived) != size:
            raise BadInput("the file has not arrived as a whole")
        self._arriving = ("", 0, bytearray())
        async with self._sealing:
            plain = await asyncio.to_thread(unseal, bytes(arrived), secret)
        with decoding("the session in the file"):
            parcel = msgspec.msgpack.decode(plain, type=Parcel)
        return await self._settle(parcel.session, _checked(parcel.card))

    async def _settle(self, session: bytes, card: AccountCard) -> Account:
        engine = self._accounts.engine
        account = self._accounts.here(card.id)
        if account is None:
            fresh = msgspec.structs.replace(card, enabled=True, exported_ms=0, ended=None, gap=None)
            account = await self._accounts.make(
                fresh, lambda home: engine.put_session(home, session)
            )
            try:
                await self._accounts.own(account)
            finally:
                await self._accounts.let_run(account)
            return account
        _check_at_rest(account)
        if await account.is_paired():
            raise Conflict(
                f"account {card.id} has a session here already",
                hint=f"wadctl account remove {card.id} puts it away first",
            )
        home = account.home
        if home.session_db.exists():
            home.set_aside(home.session_db, stamp(account.clock), "unpaired")
        try:
            await asyncio.to_thread(engine.put_session, home, session)
            await account.imported(card)
            await self._accounts.own(account)
        finally:
            await self._accounts.let_run(account)
        return account


def _checked(card: AccountCard) -> AccountCard:
    """The card of a file, which another wad has written, or somebody else.  Raises BadInput."""
    for address in filter(None, (card.jid, card.lid)):
        Jid.parse(address)
    return msgspec.structs.replace(
        card,
        id=account_id(card.id),
        name=shown_name(card.name),
        phone=f"+{phone_digits(card.phone)}" if card.phone else "",
        push_name=cut(repaired(card.push_name), LONGEST),
    )


def _check_at_rest(account: Account) -> None:
    """Raise Conflict while it runs, or is about to."""
    if account.worker is not None or account.status.worker or account.status.retry_at is not None:
        raise Conflict(
            f"account {account.id} is {account.status.state}: its session is in use",
            hint=f"wadctl account stop {account.id}",
        )
