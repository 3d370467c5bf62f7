"""Operations that send: one for each kind of content; all of them queue an outbox entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.short_ids import find_message
from wad.api.views.account import waits_for
from wad.api.views.outbox import SendReply, entry_view
from wad.core.errors import NotFound
from wad.core.jid import STATUS, Jid, recipient
from wad.core.outgoing import (
    Attachment,
    AttachmentKind,
    ContactCard,
    NewPoll,
    Outgoing,
    OwnReaction,
    Revoke,
    SharedLocation,
    StatusText,
    Target,
    Text,
    TextEdit,
    mentioned,
    target_of,
)
from wad.core.outgoing_rules import check_voice

if TYPE_CHECKING:
    from wad.flow.accounts.account import Account

AccountRef = Annotated[
    str,
    Meta(description="the account that sends (id, name or number)", examples=["acc-15550000001"]),
]
To = Annotated[
    str,
    Meta(description="a number (+15550000002), a JID or a thread id", examples=["+15550000002"]),
]
ReplyTo = Annotated[
    str, Meta(description="the id of the stored message to reply to, or its beginning")
]
MessageRef = Annotated[
    str, Meta(description="the id of a stored message, or its beginning (wadctl messages)")
]
ClientId = Annotated[
    str,
    Meta(
        max_length=200,
        description="your own id; the same id twice is sent once",
        examples=["order-4711"],
    ),
]
Wait = Annotated[
    float, Meta(ge=0, le=300, description="seconds to wait until it is sent or failed")
]


class SendText(Params, frozen=True):
    """A text to send."""

    account: AccountRef
    to: To
    text: Annotated[str, Meta(description="the text", examples=["Good morning"])]
    reply_to: ReplyTo = ""
    mentions: Annotated[
        tuple[str, ...],
        Meta(description="a contact that the text names as @NUMBER; may be repeated"),
    ] = ()
    client_id: ClientId = ""
    wait: Wait = 0


class SendFile(Params, frozen=True):
    """A file to send, uploaded before with `media.put`."""

    account: AccountRef
    to: To
    sha256: Annotated[str, Meta(description="the file's SHA-256, from media.put")]
    kind: Annotated[AttachmentKind, Meta(description="how the apps show it")]
    mimetype: Annotated[str, Meta(description="its media type, e.g. image/jpeg")]
    caption: Annotated[str, Meta(description="a text below it (image, video, document)")] = ""
    filename: Annotated[
        str, Meta(description="the file name that the apps show for a document")
    ] = ""
    seconds: Annotated[int, Meta(ge=0, description="its duration in seconds")] = 0
    width: Annotated[int, Meta(ge=0, description="its width in pixels")] = 0
    height: Annotated[int, Meta(ge=0, description="its height in pixels")] = 0
    reply_to: ReplyTo = ""
    client_id: ClientId = ""
    wait: Wait = 0


class SendLocation(Params, frozen=True):
    """A location to send."""

    account: AccountRef
    to: To
    latitude: Annotated[float, Meta(ge=-90, le=90, description="degrees north")]
    longitude: Annotated[float, Meta(ge=-180, le=180, description="degrees east")]
    name: Annotated[str, Meta(description="the location's name")] = ""
    address: Annotated[str, Meta(description="its address")] = ""
    reply_to: ReplyTo = ""
    client_id: ClientId = ""
    wait: Wait = 0


class SendContact(Params, frozen=True):
    """A contact card to send."""

    account: AccountRef
    to: To
    name: Annotated[str, Meta(description="the contact's name")]
    phone: Annotated[str, Meta(description="the contact's number (+15550000003)")]
    reply_to: ReplyTo = ""
    client_id: ClientId = ""
    wait: Wait = 0


class SendPoll(Params, frozen=True):
    """A poll to send."""

    account: AccountRef
    to: To
    question: Annotated[str, Meta(description="the question")]
    answers: Annotated[tuple[str, ...], Meta(description="2 to 12 answers to choose from")]
    selectable: Annotated[
        int, Meta(ge=0, le=12, description="how many may be chosen; 0: any number")
    ] = 1
    reply_to: ReplyTo = ""
    client_id: ClientId = ""
    wait: Wait = 0


class PostStatus(Params, frozen=True):
    """A text to post as the account's status."""

    account: AccountRef
    text: Annotated[str, Meta(description="the text")]
    client_id: ClientId = ""
    wait: Wait = 0


class React(Params, frozen=True):
    """A reaction to send."""

    account: AccountRef
    message: MessageRef
    emoji: Annotated[str, Meta(description="one emoji; an empty text removes the reaction")]
    client_id: ClientId = ""
    wait: Wait = 0


class EditText(Params, frozen=True):
    """A new text for a message that this account sent."""

    account: AccountRef
    message: MessageRef
    text: Annotated[str, Meta(description="the new text")]
    client_id: ClientId = ""
    wait: Wait = 0


class RevokeMessage(Params, frozen=True):
    """A message that this account sent, to be deleted for everyone."""

    account: AccountRef
    message: MessageRef
    client_id: ClientId = ""
    wait: Wait = 0


# --- messages ---------------------------------------------------------------------------------------


@operation("messages.send", access=Access.OPERATE, command="send", leader_only=True)
async def send(context: Context, request: SendText) -> SendReply:
    """Queue a text message; it is sent as soon as the account is connected.

    Example: wadctl send main +15550000002 "we open at 9" --wait 30
    """
    account = context.accounts.find(request.account)
    content = Text(
        request.text,
        reply_to=await _reply_target(context, account, request.reply_to),
        mentions=tuple(map(mentioned, request.mentions)),
    )
    return await _queue(context, account, recipient(request.to, account.id), content, request)


