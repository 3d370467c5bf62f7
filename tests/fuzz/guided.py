"""One target guided by coverage, in a separate process: libFuzzer's loop ends only with the process.

    python -m tests.fuzz.guided TARGET INPUTS SEED DIRECTORY KEPT

The last line on standard output is the Outcome.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import atheris
import msgspec

with atheris.instrument_imports(include=["wad", "wadctl"]):
    from tests.fuzz.mutating import LONGEST
    from tests.fuzz.running import Keeper, Outcome
    from tests.fuzz.target import Target, targets

    TABLE = targets()


def main() -> None:
    """Run until there were enough inputs, or one has failed."""
    name, inputs, seed, directory, kept = sys.argv[1:]
    logging.disable(logging.CRITICAL)  # each refused input is logged
    target, begun = TABLE[name], time.monotonic()
    outcome = Outcome(target=name, guided=True)

    def end() -> NoReturn:
        outcome.seconds = round(time.monotonic() - begun, 1)
        sys.stderr.flush()
        print("", msgspec.json.encode(outcome).decode(), sep="\n", flush=True)
        os._exit(0)

    corpus = Path(directory) / "corpus"
    corpus.mkdir()
    for number, data in enumerate(target.all_seeds()):
        (corpus / str(number)).write_bytes(data)
    keeper = Keeper(outcome, Path(kept))
    _begin(target, Path(directory), keeper, int(inputs), f"-seed={seed}", str(corpus), end)


def _begin(
    target: Target,
    directory: Path,
    keeper: Keeper,
    inputs: int,
    seed: str,
    corpus: str,
    end: Callable[[], NoReturn],
) -> None:
    def fuzz(attempt: Callable[[bytes], object]) -> None:
        def one(data: bytes) -> None:
            if keeper.outcome.inputs >= inputs:
                end()
            try:
                attempt(data)
            except Exception as error:
                keeper.failed(error, data)
                end()

        options = [seed, f"-max_len={LONGEST}", "-timeout=60", "-rss_limit_mb=4096", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *options, corpus], one)
        atheris.Fuzz()

    if target.values is not None:
        with target.given(directory, keeper.count) as check:
            fuzz(check.hypothesis.fuzz_one_input)  # type: ignore[attr-defined]
        return
    with target.begin(directory) as attempt:

        def counted(data: bytes) -> Any:
            keeper.count()
            return attempt(data)

        fuzz(counted)


if __name__ == "__main__":
    main()
