"""Suites that every adapter of a port must pass; each adapter's test module subclasses them."""

import pytest

pytest.register_assert_rewrite("tests.contracts.store")
