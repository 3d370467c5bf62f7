"""The credentials for Firestore, as the doctor reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wad.audit.doctor.cloud import credentials_of
from wad.audit.doctor.facts import Credentials
from wad.config import examine

KEY = {
    "type": "service_account", "project_id": "demo", "client_email": "wad@demo.example", "private_key": "secret",
}  # fmt: skip


def read(given: str) -> Credentials:
    """The result for these credentials."""
    loaded, problems = examine(Path("/dev/null"), {"FIREBASE_SERVICE_ACCOUNT_JSON": given})
    assert loaded is not None, problems
    return credentials_of(loaded)


def test_a_valid_key() -> None:
    """Its project and source."""
    found = read(json.dumps(KEY))
    assert (found.project, found.problem) == ("demo", "")
    assert found.source == "environment FIREBASE_SERVICE_ACCOUNT_JSON"


def test_a_file_that_is_readable_by_everyone(tmp_path: Path) -> None:
    """It is named; a private one is not."""
    file = tmp_path / "sa.json"
    file.write_text(json.dumps(KEY))
    file.chmod(0o644)
    assert read(str(file)).exposed == str(file)
    file.chmod(0o600)
    assert read(str(file)) == Credentials("environment FIREBASE_SERVICE_ACCOUNT_JSON", "demo")


def test_no_credentials_are_those_of_the_machine() -> None:
    """Google's own rules apply then."""
    assert "metadata server" in read("").source


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("{}", "not the key of a service account, project_id, client_email, private_key missing"),
        (json.dumps(KEY | {"type": "authorized_user"}), "not the key of a service account"),
        (json.dumps(KEY | {"private_key": ""}), "private_key missing"),
        ("{", "not JSON"),
        ("/no/such/file", "neither JSON nor a readable file"),
    ],
)
def test_an_invalid_key(given: str, problem: str) -> None:
    """The problem is described without quoting it."""
    found = read(given)
    assert problem in found.problem
    assert "secret" not in repr(found)
