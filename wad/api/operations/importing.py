"""Accounts of the backend that wad replaces: their session comes along, and nobody scans a QR code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.views.status import AccountView, account_view
from wad.core.baileys import FILE_LIMIT, ImportOptions

if TYPE_CHECKING:
    from wad.flow.accounts.importing import Intent


class SessionFile(msgspec.Struct, frozen=True):
    """A file of the session's directory; without its bytes where wad has no use for them."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    data: Annotated[bytes, Meta(max_length=FILE_LIMIT)] = b""


class Files(Params, frozen=True):
    """Some of the files.  The first of these requests names no upload; the reply does."""

    files: Annotated[
        tuple[SessionFile, ...], Meta(description="some of the files of a session's directory")
    ]
    upload: Annotated[str, Meta(description="the upload, as the first reply named it")] = ""


class FilesReply(msgspec.Struct, frozen=True):
    """The upload that the next request, and the import, are to name."""

    upload: str


class ImportBaileys(Params, frozen=True):
    """Make an account of the files."""

    upload: Annotated[str, Meta(description="the upload of the directory's files")]
    directory: Annotated[str, Meta(description="the name of the directory")] = ""
    id: Annotated[
        str, Meta(description="the account's id (default: the directory's name, or the number)")
    ] = ""
    name: Annotated[
        str, Meta(max_length=100, description="a name for people (default: its push name)")
    ] = ""
    dry_run: Annotated[
        bool, Meta(description="check, say what would be carried, change nothing")
    ] = False
    skip_damaged: Annotated[bool, Meta(description="leave out files that cannot be read")] = False


class LeftOut(msgspec.Struct, frozen=True):
    """Files of one kind that are not carried, and why not."""

    kind: str
    count: int
    why: str


class Imported(msgspec.Struct, frozen=True):
    """What was carried, or would be; `state` is null before there is an account."""

    account: str
    name: str
    jid: str
    lid: str
    existing: bool
    dry_run: bool
    carried: dict[str, int]
    left: list[LeftOut]
    damaged: list[str]
    state: AccountView | None


@operation("accounts.import_files", access=Access.ADMIN, leader_only=True)
async def files(context: Context, request: Files) -> FilesReply:
    """Take files of a session's directory."""
    named = ((file.name, file.data) for file in request.files)
    return FilesReply(context.imports.put(request.upload, named))


# `leader_only` is the check that the other backend holds no lease.  With a lease that both share (Firestore's document,
# which the reference's Node backend takes, too), a backend that runs makes this instance passive, and the import is
# refused with its name.  With the lease of the SQLite store, which is a file, nothing here can know of the other one:
# hence the question.
@operation(
    "accounts.import_baileys",
    access=Access.ADMIN,
    command="account import-baileys",
    leader_only=True,
    confirm="The other backend must be stopped, and stay stopped: two clients with one session throw each other out,"
    " and lose messages.",
)
async def import_baileys(context: Context, request: ImportBaileys) -> Imported:
    """Make an account of a Baileys session directory, without a QR code.

    The directory is read, never written. What is carried: the device's own keys, one-time keys, Signal sessions,
    sender keys, identities, LID mappings, privacy tokens and app-state keys. The account starts at once.
    """
    wish = ImportOptions(request.id, request.name, request.directory, request.skip_damaged)
    try:
        if request.dry_run:
            return _reply(await context.imports.look(request.upload, wish), None)
        account, intent = await context.imports.make(request.upload, wish)
        return _reply(intent, account_view(account))
    finally:
        context.imports.forget(request.upload)


def _reply(intent: Intent, state: AccountView | None) -> Imported:
    carried = intent.carried
    return Imported(
        account=intent.ident,
        name=intent.name,
        jid=carried.device.jid,
        lid=carried.device.lid,
        existing=intent.existing is not None,
        dry_run=state is None,
        carried=carried.counts(),
        left=[LeftOut(left.kind.value or "other", left.count, left.why) for left in carried.left],
        damaged=carried.damaged,
        state=state,
    )
