"""What the apps of the replaced backend ask over HTTP, in their own form (docs/internals/replaced-backend.md#routes).

Its Functions proxies are the same operations under other paths, with the account in the query.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from wad.api.caller import Caller
from wad.api.context import Context
from wad.api.operation import Access, Http, Limit, Params, Route, operation
from wad.core.errors import LegacyRefusal

Document = dict[str, Any]
_STORED: Final = "whatsapp_media/"


# --- requests -------------------------------------------------------------------------------------


class Asked(Params, frozen=True):
    """Nothing."""


class ListAccounts(Params, frozen=True):
    """Every account; `codes`: with the codes, for who may pair."""

    codes: bool = True


class OfAccount(Params, frozen=True):
    """One account, by its id."""

    account: str = ""


class Added(Params, frozen=True):
    """A new account."""

    name: str
    phone: str | None = None


class Renamed(Params, frozen=True):
    """Another name."""

    account: str
    name: str


class ListRequest(Params, frozen=True):
    """A page of an account's threads or messages; numbers as they stand in the query."""

    account: str = ""
    thread: str = ""
    limit: str = ""
    after: str = ""
    order: str = ""


class LegacySend(Params, frozen=True):
    """A text to send; `to` is a number or an address, `request_id` what the caller named the request."""

    account_id: str
    message: str
    to: str = ""
    thread_id: str = ""
    client_message_id: str = ""
    request_id: str = ""


class ProxySend(Params, frozen=True):
    """A text to send, as the apps give it to their proxy."""

    thread_id: str
    account_id: str
    to_jid: str
    text: str
    client_message_id: str


class SetAutoReply(Params, frozen=True):
    """Whether to answer by itself, and how; the rest as later apps have it, whatever they put into it."""

    account: str
    enabled: bool
    prompt: str | None = None
    logic: Any = None
    restrictions: Any = None
    pricing: Any = None
    faq: Any = None
    extraction: Any = None


class Stored(Params, frozen=True):
    """A file of the replaced backend's."""

    path: str = ""


class Photo(Params, frozen=True):
    """A person's picture."""

    account: str
    client: str = ""


# --- bodies ---------------------------------------------------------------------------------------


class NewAccount(msgspec.Struct):
    """A new account."""

    name: str
    phone: str | None = None


class NewName(msgspec.Struct):
    """Another name."""

    name: str


class SendBody(msgspec.Struct, rename="camel"):
    """A text to send; `to` is a number or an address."""

    account_id: str
    message: str
    to: str = ""
    thread_id: str = ""
    client_message_id: str = ""


class ProxySendBody(msgspec.Struct, rename="camel"):
    """A text to send, as the apps give it to their proxy."""

    thread_id: str
    account_id: str
    to_jid: str
    text: str
    client_message_id: str


class AutoReplyBody(msgspec.Struct):
    """Whether to answer by itself, and how."""

    enabled: bool
    prompt: str | None = None
    logic: Any = None
    restrictions: Any = None
    pricing: Any = None
    faq: Any = None
    extraction: Any = None


# --- accounts -------------------------------------------------------------------------------------

_ID: Final = {"accountId": "account"}


@operation(
    "contract.accounts",
    access=Access.READ,
    http=Http(headerless=True, routes=(Route("GET", "/api/whatsapp/accounts"),)),
)
async def accounts_(context: Context, request: ListAccounts, caller: Caller) -> Document:
    """Every account, as the apps read it."""
    from wad.api.legacy import accounts

    return await accounts.list_(context, caller, with_codes=request.codes)


@operation(
    "contract.accounts_with_token",
    access=Access.READ,
    http=Http(routes=(Route("GET", "/accounts"),)),
)
async def accounts_with_token(context: Context, request: Asked, caller: Caller) -> Document:
    """The same, of which no network gets anything without a token."""
    return await accounts_(context, ListAccounts(), caller)


@operation(
    "contract.accounts_for_admins",
    access=Access.ADMIN,
    http=Http(headerless=True, routes=(Route("GET", "/whatsappProxyGetAccounts"),)),
)
async def accounts_for_admins(context: Context, request: Asked, caller: Caller) -> Document:
    """The same for administrators alone, as their proxy did."""
    return await accounts_(context, ListAccounts(), caller)


@operation(
    "contract.accounts_for_staff",
    access=Access.OPERATE,
    http=Http(routes=(Route("GET", "/whatsappProxyGetAccountsStaff"),)),
)
async def accounts_for_staff(context: Context, request: Asked, caller: Caller) -> Document:
    """The same for who works with messages: never a code, whoever asks."""
    return await accounts_(context, ListAccounts(codes=False), caller)


@operation(
    "contract.health",
    access=Access.READ,
    http=Http(routes=(Route("GET", "/api/whatsapp/accounts/{account}/health"),)),
)
async def health(context: Context, request: OfAccount) -> Document:
    """One account's connection."""
    from wad.api.legacy import accounts

    return accounts.health(accounts.account_of(context, request.account))


