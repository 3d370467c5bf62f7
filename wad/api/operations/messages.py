"""Messages: send, read threads, look at the outbox."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.message_view import MessageView, message_view
from wad.api.operation import Access, Params, operation
from wad.api.views import EntryView, entry_view
from wad.core.errors import BadInput, NotFound
from wad.core.jid import ThreadId, recipient
from wad.core.message import MessageStatus, Thread

if TYPE_CHECKING:
    from wad.store.port import Page

Limit = Annotated[int, Meta(ge=1, le=1000, description="how many at the most")]
Before = Annotated[str, Meta(description="the `next` of the page before")]


class Send(Params, frozen=True):
    """A message to send."""

    account: Annotated[str, Meta(description="the account that sends (id, name or number)")]
    to: Annotated[str, Meta(description="a number (+15550000002) or a JID")]
    text: Annotated[str, Meta(description="the text")]
    client_id: Annotated[
        str, Meta(max_length=200, description="your own id: the same id twice is one message")
    ] = ""
    wait: Annotated[
        float, Meta(ge=0, le=300, description="wait so many seconds until it is sent or failed")
    ] = 0


class SendReply(msgspec.Struct, frozen=True):
    """The message as it stands now."""

    message: EntryView
    duplicate: bool


class Threads(Params, frozen=True):
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


@operation("messages.send", access=Access.OPERATE, command="send", leader_only=True)
async def send(context: Context, request: Send) -> SendReply:
    """Queue a message; it is sent as soon as the account is connected."""
    account = context.accounts.find(request.account)
    queued = await context.outbound.enqueue(
        account.id, recipient(request.to), request.text, client_id=request.client_id
    )
    entry = queued.entry
    if request.wait:
        entry = await context.outbound.settled(entry.id, timeout=request.wait)
    return SendReply(entry_view(entry), queued.duplicate)


@operation("threads.list", access=Access.READ, command="threads")
async def threads(context: Context, request: Threads) -> ThreadPage:
    """List conversations, the newest message first."""
    account = context.accounts.find(request.account).id if request.account else None
    found = await context.store.threads(
        account, limit=request.limit, before=page_of(request.before)
    )
    full = len(found) == request.limit
    return ThreadPage(found, page_text(found[-1].last_ms, found[-1].id) if full else "")


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
    full = len(found) == request.limit
    after = page_text(found[-1].at_ms, found[-1].id, found[-1].seen) if full else ""
    return MessagePage(thread, [message_view(message) for message in found], after)


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
    full = len(found) == request.limit
    after = page_text(found[-1].created_ms, found[-1].id) if full else ""
    return EntryPage([entry_view(entry) for entry in found], after)


@operation("outbox.retry", access=Access.OPERATE, command="outbox retry", leader_only=True)
async def retry(context: Context, request: EntryRef) -> EntryView:
    """Send a failed or uncertain message (again); an uncertain one may then arrive twice."""
    return entry_view(await context.outbound.retry(request.id))


@operation("outbox.cancel", access=Access.OPERATE, command="outbox cancel", leader_only=True)
async def cancel(context: Context, request: EntryRef) -> EntryView:
    """Do not send a message that waits."""
    return entry_view(await context.outbound.cancel(request.id))


def page_of(text: str) -> Page | None:
    """The place named by a `next`.  Raises BadInput."""
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,18})-(\d{1,18})-(.+)", text)
    if match is None:
        raise BadInput(f"{text!r} is no page", hint="give the `next` of the page before")
    from wad.store.port import Page  # here, so that wadctl does not load it

    return Page(int(match[1]), match[3], int(match[2]))


def page_text(at_ms: int, ident: str, seen: int = 0) -> str:
    """The inverse of page_of()."""
    return f"{at_ms}-{seen}-{ident}"


def states_of(text: str) -> list[MessageStatus]:
    """Outbox states from a list with commas.  Raises BadInput."""
    try:
        return [MessageStatus(word.strip()) for word in text.split(",") if word.strip()]
    except ValueError as error:
        raise BadInput(str(error), hint=f"one of {', '.join(MessageStatus)}") from error
