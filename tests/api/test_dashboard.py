"""The dashboard: every field of the reference, read live, numbers masked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.fake_daemon import FakeDaemon, FakeHistory
from wad.api.legacy.vocabulary import Document
from wad.api.views.dashboard import dashboard
from wad.core.connection import State
from wad.core.session_location import SessionLocation


def ask(daemon: FakeDaemon) -> Document:
    """The current document."""
    return dashboard(daemon)


def row(daemon: FakeDaemon) -> dict[str, Any]:
    """The only account."""
    (found,) = ask(daemon)["accounts"]
    assert isinstance(found, dict)
    return found


def test_the_fields_of_the_reference_are_there(daemon: FakeDaemon) -> None:
    """Every field that its scripts read (docs/internals/replaced-backend.md#dashboard)."""
    daemon.accounts.have("acc-1")
    document = ask(daemon)
    assert set(document) == {"timestamp", "service", "storage", "accounts", "summary"}
    assert set(document["service"]) == {
        "status", "uptime", "version", "firestoreConnected", "historySyncEnabled", "historySyncDryRun",
        "backendBaseUrl", "waMode", "instanceId", "lockStatus", "lockHolder", "lockRemainingSec", "dedupeTotals",
        "historyTotals",
    }  # fmt: skip
    assert set(row(daemon)) == {
        "accountId", "phone", "status", "lastEventAt", "lastMessageAt", "lastSeen", "reconnectCount",
        "reconnectAttempts", "needs_qr", "hasDiskSession", "isStale", "leaseUntil", "lastBackfillAt",
        "lastHistorySyncAt", "dedupe", "history",
    }  # fmt: skip


def test_service_and_storage(daemon: FakeDaemon) -> None:
    """What the daemon says of itself."""
    document = ask(daemon)
    service = document["service"]
    assert (service["waMode"], service["lockStatus"], service["lockHolder"]) == (
        "active",
        "held_by_this_instance",
        "host-a",
    )
    assert (service["lockRemainingSec"], service["backendBaseUrl"]) == (10, None)
    assert service["firestoreConnected"] is False
    assert document["storage"] == {
        "path": "/var/lib/wad/sessions",
        "writable": True,
        "totalAccounts": 0,
    }


def test_an_account_without_events(daemon: FakeDaemon) -> None:
    """Unknown is null."""
    daemon.accounts.have("acc-1").become(State.PASSIVE)
    found = row(daemon)
    unknown = ("lastEventAt", "lastMessageAt", "lastSeen", "leaseUntil", "lastHistorySyncAt")
    assert [found[name] for name in unknown] == [None] * 5
    assert (found["reconnectCount"], found["hasDiskSession"], found["isStale"]) == (0, False, False)


def test_an_account_at_work(daemon: FakeDaemon) -> None:
    """Times in ISO, counts since the start."""
    account = daemon.accounts.have("acc-1")
    account.become(State.CONNECTED, paired=True)
    account.worker, account.logins = object(), 3
    account.inbound.last_event_ms = daemon.clock.wall - 1000
    account.inbound.last_message_ms = daemon.clock.wall - 2000
    account.inbound.recorded, account.inbound.duplicates = 5, 2
    account.inbound.history = FakeHistory(4, 1, daemon.clock.wall - 3000, 6)
    found = row(daemon)
    assert (found["status"], found["hasDiskSession"], found["reconnectCount"]) == (
        "connected",
        True,
        2,
    )
    assert found["lastEventAt"] == "2023-11-14T22:13:19.000Z"
    assert found["lastMessageAt"] == "2023-11-14T22:13:18.000Z"
    assert found["lastHistorySyncAt"] == "2023-11-14T22:13:17.000Z"
    assert found["lastSeen"] == "2023-11-14T22:13:20.000Z"
    assert found["leaseUntil"] == "2023-11-14T22:13:29.500Z"
    assert found["dedupe"] == {"wrote": 5, "skipped": 2, "strongSkipped": 0}
    assert found["history"]["lastBatchCount"] == 6


@pytest.mark.parametrize(
    ("state", "more", "status"),
    [
        (State.CONNECTED, {}, "connected"),
        (State.AWAITING_SCAN, {"qr": "2@code"}, "qr_ready"),
        (State.AWAITING_SCAN, {"pair_until": 1e9}, "connecting"),
        (State.AWAITING_SCAN, {}, "needs_qr"),
        (State.BANNED, {}, "disconnected"),
        (State.PASSIVE, {}, "passive"),
    ],
)
def test_states_have_the_values_of_the_apps(
    daemon: FakeDaemon, state: State, more: dict[str, Any], status: str
) -> None:
    """An app continues to request a code while the state is connecting or qr_ready."""
    daemon.accounts.have("acc-1").become(state, **more)
    assert row(daemon)["status"] == status


def test_every_state_has_a_value(daemon: FakeDaemon) -> None:
    """None is forgotten."""
    account = daemon.accounts.have("acc-1")
    for state in State:
        account.become(state)
        assert row(daemon)["status"]


def test_numbers_are_masked(daemon: FakeDaemon) -> None:
    """It is public: neither the number nor an id made from it is whole."""
    account = daemon.accounts.have("acc-15550000001")
    assert row(daemon)["phone"] == "+155****01"
    assert row(daemon)["accountId"] == "acc-1555****01"
    assert "15550000001" not in str(ask(daemon))
    account.card = replace(account.card, phone="")
    assert row(daemon)["phone"] is None


def test_an_account_that_should_be_connected_is_stale(daemon: FakeDaemon) -> None:
    """After five minutes without a connection, not without messages."""
    account = daemon.accounts.have("acc-1")
    account.become(State.RECONNECTING)
    account.left_ms = daemon.clock.wall - 299_000
    before = row(daemon)["isStale"]
    account.left_ms = daemon.clock.wall - 301_000
    after = row(daemon)["isStale"]
    account.become(State.STOPPED)
    assert (before, after, row(daemon)["isStale"]) == (False, True, False)


def test_an_account_that_is_elsewhere_has_a_row(daemon: FakeDaemon) -> None:
    """As /health counts it and wadctl lists it; only its state is known, and its number is masked."""
    daemon.accounts.have("acc-1").become(State.CONNECTED)
    place = SessionLocation(
        account="acc-15550000009", instance="host-b", since_ms=0, phone="+15550000009"
    )
    daemon.accounts.locations.append(place)
    document = ask(daemon)
    here, there = document["accounts"]
    assert set(there) == set(here)
    assert (there["accountId"], there["phone"]) == ("acc-1555****09", "+155****09")
    assert (there["status"], there["needs_qr"], there["hasDiskSession"]) == (
        "disconnected",
        False,
        False,
    )
    assert (document["storage"]["totalAccounts"], document["summary"]["total"]) == (2, 2)
    assert document["summary"]["disconnected"] == 1


def test_the_summary_counts_every_account_once(daemon: FakeDaemon) -> None:
    """All states, whatever they are, add up."""
    for number, state in enumerate(State):
        daemon.accounts.have(f"acc-{number}").become(state)
    summary = ask(daemon)["summary"]
    assert summary["total"] == len(State)
    assert sum(summary.values()) == 2 * len(State)
    assert (summary["connected"], summary["connecting"], summary["needs_qr"]) == (1, 2, 2)
