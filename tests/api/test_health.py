"""The documents for probes: read from the live objects each time, unknown is null."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from tests.support.fake_daemon import FakeDaemon, FakeHistory
from wad.api.legacy.vocabulary import Document
from wad.api.views.health import diag, health, healthz, ready, readyz
from wad.core.connection import State
from wad.core.problem import Problem
from wad.core.session_location import SessionLocation
from wad.store.port import SyncStatus


def ask(daemon: FakeDaemon) -> Document:
    """The current document."""
    return health(daemon)


def test_the_fields_of_the_reference_are_there(daemon: FakeDaemon) -> None:
    """Every field that a probe of the replaced backend reads exists."""
    wanted = {
        "ok", "status", "service", "version", "commit", "instanceId", "waMode", "lockStatus", "lockHolder",
        "lockRemainingSec", "bootTimestamp", "uptime", "timestamp", "requestId", "accounts_total", "connected",
        "needs_qr", "sessions_dir_writable", "dedupe", "history", "firestore", "receipts", "backlog",
    }  # fmt: skip
    assert wanted <= set(ask(daemon))


def test_it_holds_the_lease(daemon: FakeDaemon) -> None:
    """An active instance says for how many whole seconds, rounded up."""
    document = ask(daemon)
    assert document["waMode"] == "active"
    assert document["lockStatus"] == "held_by_this_instance"
    assert (document["lockHolder"], document["lockRemainingSec"]) == ("host-a", 10)


def test_another_holds_the_lease(daemon: FakeDaemon) -> None:
    """A passive instance names the holder, and is healthy; the other's time is not known to it."""
    daemon.leader.valid, daemon.leader.holder = None, "host-b"
    document = ask(daemon)
    assert (document["ok"], document["status"]) == (True, "healthy")
    assert (document["waMode"], document["lockStatus"]) == ("passive", "held_by_other")
    assert (document["lockHolder"], document["lockRemainingSec"]) == ("host-b", None)


def test_a_free_lease(daemon: FakeDaemon) -> None:
    """No holder is null, not an empty name."""
    daemon.leader.valid, daemon.leader.holder = None, ""
    document = ask(daemon)
    assert (document["lockStatus"], document["lockHolder"]) == ("not_held", None)


def test_it_is_live(daemon: FakeDaemon) -> None:
    """Two questions get two answers when something changed between them."""
    before = ask(daemon)["connected"]
    daemon.accounts.have("acc-1").become(State.CONNECTED)
    assert (before, ask(daemon)["connected"]) == (0, 1)


def test_accounts_are_counted(daemon: FakeDaemon) -> None:
    """Connected ones, and those that need a phone with a camera."""
    states = [State.CONNECTED, State.AWAITING_SCAN, State.LOGGED_OUT, State.STOPPED, State.BANNED]
    for number, state in enumerate(states):
        daemon.accounts.have(f"acc-{number}").become(state)
    document = ask(daemon)
    counts = (document["accounts_total"], document["connected"], document["needs_qr"])
    assert counts == (5, 1, 2)


def test_an_account_that_is_elsewhere_counts(daemon: FakeDaemon) -> None:
    """This instance has none of its files, and no scan is needed."""
    daemon.accounts.locations.append(
        SessionLocation(account="acc-9", instance="host-b", since_ms=0)
    )
    document = ask(daemon)
    assert (document["accounts_total"], document["connected"], document["needs_qr"]) == (1, 0, 0)
    assert document["reasons"] == ["1 account is elsewhere"]


def test_sessions_that_cannot_be_written(daemon: FakeDaemon) -> None:
    """It is not ok, with the reason."""
    daemon.sessions_writable = False
    document = ask(daemon)
    assert (document["ok"], document["status"]) == (False, "degraded")
    assert document["reasons"] == ["the accounts' directory is not writable"]


def test_sessions_that_were_not_tried(daemon: FakeDaemon) -> None:
    """Unknown is null and no failure."""
    daemon.sessions_writable = None
    document = ask(daemon)
    assert (document["ok"], document["sessions_dir_writable"]) == (True, None)


def test_ill_accounts_degrade_it(daemon: FakeDaemon) -> None:
    """One sentence for each kind of trouble, without naming an account."""
    for ident in ("acc-15550000001", "acc-2"):
        daemon.accounts.have(ident).become(State.LOGGED_OUT)
    daemon.accounts.have("acc-3").become(State.RECONNECTING)
    document = ask(daemon)
    assert document["reasons"] == ["1 account is reconnecting", "2 accounts are logged_out"]
    assert "acc-" not in str(document)


