"""The views of an exported or imported session in replies."""

from __future__ import annotations

from typing import Final

import msgspec

from wad.api.views.account import AccountView

SESSION_PIECE: Final = 256 << 10
"""The most bytes of a session's file in one request or part of a reply: over HTTP a request has at most 512 KiB
(`wire.UNTRUSTED`), and its piece is in base64."""


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
