"""Account names are checked at every interface, and stored names are escaped for display."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.flow.test_importing import changed, imports
from tests.flow.test_moving import SECRET, imported
from tests.support import baileys_session as sample
from tests.support.daemons import a_daemon
from tests.support.http_client import ask
from tests.support.small_world import a_world
from tests.support.waiting import until
from wad.core.baileys import ImportOptions
from wad.core.errors import BadInput
from wad.core.token import Role, named
from wad.flow.accounts.moving import Parcel
from wad.lib.sealed import Cost, seal
from wad.state.account_dir import AccountCard

EVIL = "\x1b[31mShop\n\u202eERROR forged"
SHOWN = "\\x1b[31mShop\\n\\u202eERROR forged"


async def test_a_new_account_needs_a_good_name(tmp_path: Path) -> None:
    """Nothing is made of a bad one; a composed form is one name."""
    async with a_world(tmp_path) as world:
        for name in (EVIL, "", " x", "-x", "x" * 101):
            with pytest.raises(BadInput):
                await world.accounts.add(name)
        assert world.accounts.all() == []
        account = await world.accounts.add("Bu\u0308ro")
        assert world.accounts.find("B\u00fcro") is account


async def test_another_name_must_be_a_good_one(tmp_path: Path) -> None:
    """The old one stays."""
    async with a_world(tmp_path) as world:
        account = await world.accounts.add("shop")
        with pytest.raises(BadInput, match="control character"):
            await world.accounts.rename(account.id, EVIL)
        assert account.card.name == "shop"


async def test_an_import_needs_a_good_name(tmp_path: Path) -> None:
    """One that was asked for is checked; a push name, which the phone's owner chose, is escaped."""
    async with a_world(tmp_path) as world, world.leading():
        found = imports(world)
        upload = found.put("", sample.files().items())
        with pytest.raises(BadInput, match="control character"):
            await found.plan(upload, ImportOptions(name=EVIL))
        upload = found.put("", changed(name=EVIL).items())
        assert (await found.plan(upload, ImportOptions())).name == SHOWN


def sealed(**card: Any) -> bytes:
    """A file as another wad would have written it, but for what is in its card."""
    parcel = Parcel(card=AccountCard(**{"id": "acc-1", "name": "shop", **card}), session=b"paired")
    return seal(msgspec.msgpack.encode(parcel), SECRET, os.urandom, Cost(4, 8, 1))


async def test_an_imported_session_brings_no_bad_name(tmp_path: Path) -> None:
    """The import succeeds, and the name is escaped."""
    async with a_world(tmp_path) as world, world.leading():
        account = await imported(world, sealed(name=EVIL, push_name="x" * 10_000))
        assert account.card.name == SHOWN
        assert len(account.card.push_name) == 100


@pytest.mark.parametrize(
    "card",
    [
        {"id": "../../etc"},
        {"id": "a__b"},
        {"id": ""},
        {"phone": "\x1b[31m"},
        {"phone": "0"},
        {"jid": "nobody"},
        {"lid": "\x00@lid"},
    ],
)
async def test_an_imported_session_brings_no_bad_card(tmp_path: Path, card: dict[str, Any]) -> None:
    """The sealed file is untrusted: an invalid card gives no account."""
    async with a_world(tmp_path) as world, world.leading():
        with pytest.raises(BadInput):
            await imported(world, sealed(**card))
        assert world.accounts.all() == []
        assert list(world.account_dirs.root.iterdir()) == []


async def test_a_card_that_is_there_is_shown_escaped(tmp_path: Path) -> None:
    """After a start and after a restore; it can be found by its id, and renamed."""
    async with a_world(tmp_path) as world:
        account = await world.accounts.add("shop", ident="acc-1")
        card = account.account_dir.card_file
        card.write_text(json.dumps(json.loads(card.read_text()) | {"name": EVIL}))
        await world.accounts.remove("acc-1")
        restored = await world.accounts.restore("acc-1")
        assert restored.card.name == SHOWN
        assert world.accounts.find("acc-1") is restored
        await world.accounts.rename("acc-1", "Shop")
    async with a_world(tmp_path) as world:
        assert [account.card.name for account in world.accounts.all()] == ["Shop"]


async def test_every_interface_refuses_it(tmp_path: Path) -> None:
    """400 over HTTP, bad_input over the socket; nothing in the log or on the terminal is coloured by it."""
    environ = {"WAD_HTTP_TOKENS": str(named("tests", Role.ADMIN, "wad_admin"))}
    async with a_daemon(tmp_path, environ, engine="simulator") as daemon:
        answer = await ask(
            daemon.port,
            "/api/whatsapp/add-account",
            "POST",
            content={"name": EVIL},
            token="wad_admin",
        )
        assert answer.status == 400
        assert "contains a control character" in answer.document["message"]
        with pytest.raises(BadInput):
            await daemon.call("accounts.add", name=EVIL)
        await daemon.call("accounts.add", name="shop")
        with pytest.raises(BadInput):
            await daemon.call("accounts.rename", account="shop", name=EVIL)
        assert [account["name"] for account in await daemon.call("accounts.list")] == ["shop"]
        assert "\x1b" not in daemon.log.read_text()


async def test_a_removal_does_not_speak_of_the_lease(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The account rests because it is being removed."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        with caplog.at_level(logging.INFO):
            await world.accounts.remove(account.id)
        lines = [record.getMessage() for record in caplog.records]
        assert any("-> passive: it is being removed" in line for line in lines)
        assert not any("lease" in line for line in lines)


async def test_a_lost_lease_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """That reason stays for what it is about."""
    async with a_world(tmp_path) as world:
        async with world.leading():
            account = await world.connected()
        await until(lambda: account.status.state == "passive", "passive")
        assert "does not hold the lease" in account.status.reason
