"""The document for an audit that failed, with the fields of the reference's scripts.

See docs/internals/replaced-backend.md#scripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from wad.audit.hints import FirestoreRefusal, hint_of, index_link, refusal_of
from wad.audit.installation import Installation
from wad.config.settings import StoreSettings
from wad.core.errors import BadConfig, Unavailable, WadError

_ADC: Final = ".config/gcloud/application_default_credentials.json"


def failure_of(
    error: WadError,
    installation: Installation | None,
    environ: Mapping[str, str],
    *,
    link: bool,
    mode: str = "desc",
) -> dict[str, Any]:
    """`firestore_query_failed` with gRPC's number as code; `firestore_unavailable` if no query was made yet."""
    answered = refusal_of(error)
    refused = answered or FirestoreRefusal(0, str(error))
    on_firestore = installation is not None and installation.kind == "firestore"
    code: int | str = refused.number if answered else error.code
    document: dict[str, Any] = {
        "ok": False,
        "error": _kind(error, answered, on_firestore=on_firestore),
        "code": code,
        "message": str(error),
        "hint": hint_of(code, refused.message),
        "fix": error.hint or None,
        "indexLink": index_link(refused.message) if link else None,
        "projectId": _project(installation.store)
        if installation is not None and on_firestore
        else None,
        "emulatorHost": _emulator(installation, environ),
        "usedFallback": mode != "desc",
        "modeUsed": mode,
    }
    if document["error"] == "firestore_unavailable":
        document["env"] = _env(environ, document["projectId"])
    return document


def _kind(error: WadError, answered: FirestoreRefusal | None, *, on_firestore: bool) -> str:
    if on_firestore and answered is not None:
        return "firestore_query_failed"
    if on_firestore and isinstance(error, Unavailable | BadConfig):
        return "firestore_unavailable"
    return "store_unavailable"


def _emulator(installation: Installation | None, environ: Mapping[str, str]) -> str | None:
    configured = installation.store.firestore_emulator if installation is not None else ""
    return configured or environ.get("FIRESTORE_EMULATOR_HOST") or None


def _project(store: StoreSettings) -> str | None:
    from wad.store.firestore.client.access import service_account_of

    if store.firestore_project or not store.firestore_credentials:
        return store.firestore_project or None
    try:
        found = service_account_of(store.firestore_credentials).get("project_id")
    except BadConfig:
        return None
    return None if found is None else str(found)


def _env(environ: Mapping[str, str], project: str | None) -> dict[str, Any]:
    """Which credentials exist, without their content."""
    file = environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    home = environ.get("HOME", "")
    return {
        "has_GAC": bool(file),
        "gac_path_len": len(file),
        "gac_file_exists": bool(file) and Path(file).is_file(),
        "has_ADC": bool(home) and Path(home, _ADC).is_file(),
        "projectId_present": project is not None,
    }
