"""`make chaos`; see the package."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.takeover import a_database
from tests.chaos import machines
from tests.chaos.machines import Outcome
from tests.chaos.run import Result, run, summary
from tests.chaos.scenario import Kind, draw
from tests.missing import ROOT, Missing, may_be_root


def kinds_of(text: str) -> tuple[Kind, ...]:
    """The kinds in a list with commas, in the order of their declaration.  Raises ValueError."""
    wanted = {Kind(word) for word in text.split(",")}
    return tuple(kind for kind in Kind if kind in wanted)


def report(text: str) -> None:
    """One line of progress."""
    print(f"  {time.strftime('%H:%M:%S')} {text}", flush=True)


async def _all(
    seeds: list[int], kinds: tuple[Kind, ...], parent: Path, *, apart: bool
) -> list[Result]:
    results: list[Result] = []
    chosen = "" if kinds == tuple(Kind) else f" KIND={','.join(kinds)}"
    chosen += " APART=1" if apart else ""
    for number, seed in enumerate(seeds, 1):
        print(f"run {number} of {len(seeds)}: make chaos SEED={seed}{chosen}", flush=True)
        result = await run(draw(seed, kinds, apart=apart), report, parent)
        results.append(result)
        print(json.dumps(result.as_json()), flush=True)
    return results


async def _leases(seeds: list[int], parent: Path) -> list[Outcome]:
    outcomes: list[Outcome] = []
    async with a_database() as access:
        for number, seed in enumerate(seeds, 1):
            print(f"run {number} of {len(seeds)}: make chaos LEASE=1 SEED={seed}", flush=True)
            mine = dataclasses.replace(access, project=f"demo-{seed}-{number}")
            outcome = await machines.run(seed, machines.draw(seed), mine, parent)
            outcomes.append(outcome)
            print(json.dumps(outcome.as_json()), flush=True)
    return outcomes


def _lease(seeds: list[int], parent: Path) -> int:
    """`LEASE=1`; the exit code."""
    outcomes = asyncio.run(_leases(seeds, parent))
    ok = bool(outcomes) and not any(outcome.findings for outcome in outcomes)
    if ok:
        parent.rmdir()
    line = {
        "ok": ok,
        "runs": len(outcomes),
        "epochs": sum(outcome.epochs for outcome in outcomes),
        "glances": sum(outcome.glances for outcome in outcomes),
        "failed_runs": [outcome.seed for outcome in outcomes if outcome.findings],
    }
    print(json.dumps(line), flush=True)
    return 0 if ok else 1


def main() -> int:
    """The command line; exit code 1 when anything is wrong."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=25, help="how many (N=...)")
    parser.add_argument("--seed", type=int, help="replay this one (SEED=...)")
    parser.add_argument(
        "--kind", type=kinds_of, default=tuple(Kind), metavar="KIND,...",
        help=f"only these: {', '.join(Kind)} (KIND=...)",
    )  # fmt: skip
    parser.add_argument(
        "--apart", action="store_true", help="answer to a contact that does not write (APART=1)"
    )
    parser.add_argument(
        "--lease", action="store_true", help="three machines that share one Firestore (LEASE=1)"
    )
    given = parser.parse_args()
    if Kind.DISK in given.kind and not given.lease and not may_be_root():
        parser.error(f"{Missing(*ROOT)}, or name other kinds than disk (KIND=...)")
    one = [given.seed] if given.seed is not None else None
    seeds = one or [secrets.randbelow(10**9) for _ in range(given.runs)]
    # One directory for each series, so that it can be removed by name while another series runs.
    parent = Path(tempfile.mkdtemp(prefix="wad-chaos-"))
    print(f"what fails is kept in {parent}", flush=True)
    if given.lease:
        return _lease(seeds, parent)
    results = asyncio.run(_all(seeds, given.kind, parent, apart=given.apart))
    if results and all(result.ok for result in results):
        parent.rmdir()
    print(json.dumps(summary(results)), flush=True)
    return 0 if all(result.ok for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
