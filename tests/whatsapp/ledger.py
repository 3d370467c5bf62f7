"""What passed, for comparison with what the software under test has stored."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tests.whatsapp.news import News

if TYPE_CHECKING:
    from tests.whatsapp.account import Account
    from tests.whatsapp.people import Party


@dataclass
class SentEntry:
    """A message that a peer sent to an account; `wire` counts how often it was put on a connection."""

    ident: str
    peer: str
    text: str
    at: float
    wire: int = 0


@dataclass
class ReceivedEntry:
    """A message that an account sent; `copies` counts the frames that carried it."""

    ident: str
    to: str
    text: str
    at: float
    copies: int = 1


@dataclass
class _Page:
    sent: dict[str, SentEntry] = field(default_factory=dict)
    receipted: dict[str, str] = field(default_factory=dict)
    received: dict[str, ReceivedEntry] = field(default_factory=dict)


class Ledger:
    """Per account, in order of time."""

    def __init__(self, news: News) -> None:
        self._news = news
        self._pages: defaultdict[str, _Page] = defaultdict(_Page)

    def _page(self, account: Account) -> _Page:
        return self._pages[account.name]

    # --- writing ----------------------------------------------------------------------------

    def sent(self, account: Account, peer: Party, ident: str, text: str) -> None:
        """A peer sent a message."""
        self._page(account).sent.setdefault(ident, SentEntry(ident, peer.name, text, time.time()))

    def on_wire(self, account: Account, ident: str) -> None:
        """A message was put on a connection."""
        if entry := self._page(account).sent.get(ident):
            entry.wire += 1

    def receipted(self, account: Account, ident: str, kind: str) -> None:
        """The device acknowledged a message."""
        self._page(account).receipted.setdefault(ident, kind)
        self._news.tell()

    def received(self, account: Account, ident: str, to: str, text: str) -> None:
        """The account sent a message."""
        self._page(account).received[ident] = ReceivedEntry(ident, to, text, time.time())
        self._news.tell()

    def repeated(self, account: Account, ident: str) -> None:
        """The account's frame came again under the same id."""
        self._page(account).received[ident].copies += 1

    # --- reading ------------------------------------------------------------------------------

    def sent_to(self, account: Account) -> list[SentEntry]:
        """What peers sent to an account."""
        return list(self._page(account).sent.values())

    def receipted_by(self, account: Account) -> list[str]:
        """The ids that the account's device acknowledged."""
        return list(self._page(account).receipted)

    def received_from(self, account: Account) -> list[ReceivedEntry]:
        """What an account sent."""
        return list(self._page(account).received.values())

    def unreceipted(self, account: Account) -> list[str]:
        """The ids that were sent and not acknowledged."""
        page = self._page(account)
        return [ident for ident in page.sent if ident not in page.receipted]

    async def settled(self, account: Account, timeout: float = 10) -> None:
        """Wait until everything that was sent to an account is acknowledged."""
        await self._news.until(
            lambda: not self.unreceipted(account), timeout, f"receipts of {account.name}",
            lambda: f"{len(self.unreceipted(account))} open",
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {name: asdict(page) for name, page in self._pages.items()}
