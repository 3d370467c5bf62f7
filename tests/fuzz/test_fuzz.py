"""A moment of each target in the suite; `make fuzz` runs them for longer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.running import run
from tests.fuzz.target import targets

_INPUTS = 20_000  # over all targets
_TARGETS = targets()
_WEIGHTS = sum(target.weight for target in _TARGETS.values())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", _TARGETS)
def test_no_input_raises_what_is_not_documented(name: str, tmp_path: Path) -> None:
    """Any input is accepted, or refused with a typed error."""
    target, seed = _TARGETS[name], random.SystemRandom().randrange(2**31)
    outcome = run(target, _INPUTS * target.weight // _WEIGHTS, seed, tmp_path)
    assert not outcome.errors, f"seed {seed}: {outcome}"
    assert outcome.inputs
