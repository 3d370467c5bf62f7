"""Operations for the apps of the replaced backend, in its format (docs/internals/replaced-backend.md#routes).

Its Functions proxies are the same operations under other paths, with the account in the query.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from wad.api.caller import Caller
from wad.api.context import Context
from wad.api.legacy import documents
from wad.api.operation import Access, Http, Limit, Params, Route, operation
from wad.api.operations.daemon import NoParams
from wad.core.errors import LegacyRefusal

Document = dict[str, Any]
_STORED: Final = "whatsapp_media/"  # the prefix of the replaced backend's files


AccountId = Annotated[str, Meta(description="the account's id", examples=["acc-15550000001"])]
Name = Annotated[str, Meta(description="the account's display name", examples=["Front desk"])]
Phone = Annotated[
    str | None,
    Meta(description="the account's number, e.g. +15550000001", examples=["+15550000001"]),
]
MessageText = Annotated[str, Meta(description="the text to send", examples=["Good morning"])]
To = Annotated[str, Meta(description="the recipient: a number or a JID", examples=["+15550000002"])]
ThreadRef = Annotated[
    str,
    Meta(
        description="the thread's id, ACCOUNT__JID",
        examples=["acc-15550000001__15550000002@s.whatsapp.net"],
    ),
]
ClientMessageId = Annotated[
    str,
    Meta(
        description="the client's own id; the same id twice is one message", examples=["order-4711"]
    ),
]
Enabled = Annotated[bool, Meta(description="whether to reply automatically")]
Prompt = Annotated[
    str | None, Meta(description="the prompt for the program that writes replies; null removes it")
]
Extra = Annotated[Any, Meta(description="stored and returned unchanged; not used by wad")]


# --- requests -------------------------------------------------------------------------------------


class ListAccounts(Params, frozen=True):
    """Which accounts to list."""

    codes: Annotated[bool, Meta(description="include QR codes, if the caller may pair")] = True


class AccountRequest(Params, frozen=True):
    """A request about one account."""

    account: AccountId = ""


class AddAccount(Params, frozen=True):
    """A new account."""

    name: Name
    phone: Phone = None


class RenameAccount(Params, frozen=True):
    """A new name for an account."""

    account: AccountId
    name: Name


class ListRequest(Params, frozen=True):
    """A page of an account's threads or messages; numbers are texts, as in the query."""

    account: AccountId = ""
    thread: ThreadRef = ""
    limit: Annotated[str, Meta(description="how many at most, 1 to 500")] = ""
    after: Annotated[str, Meta(description="the `nextCursor` of the previous page")] = ""
    order: Annotated[str, Meta(description="accepted and ignored: the newest come first")] = ""


class LegacySend(Params, frozen=True):
    """A text to send, to a recipient or a thread."""

    account_id: AccountId
    message: MessageText
    to: To = ""
    thread_id: ThreadRef = ""
    client_message_id: ClientMessageId = ""
    request_id: Annotated[
        str, Meta(description="the caller's X-Request-Id, used if there is no clientMessageId")
    ] = ""


class ProxySend(Params, frozen=True):
    """A text to send, in the format of the apps' proxy."""

    thread_id: ThreadRef
    account_id: AccountId
    to_jid: To
    text: MessageText
    client_message_id: ClientMessageId


class SetAutoReply(Params, frozen=True):
    """Auto-reply settings; later versions of the apps use the other fields."""

    account: AccountId
    enabled: Enabled
    prompt: Prompt = None
    logic: Extra = None
    restrictions: Extra = None
    pricing: Extra = None
    faq: Extra = None
    extraction: Extra = None


class MediaUrl(Params, frozen=True):
    """A media file of the replaced backend."""

    path: Annotated[str, Meta(description="the path in Cloud Storage, whatsapp_media/...")] = ""


class ProfilePhoto(Params, frozen=True):
    """A contact's profile picture."""

    account: AccountId
    client: Annotated[str, Meta(description="the contact's JID")] = ""


