"""Operations on the store: copy it to Firestore, and import what other programs have stored there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.views.store import CopyProgress, LegacyImportProgress


class Destination(StrEnum):
    """The store to copy to."""

    FIRESTORE = "firestore"


class CopyRequest(Params, frozen=True):
    """The destination of the copy."""

    to: Annotated[Destination, Meta(description="the store to fill")] = Destination.FIRESTORE


@operation("store.copy", access=Access.ADMIN, command="store copy")
async def copy(context: Context, request: CopyRequest) -> AsyncIterator[CopyProgress]:
    """Copy everything that is stored on this machine to Firestore, while wad runs.

    An interrupted copy continues where it stopped; a repeated one copies only what has changed. Afterwards set
    store.kind to firestore and restart: the same file becomes the working copy, and the remaining changes are synced.
    """
    from wad.store import copy_to_firestore

    async for done in copy_to_firestore(context.loaded.config, context.clock):
        yield CopyProgress(pushed=done.pushed, waiting=done.waiting, refused=done.refused)


class LegacyImportRequest(Params, frozen=True):
    """Which history to import."""

    account: Annotated[str, Meta(description="only this account (id, name or number)")] = ""
    dry_run: Annotated[bool, Meta(description="only count what would be read")] = False


@operation("store.import_legacy", access=Access.ADMIN, command="store import-legacy")
async def import_legacy(
    context: Context, request: LegacyImportRequest
) -> AsyncIterator[LegacyImportProgress]:
    """Import the history that other programs have stored in Firestore.

    Afterwards `wadctl threads`, `wadctl messages` and HTTP show it. Each message costs one read of Firestore; the
    number is shown before the import asks. The messages in Firestore stay as they are. Run it on each machine.
    """
    from wad.store import import_legacy_documents

    if request.account:
        accounts = [context.accounts.find(request.account).id]
    else:
        accounts = [account.id for account in context.accounts.all()]
    async for done in import_legacy_documents(context.store, accounts, dry_run=request.dry_run):
        yield LegacyImportProgress(**msgspec.structs.asdict(done))
