"""Imports of a package without the parts that it loads but we never run, which would cost memory in every process.

Only the import omits them; a part that is needed later is imported as usual.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def with_empty_modules(*names: str) -> Iterator[None]:
    """Replace each of these modules that is not loaded yet by an empty module."""
    with _replaced({name: ModuleType(name) for name in names}):
        yield


@contextmanager
def without_modules(*names: str) -> Iterator[None]:
    """Let these modules appear not installed, for optional imports; those that are loaded already stay."""
    with _replaced(dict.fromkeys(names)):
        yield


@contextmanager
def _replaced(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    chosen = {name: module for name, module in modules.items() if name not in sys.modules}
    # None is the import system's own way to say that there is no such module.
    sys.modules.update(chosen)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in chosen:
            del sys.modules[name]
