"""`make bench`, or one measure of it: `make bench ONLY=health_rate`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

from tests.bench import daemon, engine, firestore, growth, http, idling, many, takeover, transport
from tests.bench.measure import Figure

MEASURES = (
    daemon.start_to_ready,
    daemon.pss_idle,
    daemon.health,
    transport.server,
    http.rates50,
    daemon.wadctl_status,
    engine.worker_pss,
    engine.workers10_pss,
    engine.inbound_rate,
    growth.growth_accounts,
    growth.growth_inbound,
    growth.reconnects,
    takeover.takeover,
    takeover.rss_firestore,
    firestore.firestore_batch,
    idling.idle,
    idling.restart_same_host,
    many.restart_accounts,
)


def show(figure: Figure) -> None:
    """One line of JSON."""
    print(json.dumps(figure.as_json()), flush=True)


def main() -> int:
    """The command line; exit code 1 when a goal was missed."""
    names = [name for measure in MEASURES for name in measure.names]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=names, help="one measure")
    given = parser.parse_args()
    missed = 0
    for measure in MEASURES:
        if given.only and given.only not in measure.names:
            continue
        figures: Sequence[Figure] = asyncio.run(measure.run())
        for figure in figures:
            if given.only in (None, figure.measure):
                show(figure)
                missed += not figure.met
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
