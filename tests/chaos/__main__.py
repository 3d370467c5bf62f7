"""`make chaos`; see the package."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.run import Result, run, summary
from tests.chaos.scenario import Kind, draw


def kinds_of(text: str) -> tuple[Kind, ...]:
    """The kinds in a list with commas, in the order of their declaration.  Raises ValueError."""
    wanted = {Kind(word) for word in text.split(",")}
    return tuple(kind for kind in Kind if kind in wanted)


def tell(text: str) -> None:
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
        result = await run(draw(seed, kinds, apart=apart), tell, parent)
        results.append(result)
        print(json.dumps(result.as_json()), flush=True)
    return results


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
        "--apart", action="store_true", help="answer to somebody who does not write (APART=1)"
    )
    given = parser.parse_args()
    if Kind.DISK in given.kind and os.geteuid() != 0:
        parser.error("the small disk is mounted by root; name other kinds (KIND=...)")
    one = [given.seed] if given.seed is not None else None
    seeds = one or [secrets.randbelow(10**9) for _ in range(given.runs)]
    # One directory for each series, so that it can be removed by name while another series runs.
    parent = Path(tempfile.mkdtemp(prefix="wad-chaos-"))
    print(f"what fails is kept in {parent}", flush=True)
    results = asyncio.run(_all(seeds, given.kind, parent, apart=given.apart))
    if results and all(result.ok for result in results):
        parent.rmdir()
    print(json.dumps(summary(results)), flush=True)
    return 0 if all(result.ok for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