@operation(
    "contract.qr",
    access=Access.ADMIN,
    http=Http(routes=(Route("GET", "/api/whatsapp/qr/{account}", browser=True),)),
)
async def qr(context: Context, request: OfAccount) -> Document:
    """What the page of an account's QR code shows."""
    from wad.api.legacy import accounts
    from wad.api.legacy.vocabulary import status_word

    account = accounts.account_of(context, request.account)
    status = account.status
    return {"name": account.card.name, "status": status_word(status), "qrCode": status.qr or None}


@operation(
    "contract.add",
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
async def add(context: Context, request: Added, caller: Caller) -> Document:
    """Add an account, and open the window in which its codes are shown."""
    from wad.api.legacy import accounts

    return await accounts.add(context, caller, request.name, request.phone or "")


@operation(
    "contract.regenerate_qr",
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
async def regenerate(context: Context, request: OfAccount, caller: Caller) -> Document:
    """Ask for a QR code; never at the price of a session."""
    from wad.api.legacy import accounts

    return await accounts.regenerate(context, caller, accounts.named(context, request.account))


@operation(
    "contract.delete",
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
async def delete(context: Context, request: OfAccount, caller: Caller) -> Document:
    """Put an account away; `wadctl account restore` brings it back."""
    from wad.api.legacy import accounts

    return await accounts.delete(context, caller, accounts.named(context, request.account))


@operation(
    "contract.rename",
    access=Access.ADMIN,
    leader_only=True,
    http=Http(
        limit=Limit.ACCOUNTS,
        routes=(Route("PATCH", "/api/whatsapp/accounts/{account}/name", body=NewName),),
    ),
)
async def rename(context: Context, request: Renamed, caller: Caller) -> Document:
    """Give an account another name."""
    from wad.api.legacy import accounts

    account = accounts.account_of(context, request.account)
    return await accounts.rename(context, caller, account, request.name)


@operation(
    "contract.reset",
    access=Access.ADMIN,
    leader_only=True,
    http=Http(
        limit=Limit.ACCOUNTS,
        routes=(Route("POST", "/api/whatsapp/accounts/{account}/reset"),),
    ),
)
async def reset(context: Context, request: OfAccount, caller: Caller) -> Document:
    """Log an account out, so that it can be paired anew."""
    from wad.api.legacy import accounts

    return await accounts.reset(context, caller, accounts.account_of(context, request.account))


@operation(
    "contract.disconnect",
    access=Access.ADMIN,
    leader_only=True,
    http=Http(limit=Limit.ACCOUNTS, routes=(Route("POST", "/api/whatsapp/disconnect/{account}"),)),
)
async def disconnect(context: Context, request: OfAccount, caller: Caller) -> Document:
    """Stop an account until somebody starts it."""
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
async def profile_photo(context: Context, request: Photo) -> Document:
    """Not supported: wad asks WhatsApp for no pictures of people."""
    from wad.api.legacy import accounts

    accounts.account_of(context, request.account)
    if not request.client:
        raise LegacyRefusal(400, "invalid_request", "clientJid is missing")
    raise LegacyRefusal(501, "not_supported", "wad asks WhatsApp for no profile pictures")


# --- conversations --------------------------------------------------------------------------------

_LIST: Final = {"limit": "limit", "orderBy": "order", "after": "after"}
_PAGE: Final = {"accountId": "account", "limit": "limit", "after": "after"}
_THREAD: Final = {**_PAGE, "threadId": "thread"}


@operation(
    "contract.threads",
    access=Access.READ,
    http=Http(routes=(Route("GET", "/api/whatsapp/threads/{account}", query=_LIST),)),
)
async def threads(context: Context, request: ListRequest) -> Document:
    """An account's conversations, from the newest on."""
    from wad.api.legacy import conversations

    return await conversations.threads(context, request.account, request.limit, request.after)


@operation(
    "contract.messages",
    access=Access.READ,
    http=Http(
        routes=(
            Route("GET", "/api/whatsapp/messages/{account}/{thread}", query=_LIST),
            Route("GET", "/api/whatsapp/messages", query=_THREAD),
        )
    ),
)
async def messages(context: Context, request: ListRequest) -> Document:
    """One conversation, from the newest message on; without a thread the newest messages of each."""
    from wad.api.legacy import conversations

    return await conversations.messages_or_threads(
        context, request.account, request.thread, request.limit, request.after
    )


@operation(
    "contract.inbox",
    access=Access.READ,
    http=Http(routes=(Route("GET", "/api/whatsapp/inbox/{account}", query={"limit": "limit"}),)),
)
async def inbox(context: Context, request: ListRequest) -> Document:
    """The newest messages of all of an account's conversations."""
    from wad.api.legacy import conversations

    return await conversations.inbox(context, request.account, request.limit)


def _for_staff(
    name: str, path: str, query: Mapping[str, str], of_anybody: Callable[..., Awaitable[Document]]
) -> None:
    """Declare a list for who works with messages, as their proxy did: the account is named in the query."""

    @operation(name, access=Access.OPERATE, http=Http(routes=(Route("GET", path, query=query),)))
    async def for_staff(context: Context, request: ListRequest) -> Document:
        """The same for who works with messages, as their proxy did."""
        if not request.account:
            raise LegacyRefusal(400, "invalid_request", "accountId is missing")
        return await of_anybody(context, request)


_for_staff("contract.threads_for_staff", "/whatsappProxyGetThreads", _PAGE, threads)
_for_staff("contract.messages_for_staff", "/whatsappProxyGetMessages", _THREAD, messages)
_for_staff("contract.inbox_for_staff", "/whatsappProxyGetInbox", _PAGE, inbox)


# --- sending --------------------------------------------------------------------------------------


@operation(
    "contract.send",
    access=Access.OPERATE,
    leader_only=True,
    http=Http(
        limit=Limit.SEND, routes=(Route("POST", "/api/whatsapp/send-message", body=SendBody),)
    ),
)
async def send(context: Context, request: LegacySend, caller: Caller) -> Document:
    """Send a text, and answer once its result is known."""
    from wad.api.legacy import sending

    return await sending.send(context, request, caller)


@operation(
    "contract.proxy_send",
    access=Access.OPERATE,
    leader_only=True,
    http=Http(limit=Limit.SEND, routes=(Route("POST", "/whatsappProxySend", body=ProxySendBody),)),
)
async def proxy_send(context: Context, request: ProxySend, caller: Caller) -> Document:
    """Queue a text, as the apps give it to their proxy."""
    from wad.api.legacy import sending

    return await sending.proxy_send(context, request, caller)


# --- replies and history --------------------------------------------------------------------------

_REPLIES: Final = "/api/whatsapp/auto-reply-settings/{account}"


@operation(
    "contract.auto_reply",
    access=Access.READ,
    http=Http(routes=(Route("GET", _REPLIES),)),
)
async def auto_reply(context: Context, request: OfAccount) -> Document:
    """An account's settings for replies."""
    from wad.api.legacy import settings

    return await settings.auto_reply(context, request.account)


@operation(
    "contract.set_auto_reply",
    access=Access.OPERATE,
    leader_only=True,
    http=Http(limit=Limit.ACCOUNTS, routes=(Route("POST", _REPLIES, body=AutoReplyBody),)),
)
async def set_auto_reply(context: Context, request: SetAutoReply) -> Document:
    """Keep other settings for replies."""
    from wad.api.legacy import settings
    from wad.api.legacy.accounts import account_of

    return await settings.set_auto_reply(account_of(context, request.account), request)


@operation(
    "contract.backfill",
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
async def backfill(context: Context, request: OfAccount) -> Document:
    """Begin to ask the phone for older messages."""
    from wad.api.legacy import accounts, settings

    return settings.backfill(context, accounts.named(context, request.account))


@operation(
    "contract.repair",
    access=Access.ADMIN,
    leader_only=True,
    http=Http(limit=Limit.ACCOUNTS, routes=(Route("POST", "/api/whatsapp/repair-sync/{account}"),)),
)
async def repair(context: Context, request: OfAccount, caller: Caller) -> Document:
    """Ask for what is missing, and count anew."""
    from wad.api.legacy import settings
    from wad.api.legacy.accounts import account_of

    return await settings.repair(context, caller, account_of(context, request.account))


# --- others ---------------------------------------------------------------------------------------


@operation(
    "contract.outbox",
    access=Access.READ,
    http=Http(routes=(Route("GET", "/metrics-json", internal=True),)),
)
async def outbox(context: Context, request: Asked) -> Document:
    """The outbox in numbers."""
    from wad.api.legacy import outbox_counts

    return await outbox_counts.outbox(context)


@operation(
    "contract.media_url",
    access=Access.READ,
    http=Http(routes=(Route("GET", "/api/media-url", query={"storagePath": "path"}),)),
)
async def media_url(context: Context, request: Stored) -> Document:
    """Not supported: wad keeps no files in a bucket, and can sign no address of any."""
    if not request.path.startswith(_STORED):
        raise LegacyRefusal(400, "invalid_request", f"storagePath must begin with {_STORED}")
    raise LegacyRefusal(
        501,
        "not_supported",
        "wad keeps no media in Cloud Storage, so it can sign no address of any",
    )


@operation(
    "contract.who_am_i",
    access=Access.READ,
    http=Http(routes=(Route("GET", "/whatsappWhoAmI"),)),
)
async def who_am_i(context: Context, request: Asked, caller: Caller) -> Document:
    """Who the caller is here."""
    access = caller.access or Access.ANYBODY
    return {
        "success": True,
        "uid": caller.uid or None,
        "email": caller.email or None,
        "name": caller.name,
        "isSuperAdmin": access >= Access.ADMIN,
        "isEmployee": access >= Access.OPERATE,
    }