# --- bodies ---------------------------------------------------------------------------------------


class NewAccount(msgspec.Struct):
    """A new account."""

    name: Name
    phone: Phone = None


class NewName(msgspec.Struct):
    """A new name for an account."""

    name: Name


class SendBody(msgspec.Struct, rename="camel"):
    """A text to send, to a recipient or a thread."""

    account_id: AccountId
    message: MessageText
    to: To = ""
    thread_id: ThreadRef = ""
    client_message_id: ClientMessageId = ""


class ProxySendBody(msgspec.Struct, rename="camel"):
    """A text to send, in the format of the apps' proxy."""

    thread_id: ThreadRef
    account_id: AccountId
    to_jid: To
    text: MessageText
    client_message_id: ClientMessageId


class AutoReplyBody(msgspec.Struct):
    """Auto-reply settings."""

    enabled: Enabled
    prompt: Prompt = None
    logic: Extra = None
    restrictions: Extra = None
    pricing: Extra = None
    faq: Extra = None
    extraction: Extra = None


# --- accounts -------------------------------------------------------------------------------------

_ID: Final = {"accountId": "account"}


@operation(
    "contract.accounts",
    reply=documents.AccountList,
    access=Access.READ,
    http=Http(headerless=True, routes=(Route("GET", "/api/whatsapp/accounts"),)),
)
async def accounts_(context: Context, request: ListAccounts, caller: Caller) -> Document:
    """List the accounts."""
    from wad.api.legacy import accounts

    return await accounts.list_(context, caller, with_codes=request.codes)


@operation(
    "contract.accounts_with_token",
    reply=documents.AccountList,
    access=Access.READ,
    http=Http(routes=(Route("GET", "/accounts"),)),
)
async def accounts_with_token(context: Context, request: NoParams, caller: Caller) -> Document:
    """List the accounts; always requires a token."""
    return await accounts_(context, ListAccounts(), caller)


@operation(
    "contract.accounts_for_admins",
    reply=documents.AccountList,
    access=Access.ADMIN,
    http=Http(headerless=True, routes=(Route("GET", "/whatsappProxyGetAccounts"),)),
)
async def accounts_for_admins(context: Context, request: NoParams, caller: Caller) -> Document:
    """List the accounts, for administrators only."""
    return await accounts_(context, ListAccounts(), caller)


@operation(
    "contract.accounts_for_staff",
    reply=documents.AccountList,
    access=Access.OPERATE,
    http=Http(routes=(Route("GET", "/whatsappProxyGetAccountsStaff"),)),
)
async def accounts_for_staff(context: Context, request: NoParams, caller: Caller) -> Document:
    """List the accounts, for employees, without QR codes."""
    return await accounts_(context, ListAccounts(codes=False), caller)


@operation(
    "contract.health",
    reply=documents.AccountHealth,
    access=Access.READ,
    http=Http(routes=(Route("GET", "/api/whatsapp/accounts/{account}/health"),)),
)
async def health(context: Context, request: AccountRequest) -> Document:
    """Show the state of an account's connection."""
    from wad.api.legacy import accounts

    return accounts.health(accounts.account_of(context, request.account))


@operation(
    "contract.qr",
    access=Access.ADMIN,
    http=Http(routes=(Route("GET", "/api/whatsapp/qr/{account}", browser=True),)),
)
async def qr(context: Context, request: AccountRequest) -> Document:
    """Show the page with an account's QR code."""
    from wad.api.legacy import accounts
    from wad.api.legacy.vocabulary import status_word

    account = accounts.account_of(context, request.account)
    status = account.status
    return {"name": account.card.name, "status": status_word(status), "qrCode": status.qr or None}


