"""The audits of Firestore itself: documents of wad, and of other programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contracts.world import ACC, ANN_THREAD, BOB, NOON, arrival
from tests.firestore.audits import ask, audited, run
from tests.firestore.legacy_documents import (
    a_thread,
    everything_wrong,
    of_a_function,
    of_m,
    put,
)
from tests.firestore.refusing import LINK, denied, no_descending_index, no_index, refusing
from tests.firestore.stores import Console, leading
from wad.audit.duplicates import Question
from wad.lib.clock import SystemClock
from wad.store.firestore.client.access import FirestoreAccess

pytestmark = pytest.mark.timeout(180)

NOW = NOON + 60_000
HOUR = 3_600_000


# --- what is read ---------------------------------------------------------------------------------------


async def test_documents_of_wad_are_clean(access: FirestoreAccess, tmp_path: Path) -> None:
    """They have one time, one id and one thread each."""
    async with leading(access, tmp_path) as store:
        await store.record(ACC, [*arrival(1), *arrival(2), *arrival(1, BOB)])
        await store.wait_pushed()
    messages, threads = audited(access, Question(NOW))
    assert (messages.verdict, messages.store, messages.total_docs) == ("clean", "firestore", 3)
    assert (messages.ts_client_types, messages.mode_used) == ({"timestamp": 3}, "desc")
    assert (threads.verdict, threads.total_threads, threads.unknown_name_count) == ("clean", 2, 0)


async def test_duplicates_of_others_are_found(access: FirestoreAccess, console: Console) -> None:
    """One message under two ids, another under a LID; receipts alone have no time, and are counted."""
    await everything_wrong(console, NOW)
    messages, threads = audited(access, Question(NOW))
    assert (messages.total_docs, messages.duplicates_count_active) == (8, 2)
    assert messages.ts_client_types == {"absent": 2, "string": 2, "timestamp": 6}
    assert messages.skipped.unreadable_time == 2
    assert (threads.duplicates_count, threads.object_threads_count) == (1, 1)
    assert (threads.lid_threads_count, threads.redirected_threads_count) == (1, 0)


async def test_texts_do_not_pass_every_window(access: FirestoreAccess, console: Console) -> None:
    """In the replaced backend 48 hours, one hour and 15 minutes showed the same documents, those whose time is a
    text."""
    await put(
        console,
        old=of_a_function(NOW - 50 * HOUR),
        recent=of_a_function(NOW - HOUR // 2),
        digits=of_m("W1", NOW) | {"tsClient": str(NOW - HOUR // 3)},
        seconds=of_m("W2", NOW) | {"tsClient": (NOW - HOUR // 4) // 1000},
        number=of_m("W3", NOW) | {"tsClient": NOW - 49 * HOUR},
        now=of_m("W4", NOW - 1000),
    )
    counts = [
        audited(access, Question(NOW, hours))[0].total_docs for hours in (60, 48, 1, 0.25, 0.001)
    ]
    assert counts == [6, 4, 4, 2, 1]
    skipped = audited(access, Question(NOW, 48))[0].skipped
    assert (skipped.out_of_window, skipped.unreadable_time) == (2, 0)


async def test_the_newest_rows_are_kept_whatever_the_type_of_their_time(
    access: FirestoreAccess, console: Console
) -> None:
    """The limit cuts the oldest rows, and this is in the report."""
    await put(
        console,
        **{f"t{n}": of_m(f"W{n}", NOW - n * 1000) for n in range(1, 8, 2)},
        **{f"s{n}": of_a_function(NOW - n * 1000, f"text {n}") for n in range(2, 8, 2)},
    )
    report, _ = audited(access, Question(NOW, limit=4))
    assert (report.total_docs, report.limit_reached) == (4, True)
    assert (report.newest_age_seconds, report.oldest_age_seconds) == (1, 4)
    assert report.skipped.out_of_window == 0


async def test_one_account_and_one_thread(access: FirestoreAccess, console: Console) -> None:
    """Only the requested rows; messages of other collections are ignored."""
    await put(console, a=of_m("W1", NOW), b=of_m("W2", NOW - 1000, "more"))
    other = of_m("W1", NOW) | {"accountId": "two"}
    await console.set("threads/two__40700000001@s.whatsapp.net/messages/a", other)
    await console.set("chats/x/messages/a", other)
    await console.set(f"threads/{ANN_THREAD}", a_thread(NOW))
    await console.set("threads/two__40700000001@s.whatsapp.net", a_thread(NOW) | {"accountId": "two"})  # fmt: skip
    totals = [
        audited(access, Question(NOW, account=account, thread=thread))[0].total_docs
        for account, thread in (("", ""), (ACC, ""), ("two", ""), ("", ANN_THREAD))
    ]
    assert totals == [3, 2, 1, 2]
    assert audited(access, Question(NOW, account="two"))[1].total_threads == 1


async def test_marked_and_redirected_documents_are_not_counted(
    access: FirestoreAccess, console: Console
) -> None:
    """Marked duplicates are left out unless requested."""
    await put(console, a=of_m("W1", NOW), b=of_m("W1", NOW) | {"isDuplicate": True})
    await console.set(f"threads/{ANN_THREAD}", a_thread(NOW))
    old = a_thread(NOW, jid="111222333@lid") | {"redirectTo": ANN_THREAD, "hidden": True}
    await console.set(f"threads/{ACC}__111222333@lid", old)
    messages, threads = audited(access, Question(NOW, exclude_marked=False))
    assert (messages.duplicates_count_active, messages.duplicates_count_all) == (0, 1)
    assert (threads.verdict, threads.total_threads) == ("clean", 1)
    assert threads.redirected_threads_count == 1


# --- the commands -------------------------------------------------------------------------------------


async def test_the_commands_and_their_codes(
    access: FirestoreAccess, console: Console, tmp_path: Path
) -> None:
    """0, 2, 10; neither the daemon nor a working copy is needed."""
    now = SystemClock().wall_ms()
    assert ask(access, tmp_path, "messages", code=10)["verdict"] == "inconclusive"
    await put(console, a=of_m("W1", now))
    assert ask(access, tmp_path, "messages")["store"] == "firestore"
    await put(console, b=of_m("W1", now))
    assert ask(access, tmp_path, "messages", code=2)["duplicatesCountActive"] == 1
    await console.set(f"threads/{ANN_THREAD}", a_thread(now))
    assert ask(access, tmp_path, "threads")["totalThreads"] == 1
    assert "wadctl audit repair" in run(access, tmp_path, "messages").stdout


async def test_without_the_descending_index(
    access: FirestoreAccess, console: Console, tmp_path: Path
) -> None:
    """The ascending one is used, over several pages; the report has this, and the link to create the index."""
    now = SystemClock().wall_ms()
    await put(console, **{f"m{n}": of_m(f"W{n}", now - n * 1000) for n in range(9)})
    with refusing(access.emulator, no_descending_index) as address:
        there = replace(access, emulator=address)
        report = ask(there, tmp_path, "messages", "--limit", "4")
        silent = ask(there, tmp_path, "messages", "--no-print-index-link")
        shown = run(there, tmp_path, "messages").stdout
    assert (report["usedFallback"], report["modeUsed"]) == (True, "asc_fallback")
    assert (report["hint"], report["indexLink"]) == (None, LINK)
    assert (report["totalDocs"], report["limitReached"]) == (4, True)
    assert round(report["oldestAgeSeconds"] - report["newestAgeSeconds"]) == 3
    assert silent["indexLink"] is None
    assert LINK in shown


async def test_without_any_index(access: FirestoreAccess, tmp_path: Path) -> None:
    """The audit fails: another exit code than duplicates, the reason, and the link, which can be left out."""
    with refusing(access.emulator, no_index) as address:
        there = replace(access, emulator=address)
        failure = ask(there, tmp_path, "messages", code=1)
        silent = ask(there, tmp_path, "messages", "--printIndexLink", code=1)
        hidden = ask(there, tmp_path, "messages", "--no-printIndexLink", code=1)
    assert (failure["error"], failure["code"]) == ("firestore_query_failed", 9)
    assert (failure["hint"], failure["indexLink"]) == ("missing_index", LINK)
    assert (failure["usedFallback"], failure["modeUsed"]) == (True, "asc_fallback")
    assert (failure["projectId"], failure["emulatorHost"]) == (access.project, address)
    assert (silent["indexLink"], hidden["indexLink"]) == (LINK, None)


async def test_without_permission(access: FirestoreAccess, tmp_path: Path) -> None:
    """The hint distinguishes the two causes."""
    with refusing(access.emulator, denied) as address:
        failure = ask(replace(access, emulator=address), tmp_path, "threads", code=1)
    assert (failure["hint"], failure["code"]) == ("permission_denied", 7)
    assert (failure["usedFallback"], failure["indexLink"]) == (False, None)


def test_without_credentials(tmp_path: Path) -> None:
    """No query is made; the report shows which credentials exist, without their content."""
    result = run(
        FirestoreAccess(), tmp_path, "messages", "--json",
        FIREBASE_SERVICE_ACCOUNT_JSON='{"private_key": "secret"}', GOOGLE_CLOUD_PROJECT="demo",
        FIRESTORE_EMULATOR_HOST="", HOME=str(tmp_path),
    )  # fmt: skip
    failure = json.loads(result.stdout)
    assert (result.exit_code, failure["error"]) == (1, "firestore_unavailable")
    assert failure["env"] == {
        "has_GAC": False,
        "gac_path_len": 0,
        "gac_file_exists": False,
        "has_ADC": False,
        "projectId_present": True,
    }
    assert "secret" not in result.output
