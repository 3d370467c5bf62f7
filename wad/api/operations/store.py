"""The store as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation


class Destination(StrEnum):
    """Where to."""

    FIRESTORE = "firestore"


class CopyRequest(Params, frozen=True):
    """Which way."""

    to: Annotated[Destination, Meta(description="the store that is filled")] = Destination.FIRESTORE


class CopyProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is, in documents.  `refused`: such as Firestore does not take, named in the log."""

    told: int
    waiting: int
    refused: int


@operation("store.copy", access=Access.ADMIN, command="store copy")
async def copy(context: Context, request: CopyRequest) -> AsyncIterator[CopyProgress]:
    """Fill Firestore with everything that is stored here, while wad goes on.

    It may be interrupted, and goes on from there; again, it tells only what has changed since. Then set store.kind to
    firestore and restart: the same file is from then on the working copy, and the little that is left is told.
    """
    from wad.store import copy_to_firestore

    async for done in copy_to_firestore(context.loaded.config, context.clock):
        yield CopyProgress(told=done.told, waiting=done.waiting, refused=done.refused)
