"""Fixtures of the tests against the emulator."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Final

import pytest

from tests.firestore.emulator import an_emulator, find, warm_up
from tests.firestore.stores import Console
from wad.store.firestore.client.access import FirestoreAccess

_PROJECTS: Final = itertools.count(1)


@pytest.fixture(scope="session")
def emulator() -> Iterator[int]:
    """The port of an emulator that all tests share; the test is skipped if there is none."""
    with an_emulator(find()) as port:
        asyncio.run(warm_up(FirestoreAccess(project="demo-warm", emulator=f"127.0.0.1:{port}")))
        yield port


@pytest.fixture
def access(emulator: int) -> FirestoreAccess:
    """An empty database of the test's own."""
    return FirestoreAccess(project=f"demo-{next(_PROJECTS)}", emulator=f"127.0.0.1:{emulator}")


@pytest.fixture
def console(access: FirestoreAccess) -> Iterator[Console]:
    """Access to Firestore without wad."""
    console = Console(access)
    yield console
    console.close()
