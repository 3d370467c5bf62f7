"""An account's settings for replies, as `wadctl` and the socket show them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fake_daemon import FakeDaemon
from wad.api.dispatch import call
from wad.api.operation import Access
from wad.core.auto_reply import AutoReply


async def show(daemon: FakeDaemon) -> Any:
    """What is kept of the first account."""
    return await call(daemon, "accounts.auto_reply", {"account": "acc-1"}, Access.READ)


async def test_settings_from_elsewhere_count_until_they_are_set_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it does over HTTP."""
    daemon = FakeDaemon()
    daemon.accounts.have("acc-1")

    async def auto_reply(account: str) -> AutoReply:
        assert account == "acc-1"
        return AutoReply(enabled=True, prompt="old")

    assert await show(daemon) == {"account": "acc-1", "enabled": False, "prompt": None}
    monkeypatch.setattr(daemon.store, "auto_reply", auto_reply)
    assert await show(daemon) == {"account": "acc-1", "enabled": True, "prompt": "old"}
    daemon.accounts.find("acc-1").card.auto_reply = AutoReply(enabled=False, prompt="new")
    assert await show(daemon) == {"account": "acc-1", "enabled": False, "prompt": "new"}
