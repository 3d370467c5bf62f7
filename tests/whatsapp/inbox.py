"""Messages that a person received from devices under test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.whatsapp.wire import Jid

if TYPE_CHECKING:
    from tests.whatsapp.account import Account


@dataclass(frozen=True)
class Received:
    """A message from a device under test; `group` is the group, if it was sent to one."""

    account: Account
    ident: str
    text: str
    content: bytes  # waE2E.Message
    group: Jid | None = None


class Inbox(list[Received]):
    """Messages in order of arrival, indexed by several fields."""

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[tuple[Account, str | None, str | None], Received] = {}

    def add(self, message: Received) -> None:
        """A message arrived."""
        self.append(message)
        for ident in (message.ident, None):
            for text in (message.text, None):
                self._first.setdefault((message.account, ident, text), message)

    def find(self, account: Account, ident: str | None, text: str | None) -> Received | None:
        """The first match."""
        return self._first.get((account, ident, text))
