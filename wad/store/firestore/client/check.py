"""The check whether Firestore can be used.  Operators of the replaced backend look for FIRESTORE_OK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from google.api_core import exceptions as google_errors

from wad.config.settings import StoreSettings
from wad.core.errors import BadConfig, Denied, Unavailable, WadError
from wad.store.firestore.client.access import FirestoreAccess, access_of
from wad.store.firestore.client.database import Client, Firestore, credentials_of
from wad.store.firestore.client.decode import get

_TIMEOUT: Final = 10.0  # seconds for the one read
_ENVIRONMENT: Final = "GOOGLE_APPLICATION_CREDENTIALS"


class CheckVerdict(StrEnum):
    """The result of the check."""

    OK = "FIRESTORE_OK"
    MISSING = "FIRESTORE_MISSING"
    MALFORMED = "FIRESTORE_MALFORMED"
    DENIED = "FIRESTORE_DENIED"
    UNREACHABLE = "FIRESTORE_UNREACHABLE"

    @property
    def exit_code(self) -> int:
        """The exit code of the command for this verdict."""
        return _EXIT[self]


_EXIT: Final = {
    CheckVerdict.OK: 0,
    CheckVerdict.MISSING: BadConfig.exit_code,
    CheckVerdict.MALFORMED: BadConfig.exit_code,
    CheckVerdict.DENIED: Denied.exit_code,
    CheckVerdict.UNREACHABLE: Unavailable.exit_code,
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The verdict and its reason, which quotes no secret."""

    verdict: CheckVerdict
    why: str


async def check(settings: StoreSettings, document: str, environ: Mapping[str, str]) -> CheckResult:
    """Find credentials as the daemon does and read one document."""
    named = settings.firestore_credentials or environ.get(_ENVIRONMENT, "")
    if named and not settings.firestore_emulator and not _is_there(named):
        return CheckResult(CheckVerdict.MISSING, "the service account file does not exist")
    try:
        access = access_of(settings)
        project = credentials_of(access)[1]
    except BadConfig as error:
        return CheckResult(CheckVerdict.MALFORMED, str(error))
    except Unavailable as error:
        return CheckResult(CheckVerdict.MALFORMED if named else CheckVerdict.MISSING, str(error))
    try:
        await _read(access, document)
    except WadError as error:
        denied = (google_errors.PermissionDenied, google_errors.Unauthenticated)
        # For an unknown key the error comes from Google's token server.
        refused = isinstance(error.__cause__, denied) or "invalid_grant" in str(error)
        return CheckResult(CheckVerdict.DENIED if refused else CheckVerdict.UNREACHABLE, str(error))
    where = f"the emulator at {access.emulator}" if access.emulator else "Google"
    return CheckResult(
        CheckVerdict.OK, f"project {project}, database {access.database}, at {where}"
    )


def _is_there(named: str) -> bool:
    return named.lstrip().startswith("{") or Path(named).is_file()


async def _read(access: FirestoreAccess, document: str) -> None:
    def work(client: Client) -> None:
        get(client, document, timeout=_TIMEOUT)

    firestore = Firestore(access, "check", 1)
    try:
        await firestore.call(work)
    finally:
        firestore.close()