@operation("messages.send_file", access=Access.OPERATE, command="send-file", leader_only=True)
async def send_file(context: Context, request: SendFile) -> SendReply:
    """Queue a file: an image, video, audio file, voice note, document or sticker."""
    account = context.accounts.find(request.account)
    if request.kind is AttachmentKind.VOICE:
        check_voice(await context.media.head(request.sha256, 64))
    content = Attachment(
        kind=request.kind,
        sha256=request.sha256,
        size=await context.media.use(request.sha256),
        mimetype=request.mimetype,
        caption=request.caption,
        filename=request.filename,
        seconds=request.seconds,
        width=request.width,
        height=request.height,
        reply_to=await _reply_target(context, account, request.reply_to),
    )
    return await _queue(context, account, recipient(request.to, account.id), content, request)


@operation(
    "messages.send_location", access=Access.OPERATE, command="send-location", leader_only=True
)
async def send_location(context: Context, request: SendLocation) -> SendReply:
    """Queue a location.

    Example: wadctl send-location main +15550000002 52.52 13.405 --name Berlin
    """
    account = context.accounts.find(request.account)
    content = SharedLocation(
        request.latitude,
        request.longitude,
        name=request.name,
        address=request.address,
        reply_to=await _reply_target(context, account, request.reply_to),
    )
    return await _queue(context, account, recipient(request.to, account.id), content, request)


@operation("messages.send_contact", access=Access.OPERATE, command="send-contact", leader_only=True)
async def send_contact(context: Context, request: SendContact) -> SendReply:
    """Queue a contact card.

    Example: wadctl send-contact main +15550000002 "Ann Lee" +15550000003
    """
    account = context.accounts.find(request.account)
    reply_to = await _reply_target(context, account, request.reply_to)
    content = ContactCard(request.name, request.phone, reply_to)
    return await _queue(context, account, recipient(request.to, account.id), content, request)


@operation("messages.send_poll", access=Access.OPERATE, command="send-poll", leader_only=True)
async def send_poll(context: Context, request: SendPoll) -> SendReply:
    """Queue a poll.

    Example: wadctl send-poll main +15550000002 "When?" Monday Tuesday
    """
    account = context.accounts.find(request.account)
    reply_to = await _reply_target(context, account, request.reply_to)
    content = NewPoll(request.question, request.answers, request.selectable, reply_to)
    return await _queue(context, account, recipient(request.to, account.id), content, request)


@operation("messages.post_status", access=Access.OPERATE, command="post-status", leader_only=True)
async def post_status(context: Context, request: PostStatus) -> SendReply:
    """Queue a text for the account's status, which its contacts see for 24 hours.

    WhatsApp sends it to all contacts in the phone's address book that the phone's status privacy allows.

    Example: wadctl post-status main "Closed on Friday" --wait 30
    """
    account = context.accounts.find(request.account)
    return await _queue(context, account, STATUS, StatusText(request.text), request)


# --- changes to messages ----------------------------------------------------------------------------


@operation("messages.react", access=Access.OPERATE, command="react", leader_only=True)
async def react(context: Context, request: React) -> SendReply:
    """Add a reaction to a message, or remove it."""
    account = context.accounts.find(request.account)
    target = await _target(context, account, request.message)
    return await _amend(context, account, OwnReaction(target, request.emoji), request)


@operation("messages.edit", access=Access.OPERATE, command="edit", leader_only=True)
async def edit(context: Context, request: EditText) -> SendReply:
    """Edit a text message that this account sent, within 20 minutes."""
    account = context.accounts.find(request.account)
    target = await _target(context, account, request.message)
    return await _amend(context, account, TextEdit(target, request.text), request)


@operation("messages.revoke", access=Access.OPERATE, command="revoke", leader_only=True)
async def revoke(context: Context, request: RevokeMessage) -> SendReply:
    """Delete a message that this account sent for everyone, within 60 hours."""
    account = context.accounts.find(request.account)
    target = await _target(context, account, request.message)
    return await _amend(context, account, Revoke(target), request)


# --- shared ------------------------------------------------------------------------------------------


async def _amend(
    context: Context,
    account: Account,
    content: OwnReaction | TextEdit | Revoke,
    request: React | EditText | RevokeMessage,
) -> SendReply:
    return await _queue(context, account, Jid.parse(content.target.chat), content, request)


_Request = (
    SendText
    | SendFile
    | SendLocation
    | SendContact
    | SendPoll
    | PostStatus
    | React
    | EditText
    | RevokeMessage
)


async def _queue(
    context: Context, account: Account, to: Jid, content: Outgoing, request: _Request
) -> SendReply:
    queued = await context.outbound.enqueue(account.id, to, content, client_id=request.client_id)
    entry = queued.entry
    if request.wait:
        entry = await context.outbound.settled(entry.id, timeout=request.wait)
    waiting, action = waits_for(account)
    return SendReply(entry_view(entry), queued.duplicate, waiting, action)


async def _reply_target(context: Context, account: Account, ident: str) -> Target | None:
    return await _target(context, account, ident) if ident else None


async def _target(context: Context, account: Account, ident: str) -> Target:
    """The stored message with this id.  Raises NotFound, Conflict (it was not sent yet)."""
    message = await find_message(context.store, ident)
    if message is None or message.account != account.id:
        raise NotFound(
            f"account {account.id} has no message {ident!r}",
            hint="wadctl messages ACCOUNT CHAT shows the ids",
        )
    return target_of(message)
