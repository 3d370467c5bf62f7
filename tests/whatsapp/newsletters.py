"""Newsletters (channels): their messages are plaintext, and acknowledged, not receipted.

See docs/internals/library.md#events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.whatsapp import contents, pb
from tests.whatsapp.device import Envelope
from tests.whatsapp.wire import SERVER, Jid, as_bytes, node

if TYPE_CHECKING:
    from tests.whatsapp.account import Account
    from tests.whatsapp.server import WhatsApp


class Newsletter:
    """One newsletter."""

    def __init__(self, server: WhatsApp, jid: Jid) -> None:
        self.server = server
        self.jid = jid
        self._number = 0

    def announce(self, account: Account, name: str, description: str) -> None:
        """An account follows it from now on: its name and description in JSON, as WhatsApp sends them."""
        at = str(self.server.now())

        def text(value: str) -> str:
            return f'{{"text":"{value}","id":"1","update_time":"{at}000000"}}'

        about = (
            f'{{"data":{{"xwa2_notify_newsletter_on_join":{{"id":"{self.jid}","state":{{"type":"ACTIVE"}},'
            f'"thread_metadata":{{"creation_time":"{at}","invite":"x","name":{text(name)},'
            f'"description":{text(description)},"subscribers_count":"1","verification":"UNVERIFIED",'
            '"settings":{"reaction_codes":{"value":"ALL"}}},"viewer_metadata":{"mute":"OFF","role":"SUBSCRIBER"}}}}'
        )
        update = node("update", as_bytes(about), op_name="NotificationNewsletterJoin")
        account.notify(update, "mex", from_=SERVER)

    def post_text(self, account: Account, text: str) -> str:
        """Post to an account that follows it; returns the message's id."""
        return self.post(account, contents.text(text))

    def post(self, account: Account, content: pb.Message) -> str:
        """The same with a waE2E.Message."""
        self._number += 1
        ident = self.server.next_id()
        self.server.ledger.sent(account, self.jid.user, ident, contents.text_of(pb.encode(content)))
        for device in account.devices.values():
            stanza = node(
                "message", node("plaintext", pb.encode(content)), id=ident, server_id=self._number,
                t=self.server.now(), type_=contents.stanza_kind(content).type, from_=self.jid,
            )  # fmt: skip
            device.post(Envelope(stanza))
        return ident