def test_the_backlog(daemon: FakeDaemon) -> None:
    """Rows of all accounts, and the age of the oldest of them."""
    for ident, rows, age in (("a", 3, 5000), ("b", 4, 90_000), ("c", 0, None)):
        inbound = daemon.accounts.have(ident).inbound
        inbound.backlog = rows
        inbound.oldest_ms = None if age is None else daemon.clock.wall - age
    document = ask(daemon)
    assert document["backlog"] == {"rows": 7, "oldestSeconds": 90.0}
    assert "a received message has waited 90 s to be stored" in document["reasons"]


def test_an_empty_backlog_has_no_age(daemon: FakeDaemon) -> None:
    """No oldest row is null."""
    assert ask(daemon)["backlog"] == {"rows": 0, "oldestSeconds": None}


def test_a_store_that_refuses(daemon: FakeDaemon) -> None:
    """What was received and cannot be stored degrades it."""
    daemon.accounts.have("a").inbound.error = "the disk is full"
    assert ask(daemon)["reasons"] == ["received messages of 1 account(s) cannot be stored now"]


def set_sync(daemon: FakeDaemon, **changes: Any) -> None:
    """The store is on Firestore."""
    found = SyncStatus(waiting=0, oldest_ms=None, refused=0, quota=100, error="")
    daemon.store.sync_status = msgspec.structs.replace(found, **changes)


def test_firestore_is_disabled_with_a_local_store(daemon: FakeDaemon) -> None:
    """There is no backlog."""
    document = ask(daemon)
    assert (document["firestore"], document["sync"]) == ("disabled", None)


def test_the_sync_backlog(daemon: FakeDaemon) -> None:
    """How much and for how long; a while is normal, more degrades it."""
    set_sync(daemon, waiting=3, oldest_ms=daemon.clock.wall - 5000)
    document = ask(daemon)
    assert document["firestore"] == "connected"
    assert document["sync"] == {"documents": 3, "oldestSeconds": 5.0, "refused": 0}
    assert document["status"] == "healthy"
    set_sync(daemon, waiting=9, oldest_ms=daemon.clock.wall - 90_000, error="unreachable")
    document = ask(daemon)
    assert document["firestore"] == "disconnected"
    assert document["reasons"] == [
        "9 documents wait for their upload to Firestore, the oldest for 90 s"
    ]


@pytest.mark.parametrize(
    ("waiting", "warnings", "refused"), [(49, 0, False), (50, 1, False), (100, 0, True)]
)
def test_a_backlog_has_an_alarm_before_its_quota(
    daemon: FakeDaemon, waiting: int, warnings: int, refused: bool
) -> None:
    """From half of it on a warning; from all of it on nothing more is received."""
    set_sync(daemon, waiting=waiting)
    found = daemon.store.sync_status
    assert len(found.warnings) == warnings
    assert bool(found.refusal) is refused


def test_documents_that_firestore_refuses_are_a_warning(daemon: FakeDaemon) -> None:
    """The reason of a stalled push is another warning."""
    set_sync(daemon, refused=2, error="denied")
    assert len(daemon.store.sync_status.warnings) == 2


def test_warnings_are_counted(daemon: FakeDaemon) -> None:
    """Those of the daemon and of its accounts."""
    daemon.warnings.append("one")
    daemon.accounts.have("a").problems += [
        Problem(code="notice", text=text, account="a") for text in ("two", "three")
    ]
    assert ask(daemon)["warnings"] == 3


def test_faults_are_counted(daemon: FakeDaemon) -> None:
    """The counter of dispatch is seen."""
    daemon.internal_errors = 4
    assert ask(daemon)["internalErrors"] == 4


def test_times_are_as_in_javascript(daemon: FakeDaemon) -> None:
    """Milliseconds and a Z, as the readers expect."""
    document = ask(daemon)
    assert document["timestamp"] == "2023-11-14T22:13:20.000Z"
    assert re.fullmatch(r"2023-11-14T22:13:10\.000Z", document["bootTimestamp"])


def test_a_request_without_a_name_gets_one(daemon: FakeDaemon) -> None:
    """Made from the time."""
    assert health(daemon)["requestId"] == "health_1700000000000"


