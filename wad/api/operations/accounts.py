"""Accounts: add, pair, look at, stop, start, log out, remove and restore."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.operations.daemon import NoParams
from wad.api.views.status import AccountView, account_view, account_views

Ref = Annotated[str, Meta(description="the account's id, name or number")]


class Named(Params, frozen=True):
    """One account."""

    account: Ref


class Add(Params, frozen=True):
    """A new account."""

    name: Annotated[str, Meta(min_length=1, max_length=100, description="a name for people")]
    phone: Annotated[str, Meta(description="its number, for example +15550000001")] = ""
    id: Annotated[str, Meta(description="its id (default: made from the number, or random)")] = ""


class Rename(Params, frozen=True):
    """Another name for an account."""

    account: Ref
    name: Annotated[str, Meta(min_length=1, max_length=100, description="the new name")]


class RemovedReply(msgspec.Struct, frozen=True):
    """Where its files are now."""

    account: str
    path: str


class Restore(Params, frozen=True):
    """Bring a removed account back."""

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
    """Add an account; pair it next with `wadctl account pair`."""
    account = await context.accounts.add(request.name, phone=request.phone, ident=request.id)
    return account_view(account)


@operation("accounts.rename", access=Access.OPERATE, command="account rename", leader_only=True)
async def rename(context: Context, request: Rename) -> AccountView:
    """Give an account another name."""
    account = context.accounts.find(request.account)
    await context.accounts.rename(account.id, request.name)
    return account_view(account)


@operation("accounts.pair", access=Access.OPERATE, command="account pair", leader_only=True)
async def pair(context: Context, request: Named) -> AccountView:
    """Pair an account with its phone by a QR code.

    Opens the pairing window (engine.pairing_window), or makes it longer; the code is in `qr`, and in the events.
    """
    account = context.accounts.find(request.account)
    await account.ended()
    await account.pair()
    return account_view(account)


@operation("accounts.start", access=Access.OPERATE, command="account start", leader_only=True)
async def start(context: Context, request: Named) -> AccountView:
    """Start an account that was stopped, replaced or failed."""
    account = context.accounts.find(request.account)
    await context.accounts.start(account)
    return account_view(account)


@operation("accounts.stop", access=Access.OPERATE, command="account stop", leader_only=True)
async def stop(context: Context, request: Named) -> AccountView:
    """Stop an account; its session stays, and it stays stopped after a restart."""
    account = context.accounts.find(request.account)
    await account.stop()
    return account_view(account)


@operation("accounts.restart", access=Access.OPERATE, leader_only=True)
async def restart(context: Context, request: Named) -> AccountView:
    """Give an account a fresh worker process."""
    account = context.accounts.find(request.account)
    account.restart()
    return account_view(account)


@operation(
    "accounts.logout",
    access=Access.ADMIN,
    command="account logout",
    leader_only=True,
    confirm="Its session ends for good; pairing it again needs the phone and a QR code.",
)
async def logout(context: Context, request: Named) -> AccountView:
    """Log an account out: the phone forgets this device; messages stay."""
    account = context.accounts.find(request.account)
    await account.log_out()
    return account_view(account)


@operation(
    "accounts.remove",
    access=Access.ADMIN,
    command="account remove",
    leader_only=True,
    confirm="It stops sending and receiving; `wadctl account restore` brings it back.",
)
async def remove(context: Context, request: Named) -> RemovedReply:
    """Put an account away: it stops, and its files are renamed, not deleted."""
    account = context.accounts.find(request.account)
    return RemovedReply(account.id, str(await context.accounts.remove(account.id)))


@operation("accounts.restore", access=Access.ADMIN, command="account restore", leader_only=True)
async def restore(context: Context, request: Restore) -> AccountView:
    """Bring a removed account back with its session."""
    return account_view(await context.accounts.restore(request.account))
