"""Tests of the chaos suite itself: the draw, the audit, and a short real run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.audit import (
    Arrived,
    Asked,
    Entry,
    Evidence,
    Findings,
    Stored,
    Written,
    audit,
    together,
)
from tests.chaos.run import run, summary
from tests.chaos.scenario import MESSAGES, Kind, draw

ANA, BOB = "15550010000", "15550010001"
GOOD = Evidence(
    account="shop",
    written=[Written("A1", ANA, "one"), Written("B1", BOB, "two"), Written("A2", ANA, "three")],
    promised=frozenset({"A1"}),
    stored=[
        Stored("B1", BOB, "two", inbound=True),
        Stored("A1", ANA, "one", inbound=True),
        Stored("X1", ANA, "yes", inbound=False, client_id="c1"),
        Stored("A2", ANA, "three", inbound=True),
        Stored("X2", ANA, "no", inbound=False, client_id="c2"),
    ],
    asked=[Asked("c1", ANA, "yes"), Asked("c2", ANA, "no")],
    entries=[Entry("c1", "delivered"), Entry("c2", "sent")],
    arrived=[Arrived("X1", ANA, "yes"), Arrived("X2", ANA, "no")],
)


def without(wa_id: str, *instead: Stored) -> Evidence:
    """The good evidence with one stored message replaced."""
    kept = [message for message in GOOD.stored if message.wa_id != wa_id]
    return replace(GOOD, stored=[*kept, *instead])


def settled(client_id: str, state: str, error: str = "", code: str = "") -> Evidence:
    """The good evidence with another result of one answer."""
    entries = [one for one in GOOD.entries if one.client_id != client_id]
    return replace(GOOD, entries=[*entries, Entry(client_id, state, error, code)])


# --- the audit ------------------------------------------------------------------------------------


def test_all_is_well() -> None:
    """Everything stored once, in order, and sent once: nothing is found."""
    assert audit(GOOD) == Findings()


@pytest.mark.parametrize(
    ("evidence", "found"),
    [
        (without("B1"), Findings(lost=("B1",))),
        (without("A1"), Findings(lost=("A1",), lost_promised=("A1",))),
        (
            without("B1", Stored("B1", BOB, "", inbound=True, kind="undecryptable")),
            Findings(lost=("B1",), lost_shown=("B1",)),
        ),
        (
            replace(GOOD, stored=[*GOOD.stored, Stored("B1", BOB, "two", inbound=True)]),
            Findings(doubled=("B1",)),
        ),
        (
            without("A1", Stored("A1", ANA, "one", inbound=True)),
            Findings(reordered=("A1",)),
        ),
        (without("B1", Stored("B1", ANA, "two", inbound=True)), Findings(misfiled=("B1",))),
        (without("B1", Stored("B1", BOB, "2", inbound=True)), Findings(altered=("B1",))),
        (
            replace(GOOD, stored=[*GOOD.stored, Stored("Z9", BOB, "boo", inbound=True)]),
            Findings(strange=("Z9",)),
        ),
    ],
)
def test_incoming_messages_are_audited(evidence: Evidence, found: Findings) -> None:
    """A loss, a broken promise, a placeholder, a double, a reorder, a wrong thread or text, a ghost."""
    assert audit(evidence) == found


@pytest.mark.parametrize(
    ("evidence", "found"),
    [
        (without("X2"), Findings(lost=("c2",))),
        (
            without("X2", *[Stored("X2", ANA, "no", inbound=False, client_id="c2")] * 2),
            Findings(doubled=("c2",)),
        ),
        (
            replace(GOOD, arrived=[*GOOD.arrived, Arrived("X3", ANA, "no")]),
            Findings(repeated=("c2",)),
        ),
        (replace(GOOD, arrived=GOOD.arrived[::-1]), Findings(reordered=("c1",))),
        (replace(GOOD, arrived=GOOD.arrived[:1]), Findings(unsent=("c2",))),
        (
            replace(GOOD, entries=GOOD.entries[:1], arrived=GOOD.arrived[:1]),
            Findings(unsent=("c2",)),
        ),
        (
            replace(GOOD, arrived=[*GOOD.arrived, Arrived("X4", ANA, "what?")]),
            Findings(strange=("X4",)),
        ),
        (settled("c2", "queued"), Findings(stuck=("c2",))),
        (settled("c2", "failed", "refused"), Findings(failed=("c2",))),
        (settled("c2", "uncertain", "gone"), Findings(uncertain=("c2",), unexplained=("c2",))),
        (
            replace(settled("c2", "uncertain", ""), arrived=GOOD.arrived[:1]),
            Findings(uncertain=("c2",), unexplained=("c2",)),
        ),
    ],
)
def test_sent_messages_are_audited(evidence: Evidence, found: Findings) -> None:
    """A missing or double document, a repeat, a reorder, an answer that never arrived, and every bad result."""
    assert audit(evidence) == found


@pytest.mark.parametrize(
    ("second", "asked_again", "reordered"),
    [(5, True, ()), (4, True, ("A1",)), (5, False, ("A1",))],
)
def test_of_one_second_a_message_that_was_asked_for_again_may_be_late(
    second: int, asked_again: bool, reordered: tuple[str, ...]
) -> None:
    written = [
        Written("A1", ANA, "one", second, asked_again),
        GOOD.written[1],
        Written("A2", ANA, "three", 5),
    ]
    late = without("A1", Stored("A1", ANA, "one", inbound=True))
    assert audit(replace(late, written=written)).reordered == reordered


def test_a_message_that_two_workers_died_of_is_given_up() -> None:
    """That is allowed, unless the message arrived."""
    evidence = settled("c2", "failed", "two workers died", "kills_the_worker")
    arrived = audit(evidence)
    assert (arrived.ok, arrived.failed) == (False, ("c2",))
    findings = audit(replace(evidence, arrived=GOOD.arrived[:1]))
    assert (findings.ok, findings.failed, findings.given_up) == (True, (), ("c2",))


def test_an_explained_uncertainty_is_allowed() -> None:
    """It never arrived, and the entry has the reason of its unknown result."""
    evidence = replace(settled("c2", "uncertain", "the worker is gone"), arrived=GOOD.arrived[:1])
    findings = audit(evidence)
    assert (findings.ok, findings.counts()["uncertain"]) == (True, 1)


def test_findings_of_accounts_add_up() -> None:
    """An error of one account is an error of the whole."""
    findings = together([audit(GOOD), audit(without("B1")), audit(without("A1"))])
    assert findings == Findings(lost=("B1", "A1"), lost_promised=("A1",))
    assert not findings.ok


# --- the draw -------------------------------------------------------------------------------------


@given(st.integers(min_value=0), st.sets(st.sampled_from(Kind), min_size=1), st.booleans())
def test_a_seed_determines_everything(seed: int, kinds: set[Kind], apart: bool) -> None:
    """The same seed draws the same; every fault is of a requested kind, and in order of time."""
    named = sorted(kinds)
    scenario = draw(seed, named, apart=apart)
    assert scenario == draw(seed, named, apart=apart)
    assert len(scenario.writes) == MESSAGES
    assert {fault.kind for fault in scenario.faults} <= kinds
    dues = [fault.after for fault in scenario.faults]
    assert dues == sorted(dues)
    assert 1 <= dues[0] <= dues[-1] <= MESSAGES
    answered = {write.answer_to for write in scenario.writes} - {None}
    assert answered
    assert apart is answered.isdisjoint(write.peer for write in scenario.writes)


# --- a real run -------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_nothing_is_lost_doubled_or_repeated(tmp_path: Path, seed: int) -> None:
    """A short `make chaos`, with every kind of fault."""
    progress: list[str] = []
    result = await run(draw(seed, tuple(Kind)), progress.append, tmp_path)
    assert result.ok, (result.as_json(), progress)
    assert summary([result])["messages"] == MESSAGES
