"""Operations that move the session of an account to another machine, in one encrypted file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Annotated, Final

from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Http, Limit, Params, Route, operation
from wad.api.operations.accounts import Named, Ref
from wad.api.views.account import AccountView, account_view
from wad.api.views.session import SESSION_PIECE, Arrived, GivenUp, Part

Secret = Annotated[str, Meta(description="the passphrase or the key file's content")]


class Export(Params, frozen=True):
    """The account to export and the secret for the encryption."""

    account: Ref
    secret: Secret


class SessionPiece(Params, frozen=True):
    """One piece of an encrypted file.  The first request names no upload; its reply does."""

    size: Annotated[int, Meta(ge=1, description="the size of the whole file in bytes")]
    data: Annotated[bytes, Meta(max_length=SESSION_PIECE, description="the bytes of this piece")]
    offset: Annotated[int, Meta(ge=0, description="the number of bytes before this piece")] = 0
    upload: Annotated[str, Meta(description="the upload's name, from the first reply")] = ""


class ImportSession(Params, frozen=True):
    """The upload to import and the secret of the encryption."""

    upload: Annotated[str, Meta(description="the complete upload's name")]
    secret: Secret


@operation(
    "sessions.export",
    access=Access.ADMIN,
    command="session export",
    confirm="The account no longer runs on this machine, until its session is imported here again.",
)
async def export(context: Context, request: Export) -> AsyncIterator[Part]:
    """Export the session of a stopped account to an encrypted file, for another machine.

    Example: wadctl session export main main.session
    """
    account = context.accounts.find(request.account)
    sealed = await context.moving.export(account, request.secret)
    for begin in range(0, len(sealed), SESSION_PIECE):
        yield Part(len(sealed), b64encode(sealed[begin : begin + SESSION_PIECE]).decode())


@operation("sessions.give_up", access=Access.ADMIN)
async def give_up(context: Context, request: Named) -> GivenUp:
    """Disable the exported session on this machine; refused if the account has run since the export."""
    account = context.accounts.find(request.account)
    aside = await context.moving.finish_export(account)
    return GivenUp(account_view(account), aside)


_PIECE_BODY: Final = SESSION_PIECE * 4 // 3 + (
    1 << 10
)  # bytes of JSON with a whole piece in base64


@operation(
    "sessions.put",
    access=Access.ADMIN,
    leader_only=True,
    http=Http(
        limit=Limit.ACCOUNTS,
        routes=(
            Route(
                "POST",
                "/api/operations/sessions.put",
                body=SessionPiece,
                body_limit=_PIECE_BODY,
            ),
        ),
    ),
)
async def put(context: Context, request: SessionPiece) -> Arrived:
    """Upload one piece of an encrypted file, in order, at most 256 KiB."""
    return Arrived(
        *context.moving.add_piece(request.upload, request.size, request.offset, request.data)
    )


@operation("sessions.import", access=Access.ADMIN, command="session import", leader_only=True)
async def import_(context: Context, request: ImportSession) -> AccountView:
    """Import a session from an encrypted file; its account then runs on this machine.

    Refused while the account runs on this machine or has a session here.

    Example: wadctl session import main.session
    """
    return account_view(await context.moving.import_session(request.upload, request.secret))
