"""Import of the other backend's session as an account: what is refused, and what is left after a failure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import baileys_session as sample
from tests.support.small_world import World, a_world
from tests.support.waiting import until
from wad.core.baileys import FILES_LIMIT, ImportOptions
from wad.core.errors import BadInput, Conflict, EngineFailure, NotFound, Passive, TooLong
from wad.engine.baileys.translation import Carried
from wad.flow.accounts.account import Account
from wad.flow.accounts.importing import Imports

HERE = ImportOptions(directory="account_prod_1")


def imports(world: World) -> Imports:
    """The daemon's parts for it."""
    return Imports(world.accounts, world.account_dirs, world.clock, lambda: "upload", bytes)


def brought(world: World, files: dict[str, bytes] | None = None) -> tuple[Imports, str]:
    """A directory's files have been uploaded."""
    found = imports(world)
    return found, found.put("", (files or sample.files()).items())


def changed(**me: str) -> dict[str, bytes]:
    """The sample, with another account's number."""
    creds = sample.creds()
    creds["me"] |= me
    return sample.files(sample.documents() | {"creds.json": creds})


async def test_a_new_account_starts_at_once(tmp_path: Path) -> None:
    """It has the directory's name, which with the reference is the account's id, and its identity."""
    async with a_world(tmp_path) as world, world.leading():
        found, upload = brought(world)
        account, intent = await found.run(upload, HERE)
        assert (account.id, intent.existing) == ("account_prod_1", None)
        card = account.account_dir.card()
        assert (card.name, card.phone, card.enabled) == ("Shop", "+15550000001", True)
        assert card.jid == "15550000001:7@s.whatsapp.net"
        await until(lambda: account.status.state == "connected", "connected")
        assert "imported" in [happening.text for happening in world.bus.history]


@pytest.mark.parametrize(
    ("options", "ident"),
    [
        (ImportOptions(directory=".baileys_auth"), "acc-15550000001"),
        (ImportOptions(), "acc-15550000001"),
        (ImportOptions(ident="shop-1", directory="account_prod_1"), "shop-1"),
    ],
)
async def test_the_id(options: ImportOptions, ident: str, tmp_path: Path) -> None:
    """The requested name, else the directory's name if it is valid, else one made from the number."""
    async with a_world(tmp_path) as world, world.leading():
        found, upload = brought(world)
        assert (await found.plan(upload, options)).ident == ident


async def test_the_name(tmp_path: Path) -> None:
    """The requested name, else the push name, else the number; a name is never used twice."""
    async with a_world(tmp_path) as world, world.leading():
        found, upload = brought(world)
        assert (await found.plan(upload, ImportOptions(name="Front"))).name == "Front"
        await world.accounts.add("Shop")
        assert (await found.plan(upload, ImportOptions())).name == "+15550000001"
        with pytest.raises(Conflict, match="already has the name 'Shop'"):
            await found.plan(upload, ImportOptions(name="Shop"))


async def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    """The files stay for the import."""
    async with a_world(tmp_path) as world, world.leading():
        found, upload = brought(world)
        await found.plan(upload, HERE)
        assert list(world.account_dirs.root.iterdir()) == []
        await found.run(upload, HERE)


# --- an existing account --------------------------------------------------------------------------


