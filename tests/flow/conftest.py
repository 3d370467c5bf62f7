"""Fixtures of the tests of the flow."""

from __future__ import annotations

import pytest

from tests.flow.machines import FakeRegistry


@pytest.fixture
def known() -> FakeRegistry:
    """An empty registry of session locations."""
    return FakeRegistry()
