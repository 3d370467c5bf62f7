"""An account's card: who it is, and whether it should run.  It lies in the account's directory, as JSON.

A card that is damaged or missing is made anew, since the session is what counts.  What of a damaged one can still be
read is taken over, field by field; whether the account should run is not guessed: unless the card says so it is
stopped, and `stopped_why` tells an operator why.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from wad.core.auto_reply import AutoReply
from wad.core.decoding import decoding
from wad.core.end_state import EndState
from wad.core.errors import InvalidData
from wad.core.history import BackfillResult
from wad.core.jid import Jid, phone_digits
from wad.core.names import shown_name
from wad.core.spool_gap import Gap
from wad.core.untrusted import LAST_MS
from wad.lib.files import read_file

LARGEST: Final = 1 << 20  # bytes; an auto-reply is the largest part of it
_UNSURE: Final = "{}, and nothing else says whether it should run"


class AccountCard(msgspec.Struct, frozen=True, kw_only=True):
    """Who the account is.  `enabled`: it should run.  jid, lid and push_name as of its last login.

    `exported_ms`: when its session was given away, ms since 1970; 0 where it was not, or came back.  `auto_reply`: None
    until somebody has set it.  `backfill`: what the last run brought; None before the first.  `ended`: how it came to
    rest; None while it did not.  `stopped_ms`: when an operator stopped it, where it is not enabled; `stopped_why`: why
    it is not, where no operator did that.  `gap`: why received messages may be missing, until an operator has seen it.
    """

    id: str
    name: str
    phone: str = ""
    created_ms: int = 0
    enabled: bool = True
    jid: str = ""
    lid: str = ""
    push_name: str = ""
    exported_ms: int = 0
    auto_reply: AutoReply | None = None
    backfill: BackfillResult | None = None
    ended: EndState | None = None
    stopped_ms: int = 0
    stopped_why: str = ""
    gap: Gap | None = None


class ReadCard(NamedTuple):
    """A card, and what is wrong with its file, in words; empty where nothing is.

    `damage`: it says what no card says.  `unread`: what it says is not known now (no handle is left, it is another
    user's), and the card stands in for it.
    """

    card: AccountCard
    damage: str = ""
    unread: str = ""


def read_card(file: Path, ident: str) -> ReadCard:
    """The card in a file; `ident`, the directory's name, is the account's id whatever the file says."""
    try:
        data = read_file(file, LARGEST)
    except FileNotFoundError:
        return ReadCard(_stand_in(ident, "its account.json is missing"))
    except InvalidData as error:
        return _damaged({}, ident, str(error))
    except OSError as error:
        why = error.strerror or str(error)
        return ReadCard(_stand_in(ident, f"its account.json cannot be read ({why})"), unread=why)
    try:
        with decoding(str(file)):
            return ReadCard(named(_sound(msgspec.json.decode(data, type=AccountCard)), ident))
    except InvalidData as error:
        return _damaged(_fields(data), ident, str(error))


def _fields(data: bytes) -> dict[str, Any]:
    with suppress(InvalidData), decoding("a card"):
        found = msgspec.json.decode(data)
        if isinstance(found, dict):
            return found
    return {}


def _damaged(fields: dict[str, Any], ident: str, damage: str) -> ReadCard:
    """What a damaged card still says, each field by itself."""
    known: dict[str, Any] = {"id": ident, "name": ident, "enabled": False}
    card = AccountCard(id=ident, name=ident, enabled=False)
    for name in AccountCard.__struct_fields__:
        if name in fields:
            with suppress(InvalidData), decoding(name):
                card = _sound(msgspec.convert({**known, name: fields[name]}, AccountCard))
                known[name] = fields[name]
    if not card.enabled and fields.get("enabled") is not False:
        why = _UNSURE.format("its account.json could not be read")
        card = msgspec.structs.replace(card, stopped_why=why)
    return ReadCard(named(card, ident), damage=damage)


def _stand_in(ident: str, what: str) -> AccountCard:
    return AccountCard(id=ident, name=ident, enabled=False, stopped_why=_UNSURE.format(what))


def _sound(card: AccountCard) -> AccountCard:
    """Raise BadInput where it says what no account can have."""
    for address in filter(None, (card.jid, card.lid)):
        Jid.parse(address)
    if card.phone:
        phone_digits(card.phone)
    for ms in (card.created_ms, card.exported_ms):
        if not 0 <= ms <= LAST_MS:
            raise InvalidData(f"the time {ms} is out of range")
    return card


def named(card: AccountCard, ident: str) -> AccountCard:
    """The same card of the account of this id: one that was copied from another account must not take its place.

    A name that nobody may give today was given before: it is escaped, so that it can be shown, and renamed.
    """
    return msgspec.structs.replace(card, id=ident, name=shown_name(card.name))
