"""An account's card: what of a damaged one can be read is kept, and whether an account should run is never guessed."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.small_world import a_world
from tests.support.waiting import until
from wad.api.views.problems import problems_of
from wad.core.connection import State
from wad.core.errors import StateUnwritable
from wad.lib import files
from wad.state.account_dir import AccountDirs
from wad.state.card import AccountCard, read_card

CARD = AccountCard(
    id="acc-1", name="Shop", phone="+40700000001", created_ms=5, jid="40700000001:3@s.whatsapp.net"
)


def written(directory: Path, card: AccountCard, **changes: Any) -> Path:
    """A card's file, with other values in some fields."""
    file = directory / "account.json"
    file.write_text(json.dumps({**msgspec.to_builtins(card), **changes}))
    return file


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("jid", "no address"),
        ("created_ms", "yesterday"),
        ("ended", 7),
        ("name", None),
        ("phone", "?"),
    ],
)
def test_one_damaged_field_costs_that_field(
    tmp_path: Path, field: str, value: object, enabled: bool
) -> None:
    """All others are as they were, above all whether it should run."""
    card = msgspec.structs.replace(CARD, enabled=enabled)
    found = read_card(written(tmp_path, card, **{field: value}), "acc-1")
    assert found.damage
    assert (found.card.enabled, found.card.stopped_why) == (enabled, "")
    usual = {"name": "acc-1"}.get(field, getattr(AccountCard(id="x", name="x"), field))
    assert found.card == msgspec.structs.replace(card, **{field: usual})


@pytest.mark.parametrize("phone", ["+490171234567", "+40 0712345678", "0049 171 1234567"])
def test_a_number_that_an_earlier_wad_accepted_is_sound(tmp_path: Path, phone: str) -> None:
    """Such a number is refused only where it is given anew."""
    found = read_card(written(tmp_path, CARD, phone=phone), "acc-1")
    assert (found.damage, found.card.phone) == ("", phone)


@pytest.mark.parametrize("value", [1, "true", None, [], {}])
def test_whether_it_should_run_is_true_or_not_known(tmp_path: Path, value: object) -> None:
    """Nothing that merely counts as true."""
    found = read_card(written(tmp_path, CARD, enabled=value), "acc-1")
    assert (found.card.enabled, found.card.name) == (False, "Shop")
    assert found.card.stopped_why


@given(cut=st.integers(0, 300), mask=st.integers(0, 255))
def test_a_stopped_account_with_a_damaged_card_stays_stopped(
    tmp_path_factory: pytest.TempPathFactory, cut: int, mask: int
) -> None:
    """Cut short, or with a byte changed."""
    file = written(tmp_path_factory.mktemp("card"), msgspec.structs.replace(CARD, enabled=False))
    data = file.read_bytes()
    cut %= len(data)
    for damaged in (data[:cut], data[:cut] + bytes([data[cut] ^ mask]) + data[cut + 1 :]):
        file.write_bytes(damaged)
        found = read_card(file, "acc-1")
        # A changed byte may make another name of the field's: a card without it is one of an earlier wad's.
        assert not found.card.enabled or (not found.damage and b'"enabled"' not in damaged)


