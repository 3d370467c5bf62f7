"""Messages: read threads, look at the outbox."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.pages import PAGE_BYTES, fitting
from wad.api.views.message import MessageView, message_view, whole_view
from wad.api.views.status import EntryView, entry_view
from wad.core.brief import brief_thread
from wad.core.errors import BadInput, NotFound
from wad.core.jid import ThreadId, recipient
from wad.core.message import MessageStatus, Thread

if TYPE_CHECKING:
    from wad.core.message import Message
    from wad.store import Store
    from wad.store.port import PagePosition

_PIECE = 400_000  # characters of a text in one reply; four bytes each, at the most
Limit = Annotated[int, Meta(ge=1, le=1000, description="how many at the most")]
Before = Annotated[str, Meta(description="the `next` of the page before")]


class ListThreads(Params, frozen=True):
    """Which threads."""

    account: Annotated[str, Meta(description="only this account (id, name or number)")] = ""
    limit: Limit = 50
    before: Before = ""


class ThreadPage(msgspec.Struct, frozen=True):
    """Threads, the one with the newest message first; `next` is empty at the end."""

    threads: list[Thread]
    next: str


class Messages(Params, frozen=True):
    """Which messages."""

    account: Annotated[str, Meta(description="the account (id, name or number)")]
    chat: Annotated[str, Meta(description="the other party: a number or a JID")]
    limit: Limit = 50
    before: Before = ""


class MessagePage(msgspec.Struct, frozen=True):
    """Messages, newest first; `next` is empty at the end."""

    thread: str
    messages: list[MessageView]
    next: str


class MessageRef(Params, frozen=True):
    """One message."""

    id: Annotated[str, Meta(description="the message's id, as lists show it with --json")]
    at: Annotated[int, Meta(ge=0, description="the `next` of the piece before")] = 0


class MessageShown(msgspec.Struct, frozen=True):
    """A message, whole; or, where that does not fit into a reply, its text from the character `at` on.

    `next`: where the next piece of the text begins; None at its end.
    """

    message: MessageView
    at: int
    next: int | None


class Outbox(Params, frozen=True):
    """Which entries."""

    account: Annotated[str, Meta(description="only this account (id, name or number)")] = ""
    state: Annotated[
        str, Meta(description="only these, with commas: queued,sending,uncertain,failed,sent,...")
    ] = ""
    limit: Limit = 50
    before: Before = ""


class EntryPage(msgspec.Struct, frozen=True):
    """Entries, newest first; `next` is empty at the end."""

    entries: list[EntryView]
    next: str


class EntryRef(Params, frozen=True):
    """One entry."""

    id: Annotated[str, Meta(description="the entry's id")]


@operation("threads.list", access=Access.READ, command="threads")
async def threads(context: Context, request: ListThreads) -> ThreadPage:
    """List conversations, the newest message first."""
    account = context.accounts.find(request.account).id if request.account else None
    found = await context.store.threads(
        account, limit=request.limit, before=page_of(request.before)
    )
    shown = fitting(map(brief_thread, found))
    more = len(shown) < len(found) or len(found) == request.limit
    return ThreadPage(shown, page_text(shown[-1].last_ms, shown[-1].id) if more else "")


@operation("messages.list", access=Access.READ, command="messages")
async def messages(context: Context, request: Messages) -> MessagePage:
    """List the messages of a conversation, newest first."""
    account = context.accounts.find(request.account)
    thread = str(ThreadId.make(account.id, recipient(request.chat)))
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
    """Show one message whole; a text that is too long for one reply comes in pieces."""
    found = await context.store.message(request.id)
    if found is None:
        raise NotFound(f"there is no message {request.id!r}", hint="wadctl messages ... --json")
    whole = whole_view(found)
    if len(msgspec.msgpack.encode(whole)) <= PAGE_BYTES:
        return MessageShown(whole, 0, None)
    text, at = found.content.text, request.at
    piece = msgspec.structs.replace(message_view(found), text=text[at : at + _PIECE])
    end = at + len(piece.text)
    return MessageShown(piece, at, end if end < len(text) else None)


@operation("outbox.list", access=Access.READ, command="outbox")
async def outbox(context: Context, request: Outbox) -> EntryPage:
    """List what is queued, was sent, failed or is uncertain."""
    account = context.accounts.find(request.account).id if request.account else None
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
    """Send a failed or uncertain message (again); an uncertain one may then arrive twice."""
    return entry_view(await context.outbound.retry(request.id))


@operation("outbox.cancel", access=Access.OPERATE, command="outbox cancel", leader_only=True)
async def cancel(context: Context, request: EntryRef) -> EntryView:
    """Do not send a message that waits."""
    return entry_view(await context.outbound.cancel(request.id))


def page_of(text: str) -> PagePosition | None:
    """The place named by a `next`.  Raises BadInput."""
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,18})-(\d{1,18})-(.+)", text)
    if match is None:
        raise BadInput(f"{text!r} is no page", hint="give the `next` of the page before")
    from wad.store.port import PagePosition  # here, so that wadctl does not load it

    return PagePosition(int(match[1]), match[3], int(match[2]))


def page_text(at_ms: int, ident: str, seen: int = 0) -> str:
    """The inverse of page_of()."""
    return f"{at_ms}-{seen}-{ident}"


async def next_page(store: Store, thread: str, shown: list[Message], limit: int) -> str:
    """The `next` of a page of messages that holds these; empty at the end.

    A page may hold fewer than `limit` since they are large, so it is the store that knows whether more follow.
    """
    if not shown:
        return ""
    last = shown[-1]
    after = page_text(last.at_ms, last.id, last.seen)
    if len(shown) < limit and not await store.messages(thread, limit=1, before=page_of(after)):
        return ""
    return after


def states_of(text: str) -> list[MessageStatus]:
    """Outbox states from a list with commas.  Raises BadInput."""
    try:
        return [MessageStatus(word.strip()) for word in text.split(",") if word.strip()]
    except ValueError as error:
        raise BadInput(str(error), hint=f"one of {', '.join(MessageStatus)}") from error
