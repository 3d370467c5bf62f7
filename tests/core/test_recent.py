"""What happened in the last five minutes."""

from __future__ import annotations

from wad.flow.inbound.recent import Recent


def test_older_events_do_not_count() -> None:
    """Each time counts for five minutes."""
    now = [0.0]
    recent = Recent(lambda: now[0])
    assert recent.count == 0
    for second in (0, 100, 299):
        now[0] = second
        recent.note()
    assert recent.count == 3
    now[0] = 350
    assert recent.count == 2
    now[0] = 600
    assert recent.count == 0