async def test_an_account_without_a_session_takes_it(tmp_path: Path) -> None:
    """It keeps its name, and runs, even if it was stopped."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.accounts.add("Front", phone="+15550000001", ident="account_prod_1")
        await account.stop()
        found, upload = brought(world)
        same, intent = await found.run(upload, HERE)
        assert same is account
        assert intent.existing is account
        assert account.card.name == "Front"
        await until(lambda: account.status.state == "connected", "connected")


async def test_a_session_is_never_replaced(tmp_path: Path) -> None:
    """An account that is paired, or being paired, is refused, and stays unchanged."""
    async with a_world(tmp_path, auto_pair=False) as world, world.leading():
        account = await world.accounts.add("shop", ident="account_prod_1")
        await account.pair()
        await until(lambda: account.status.qr, "a QR code")
        found, upload = brought(world)
        with pytest.raises(Conflict, match="being paired"):
            await found.plan(upload, HERE)
        world.worker(account).scan()
        before = account.account_dir.session_db.read_bytes()
        with pytest.raises(Conflict, match="has a session already"):
            await found.run(upload, HERE)
        assert account.account_dir.session_db.read_bytes() == before


async def test_a_pairing_that_starts_during_an_import_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checked again at the rename: the worker has the file open."""
    async with a_world(tmp_path, auto_pair=False) as world, world.leading():
        account = await world.accounts.add("shop", ident="account_prod_1")
        found, upload = brought(world)
        write = world.engine.write_session

        async def and_pair(file: Path, session: Carried) -> None:
            await write(file, session)
            await account.pair()

        monkeypatch.setattr(world.engine, "write_session", and_pair)
        with pytest.raises(Conflict, match="being paired"):
            await found.run(upload, HERE)
        assert account.status.state == "awaiting_scan"


async def test_one_number_is_one_account(tmp_path: Path) -> None:
    """Whether the number was given by the operator, or learnt from its login."""
    async with a_world(tmp_path) as world, world.leading():
        await world.accounts.add("front", phone="+15550000001", ident="front")
        found, upload = brought(world)
        with pytest.raises(Conflict, match="is account front already"):
            await found.plan(upload, HERE)
        learnt = await world.connected("other", phone="")
        number = learnt.card.jid.partition(":")[0]
        found, upload = brought(world, changed(id=f"{number}:1@s.whatsapp.net"))
        with pytest.raises(Conflict, match=f"is account {learnt.id} already"):
            await found.plan(upload, HERE)


async def test_an_account_of_another_number_takes_no_session(tmp_path: Path) -> None:
    """The operator named the wrong directory, or the wrong account."""
    async with a_world(tmp_path) as world, world.leading():
        await world.accounts.add("front", phone="+15550000009", ident="account_prod_1")
        found, upload = brought(world)
        with pytest.raises(Conflict, match=r"has number \+15550000009, and this is a session of"):
            await found.plan(upload, HERE)


# --- the files ------------------------------------------------------------------------------------


async def test_files_arrive_in_parts_and_expire(tmp_path: Path) -> None:
    """An upload that was restarted, or used, is not found."""
    async with a_world(tmp_path) as world, world.leading():
        found = imports(world)
        *first, last = sample.files().items()
        upload = found.put("", first)
        assert found.put(upload, [last]) == upload
        await found.run(upload, HERE)
        for again in (found.plan, found.run):
            with pytest.raises(NotFound, match="not found"):
                await again(upload, HERE)
        with pytest.raises(NotFound):
            found.put("another", first)


async def test_more_files_than_a_session_has(tmp_path: Path) -> None:
    """They do not fill the memory."""
    async with a_world(tmp_path) as world, world.leading():
        found = imports(world)
        with pytest.raises(TooLong, match="at most"):
            found.put("", ((str(n), b"") for n in range(FILES_LIMIT + 1)))
        with pytest.raises(TooLong, match="at most"):
            found.put("", [(str(n), bytes(1 << 20)) for n in range(257)])


async def test_damaged_files_are_refused_unless_left_out(tmp_path: Path) -> None:
    """The refusal created nothing."""
    async with a_world(tmp_path) as world, world.leading():
        found, upload = brought(world, sample.files() | {"pre-key-9.json": b""})
        with pytest.raises(BadInput, match=r"pre-key-9\.json is empty"):
            await found.plan(upload, HERE)
        assert world.accounts.all() == []
        _, intent = await found.run(
            upload, ImportOptions(directory="account_prod_1", skip_damaged=True)
        )
        assert intent.carried.damaged == ["pre-key-9.json is empty"]


# --- failures during an import --------------------------------------------------------------------


