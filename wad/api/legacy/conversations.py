"""Threads and messages in the format of the replaced backend (docs/internals/replaced-backend.md#routes).

Lists are ordered from the newest to the oldest.  `nextCursor` of a page is the `after` of the next one, and null on the
last page.  To poll, request the first page again, and further pages until a known message appears.
"""

from __future__ import annotations

import heapq
from datetime import datetime
from typing import TYPE_CHECKING, Final

from wad.api.legacy.accounts import ReadableAccount, known_account, readable_account
from wad.api.legacy.vocabulary import Document, exact_timestamp
from wad.api.operations.messages import next_page, page_of, page_text
from wad.core.brief import Brief, brief, brief_thread
from wad.core.errors import BadInput, LegacyRefusal
from wad.core.jid import Jid, JidKind, ThreadId
from wad.core.message import TEXT_LIMIT
from wad.store.app_documents import message_fields, moment, thread_fields

if TYPE_CHECKING:
    from wad.api.context import Context
    from wad.core.message import Message, Thread

_MAX_LIMIT: Final = 500


def limit_of(given: str, default: int) -> int:
    """The requested number of items, at most 500.  Raises LegacyRefusal 400."""
    text = given or str(default)
    if not (text.isascii() and text.isdecimal()) or int(text[:9]) < 1:
        raise LegacyRefusal(400, "invalid_request", "limit must be an integer >= 1")
    return min(int(text[:9]), _MAX_LIMIT)


def shown(fields: dict[str, object]) -> Document:
    """A document with its times in the JSON form of Firestore timestamps."""
    return {
        name: exact_timestamp(value) if isinstance(value, datetime) else value
        for name, value in fields.items()
    }


def thread_document(account: ReadableAccount, thread: Thread) -> Document:
    """A thread in the apps' format."""
    return {
        "id": thread.id,
        **shown(thread_fields(brief_thread(thread))),
        "updatedAt": exact_timestamp(moment(thread.last_ms)),
        "accountName": account.name,
        "archived": False,
        "hidden": False,
    }


def message_document(message: Message) -> Document:
    """A message in the apps' format; a shortened one has `truncated`."""
    return _brief_document(brief(message, TEXT_LIMIT))


def _brief_document(found: Brief) -> Document:
    message = found.message
    document = {"id": message.id, **shown(message_fields(message))}
    document["syncedAt"] = document["ingestedAt"]
    document["updatedAt"] = _updated_at(message, document["ingestedAt"])
    return {**document, "truncated": True} if found.cut else document


def _updated_at(message: Message, arrived: Document) -> Document:
    """When the message last changed: it arrived, or it was edited, revoked or reacted to."""
    changes = (message.edited_ms, message.revoked_ms, *(one.at_ms for one in message.reactions))
    changed = exact_timestamp(moment(max(changes)))
    return max(arrived, changed, key=lambda time: (time["_seconds"], time["_nanoseconds"]))


# --- threads ------------------------------------------------------------------------------------


async def threads(context: Context, ident: str, limit: str, after: str) -> Document:
    """The account's threads, without the one with its own number; none for an unknown account, as the apps expect."""
    most = limit_of(limit, 50)
    account = await known_account(context, ident)
    if account is None:
        return {"success": True, "threads": [], "count": 0, "nextCursor": None}
    found = await context.store.threads(account.id, limit=most, before=page_of(after))
    own = Jid.parse(account.jid).bare() if account.jid else None
    shown_threads = [
        thread_document(account, thread) for thread in found if Jid.parse(thread.chat) != own
    ]
    return {
        "success": True,
        "threads": shown_threads,
        "count": len(shown_threads),
        "nextCursor": page_text(found[-1].last_ms, found[-1].id) if len(found) == most else None,
    }


# --- messages -----------------------------------------------------------------------------------


async def messages_or_threads(
    context: Context, ident: str, thread: str, limit: str, after: str
) -> Document:
    """The messages of one thread, or the newest messages of each.  Raises LegacyRefusal."""
    if not ident:
        raise LegacyRefusal(400, "invalid_request", "accountId is missing")
    if thread:
        return await messages(context, ident, thread, limit, after)
    account, most = await known_account(context, ident), limit_of(limit, 20)
    content: list[Document] = []
    if account is None:
        return {"success": True, "threads": content}
    for each in await context.store.threads(account.id, limit=most):
        newest = await context.store.messages(each.id, limit=20)
        content.append(
            {
                **thread_document(account, each),
                "messages": [message_document(message) for message in newest],
            }
        )
    return {"success": True, "threads": content}


async def messages(
    context: Context, account_id: str, ident: str, limit: str, after: str
) -> Document:
    """A page of one thread.  Raises LegacyRefusal."""
    account = await readable_account(context, account_id)
    thread = await _thread(context, account, ident)
    most, store = limit_of(limit, 50), context.store
    found = await store.messages(ident, limit=most, before=page_of(after))
    return {
        "success": True,
        "thread": thread_document(account, thread),
        "messages": [message_document(message) for message in found],
        "count": len(found),
        "nextCursor": await next_page(store, ident, found, most) or None,
    }


async def _thread(context: Context, account: ReadableAccount, ident: str) -> Thread:
    """The thread with this id.  Raises LegacyRefusal 403 (another account's), 404."""
    try:
        parsed = ThreadId.parse(ident)
    except BadInput as error:
        raise LegacyRefusal(404, "thread_not_found", "Thread not found") from error
    if parsed.account != account.id:
        raise LegacyRefusal(403, "account_mismatch", "the thread belongs to another account")
    thread = await context.store.thread(ident)
    if thread is None:
        raise LegacyRefusal(404, "thread_not_found", "Thread not found")
    return thread


# --- the inbox ----------------------------------------------------------------------------------


async def inbox(context: Context, ident: str, limit: str) -> Document:
    """The newest messages of all threads together; none for an unknown account, as the apps expect."""
    most = limit_of(limit, 100)
    account = await known_account(context, ident)
    if account is None:
        return {"success": True, "messages": [], "count": 0, "totalMessages": 0}
    found = await _newest(context, account, most)
    totals = await context.store.totals(account.id)
    return {
        "success": True,
        "messages": [_inbox_document(thread, message) for thread, message in found],
        "count": len(found),
        "totalMessages": totals.messages,
    }


async def _newest(
    context: Context, account: ReadableAccount, limit: int
) -> list[tuple[Thread, Brief]]:
    """The newest messages of an account.  Threads are read until the next one has no newer message."""
    newest: list[tuple[tuple[int, int, str], Thread, Brief]] = []
    for thread in await context.store.threads(account.id, limit=limit):
        if len(newest) == limit and thread.last_ms < newest[0][0][0]:
            break
        for message in await context.store.messages(thread.id, limit=limit):
            # Shortened here: many large messages would fill the memory.
            short = brief(message, TEXT_LIMIT)
            row = ((message.at_ms, message.seen, message.id), thread, short)
            if len(newest) < limit:
                heapq.heappush(newest, row)
            elif row[0] > newest[0][0]:
                heapq.heapreplace(newest, row)
            else:
                break
    newest.sort(key=lambda row: row[0], reverse=True)
    return [(thread, message) for _, thread, message in newest]


def _inbox_document(thread: Thread, found: Brief) -> Document:
    fields, message = thread_fields(brief_thread(thread)), found.message
    return {
        **_brief_document(found),
        "messageId": message.id,
        "displayName": fields["displayName"],
        "contactType": _CONTACTS.get(Jid.parse(message.chat).kind, "phone"),
    }


_CONTACTS: Final = {JidKind.GROUP: "group", JidKind.LID: "linked_device"}
