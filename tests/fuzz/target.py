"""The type of a target, and the table of all targets."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

Attempt = Callable[[Any], object]
Begin = Callable[[Path], AbstractContextManager[Attempt]]
"""Prepares a target in an empty directory; the result is called with each input."""

CORPUS: Final = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Target:
    """One interface.  Without `values` its inputs are bytes, mutated from the seeds and the corpus."""

    name: str
    begin: Begin
    weight: int
    """Its share of the inputs: fast targets get more."""
    seeds: Callable[[], Sequence[bytes]] = tuple
    values: st.SearchStrategy[Any] | None = None

    def all_seeds(self) -> list[bytes]:
        """The seeds, and the corpus of earlier runs: a file for each input."""
        kept = sorted((CORPUS / self.name).glob("*")) if (CORPUS / self.name).is_dir() else []
        return [*self.seeds(), *(file.read_bytes() for file in kept)]

    @contextmanager
    def given(self, directory: Path, count: Callable[[], object]) -> Iterator[Callable[[], None]]:
        """A property of hypothesis that draws `values`; `count` is called for each."""
        assert self.values is not None
        with self.begin(directory) as attempt:

            @given(self.values)
            def check(value: Any) -> None:
                count()
                attempt(value)

            yield check


_TABLE: Final[dict[str, Target]] = {}


def target(
    *,
    weight: int,
    seeds: Callable[[], Sequence[bytes]] = tuple,
    values: st.SearchStrategy[Any] | None = None,
) -> Callable[[Callable[[Path], Iterator[Attempt]]], Begin]:
    """Add a target; its name is the function's, which yields the callable for each input."""

    def add(begin: Callable[[Path], Iterator[Attempt]]) -> Begin:
        name = begin.__name__
        _TABLE[name] = Target(name, contextmanager(begin), weight, seeds, values)
        return _TABLE[name].begin

    return add


def targets() -> dict[str, Target]:
    """All of them, by name."""
    import tests.fuzz.targets as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_TABLE.items()))
