"""The views of outbox entries and of uploaded files in replies."""

from __future__ import annotations

from typing import Annotated

import msgspec

from wad.api.views.values import values
from wad.core.brief import LINE, TEXT
from wad.core.content import MessageKind
from wad.core.message import MessageStatus
from wad.core.outbox import Entry
from wad.core.text import cut


class EntryView(msgspec.Struct, frozen=True, kw_only=True):
    """One outbox entry without its secret; `text` is its readable text."""

    id: str
    account: str
    thread: str
    to: str
    kind: Annotated[str, values(MessageKind)]
    text: str
    client_id: str
    state: Annotated[str, values(MessageStatus)]
    attempts: int
    created_ms: int
    sent_ms: int | None
    wa_id: str
    error_code: str
    error: str


class EntryPage(msgspec.Struct, frozen=True):
    """A page of outbox entries, newest first; `next` is empty on the last page."""

    entries: list[EntryView]
    next: str


class SendReply(msgspec.Struct, frozen=True):
    """The queued message; `duplicate`: it was queued before under the same client id.

    `waiting`: why it is not sent at once, since the account is not connected; `action`: what the operator can do.
    """

    message: EntryView
    duplicate: bool
    waiting: str = ""
    action: str = ""


class PieceReply(msgspec.Struct, frozen=True):
    """The number of received bytes; `sha256`, in hexadecimal, once the file is complete."""

    upload: str
    received: int
    sha256: str


def entry_view(entry: Entry) -> EntryView:
    """The view of an outbox entry."""
    return EntryView(
        id=entry.id,
        account=entry.account,
        thread=entry.thread,
        to=entry.to,
        kind=entry.kind,
        text=cut(entry.text, TEXT),
        client_id=entry.client_id,
        state=entry.state,
        attempts=entry.attempts,
        created_ms=entry.created_ms,
        sent_ms=entry.sent_ms or None,
        wa_id=entry.wa_id,
        error_code=entry.error_code,
        error=cut(entry.error, LINE),
    )
