"""What is counted of an account since the start of the process, by the name of its metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wad.flow.accounts.account import Account

COUNTS: Final[Mapping[str, Callable[[Account], int]]] = {
    "messages_recorded": lambda account: account.inbound.recorded,
    "messages_duplicate": lambda account: account.inbound.duplicates,
    "messages_sent": lambda account: account.sent,
    "messages_refused": lambda account: account.refused,
    "history_messages": lambda account: account.inbound.history.recorded,
    "receipts": lambda account: account.inbound.receipts,
    "logins": lambda account: account.logins,
    "worker_restarts": lambda account: account.restarts,
}


def counts_of(account: Account) -> Counter[str]:
    """All counts of an account."""
    return Counter({name: count(account) for name, count in COUNTS.items()})
