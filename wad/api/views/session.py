"""The views of an exported or imported session in replies."""

from __future__ import annotations

import msgspec

from wad.api.views.account import AccountView


class Part(msgspec.Struct, frozen=True):
    """A part of the encrypted file, in base64.  `size`: bytes of the whole file."""

    size: int
    data: str


class GivenUp(msgspec.Struct, frozen=True):
    """The account after the export.  `aside`: the new name of its session file, which is no longer used."""

    account: AccountView
    aside: str


class Arrived(msgspec.Struct, frozen=True):
    """The upload's name, and whether the file is complete."""

    upload: str
    whole: bool
