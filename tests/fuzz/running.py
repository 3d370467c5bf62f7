"""Running a target by mutation, or by hypothesis if it draws values; an input that fails is stored as a file."""

from __future__ import annotations

import hashlib
import itertools
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Final

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded

from tests.fuzz.mutating import mutated
from tests.fuzz.target import Target

_MEMORY: Final = Path("/dev/shm")


def scratch() -> tempfile.TemporaryDirectory[str]:
    """An empty directory, in memory if possible: a sync to a disk takes longer than all the rest."""
    return tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None)


class Outcome(msgspec.Struct, kw_only=True):
    """The result of one target: a line of JSON."""

    target: str
    inputs: int = 0
    errors: int = 0
    guided: bool = False
    seconds: float = 0.0
    error: str = ""
    kept: str = ""
    """The file of the input that failed."""


def run(target: Target, inputs: int, seed: int, kept: Path) -> Outcome:
    """Try this number of inputs, until one fails."""
    outcome, begun = Outcome(target=target.name), time.monotonic()
    with scratch() as directory:
        how = _mutated if target.values is None else _drawn
        how(target, Path(directory), inputs, seed, Keeper(outcome, kept))
    outcome.seconds = round(time.monotonic() - begun, 1)
    return outcome


def replay(target: Target, data: bytes) -> None:
    """Try one stored input; raises its error."""
    with scratch() as directory:
        if target.values is None:
            with target.begin(Path(directory)) as attempt:
                attempt(data)
        else:
            with target.given(Path(directory), lambda: None) as check:
                check.hypothesis.fuzz_one_input(data)  # type: ignore[attr-defined]


class Keeper:
    """Counts inputs and stores the one that failed."""

    def __init__(self, outcome: Outcome, kept: Path) -> None:
        self.outcome = outcome
        self._kept = kept

    def count(self) -> None:
        """Count one more."""
        self.outcome.inputs += 1

    def failed(self, error: BaseException, data: bytes | None) -> None:
        """Print the error's location, and store the input; None: hypothesis has shown how to draw it again."""
        self.outcome.errors += 1
        frames = traceback.extract_tb(error.__traceback__)
        ours = [one for one in frames if "/wad/" in one.filename or "/wadctl/" in one.filename]
        where = (ours or frames)[-1]
        self.outcome.error = (
            f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"[:400]
        )
        traceback.print_exception(error, file=sys.stderr)
        if data is not None:
            self._kept.mkdir(parents=True, exist_ok=True)
            file = self._kept / f"{self.outcome.target}-{hashlib.sha256(data).hexdigest()[:12]}"
            file.write_bytes(data)
            self.outcome.kept = str(file)


def _mutated(target: Target, directory: Path, inputs: int, seed: int, keeper: Keeper) -> None:
    seeds = target.all_seeds()
    with target.begin(directory) as attempt:
        for data in itertools.islice(itertools.chain(seeds, mutated(seeds, seed)), inputs):
            keeper.count()
            try:
                attempt(data)
            except Exception as error:
                keeper.failed(error, data)
                return


def _drawn(target: Target, directory: Path, inputs: int, seed: int, keeper: Keeper) -> None:
    with target.given(directory, keeper.count) as check:
        check = settings(
            max_examples=inputs,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )(seeded(seed)(check))
        try:
            check()
        except Exception as error:
            keeper.failed(error, None)
