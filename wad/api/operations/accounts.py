"""Operations on accounts: add, pair, show, start, stop, log out, remove and restore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.operations.daemon import NoParams
from wad.api.views.account import AccountView, RemovedReply, account_view, account_views
from wad.core.errors import BadInput
from wad.core.jid import phone_digits

if TYPE_CHECKING:
    from wad.flow.accounts.account import Account

Ref = Annotated[
    str, Meta(description="the account's id, name or number", examples=["acc-15550000001"])
]


class Named(Params, frozen=True):
    """A request about one account."""

    account: Ref


class PairAccount(Params, frozen=True):
    """An account to pair."""

    account: Ref
    code: Annotated[
        bool, Meta(description="show a code of eight characters to type on the phone, too")
    ] = False
    phone: Annotated[
        str, Meta(description="the phone's number, for --code (default: the account's number)")
    ] = ""


class Add(Params, frozen=True):
    """A new account."""

    name: Annotated[
        str,
        Meta(min_length=1, max_length=100, description="its display name", examples=["Front desk"]),
    ]
    phone: Annotated[
        str, Meta(description="its number, e.g. +15550000001", examples=["+15550000001"])
    ] = ""
    id: Annotated[
        str, Meta(description="its id (default: derived from the number, else random)")
    ] = ""


class Rename(Params, frozen=True):
    """A new name for an account."""

    account: Ref
    name: Annotated[str, Meta(min_length=1, max_length=100, description="the new name")]


class Restore(Params, frozen=True):
    """A removed account to restore."""

    account: Annotated[str, Meta(description="the id, name or number of the removed account")]


@operation("accounts.list", access=Access.READ, command="account list")
async def list_(context: Context, request: NoParams) -> list[AccountView]:
    """List the accounts."""
    return account_views(context.accounts, context.clock.wall_ms())


@operation("accounts.show", access=Access.READ, command="account show")
async def show(context: Context, request: Named) -> AccountView:
    """Show one account."""
    return account_view(context.accounts.find(request.account))


@operation("accounts.add", access=Access.OPERATE, command="account add", leader_only=True)
async def add(context: Context, request: Add) -> AccountView:
    """Add an account.

    Pair it next with `wadctl account pair`.

    Example: wadctl account add "Front desk" --pair
    """
    account = await context.accounts.add(request.name, phone=request.phone, ident=request.id)
    return account_view(account)


@operation("accounts.rename", access=Access.OPERATE, command="account rename", leader_only=True)
async def rename(context: Context, request: Rename) -> AccountView:
    """Rename an account."""
    account = context.accounts.find(request.account)
    await context.accounts.rename(account.id, request.name)
    return account_view(account)


@operation("accounts.pair", access=Access.OPERATE, command="account pair", leader_only=True)
async def pair(context: Context, request: PairAccount) -> AccountView:
    """Pair an account with its phone by a QR code, or by a code of eight characters.

    Opens the pairing window (engine.pairing_window) or extends it; the code is in `qr` and in the events. With --code,
    the phone gets a notification, and the code to type there is in `pairing_code`.

    Example: wadctl account pair shop --code
    """
    account = context.accounts.find(request.account)
    phone = _phone_of(account, request) if request.code or request.phone else ""
    await account.ended()
    await account.pair(phone)
    return account_view(account)


def _phone_of(account: Account, request: PairAccount) -> str:
    """The digits of the phone's number.  Raises BadPhone, BadInput if no number is known."""
    phone = request.phone or account.card.phone
    if not phone:
        raise BadInput(
            f"a code needs the number of the phone, and that of account {account.id} is unknown",
            hint=f"wadctl account pair {account.id} --code --phone +15550000001",
        )
    return phone_digits(phone)


@operation("accounts.start", access=Access.OPERATE, command="account start", leader_only=True)
async def start(context: Context, request: Named) -> AccountView:
    """Start an account that is stopped, replaced or failed."""
    account = context.accounts.find(request.account)
    await context.accounts.start(account)
    return account_view(account)


@operation("accounts.stop", access=Access.OPERATE, command="account stop", leader_only=True)
async def stop(context: Context, request: Named) -> AccountView:
    """Stop an account.

    It keeps its session, and stays stopped when the daemon restarts.
    """
    account = context.accounts.find(request.account)
    await account.stop()
    return account_view(account)


@operation("accounts.restart", access=Access.OPERATE, leader_only=True)
async def restart(context: Context, request: Named) -> AccountView:
    """Restart the worker process of an account."""
    account = context.accounts.find(request.account)
    account.restart()
    return account_view(account)


@operation(
    "accounts.logout",
    access=Access.ADMIN,
    command="account logout",
    leader_only=True,
    confirm="The session ends for good; pairing again needs the phone and a QR code.",
)
async def logout(context: Context, request: Named) -> AccountView:
    """Log an account out and unlink this device from the phone.

    Stored messages stay.
    """
    account = context.accounts.find(request.account)
    await account.log_out()
    return account_view(account)


@operation(
    "accounts.remove",
    access=Access.ADMIN,
    command="account remove",
    leader_only=True,
    confirm="The account stops sending and receiving; `wadctl account restore` restores it.",
)
async def remove(context: Context, request: Named) -> RemovedReply:
    """Remove an account.

    The account stops; its files are renamed, not deleted.
    """
    account = context.accounts.find(request.account)
    return RemovedReply(account.id, str(await context.accounts.remove(account.id)))


@operation("accounts.restore", access=Access.ADMIN, command="account restore", leader_only=True)
async def restore(context: Context, request: Restore) -> AccountView:
    """Restore a removed account with its session."""
    return account_view(await context.accounts.restore(request.account))
