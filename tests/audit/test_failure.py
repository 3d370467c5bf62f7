"""The document for an audit that failed, as scripts read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wad.audit.failure import failure_of
from wad.audit.installation import Installation, installation_of
from wad.core.errors import BadConfig, Conflict, Fenced, NotFound, Unavailable, WadError


def installation(**environ: str) -> Installation:
    """The installation of a daemon with this configuration."""
    return installation_of(None, environ)


CLOUD = installation(WAD_STORE_KIND="firestore", GOOGLE_CLOUD_PROJECT="demo")
FILE = installation()


class _Answer(Exception):
    """An answer of Firestore's, as its library returns it."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.grpc_status_code = type("Code", (), {"value": (number, "")})


def answered(number: int, message: str) -> WadError:
    """The error for an answer of Firestore's."""
    error = Unavailable("Firestore: no")
    error.__cause__ = _Answer(number, message)
    return error


@pytest.mark.parametrize(
    ("error", "installation", "expected"),
    [
        (NotFound("none"), FILE, ("store_unavailable", "not_found", "unknown")),
        (NotFound("none"), None, ("store_unavailable", "not_found", "unknown")),
        (Conflict("node-1 holds the lease"), CLOUD, ("store_unavailable", "conflict", "unknown")),
        (Fenced("epoch 1 is over"), CLOUD, ("store_unavailable", "fenced", "unknown")),
        (BadConfig("not JSON"), CLOUD, ("firestore_unavailable", "bad_config", "unknown")),
        (
            Unavailable("Firestore: no credentials: default credentials were not found"),
            CLOUD,
            ("firestore_unavailable", "unavailable", "missing_credentials"),
        ),
        (answered(7, "no"), CLOUD, ("firestore_query_failed", 7, "permission_denied")),
        (answered(14, "no"), CLOUD, ("firestore_query_failed", 14, "unavailable")),
        (answered(9, "an index"), CLOUD, ("firestore_query_failed", 9, "missing_index")),
    ],
)
def test_each_failure(
    error: WadError, installation: Installation | None, expected: tuple[Any, ...]
) -> None:
    """The script's name for it, the code, and the hint."""
    document = failure_of(error, installation, {}, link=True)
    assert (document["error"], document["code"], document["hint"]) == expected
    assert ("env" in document) is (expected[0] == "firestore_unavailable")


def test_the_project() -> None:
    """The setting's, else that of the service account; invalid credentials have no project."""
    named = [
        failure_of(
            Unavailable("no"), installation(WAD_STORE_KIND="firestore", **environ), {}, link=False
        )["projectId"]
        for environ in (
            {"GOOGLE_CLOUD_PROJECT": "demo"},
            {"FIREBASE_SERVICE_ACCOUNT_JSON": '{"project_id": "theirs"}'},
            {"FIREBASE_SERVICE_ACCOUNT_JSON": "nonsense"},
            {},
        )
    ]
    assert named == ["demo", "theirs", None, None]


def test_existing_credentials(tmp_path: Path) -> None:
    """Their existence, never their content."""
    file = tmp_path / "key.json"
    file.touch()
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(file), "HOME": str(tmp_path)}
    env = failure_of(Unavailable("no"), CLOUD, environ, link=False)["env"]
    assert env == {
        "has_GAC": True,
        "gac_path_len": len(str(file)),
        "gac_file_exists": True,
        "has_ADC": False,
        "projectId_present": True,
    }
