"""Fixtures of the tests of the interfaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fake_daemon import FakeAccount, FakeDaemon


@pytest.fixture
def daemon() -> FakeDaemon:
    """An active daemon without accounts."""
    return FakeDaemon()


@pytest.fixture
def acc_1(daemon: FakeDaemon) -> FakeAccount:
    """The only account of that daemon."""
    account: FakeAccount = daemon.accounts.have("acc-1")
    return account


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the control socket."""
    return tmp_path / "wad.sock"
