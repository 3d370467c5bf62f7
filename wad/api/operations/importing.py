"""The import of sessions from Baileys, the library of the replaced backend, without a QR code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.views.account import AccountView, account_view
from wad.api.views.importing import FilesReply, Imported, LeftOut
from wad.core.baileys import FILE_LIMIT, ImportOptions

if TYPE_CHECKING:
    from wad.flow.accounts.importing import Intent


class SessionFile(msgspec.Struct, frozen=True):
    """A file of the session directory; without its bytes if wad does not need them."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    data: Annotated[bytes, Meta(max_length=FILE_LIMIT)] = b""


class Files(Params, frozen=True):
    """Some of the files.  The first request names no upload; its reply does."""

    files: Annotated[tuple[SessionFile, ...], Meta(description="some files of a session directory")]
    upload: Annotated[str, Meta(description="the upload's name, from the first reply")] = ""


class ImportBaileys(Params, frozen=True):
    """An import of uploaded files."""

    upload: Annotated[str, Meta(description="the upload's name")]
    directory: Annotated[str, Meta(description="the name of the directory")] = ""
    id: Annotated[
        str, Meta(description="the account's id (default: the directory's name, or the number)")
    ] = ""
    name: Annotated[
        str, Meta(max_length=100, description="its display name (default: its push name)")
    ] = ""
    dry_run: Annotated[
        bool, Meta(description="check and show what would be imported; change nothing")
    ] = False
    skip_damaged: Annotated[bool, Meta(description="skip files that cannot be read")] = False


@operation("accounts.import_files", access=Access.ADMIN, leader_only=True)
async def files(context: Context, request: Files) -> FilesReply:
    """Upload files of a session directory."""
    named = ((file.name, file.data) for file in request.files)
    return FilesReply(context.imports.put(request.upload, named))


# `leader_only` ensures that the other backend does not hold the lease.  With a shared lease (the Firestore document,
# which the replaced Node backend acquires, too), a running backend makes this instance passive, and the import is
# refused with its name.  With a lease in a file, a running backend cannot be detected: hence the confirmation.
@operation(
    "accounts.import_baileys",
    access=Access.ADMIN,
    command="account import-baileys",
    leader_only=True,
    confirm="The other backend must be stopped, and stay stopped: two clients with one session disconnect each other"
    " and lose messages.",
)
async def import_baileys(context: Context, request: ImportBaileys) -> Imported:
    """Import a Baileys session directory as an account, without a QR code.

    The directory is read, never written. These are imported: the device's own keys, one-time keys, Signal sessions,
    sender keys, identities, LID mappings, privacy tokens and app-state keys. The account starts at once.

    Example: wadctl account import-baileys /srv/backend/sessions/main --dry-run
    """
    options = ImportOptions(request.id, request.name, request.directory, request.skip_damaged)
    try:
        if request.dry_run:
            return _reply(await context.imports.plan(request.upload, options), None)
        account, intent = await context.imports.run(request.upload, options)
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
