"""The identity of an account at WhatsApp, which its worker reports."""

from __future__ import annotations

from collections.abc import Callable

from wad.core.jid import Jid, JidKind
from wad.engine.port import Identity
from wad.flow.accounts.card_keeper import CardKeeper
from wad.flow.accounts.notices import Notices


class AccountIdentity:
    """Notes the reported identity of one account in its card.

    `owner_of(phone)` returns the other account with this phone number, empty for none; `on_changed` is called after a
    change, `on_addresses(lid, number)` with each report that has both addresses of the account.
    """

    def __init__(
        self,
        keeper: CardKeeper,
        notices: Notices,
        *,
        owner_of: Callable[[str], str],
        on_changed: Callable[[], None],
        on_addresses: Callable[[Jid, Jid], None],
    ) -> None:
        self._keeper = keeper
        self._notices = notices
        self._owner_of = owner_of
        self._on_changed = on_changed
        self._on_addresses = on_addresses

    def reported(self, found: Identity) -> None:
        """Note what the worker has reported."""
        if found.jid and found.lid:
            lid, pn = Jid.parse(found.lid).party(), Jid.parse(found.jid).party()
            if (lid.kind, pn.kind) == (JidKind.LID, JidKind.PN):
                self._on_addresses(lid, pn)
        card = self._keeper.card
        identity = (found.jid, found.lid, found.push_name)
        if not found.jid or identity == (card.jid, card.lid, card.push_name):
            return
        phone = f"+{Jid.parse(found.jid).user}"
        if other := self._owner_of(phone):
            # A compromised worker may report any number: two accounts must not have the same one.
            self._notices.warn(
                f"reports the phone number {phone}, which belongs to account {other}"
            )
            phone = card.phone
        elif card.phone and card.phone != phone:
            self._notices.warn(f"was added for {card.phone} but is paired with {phone}")
        self._keeper.note(
            jid=found.jid, lid=found.lid, push_name=found.push_name, phone=phone, exported_ms=0
        )
        self._on_changed()
