"""Operations on stored messages: list threads and messages, list, retry and cancel outbox entries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.pages import PAGE_BYTES, fitting
from wad.api.short_ids import find_entry, find_message
from wad.api.views.message import (
    MessagePage,
    MessageShown,
    ThreadPage,
    message_view,
    whole_view,
)
from wad.api.views.outbox import EntryPage, EntryView, entry_view
from wad.core.account_reference import Names, reference_kind
from wad.core.brief import brief_thread
from wad.core.errors import BadInput, Conflict, NotFound, UnknownAccount
from wad.core.jid import ThreadId, recipient
from wad.core.message import MessageStatus

if TYPE_CHECKING:
    from wad.core.message import Message
    from wad.store import Store
    from wad.store.port import PagePosition

_PIECE = 400_000  # characters of a text in one reply, of at most four bytes each
Limit = Annotated[int, Meta(ge=1, le=1000, description="how many at most")]
Before = Annotated[str, Meta(description="the `next` of the previous page")]


class ListThreads(Params, frozen=True):
    """Which threads to list."""

    account: Annotated[str, Meta(description="only this account (id, name or number)")] = ""
    limit: Limit = 50
    before: Before = ""


class Messages(Params, frozen=True):
    """Which messages to list."""

    account: Annotated[
        str, Meta(description="the account (id, name or number)", examples=["acc-15550000001"])
    ]
    chat: Annotated[
        str,
        Meta(
            description="the other party: a number, a JID or a thread id", examples=["+15550000002"]
        ),
    ]
    limit: Limit = 50
    before: Before = ""


class MessageRef(Params, frozen=True):
    """Which message to show."""

    id: Annotated[
        str, Meta(description="the message's id, or its beginning, as wadctl messages shows it")
    ]
    at: Annotated[int, Meta(ge=0, description="the `next` of the previous piece")] = 0


class Outbox(Params, frozen=True):
    """Which outbox entries to list."""

    account: Annotated[str, Meta(description="only this account (id, name or number)")] = ""
    state: Annotated[
        str, Meta(description="only these states: queued,sending,uncertain,failed,sent,...")
    ] = ""
    limit: Limit = 50
    before: Before = ""


class EntryRef(Params, frozen=True):
    """Which outbox entry."""

    id: Annotated[
        str, Meta(description="the entry's id, or its beginning, as wadctl outbox shows it")
    ]


class ShowEntry(Params, frozen=True):
    """Which outbox entry to show."""

    id: Annotated[
        str, Meta(description="the entry's id, or its beginning, as wadctl outbox shows it")
    ]
    wait: Annotated[
        float, Meta(ge=0, le=300, description="seconds to wait until it is sent or failed")
    ] = 0


async def _account_id(context: Context, ref: str) -> str:
    """The id of an account whose messages are read: they are stored here, whichever machine runs it.

    Raises UnknownAccount, Conflict if the reference matches several accounts.
    """
    try:
        return context.accounts.find(ref).id
    except (Conflict, UnknownAccount):
        known = [Names(one.account, one.name, one.phone) for one in await context.store.accounts()]
        found = [names.id for names in known if reference_kind(ref, names) is not None]
        if len(found) != 1:
            raise
        return found[0]


@operation("threads.list", access=Access.READ, command="threads")
async def threads(context: Context, request: ListThreads) -> ThreadPage:
    """List conversations, those with the newest messages first.

    Example: wadctl threads --account main --limit 20
    """
    account = await _account_id(context, request.account) if request.account else None
    found = await context.store.threads(
        account, limit=request.limit, before=page_of(request.before)
    )
    shown = fitting(map(brief_thread, found))
    more = len(shown) < len(found) or len(found) == request.limit
    return ThreadPage(shown, page_text(shown[-1].last_ms, shown[-1].id) if more else "")


@operation("messages.list", access=Access.READ, command="messages")
async def messages(context: Context, request: Messages) -> MessagePage:
    """List the messages of a conversation, newest first.

    Example: wadctl messages main +15550000002
    """
    account = await _account_id(context, request.account)
    thread = str(ThreadId.make(account, recipient(request.chat, account)))
    if await context.store.thread(thread) is None:
        raise NotFound(f"there is no thread {thread}", hint="wadctl threads lists them")
    found = await context.store.messages(
        thread, limit=request.limit, before=page_of(request.before)
    )
    shown = fitting(map(message_view, found))
    after = await next_page(context.store, thread, found[: len(shown)], request.limit)
    return MessagePage(thread, shown, after)


@operation("messages.show", access=Access.READ, command="message")
async def message(context: Context, request: MessageRef) -> MessageShown:
    """Show one message in full.

    A text that is too long for one reply is shown in pieces (--at).
    """
    found = await find_message(context.store, request.id)
    if found is None:
        raise NotFound(
            f"there is no message {request.id!r}", hint="wadctl messages ACCOUNT CHAT lists them"
        )
    whole = whole_view(found)
    if len(msgspec.msgpack.encode(whole)) <= PAGE_BYTES:
        return MessageShown(whole, 0, None)
    text, at = found.content.text, request.at
    piece = msgspec.structs.replace(message_view(found), text=text[at : at + _PIECE])
    end = at + len(piece.text)
    return MessageShown(piece, at, end if end < len(text) else None)


@operation("outbox.list", access=Access.READ, command="outbox")
async def outbox(context: Context, request: Outbox) -> EntryPage:
    """List the messages that this machine sent or is to send, with their states.

    Example: wadctl outbox --state failed,uncertain
    """
    account = await _account_id(context, request.account) if request.account else None
    found = await context.store.entries(
        account,
        states=states_of(request.state),
        limit=request.limit,
        before=page_of(request.before),
    )
    shown = fitting(map(entry_view, found))
    more = len(shown) < len(found) or len(found) == request.limit
    return EntryPage(shown, page_text(shown[-1].created_ms, shown[-1].id) if more else "")


@operation("outbox.retry", access=Access.OPERATE, command="outbox retry", leader_only=True)
async def retry(context: Context, request: EntryRef) -> EntryView:
    """Send a failed or uncertain message again.

    An uncertain message may arrive twice.
    """
    return entry_view(await context.outbound.retry(await _entry_id(context, request.id)))


@operation("outbox.cancel", access=Access.OPERATE, command="outbox cancel", leader_only=True)
async def cancel(context: Context, request: EntryRef) -> EntryView:
    """Cancel a queued message."""
    return entry_view(await context.outbound.cancel(await _entry_id(context, request.id)))


@operation("outbox.show", access=Access.READ, command="outbox show")
async def show_entry(context: Context, request: ShowEntry) -> EntryView:
    """Show one message of the outbox, with --wait once it is sent or failed.

    Example: wadctl outbox show 3f9c0a1b --wait 30
    """
    ident = await _entry_id(context, request.id)
    return entry_view(await context.outbound.settled(ident, timeout=request.wait))


async def _entry_id(context: Context, given: str) -> str:
    """The whole id of an entry.  Raises NotFound, Conflict if several ids begin so."""
    found = await find_entry(context.store, given)
    if found is None:
        raise NotFound(f"there is no message {given!r} in the outbox", hint="wadctl outbox")
    return found.id


def page_of(text: str) -> PagePosition | None:
    """The position that a `next` value names.  Raises BadInput."""
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,18})-(\d{1,18})-(.+)", text)
    if match is None:
        raise BadInput(f"{text!r} is not a valid page", hint="use the `next` of the previous page")
    from wad.store.port import PagePosition  # here, so that wadctl does not load it

    return PagePosition(int(match[1]), match[3], int(match[2]))


def page_text(at_ms: int, ident: str, seen: int = 0) -> str:
    """The `next` value of a position; the inverse of page_of()."""
    return f"{at_ms}-{seen}-{ident}"


async def next_page(store: Store, thread: str, shown: list[Message], limit: int) -> str:
    """The `next` of a page with these messages; empty on the last page.

    A page of large messages may hold fewer than `limit`, so the store is asked whether more follow.
    """
    if not shown:
        return ""
    last = shown[-1]
    after = page_text(last.at_ms, last.id, last.seen)
    if len(shown) < limit and not await store.messages(thread, limit=1, before=page_of(after)):
        return ""
    return after


def states_of(text: str) -> list[MessageStatus]:
    """Outbox states from a comma-separated list.  Raises BadInput."""
    try:
        return [MessageStatus(word.strip()) for word in text.split(",") if word.strip()]
    except ValueError as error:
        raise BadInput(str(error), hint=f"one of {', '.join(MessageStatus)}") from error
