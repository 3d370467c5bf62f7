"""Operations on the store: copy it to Firestore."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.views.store import CopyProgress


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
