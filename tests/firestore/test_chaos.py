"""The lease chaos's own checks: reading histories, finding errors in them, and a short run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.history import Leadership, judge, leaderships
from tests.chaos.machines import Strike, Trouble, draw, run
from wad.store.firestore.client.access import FirestoreAccess

MAY = "DEBUG epoch {}: may act from {:.3f} until {:.3f}"
NO_MORE = "DEBUG epoch {}: stopped acting at {:.3f}"


def test_a_history_is_read_from_a_log() -> None:
    """From the first right to act to the end of the last; a release and a death end it earlier."""
    log = [
        "INFO active: there is no holder yet",
        MAY.format(1, 10, 12),
        MAY.format(1, 11, 13),
        MAY.format(4, 50, 52),
        NO_MORE.format(4, 51.5),
        MAY.format(7, 90, 92),
    ]
    assert leaderships("a", log, [5.0, 91.0]) == [
        Leadership(1, "a", 10, 13),
        Leadership(4, "a", 50, 51.5),
        Leadership(7, "a", 90, 91),
    ]


def test_consecutive_terms_are_right() -> None:
    """In any order of machines."""
    assert (
        judge(
            {
                "a": [Leadership(1, "a", 0, 5), Leadership(3, "a", 9, 12)],
                "b": [Leadership(2, "b", 5, 9)],
            }
        )
        == []
    )


@pytest.mark.parametrize(
    ("histories", "said"),
    [
        (
            {"a": [Leadership(1, "a", 0, 5)], "b": [Leadership(2, "b", 4.9, 9)]},
            "might act until 5.000",
        ),
        (
            {"a": [Leadership(1, "a", 0, 9)], "b": [Leadership(2, "b", 2, 3)]},
            "might act until 9.000",
        ),
        (
            {"a": [Leadership(2, "a", 0, 5)], "b": [Leadership(2, "b", 6, 9)]},
            "epoch 2 is of a and b",
        ),
    ],
)
def test_overlapping_terms_are_found(histories: dict[str, list[Leadership]], said: str) -> None:
    """Two at a time, one within the other, a repeated epoch."""
    assert said in " ".join(judge(histories))


def test_a_run_follows_from_its_seed() -> None:
    """Equal seeds give equal runs, and every fault happens in time."""
    assert draw(7) == draw(7) != draw(8)
    assert {strike.trouble for seed in range(20) for strike in draw(seed)} == set(Trouble)


@pytest.mark.timeout(300)
async def test_never_two_may_act(tmp_path: Path, access: FirestoreAccess) -> None:
    """A short `make chaos LEASE=1`: two machines with real workers, and each kind of fault once."""
    strikes = [
        Strike(number % 2, trouble, 0.5, 3.5 if trouble is Trouble.FREEZE else 1.5)
        for number, trouble in enumerate(Trouble)
    ]
    outcome = await run(1, strikes, access, tmp_path)
    assert outcome.findings == []
    assert outcome.epochs >= 3
    assert outcome.glances > 10
