"""The routes of threads and messages, in the form of the reference (reference-backend.md 1.3, 5.1).

Lists go from the newest to the oldest.  `nextCursor` of a page, given as `after`, begins the next one; it is null at
the end.  Who polls asks for the first page again, and goes on until a message appears that it has.
"""

from __future__ import annotations

import heapq
from datetime import datetime
from typing import TYPE_CHECKING, Final

from wad.api.operations.messages import next_page, page_of, page_text
from wad.api.reference import Document, timestamp
from wad.api.rest.accounts import Known, known_of
from wad.api.rest.exchange import Answer, HttpError, document
from wad.api.rest.routing import Call, Route
from wad.core.brief import Brief, brief, brief_thread
from wad.core.errors import BadInput
from wad.core.jid import Jid, JidKind, ThreadId
from wad.core.message import TEXT_LIMIT
from wad.store.fields import message_fields, thread_fields
from wad.store.port import Page

if TYPE_CHECKING:
    from wad.core.message import Message, Thread

_MOST: Final = 500


def limit_of(call: Call, usual: int) -> int:
    """How many are asked for, at most 500.  Raises HttpError 400."""
    text = call.request.query.get("limit", "") or str(usual)
    if not (text.isascii() and text.isdecimal()) or int(text[:9]) < 1:
        raise HttpError(400, "invalid_request", "limit must be a whole number from 1 on")
    return min(int(text[:9]), _MOST)


def shown(fields: dict[str, object]) -> Document:
    """A document with its times as they come out of JSON."""
    return {
        name: timestamp(round(value.timestamp() * 1000)) if isinstance(value, datetime) else value
        for name, value in fields.items()
    }


def thread_document(account: Known, thread: Thread) -> Document:
    """A conversation as the apps read it."""
    return {
        "id": thread.id,
        **shown(thread_fields(brief_thread(thread))),
        "accountName": account.name,
        "archived": False,
        "hidden": False,
    }


def message_document(message: Message) -> Document:
    """A message as the apps read it; one in which something long was cut has the mark `truncated`."""
    return _brief_document(brief(message, TEXT_LIMIT))


def _brief_document(found: Brief) -> Document:
    mark = {"truncated": True} if found.cut else {}
    return {"id": found.message.id, **shown(message_fields(found.message)), **mark}


# --- threads ------------------------------------------------------------------------------------


async def threads(call: Call) -> Answer:
    """The account's conversations, without the one with itself."""
    account = await known_of(call)
    limit = limit_of(call, 50)
    found = await call.context.store.threads(account.id, limit=limit, before=_after(call))
    own = Jid.parse(account.jid).bare() if account.jid else None
    shown_threads = [
        thread_document(account, thread) for thread in found if Jid.parse(thread.chat) != own
    ]
    content = {
        "success": True,
        "threads": shown_threads,
        "count": len(shown_threads),
        "nextCursor": page_text(found[-1].last_ms, found[-1].id) if len(found) == limit else None,
    }
    return document(200, content)


# --- messages -----------------------------------------------------------------------------------


async def _messages(call: Call) -> Answer:
    account = await known_of(call)
    return document(200, await _thread_page(call, account, call.params["thread"]))


async def messages_by_query(call: Call) -> Answer:
    """One conversation, or the newest messages of each."""
    query = call.request.query
    if not query.get("accountId"):
        raise HttpError(400, "invalid_request", "accountId is missing")
    account = await known_of(call.with_params(account=query["accountId"]))
    if query.get("threadId"):
        return document(200, await _thread_page(call, account, query["threadId"]))
    content = []
    for thread in await call.context.store.threads(account.id, limit=limit_of(call, 20)):
        newest = await call.context.store.messages(thread.id, limit=20)
        content.append(
            {
                **thread_document(account, thread),
                "messages": [message_document(message) for message in newest],
            }
        )
    return document(200, {"success": True, "threads": content})


async def _thread_page(call: Call, account: Known, ident: str) -> Document:
    thread = await _thread(call, account, ident)
    limit = limit_of(call, 50)
    store = call.context.store
    found = await store.messages(ident, limit=limit, before=_after(call))
    return {
        "success": True,
        "thread": thread_document(account, thread),
        "messages": [message_document(message) for message in found],
        "count": len(found),
        "nextCursor": await next_page(store, ident, found, limit) or None,
    }


async def _thread(call: Call, account: Known, ident: str) -> Thread:
    """The thread of this id.  Raises HttpError 403 (another account's), 404."""
    try:
        parsed = ThreadId.parse(ident)
    except BadInput as error:
        raise HttpError(404, "thread_not_found", "Thread not found") from error
    if parsed.account != account.id:
        raise HttpError(403, "account_mismatch", "the thread belongs to another account")
    thread = await call.context.store.thread(ident)
    if thread is None:
        raise HttpError(404, "thread_not_found", "Thread not found")
    return thread


def _after(call: Call) -> Page | None:
    return page_of(call.request.query.get("after", ""))


# --- the inbox ----------------------------------------------------------------------------------


async def inbox(call: Call) -> Answer:
    """The newest messages of all conversations together."""
    account = await known_of(call)
    limit = limit_of(call, 100)
    found = await _newest(call, account, limit)
    totals = await call.context.store.totals(account.id)
    content = {
        "success": True,
        "messages": [_inbox_document(thread, message) for thread, message in found],
        "count": len(found),
        "totalMessages": totals.messages,
    }
    return document(200, content)


async def _newest(call: Call, account: Known, limit: int) -> list[tuple[Thread, Brief]]:
    """The newest messages of an account.  Threads are read until the next one has nothing that is newer."""
    kept: list[tuple[tuple[int, int, str], Thread, Brief]] = []
    for thread in await call.context.store.threads(account.id, limit=limit):
        if len(kept) == limit and thread.last_ms < kept[0][0][0]:
            break
        for message in await call.context.store.messages(thread.id, limit=limit):
            # Cut before it is kept: many that are large would fill the memory.
            short = brief(message, TEXT_LIMIT)
            row = ((message.at_ms, message.seen, message.id), thread, short)
            if len(kept) < limit:
                heapq.heappush(kept, row)
            elif row[0] > kept[0][0]:
                heapq.heapreplace(kept, row)
            else:
                break
    kept.sort(key=lambda row: row[0], reverse=True)
    return [(thread, message) for _, thread, message in kept]


def _inbox_document(thread: Thread, found: Brief) -> Document:
    fields, message = thread_fields(brief_thread(thread)), found.message
    return {
        **_brief_document(found),
        "messageId": message.id,
        "displayName": fields["displayName"],
        "contactType": _CONTACTS.get(Jid.parse(message.chat).kind, "phone"),
    }


_CONTACTS: Final = {JidKind.GROUP: "group", JidKind.LID: "linked_device"}

ROUTES: Final = (
    Route(
        "GET", "/api/whatsapp/threads/{account}", "threads.list", threads,
        query=("limit", "orderBy", "after"),
    ),
    Route(
        "GET", "/api/whatsapp/messages/{account}/{thread}", "messages.list", _messages,
        query=("limit", "orderBy", "after"),
    ),
    Route(
        "GET", "/api/whatsapp/messages", "messages.list", messages_by_query,
        query=("accountId", "threadId", "limit", "after"),
    ),
    Route("GET", "/api/whatsapp/inbox/{account}", "messages.list", inbox, query=("limit",)),
)  # fmt: skip
