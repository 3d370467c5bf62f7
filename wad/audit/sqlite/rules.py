"""The rules of the repair: the correct thread and status of a row.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from wad.audit.keys import parse
from wad.audit.rows import Aliases
from wad.core.errors import BadInput
from wad.core.event import ReceiptMark
from wad.core.jid import Jid, ThreadId
from wad.core.message import MessageStatus, further, status_of


def right_chat(
    account: str, thread: str, chat: str, sender: str, *, from_me: bool, aliases: Aliases
) -> Jid | None:
    """The party of a message's conversation; None if it is not known.

    The reference wrote `[object Object]` where an address belonged (docs/internals/replaced-backend.md#thread-ids):
    then the thread's own id may still name it, or, of what came in from no group, its sender.
    """
    addresses = (chat, thread.partition("__")[2], "" if from_me else sender)
    found = next((jid for text in addresses if (jid := parse(text)) is not None), None)
    if found is None:
        return None
    number = aliases.get((account, str(found)))
    return Jid.parse(number) if number else found


def right_thread(account: str, chat: Jid) -> str | None:
    """The thread id of the conversation; None if the account id is invalid."""
    try:
        return str(ThreadId.make(account, chat))
    except BadInput:
        return None


def right_status(marks: Iterable[str]) -> MessageStatus:
    """The status of a message that another device of ours sent, from its receipts.

    The reference read the numbers one too low: sent shown as delivered, delivered as read
    (docs/internals/replaced-backend.md#received-messages).
    """
    status = MessageStatus.SENT
    for mark in marks:
        status = further(status, status_of(ReceiptMark(mark)))
    return status