async def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No directory, no account, and it can be tried again."""
    async with a_world(tmp_path) as world, world.leading():
        found, upload = brought(world)
        write = world.engine.write_session

        async def fail(file: Path, session: Carried) -> None:
            await write(file, session)
            raise EngineFailure("the library did not make its tables")

        monkeypatch.setattr(world.engine, "write_session", fail)
        with pytest.raises(EngineFailure):
            await found.run(upload, HERE)
        assert list(world.account_dirs.root.iterdir()) == []
        assert world.accounts.all() == []


async def test_a_lease_lost_during_an_import(tmp_path: Path) -> None:
    """No worker may run any more: nothing is changed, also if the account existed before."""
    async with a_world(tmp_path) as world:
        async with world.leading():
            await world.accounts.add("Front", ident="account_prod_1")
            found, upload = brought(world)
        with pytest.raises(Passive, match="nothing was changed"):
            await found.run(upload, HERE)
        (account,) = world.accounts.all()
        assert not account.account_dir.session_db.exists()
        assert account.worker is None


async def test_a_directory_that_is_not_an_account_is_left_alone(tmp_path: Path) -> None:
    """A rename to it fails, and the error has the remedy."""
    async with a_world(tmp_path) as world, world.leading():
        (world.account_dirs.root / "account_prod_1").mkdir()
        (world.account_dirs.root / "account_prod_1" / "notes").write_text("mine")
        found, upload = brought(world)
        with pytest.raises(Conflict, match="is not an account"):
            await found.run(upload, HERE)
        assert (world.account_dirs.root / "account_prod_1" / "notes").read_text() == "mine"
        assert not (world.account_dirs.root / ".incoming").exists()


def _stat(file: Path) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return file.stat()
    return None


def _copy(source: str, to: str) -> None:
    with suppress(FileNotFoundError):
        shutil.copy2(source, to)


def snapshots(world: World, to: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Copies of SESSIONS, as a kill would leave it: before and after each call that changes a name there."""
    taken: list[Path] = []

    def state() -> dict[Path, tuple[int, int]]:
        files = {file: _stat(file) for file in sorted(world.account_dirs.root.rglob("*"))}
        return {file: (stat.st_mtime_ns, stat.st_size) for file, stat in files.items() if stat}

    def take() -> None:
        taken.append(to / str(len(taken)) / "sessions")
        before = None
        # The account itself may write meanwhile, and a copy of half of that is not a state that a kill can leave.
        while before != (before := state()):
            shutil.rmtree(taken[-1], ignore_errors=True)
            shutil.copytree(world.account_dirs.root, taken[-1], copy_function=_copy)

    def around(call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            take()
            found = call(*args, **kwargs)
            take()
            return found

        return watched

    for name in ("rename", "replace", "unlink"):
        monkeypatch.setattr(Path, name, around(getattr(Path, name)))
    monkeypatch.setattr(os, "link", around(os.link))
    return taken


@pytest.mark.parametrize("existing", [False, True])
async def test_a_kill_leaves_a_whole_account_or_none(
    existing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any time: what exists is complete, and what does not can be imported."""
    async with a_world(tmp_path / "first") as world, world.leading():
        if existing:
            await world.accounts.add("Front", ident="account_prod_1")
        found, upload = brought(world)
        with monkeypatch.context() as patched:
            left = snapshots(world, tmp_path, patched)
            await found.run(upload, HERE)
    made = 0
    for sessions in left:
        async with a_world(sessions.parent) as world, world.leading():
            accounts = world.accounts.all()
            assert len(accounts) == 1 if existing else len(accounts) <= 1
            paired = [a for a in accounts if world.engine.is_paired(a.account_dir)]
            assert existing or paired == accounts
            made += not paired
            if not paired:
                found, upload = brought(world)
                paired = [(await found.run(upload, HERE))[0]]
            await _connected(paired[0])
            assert paired[0].card.name == ("Front" if existing else "Shop")
            assert list(world.account_dirs.root.glob(".incoming/*/session.db")) == []
    assert 0 < made < len(left)


async def _connected(account: Account) -> None:
    await until(lambda: account.status.state == "connected", "connected")
