"""`make fuzz`: every target, a line of JSON for each, and a summary; exit code 0 only when no input failed."""

from __future__ import annotations

import argparse
import importlib.util
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from tests.fuzz.running import Outcome, replay, run, scratch
from tests.fuzz.target import Target, targets

_KEPT = Path("build/fuzz")


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="over all targets")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--target", default="", help="some of them, by name, with commas")
    parser.add_argument("--jobs", type=int, default=2, help="targets that run side by side")
    parser.add_argument("--replay", type=Path, default=None, help="a file that was kept")
    given = parser.parse_args()
    chosen = _chosen(given.target)
    if given.replay is not None:
        for target in chosen:
            replay(target, given.replay.read_bytes())
        return 0
    seed = random.SystemRandom().randrange(2**31) if given.seed is None else given.seed
    guided = importlib.util.find_spec("atheris") is not None
    print(msgspec.json.encode({"seed": seed, "guided": guided}).decode(), flush=True)
    weights = sum(target.weight for target in chosen)

    def work(target: Target) -> Outcome:
        inputs = max(1, given.inputs * target.weight // weights)
        if guided:
            return _guided(target, inputs, seed)
        return run(target, inputs, seed, _KEPT)

    # Without atheris everything runs in this process, one after the other.
    with ThreadPoolExecutor(given.jobs if guided else 1) as pool:
        outcomes = []
        for outcome in pool.map(work, chosen):
            print(msgspec.json.encode(outcome).decode(), flush=True)
            outcomes.append(outcome)
    total = {
        "inputs": sum(one.inputs for one in outcomes),
        "errors": sum(one.errors for one in outcomes),
        "targets": len(outcomes),
    }
    print(msgspec.json.encode(total).decode())
    return 1 if total["errors"] else 0


def _chosen(names: str) -> list[Target]:
    table = targets()
    unknown = [name for name in names.split(",") if name and name not in table]
    if unknown:
        raise SystemExit(f"unknown target {unknown[0]!r}; known are {', '.join(table)}")
    return [target for name, target in table.items() if not names or name in names.split(",")]


def _guided(target: Target, inputs: int, seed: int) -> Outcome:
    with scratch() as directory:
        argv = [
            sys.executable,
            "-m",
            "tests.fuzz.guided",
            target.name,
            str(inputs),
            str(seed),
            directory,
        ]
        done = subprocess.run([*argv, str(_KEPT)], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    try:
        outcome = msgspec.json.decode(lines[-1] if lines else "", type=Outcome)
    except msgspec.MsgspecError:
        why = done.stderr[-2000:]
        outcome = Outcome(
            target=target.name,
            guided=True,
            errors=1,
            error=f"it ended with {done.returncode}: {why}",
        )
    if outcome.errors:
        sys.stderr.write(done.stderr[-4000:])
    return outcome


if __name__ == "__main__":
    sys.exit(main())
