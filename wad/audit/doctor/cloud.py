"""The check of the Firestore credentials, read as the daemon reads them; no secret is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from wad.audit.doctor.facts import Credentials
from wad.config import LoadedConfig
from wad.core.errors import BadConfig
from wad.store.firestore.client.access import service_account_of

_KEY: Final = "store.firestore_credentials"
_NEEDED: Final = ("project_id", "client_email", "private_key")


def credentials_of(loaded: LoadedConfig) -> Credentials:
    """The source of the credentials, their project, and what is wrong with them."""
    text, source = str(loaded.origins[_KEY].value), loaded.origins[_KEY].source
    if not text:
        return Credentials("GOOGLE_APPLICATION_CREDENTIALS, or the machine's metadata server")
    try:
        found = service_account_of(text)
    except BadConfig as error:
        return Credentials(source, problem=str(error))
    missing = [name for name in _NEEDED if not found.get(name)]
    if found.get("type") != "service_account" or missing:
        what = f", {', '.join(missing)} missing" if missing else ""
        return Credentials(source, problem=f"{_KEY}: not the key of a service account{what}")
    file = "" if text.lstrip().startswith("{") else text
    exposed = bool(file) and bool(Path(file).stat().st_mode & 0o007)
    return Credentials(source, str(found["project_id"]), file if exposed else "")
