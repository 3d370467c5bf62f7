"""Facts that no other document holds in full: amendments, facts about chats, early receipts."""

from __future__ import annotations

from typing import Final

import msgspec

from wad.core.change import PutAmendment, PutChat, PutMark
from wad.store.sqlite.rows import pack


class _Amendment(msgspec.Struct, frozen=True, tag="amendment"):
    account: str
    change: PutAmendment


class _Chat(msgspec.Struct, frozen=True, tag="chat"):
    account: str
    change: PutChat


class _Mark(msgspec.Struct, frozen=True, tag="mark"):
    account: str
    change: PutMark


Fact = PutAmendment | PutChat | PutMark

_unpack: Final = msgspec.msgpack.Decoder(_Amendment | _Chat | _Mark).decode


def packed(account: str, fact: Fact) -> bytes:
    """The payload of a fact."""
    match fact:
        case PutAmendment():
            return pack(_Amendment(account, fact))
        case PutChat():
            return pack(_Chat(account, fact))
    return pack(_Mark(account, fact))


def fact_of(payload: bytes) -> tuple[str, Fact]:
    """Decode the payload of a fact: its account and change.  Raises msgspec.MsgspecError."""
    wrapped = _unpack(payload)
    return wrapped.account, wrapped.change
