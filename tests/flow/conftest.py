"""Fixtures of the tests of the flow."""

from __future__ import annotations

import pytest

from tests.flow.machines import Known


@pytest.fixture
def known() -> Known:
    """An empty registry of session locations."""
    return Known()
