"""Fixtures of the tests of the test server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.whatsapp.driver import Scene, a_scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """One client for all tests of a file that leave it usable."""
    async with a_scene(tmp_path_factory.mktemp("client")) as scene:
        yield scene


@pytest.fixture
def scene(shared: Scene) -> Scene:
    """That client, and a Bob that is unknown to it."""
    return shared.afresh()
