"""The views of an imported Baileys session in replies."""

from __future__ import annotations

import msgspec

from wad.api.views.account import AccountView


class FilesReply(msgspec.Struct, frozen=True):
    """The upload's name for the next request and the import."""

    upload: str


class LeftOut(msgspec.Struct, frozen=True):
    """Files of one kind that are not imported, with the reason."""

    kind: str
    count: int
    why: str


class Imported(msgspec.Struct, frozen=True):
    """The imported items; `state` is null for a dry run."""

    account: str
    name: str
    jid: str
    lid: str
    existing: bool
    dry_run: bool
    carried: dict[str, int]
    left: list[LeftOut]
    damaged: list[str]
    state: AccountView | None
