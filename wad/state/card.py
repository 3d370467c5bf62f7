"""An account's card: its identity, and whether it should run.  It is a JSON file in the account directory.

A damaged or missing card is replaced, since only the session is essential.  Fields of a damaged card that can still be
read are kept.  Whether the account should run is not guessed: without a readable `enabled` the account is stopped, and
`stopped_why` has the reason.
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
from wad.core.jid import Jid, stored_digits
from wad.core.names import shown_name
from wad.core.spool_gap import Gap
from wad.core.untrusted import LAST_MS
from wad.lib.files import read_file

LARGEST: Final = 1 << 20  # bytes; the auto-reply settings are the largest part
_UNSURE: Final = "{}, so it is unknown whether the account should run"


class AccountCard(msgspec.Struct, frozen=True, kw_only=True):
    """The card of an account.  `enabled`: it should run.  jid, lid and push_name are those of its last login.

    `exported_ms`: when its session was exported, ms since 1970; 0 if it was not, or was imported again.  `auto_reply`:
    None until it is set.  `backfill`: the result of the last run; None before the first.  `ended`: its end state, if
    any.  `stopped_ms`: when an operator stopped it; `stopped_why`: why it is stopped without an operator's command.
    `gap`: why received messages may be missing, until an operator confirms it.
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
    """A card, and the fault of its file as a text; empty if there is none.

    `damage`: the file is invalid.  `unread`: the file cannot be read now (no file descriptor is left, it belongs to
    another user), and the card is a default.
    """

    card: AccountCard
    damage: str = ""
    unread: str = ""


def read_card(file: Path, ident: str) -> ReadCard:
    """Read the card from a file; `ident`, the directory's name, is the account's id, whatever id the file has."""
    try:
        data = read_file(file, LARGEST)
    except FileNotFoundError:
        return ReadCard(_stand_in(ident, "its card is missing"))
    except InvalidData as error:
        return _damaged({}, ident, str(error))
    except OSError as error:
        why = error.strerror or str(error)
        return ReadCard(_stand_in(ident, f"its card cannot be read ({why})"), unread=why)
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
    """The valid fields of a damaged card, each checked by itself."""
    known: dict[str, Any] = {"id": ident, "name": ident, "enabled": False}
    card = AccountCard(id=ident, name=ident, enabled=False)
    for name in AccountCard.__struct_fields__:
        if name in fields:
            with suppress(InvalidData), decoding(name):
                card = _sound(msgspec.convert({**known, name: fields[name]}, AccountCard))
                known[name] = fields[name]
    if not card.enabled and fields.get("enabled") is not False:
        why = _UNSURE.format("its card could not be read")
        card = msgspec.structs.replace(card, stopped_why=why)
    return ReadCard(named(card, ident), damage=damage)


def _stand_in(ident: str, what: str) -> AccountCard:
    return AccountCard(id=ident, name=ident, enabled=False, stopped_why=_UNSURE.format(what))


def _sound(card: AccountCard) -> AccountCard:
    """Return the card; raise BadInput or InvalidData if a value is impossible."""
    for address in filter(None, (card.jid, card.lid)):
        Jid.parse(address)
    if card.phone:
        stored_digits(card.phone)
    for ms in (card.created_ms, card.exported_ms):
        if not 0 <= ms <= LAST_MS:
            raise InvalidData(f"the time {ms} is out of range")
    return card


def named(card: AccountCard, ident: str) -> AccountCard:
    """The card with this id: a card that was copied from another account must not replace that account.

    An old name that is not allowed today is escaped, so that it can be shown, and renamed.
    """
    return msgspec.structs.replace(card, id=ident, name=shown_name(card.name))
