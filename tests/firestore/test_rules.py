"""`packaging/firestore/firestore.rules`, run by the emulator: read permissions by role; no client may write."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wad.store.firestore.client.access import FirestoreAccess

FILE = Path(__file__).parents[2] / "packaging" / "firestore" / "firestore.rules"
OWNER = "owner"
PATHS = (
    "accounts/one",
    "threads/one__a@s.whatsapp.net",
    "threads/one__a@s.whatsapp.net/messages/m1",
    "outbox/r1",
    "wad_facts/f1",
    "jid_aliases/one__1@lid",
    "send_requests/k1",
    "message_ids/one__W1",
    "contacts/one__a@s.whatsapp.net",
    "threads/one__a@s.whatsapp.net/dedupe/d1",
    "wa_metrics/longrun/locks/wa_connection",
    "wa_sessions/one",
)
READABLE = PATHS[:3]


def token(uid: str, **claims: Any) -> str:
    """An unsigned identity, as the emulator accepts it."""
    parts = [{"alg": "none"}, {"sub": uid, "user_id": uid, **claims}]
    encoded = [
        base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts
    ]
    return ".".join([*encoded, ""])


@pytest.fixture
def ask(access: FirestoreAccess) -> Callable[..., int]:
    """Make an HTTP request as a user; return the status.  The rules are loaded, and each path has a document."""

    def request(who: str, method: str, path: str, body: Any = None) -> int:
        connection = http.client.HTTPConnection(access.emulator, timeout=30)
        headers = {"Content-Type": "application/json"}
        if who:
            headers["Authorization"] = f"Bearer {who}"
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    def document(who: str, method: str, path: str, fields: Any = None) -> int:
        root = f"/v1/projects/{access.project}/databases/(default)/documents/"
        return request(who, method, root + path, None if fields is None else {"fields": fields})

    rules = {"rules": {"files": [{"name": "firestore.rules", "content": FILE.read_text()}]}}
    loaded = request(OWNER, "PUT", f"/emulator/v1/projects/{access.project}:securityRules", rules)
    assert loaded == 200
    whose = {"accountId": {"stringValue": "one"}}
    for path in (*PATHS, "staffProfiles/ann"):
        assert document(OWNER, "PATCH", path, whose) == 200
    return document


@pytest.mark.parametrize("path", PATHS)
def test_an_employee_reads_what_the_app_shows(ask: Callable[..., int], path: str) -> None:
    """Accounts, threads and messages; none of wad's own documents."""
    assert ask(token("ann"), "GET", path) == (200 if path in READABLE else 403)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("who", ["", token("customer")])
def test_others_read_nothing(ask: Callable[..., int], who: str, path: str) -> None:
    """Neither an anonymous user nor a customer."""
    assert ask(who, "GET", path) == 403


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("who", [token("ann"), token("boss", admin=True)])
def test_no_client_writes(ask: Callable[..., int], who: str, path: str) -> None:
    """Not even an administrator: functions and wad write, with accounts of their own."""
    assert ask(who, "PATCH", path, {"accountId": {"stringValue": "two"}}) == 403
    assert ask(who, "DELETE", path) == 403


@pytest.mark.parametrize("path", READABLE[1:])
def test_some_accounts_are_for_administrators(ask: Callable[..., int], path: str) -> None:
    """Those that the app's configuration names."""
    only = {"adminOnlyAccountIds": {"arrayValue": {"values": [{"stringValue": "one"}]}}}
    assert ask(OWNER, "PATCH", "config/whatsapp_inbox", only) == 200
    assert ask(token("ann"), "GET", path) == 403
    assert ask(token("boss", admin=True), "GET", path) == 200