@operation(
    "contract.add",
    reply=documents.AccountAdded,
    access=Access.ADMIN,
    leader_only=True,
    http=Http(
        limit=Limit.ACCOUNTS,
        routes=(
            Route("POST", "/api/whatsapp/add-account", body=NewAccount),
            Route("POST", "/whatsappProxyAddAccount", body=NewAccount),
        ),
    ),
)
async def add(context: Context, request: AddAccount, caller: Caller) -> Document:
    """Add an account and open its pairing window."""
    from wad.api.legacy import accounts

    return await accounts.add(context, caller, request.name, request.phone or "")


@operation(
    "contract.regenerate_qr",
    reply=documents.PairingStarted,
    access=Access.ADMIN,
    leader_only=True,
    http=Http(
        limit=Limit.QR,
        headerless=True,
        routes=(
            Route("POST", "/api/whatsapp/regenerate-qr/{account}"),
            Route("POST", "/whatsappProxyRegenerateQr", query=_ID),
        ),
    ),
)
async def regenerate(context: Context, request: AccountRequest, caller: Caller) -> Document:
    """Request a QR code; never ends a session."""
    from wad.api.legacy import accounts

    return await accounts.regenerate(
        context, caller, accounts.required_account(context, request.account)
    )


@operation(
    "contract.delete",
    reply=documents.AccountDeleted,
    access=Access.ADMIN,
    leader_only=True,
    http=Http(
        limit=Limit.ACCOUNTS,
        routes=(
            Route("DELETE", "/api/whatsapp/accounts/{account}"),
            Route("POST", "/whatsappProxyDeleteAccount", query=_ID),
            Route("DELETE", "/whatsappProxyDeleteAccount", query=_ID),
        ),
    ),
)
async def delete(context: Context, request: AccountRequest, caller: Caller) -> Document:
    """Remove an account; `wadctl account restore` restores it."""
    from wad.api.legacy import accounts

    return await accounts.delete(
        context, caller, accounts.required_account(context, request.account)
    )


@operation(
    "contract.rename",
    reply=documents.AccountRenamed,
    access=Access.ADMIN,
    leader_only=True,
    http=Http(
        limit=Limit.ACCOUNTS,
        routes=(Route("PATCH", "/api/whatsapp/accounts/{account}/name", body=NewName),),
    ),
)
async def rename(context: Context, request: RenameAccount, caller: Caller) -> Document:
    """Rename an account."""
    from wad.api.legacy import accounts

    account = accounts.account_of(context, request.account)
    return await accounts.rename(context, caller, account, request.name)


@operation(
    "contract.reset",
    reply=documents.AccountReset,
    access=Access.ADMIN,
    leader_only=True,
    http=Http(
        limit=Limit.ACCOUNTS,
        routes=(Route("POST", "/api/whatsapp/accounts/{account}/reset"),),
    ),
)
async def reset(context: Context, request: AccountRequest, caller: Caller) -> Document:
    """Log an account out, so that it can be paired again."""
    from wad.api.legacy import accounts

    return await accounts.reset(context, caller, accounts.account_of(context, request.account))


@operation(
    "contract.disconnect",
    reply=documents.AccountDisconnected,
    access=Access.ADMIN,
    leader_only=True,
    http=Http(limit=Limit.ACCOUNTS, routes=(Route("POST", "/api/whatsapp/disconnect/{account}"),)),
)
async def disconnect(context: Context, request: AccountRequest, caller: Caller) -> Document:
    """Stop an account until it is started again."""
    from wad.api.legacy import accounts

    return await accounts.disconnect(context, caller, accounts.account_of(context, request.account))


@operation(
    "contract.profile_photo",
    access=Access.READ,
    http=Http(
        routes=(
            Route("GET", "/api/whatsapp/profile-photo/{account}", query={"clientJid": "client"}),
        )
    ),
)
async def profile_photo(context: Context, request: ProfilePhoto) -> Document:
    """Not supported: wad does not request profile pictures from WhatsApp."""
    from wad.api.legacy import accounts

    accounts.account_of(context, request.account)
    if not request.client:
        raise LegacyRefusal(400, "invalid_request", "clientJid is missing")
    raise LegacyRefusal(501, "not_supported", "wad does not request profile pictures")


