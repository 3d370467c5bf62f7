"""Importing a package without parts that it loads in any case and that we never run: every process pays for them.

Only the import does without; whoever needs such a part later gets it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def emptied(*names: str) -> Iterator[None]:
    """Meanwhile an empty module stands in the place of each of these that is not loaded yet."""
    with _instead({name: ModuleType(name) for name in names}):
        yield


@contextmanager
def missing(*names: str) -> Iterator[None]:
    """Meanwhile these are not installed, for who can do without; those that are loaded already stay."""
    with _instead(dict.fromkeys(names)):
        yield


@contextmanager
def _instead(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    chosen = {name: module for name, module in modules.items() if name not in sys.modules}
    # None is the import system's own way to say that there is no such module.
    sys.modules.update(chosen)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in chosen:
            del sys.modules[name]