@pytest.mark.parametrize("damage", ["", '{"id": "acc-1", "ena', "gone"])
async def test_a_stopped_account_whose_card_is_lost_stays_stopped(
    tmp_path: Path, damage: str
) -> None:
    """Status gives the reason; an operator's command resolves it, and survives a restart."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.stop()
        file = account.account_dir.card_file
    if damage == "gone":
        file.unlink()
        account.account_dir.card_copy.unlink()
    else:
        file.write_text(damage)
    for _ in range(2):
        async with a_world(tmp_path, boot="again") as world, world.leading():
            account = world.accounts.find(account.id)
            await until(lambda: account.status.state is State.STOPPED, "it is stopped")  # noqa: B023
            assert "its card" in account.status.reason
            assert "stopped_unsure" in [one.code for one in problems_of(account)]
    async with a_world(tmp_path, boot="third") as world, world.leading():
        account = world.accounts.find(account.id)
        await account.start()
        await until(lambda: account.status.state is State.CONNECTED, "it runs")
        assert "stopped_unsure" not in [one.code for one in problems_of(account)]


async def test_a_stopped_account_is_settled_by_stopping_it(tmp_path: Path) -> None:
    """Then it is stopped by an operator like any other."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        (account.account_dir.card_file).write_text("{")
    async with a_world(tmp_path, boot="again") as world, world.leading():
        account = world.accounts.find(account.id)
        await account.stop()
        assert account.status.reason == "stopped by the operator"
        assert [one.code for one in account.problems if one.code == "stopped_unsure"] == []
        assert not account.account_dir.card().stopped_why


async def test_a_card_that_cannot_be_read_now_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without file descriptors, say: nothing is set aside or overwritten, and the card is valid once it is readable."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.keeper.settle()
        file, before = account.account_dir.card_file, account.account_dir.card()

    without_waiting = files._without_waiting

    def fail(name: str, flags: int) -> int:
        if Path(name) == file:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return without_waiting(name, flags)

    with monkeypatch.context() as patched:
        patched.setattr(files, "_without_waiting", fail)
        async with a_world(tmp_path, boot="short") as world, world.leading():
            account = world.accounts.find(account.id)
            assert account.status.state is State.STOPPED
            assert "Too many open files" in account.status.reason
            with pytest.raises(StateUnwritable, match="Too many open files"):
                await account.keeper.change(name="another")
        assert [path.name for path in account.account_dir.path.glob("account.json*")] == [
            "account.json"
        ]
    assert account.account_dir.card() == before
    async with a_world(tmp_path, boot="again") as world, world.leading():
        account = world.accounts.find(account.id)
        await until(lambda: account.status.state is State.CONNECTED, "it runs")


# --- what a worker may write ------------------------------------------------------------------------


@pytest.mark.parametrize("moved", ["", "remove", "write"])
async def test_files_that_a_worker_wrote_are_not_trusted(tmp_path: Path, moved: str) -> None:
    """It may write everything in its directory: it cannot rename its account, or take another's name or number."""
    forged = {
        "id": "acc-15550000002", "name": "other", "phone": "+15550000002", "jid": "15550000002:1@s.whatsapp.net",
        "enabled": False,
    }  # fmt: skip
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await world.connected("other", "+15550000002")
        await account.keeper.settle()
        before = account.card
        account.account_dir.card_copy.write_text(json.dumps(forged))
        if moved == "remove":
            await world.accounts.remove(account.id)
            account = await world.accounts.restore(account.id)
        if moved == "write":
            await account.keeper.change(name="shop")
        assert account.account_dir.card() == account.card == before
    async with a_world(tmp_path, boot="again") as world, world.leading():
        account = world.accounts.find("shop")
        await until(lambda: account.status.state is State.CONNECTED, "it runs")
        assert account.card == before
        assert world.accounts.find("other").card.phone == "+15550000002"


async def test_the_card_of_a_directory_that_was_brought_here_is_taken_over(tmp_path: Path) -> None:
    """From a backup, another machine or an earlier wad; from then on only wad's own counts."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.keeper.settle()
        before = account.card
    account.account_dir.card_file.unlink()
    async with a_world(tmp_path, boot="again") as world:
        account = world.accounts.find("shop")
        assert account.card == before
        account.account_dir.card_copy.write_text("{}")
        assert account.account_dir.card() == before


def test_the_rest_of_a_crashed_write_does_not_count_for_the_next_account(tmp_path: Path) -> None:
    """A card without its directory."""
    account_dirs = AccountDirs(tmp_path)
    first = account_dirs.create(CARD)
    left = first.card_file.read_bytes()
    account_dirs.remove("acc-1", "20260101T000000Z")
    first.card_file.write_bytes(left)
    assert account_dirs.all() == []
    (removed,) = account_dirs.removed()
    assert removed.card == CARD
    assert account_dirs.create(AccountCard(id="acc-1", name="Second")).card().name == "Second"
    account_dirs.remove("acc-1", "20260102T000000Z")
    first.card_file.write_bytes(left)
    assert account_dirs.restore(account_dirs.removed()[1]).card().name == "Second"