# --- conversations --------------------------------------------------------------------------------

_LIST: Final = {"limit": "limit", "orderBy": "order", "after": "after"}
_PAGE: Final = {"accountId": "account", "limit": "limit", "after": "after"}
_THREAD: Final = {**_PAGE, "threadId": "thread"}


@operation(
    "contract.threads",
    reply=documents.ThreadList,
    access=Access.READ,
    http=Http(routes=(Route("GET", "/api/whatsapp/threads/{account}", query=_LIST),)),
)
async def threads(context: Context, request: ListRequest) -> Document:
    """List an account's threads, newest first."""
    from wad.api.legacy import conversations

    return await conversations.threads(context, request.account, request.limit, request.after)


@operation(
    "contract.messages",
    reply=documents.MessageList,
    access=Access.READ,
    http=Http(
        routes=(
            Route("GET", "/api/whatsapp/messages/{account}/{thread}", query=_LIST),
            Route("GET", "/api/whatsapp/messages", query=_THREAD),
        )
    ),
)
async def messages(context: Context, request: ListRequest) -> Document:
    """List the messages of a thread, newest first; without a thread, the newest messages of each."""
    from wad.api.legacy import conversations

    return await conversations.messages_or_threads(
        context, request.account, request.thread, request.limit, request.after
    )


@operation(
    "contract.inbox",
    reply=documents.InboxList,
    access=Access.READ,
    http=Http(routes=(Route("GET", "/api/whatsapp/inbox/{account}", query={"limit": "limit"}),)),
)
async def inbox(context: Context, request: ListRequest) -> Document:
    """List the newest messages of all threads of an account."""
    from wad.api.legacy import conversations

    return await conversations.inbox(context, request.account, request.limit)


def _for_staff(
    name: str,
    path: str,
    query: Mapping[str, str],
    listing: Callable[..., Awaitable[Document]],
    reply: Any,
) -> None:
    """Declare a list for employees under their proxy's path, with the account in the query."""

    @operation(
        name,
        reply=reply,
        access=Access.OPERATE,
        http=Http(routes=(Route("GET", path, query=query),)),
    )
    async def for_staff(context: Context, request: ListRequest) -> Document:
        """The same list for employees, under their proxy's path."""
        if not request.account:
            raise LegacyRefusal(400, "invalid_request", "accountId is missing")
        return await listing(context, request)


_for_staff(
    "contract.threads_for_staff", "/whatsappProxyGetThreads", _PAGE, threads, documents.ThreadList
)
_for_staff(
    "contract.messages_for_staff",
    "/whatsappProxyGetMessages",
    _THREAD,
    messages,
    documents.MessageList,
)
_for_staff("contract.inbox_for_staff", "/whatsappProxyGetInbox", _PAGE, inbox, documents.InboxList)


# --- sending --------------------------------------------------------------------------------------


@operation(
    "contract.send",
    reply=documents.MessageSent,
    access=Access.OPERATE,
    leader_only=True,
    http=Http(
        limit=Limit.SEND, routes=(Route("POST", "/api/whatsapp/send-message", body=SendBody),)
    ),
)
async def send(context: Context, request: LegacySend, caller: Caller) -> Document:
    """Send a text and return its result."""
    from wad.api.legacy import sending

    return await sending.send(context, request, caller)


@operation(
    "contract.proxy_send",
    reply=documents.ProxySent,
    access=Access.OPERATE,
    leader_only=True,
    http=Http(limit=Limit.SEND, routes=(Route("POST", "/whatsappProxySend", body=ProxySendBody),)),
)
async def proxy_send(context: Context, request: ProxySend, caller: Caller) -> Document:
    """Queue a text, in the format of the apps' proxy."""
    from wad.api.legacy import sending

    return await sending.proxy_send(context, request, caller)


