"""The record of all traffic, to compare with what the software under test has stored."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tests.whatsapp.news import News

if TYPE_CHECKING:
    from tests.whatsapp.account import Account


@dataclass
class SentEntry:
    """A message to an account's devices; `wire` counts how often it was sent on a connection.

    `asked_again`: a device could not decrypt it and requested it again.
    """

    ident: str
    peer: str  # the sender's phone number
    text: str
    at: float
    wire: int = 0
    asked_again: bool = False


@dataclass
class ReceiptEntry:
    """A receipt, from a device of the account or to the account."""

    ident: str
    kind: str  # "delivery" stands for a receipt without a type
    who: str  # the device's number, or the sender's phone number
    at: float


@dataclass
class ReceivedEntry:
    """A message that a device of the account sent; `copies` counts the frames that carried it."""

    ident: str
    to: str  # the recipient's phone number
    text: str
    at: float
    copies: int = 1


@dataclass
class _Page:
    name: str = ""
    sent: dict[str, SentEntry] = field(default_factory=dict)
    delivered_on_wire: list[str] = field(default_factory=list)
    receipted: dict[str, ReceiptEntry] = field(default_factory=dict)
    receipts: list[ReceiptEntry] = field(default_factory=list)
    received: dict[str, ReceivedEntry] = field(default_factory=dict)
    receipts_sent: list[ReceiptEntry] = field(default_factory=list)
    unreceipted: dict[str, None] = field(default_factory=dict)


class Ledger:
    """Per account, in order of time.  A message counts as receipted when one device of the account receipted it."""

    def __init__(self, news: News) -> None:
        self._news = news
        self._pages: defaultdict[str, _Page] = defaultdict(_Page)

    def _page(self, account: Account) -> _Page:
        page = self._pages[account.pn.user]
        page.name = account.name
        return page

    # --- writing ------------------------------------------------------------------------------

    def sent(self, account: Account, peer: str, ident: str, text: str) -> None:
        """A message was sent to an account."""
        page = self._page(account)
        if ident not in page.sent:
            page.sent[ident] = SentEntry(ident, peer, text, time.time())
            page.unreceipted[ident] = None

    def sent_again(self, account: Account, ident: str) -> None:
        """A message is delivered once more, and has to be acknowledged once more."""
        self._page(account).unreceipted[ident] = None

    def asked_again(self, account: Account, ident: str) -> None:
        """A device requested a message again."""
        if entry := self._page(account).sent.get(ident):
            entry.asked_again = True

    def on_wire(self, account: Account, ident: str) -> None:
        """A message was sent on a connection; syncs of a phone to its devices don't count."""
        page = self._page(account)
        if entry := page.sent.get(ident):
            entry.wire += 1
            page.delivered_on_wire.append(ident)

    def receipted(self, account: Account, ident: str, kind: str, device: int) -> None:
        """A device sent a receipt for a message."""
        page = self._page(account)
        entry = ReceiptEntry(ident, kind, str(device), time.time())
        page.receipts.append(entry)
        page.receipted.setdefault(ident, entry)
        page.unreceipted.pop(ident, None)
        self._news.notify()

    def received(self, account: Account, ident: str, to: str, text: str) -> None:
        """An account's device sent a message."""
        self._page(account).received[ident] = ReceivedEntry(ident, to, text, time.time())

    def repeated(self, account: Account, ident: str) -> None:
        """The device sent the frame again under the same id."""
        if entry := self._page(account).received.get(ident):
            entry.copies += 1

    def receipt_sent(self, account: Account, ident: str, kind: str, peer: str) -> None:
        """A receipt for the account's message."""
        entry = ReceiptEntry(ident, kind, peer, time.time())
        self._page(account).receipts_sent.append(entry)

    # --- reading ------------------------------------------------------------------------------

    def sent_to(self, account: Account) -> list[SentEntry]:
        """The messages to an account."""
        return list(self._page(account).sent.values())

    def delivered_on_wire(self, account: Account) -> list[str]:
        """The ids of messages in the order in which they were sent; repeated after a redelivery."""
        return list(self._page(account).delivered_on_wire)

    def receipted_by(self, account: Account) -> list[str]:
        """The ids that the account's devices acknowledged, in the order of the first receipt."""
        return list(self._page(account).receipted)

    def receipts_of(self, account: Account) -> list[ReceiptEntry]:
        """Every receipt of the account's devices, with its kind."""
        return list(self._page(account).receipts)

    def received_from(self, account: Account) -> list[ReceivedEntry]:
        """The messages of an account's devices."""
        return list(self._page(account).received.values())

    def receipts_sent(self, account: Account) -> list[ReceiptEntry]:
        """The receipts of peers for the account's messages."""
        return list(self._page(account).receipts_sent)

    def unreceipted(self, account: Account) -> list[str]:
        """The ids that were sent and not acknowledged."""
        return list(self._page(account).unreceipted)

    async def settled(self, account: Account, timeout: float = 30) -> None:
        """Wait until everything that was sent to an account is acknowledged."""
        page = self._page(account)

        def seen() -> str:
            return f"{len(page.receipted)} receipts, {len(page.unreceipted)} messages without one"

        what = f"receipts of {account.name}"
        await self._news.until(lambda: not page.unreceipted, timeout, what, seen)

    def as_json(self) -> dict[str, Any]:
        """Everything, by phone number of the account."""

        def page_as_json(page: _Page) -> dict[str, Any]:
            found = {
                name: list(part.values()) if isinstance(part, dict) else part
                for name, part in asdict(page).items()
            }
            return {**found, "unreceipted": list(page.unreceipted)}

        return {number: page_as_json(page) for number, page in self._pages.items()}
