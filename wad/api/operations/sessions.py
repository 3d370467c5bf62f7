"""Sessions that move from one machine to another, in one encrypted file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.operations.accounts import Named, Ref
from wad.api.views.status import AccountView, account_view
from wad.core.outgoing import PIECE_LIMIT

Secret = Annotated[str, Meta(description="the passphrase, or what the key file says")]


class Export(Params, frozen=True):
    """Whose session, and what it is sealed with."""

    account: Ref
    secret: Secret


class Part(msgspec.Struct, frozen=True):
    """A part of the sealed file, in base64.  `size`: bytes of all of it."""

    size: int
    data: str


class GivenUp(msgspec.Struct, frozen=True):
    """What is left here.  `aside`: the name of the session's file now, which nothing reads."""

    account: AccountView
    aside: str


class SessionPiece(Params, frozen=True):
    """One piece of a sealed file.  The first one names no upload; the reply does."""

    size: Annotated[int, Meta(ge=1, description="bytes of the whole file")]
    data: Annotated[bytes, Meta(max_length=PIECE_LIMIT, description="the bytes of this piece")]
    offset: Annotated[int, Meta(ge=0, description="bytes of the file before this piece")] = 0
    upload: Annotated[str, Meta(description="the upload, as the first reply named it")] = ""


class Arrived(msgspec.Struct, frozen=True):
    """Which upload it belongs to, and whether the file is whole."""

    upload: str
    whole: bool


class ImportSession(Params, frozen=True):
    """What has arrived, and what it was sealed with."""

    upload: Annotated[str, Meta(description="the upload that is whole")]
    secret: Secret


@operation(
    "sessions.export",
    access=Access.ADMIN,
    command="session export",
    confirm="The account does not run on this machine any more, until its session is imported here again.",
)
async def export(context: Context, request: Export) -> AsyncIterator[Part]:
    """Write the session of an account that does not run to an encrypted file, for another machine."""
    account = context.accounts.find(request.account)
    sealed = await context.moving.pack(account, request.secret)
    for begin in range(0, len(sealed), PIECE_LIMIT):
        yield Part(len(sealed), b64encode(sealed[begin : begin + PIECE_LIMIT]).decode())


@operation("sessions.give_up", access=Access.ADMIN)
async def give_up(context: Context, request: Named) -> GivenUp:
    """Set the session aside that was exported; refused if the account has run since."""
    account = context.accounts.find(request.account)
    aside = await context.moving.give_up(account)
    return GivenUp(account_view(account), aside)


@operation("sessions.put", access=Access.ADMIN, leader_only=True)
async def put(context: Context, request: SessionPiece) -> Arrived:
    """Take a piece of an encrypted file, in order; at most 1 MiB each."""
    return Arrived(
        *context.moving.take_piece(request.upload, request.size, request.offset, request.data)
    )


@operation("sessions.import", access=Access.ADMIN, command="session import", leader_only=True)
async def import_(context: Context, request: ImportSession) -> AccountView:
    """Take in the session that an encrypted file holds; its account runs here then.

    Refused while the account runs here, or has a session here.
    """
    return account_view(await context.moving.unpack(request.upload, request.secret))