# --- replies and history --------------------------------------------------------------------------

_REPLIES: Final = "/api/whatsapp/auto-reply-settings/{account}"


@operation(
    "contract.auto_reply",
    reply=documents.AutoReplyDocument,
    access=Access.READ,
    http=Http(routes=(Route("GET", _REPLIES),)),
)
async def auto_reply(context: Context, request: AccountRequest) -> Document:
    """Show an account's auto-reply settings."""
    from wad.api.legacy import settings

    return await settings.auto_reply(context, request.account)


@operation(
    "contract.set_auto_reply",
    reply=documents.AutoReplyDocument,
    access=Access.OPERATE,
    leader_only=True,
    http=Http(limit=Limit.ACCOUNTS, routes=(Route("POST", _REPLIES, body=AutoReplyBody),)),
)
async def set_auto_reply(context: Context, request: SetAutoReply) -> Document:
    """Store an account's auto-reply settings."""
    from wad.api.legacy import settings
    from wad.api.legacy.accounts import account_of

    return await settings.set_auto_reply(account_of(context, request.account), request)


@operation(
    "contract.backfill",
    reply=documents.BackfillStarted,
    access=Access.OPERATE,
    leader_only=True,
    http=Http(
        limit=Limit.ACCOUNTS,
        routes=(
            Route("POST", "/api/whatsapp/backfill/{account}"),
            Route("POST", "/whatsappProxyBackfillAccount", query=_ID),
        ),
    ),
)
async def backfill(context: Context, request: AccountRequest) -> Document:
    """Start a backfill: request older messages from the phone."""
    from wad.api.legacy import accounts, settings

    return settings.backfill(context, accounts.required_account(context, request.account))


@operation(
    "contract.repair",
    reply=documents.Repaired,
    access=Access.ADMIN,
    leader_only=True,
    http=Http(limit=Limit.ACCOUNTS, routes=(Route("POST", "/api/whatsapp/repair-sync/{account}"),)),
)
async def repair(context: Context, request: AccountRequest, caller: Caller) -> Document:
    """Request missing messages again and recount the threads."""
    from wad.api.legacy import settings
    from wad.api.legacy.accounts import account_of

    return await settings.repair(context, caller, account_of(context, request.account))


# --- others ---------------------------------------------------------------------------------------


@operation(
    "contract.outbox",
    reply=documents.OutboxCounts,
    access=Access.READ,
    http=Http(routes=(Route("GET", "/metrics-json", internal=True),)),
)
async def outbox(context: Context, request: NoParams) -> Document:
    """Show counts of the outbox."""
    from wad.api.legacy import outbox_counts

    return await outbox_counts.outbox(context)


@operation(
    "contract.media_url",
    access=Access.READ,
    http=Http(routes=(Route("GET", "/api/media-url", query={"storagePath": "path"}),)),
)
async def media_url(context: Context, request: MediaUrl) -> Document:
    """Not supported: wad stores no media in a bucket."""
    if not request.path.startswith(_STORED):
        raise LegacyRefusal(400, "invalid_request", f"storagePath must begin with {_STORED}")
    raise LegacyRefusal(
        501,
        "not_supported",
        "wad stores no media in Cloud Storage, so it cannot sign URLs",
    )


@operation(
    "contract.who_am_i",
    reply=documents.WhoAmI,
    access=Access.READ,
    http=Http(routes=(Route("GET", "/whatsappWhoAmI"),)),
)
async def who_am_i(context: Context, request: NoParams, caller: Caller) -> Document:
    """Show the caller's identity and role."""
    access = caller.access or Access.ANYBODY
    return {
        "success": True,
        "uid": caller.uid or None,
        "email": caller.email or None,
        "name": caller.name,
        "isSuperAdmin": access >= Access.ADMIN,
        "isEmployee": access >= Access.OPERATE,
    }
