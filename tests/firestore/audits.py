"""The audits of Firestore, called directly and with wadctl."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from click.testing import Result

from tests.support.wadctl_command import wadctl, wadctl_json
from wad.audit.duplicates import Question, audit_messages, audit_threads
from wad.audit.firestore.rows import FirestoreRows
from wad.audit.reports import MessagesReport, ThreadsReport
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Firestore


def audited(access: FirestoreAccess, question: Question) -> tuple[MessagesReport, ThreadsReport]:
    """Both audits."""
    with closing(FirestoreRows(Firestore(access, "audit", 1))) as rows:
        return audit_messages(rows, question), audit_threads(rows, question)


def run(access: FirestoreAccess, directory: Path, *arguments: str, **environ: str) -> Result:
    """Run wadctl in this process, configured for this Firestore."""
    return wadctl(_env(access, directory) | environ, "audit", *arguments)


def ask(access: FirestoreAccess, directory: Path, *arguments: str, code: int = 0) -> Any:
    """The JSON output of a command that ends with this code."""
    return wadctl_json(_env(access, directory), "audit", *arguments, code=code)


def _env(access: FirestoreAccess, directory: Path) -> dict[str, str | None]:
    return {
        "WAD_STATE_DIR": str(directory), "WAD_STORE_KIND": "firestore", "WAD_CONFIG": None,
        "GOOGLE_CLOUD_PROJECT": access.project, "FIRESTORE_EMULATOR_HOST": access.emulator,
        "FIREBASE_SERVICE_ACCOUNT_JSON": None, "GOOGLE_APPLICATION_CREDENTIALS": None,
    }  # fmt: skip