def test_stored_messages_are_summed_up(daemon: FakeDaemon) -> None:
    """New ones, known ones, and those of the phone's history with its latest chunk."""
    for ident, ms in (("a", 1_700_000_000_000), ("b", 1_699_999_990_000)):
        inbound = daemon.accounts.have(ident).inbound
        inbound.recorded, inbound.duplicates = 5, 2
        inbound.history = FakeHistory(3, 1, ms, 30 if ident == "a" else 20)
    document = ask(daemon)
    assert document["dedupe"] == {"wrote": 10, "skipped": 4, "strongSkipped": 0}
    assert document["history"] == {
        "wrote": 6,
        "skipped": 2,
        "lastRunAt": "2023-11-14T22:13:20.000Z",
        "lastBatchCount": 30,
    }


def test_history_that_never_came_has_no_time(daemon: FakeDaemon) -> None:
    """No run is null."""
    daemon.accounts.have("a")
    history = ask(daemon)["history"]
    assert (history["lastRunAt"], history["lastBatchCount"]) == (None, None)


def test_the_commit_is_what_was_deployed(daemon: FakeDaemon) -> None:
    """As the environment names it, else null."""
    before = ask(daemon)["commit"]
    daemon.loaded.config.instance.commit = "1c143c6e"
    assert (before, ask(daemon)["commit"]) == (None, "1c143c6e")


def test_without_firestore(daemon: FakeDaemon) -> None:
    """The reference's value for another store."""
    assert ask(daemon)["firestore"] == "disabled"


@pytest.mark.parametrize(
    ("valid", "writable", "status"),
    [
        (9.5, True, "ready"),
        (9.5, None, "ready"),
        (9.5, False, "not_ready"),
        (None, True, "not_ready"),
    ],
)
def test_readyz(
    daemon: FakeDaemon, valid: float | None, writable: bool | None, status: str
) -> None:
    """Requests are sent here when this instance acts and can write."""
    daemon.leader.valid, daemon.sessions_writable = valid, writable
    document = readyz(daemon)
    assert document["status"] == status
    assert document["checks"] == {
        "firestore": True,
        "worker": valid is not None,
        "sessions": writable,
        "timestamp": "2023-11-14T22:13:20.000Z",
    }


def test_files_that_cannot_be_used_are_not_ready(daemon: FakeDaemon) -> None:
    """Root ran wad on this state: nothing is green, and no file name is in the document."""
    daemon.findings.append(Problem(code="unusable_files", text="/x/lease.json", figures=(2,)))
    assert readyz(daemon)["status"] == "not_ready"
    document = ready(daemon)
    assert document["ready"] is False
    assert document["reason"] == "state files that cannot be read or written: 2"
    assert health(daemon)["status"] == "degraded"


def test_diag_names_the_latest_accounts(daemon: FakeDaemon) -> None:
    """At most three accounts, the latest first, without their numbers."""
    for number in range(5):
        account = daemon.accounts.have(f"acc-1555000000{number}")
        account.card.phone = f"+1555000000{number}"
        account.inbound.last_event_ms = 1_700_000_000_000 + number if number else None
        account.inbound.error = f"{account.id}/inbox.db is damaged" if number == 4 else ""
    document = diag(daemon)
    latest = [one["accountId"] for one in document["latestRealtime"]]
    assert latest == ["acc-1555****04", "acc-1555****03", "acc-1555****02"]
    assert document["latestRealtime"][0] == {
        "accountId": "acc-1555****04",
        "lastRealtimeIngestAt": "2023-11-14T22:13:20.004Z",
        "lastRealtimeMessageAt": None,
        "lastRealtimeError": "acc-1555****04/inbox.db is damaged",
    }
    assert document["latestRealtime"][1]["lastRealtimeError"] is None
    assert (document["ready"], document["mode"], document["instanceId"]) == (
        True,
        "active",
        "host-a",
    )


def test_healthz(daemon: FakeDaemon) -> None:
    """Alive, and nothing else."""
    assert healthz(daemon) == {"status": "ok", "timestamp": "2023-11-14T22:13:20.000Z"}


def test_ready_when_active(daemon: FakeDaemon) -> None:
    """An active instance gives no reason."""
    assert ready(daemon) == {
        "ready": True,
        "mode": "active",
        "instanceId": "host-a",
        "lockStatus": "held_by_this_instance",
        "heldBy": "host-a",
        "lockExpiresInSeconds": 10,
        "timestamp": "2023-11-14T22:13:20.000Z",
    }


def test_ready_when_passive(daemon: FakeDaemon) -> None:
    """A passive instance names the holder, and why it is passive."""
    daemon.leader.valid, daemon.leader.holder, daemon.leader.reason = None, "b", "b holds epoch 8"
    document = ready(daemon)
    assert (document["ready"], document["mode"], document["heldBy"]) == (False, "passive", "b")
    assert document["reason"] == "b holds epoch 8"
