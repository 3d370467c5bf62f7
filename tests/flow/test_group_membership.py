"""A message to a group in which the account may not write is refused before it is queued."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given

from tests.support.protobufs import pb
from tests.support.random_protobufs import wire_bytes
from tests.support.small_world import World, a_world
from tests.support.waiting import TIMEOUT
from wad.core.errors import BadInput, Conflict, EngineFailure, NotSupported
from wad.core.jid import Jid
from wad.core.outbox import Refused
from wad.core.outgoing import GroupRole, Text
from wad.core.outgoing_rules import check, check_recipient
from wad.engine.simulator import SimulatedWorker
from wad.flow.accounts.account import Account
from wad.flow.outbound import group_membership
from wad.worker.library import Library
from wad.worker.protobuf import DecodeError

GROUP = Jid.parse("120363000000000001@g.us")


async def refusal(world: World, account: Account, to: Jid = GROUP) -> str:
    """Why a message to it is not queued; empty if it is."""
    try:
        await world.outbound.enqueue(account.id, to, Text("hello"))
    except Conflict as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("group_role", "why"),
    [(GroupRole.NOT_IN, "not in the group"), (GroupRole.READER, "only admins may write")],
)
async def test_a_group_where_the_account_may_not_write_is_refused(
    tmp_path: Path, group_role: GroupRole, why: str
) -> None:
    """Nothing is queued; and the role is requested again after a while, since the account may have been added."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        worker = world.worker(account)
        worker.group_roles[GROUP] = group_role
        assert why in await refusal(world, account)
        assert await world.store.entries(account.id) == []
        del worker.group_roles[GROUP]
        assert why in await refusal(world, account)  # cached for a moment
        world.outbound._group_roles.forget(account.id, str(GROUP))
        assert await refusal(world, account) == ""


async def test_without_an_answer_the_message_is_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is disconnected, or WhatsApp does not answer: the send will show it."""

    async def fail(worker: SimulatedWorker, group: Jid) -> GroupRole:
        raise EngineFailure("info query timed out")

    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        with monkeypatch.context() as patched:
            patched.setattr(SimulatedWorker, "group_role", fail)
            assert await refusal(world, account) == ""
        await account.stop()
        assert await refusal(world, account) == ""


async def test_a_request_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets an answer."""

    async def hang(worker: SimulatedWorker, group: Jid) -> GroupRole:
        await asyncio.Event().wait()
        return GroupRole.MEMBER

    monkeypatch.setattr(group_membership, "_TIMEOUT", 0.05)
    monkeypatch.setattr(SimulatedWorker, "group_role", hang)
    async with a_world(tmp_path) as world, world.leading():
        assert await refusal(world, await world.connected()) == ""


async def test_after_a_refusal_the_role_is_requested_again(tmp_path: Path) -> None:
    """It was a member at the last request."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        worker = world.worker(account)
        worker.result = Refused("not_in_group", "this account is not in the group")
        entry = (await world.outbound.enqueue(account.id, GROUP, Text("hello"))).entry
        assert (await world.outbound.settled(entry.id, timeout=TIMEOUT)).state == "failed"
        worker.group_roles[GROUP] = GroupRole.NOT_IN
        assert "not in the group" in await refusal(world, account)


async def test_a_repeated_key_gets_the_same_answer(tmp_path: Path) -> None:
    """Whatever has happened to the group since."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await world.outbound.enqueue(account.id, GROUP, Text("hello"), client_id="k1")
        world.outbound._group_roles.forget(account.id, str(GROUP))
        world.worker(account).group_roles[GROUP] = GroupRole.NOT_IN
        again = await world.outbound.enqueue(account.id, GROUP, Text("hello"), client_id="k1")
        assert again.duplicate


@pytest.mark.parametrize(
    "to",
    [
        "status@broadcast",
        "1234567@broadcast",
        "120363000000000001@newsletter",
        "15550000002@hosted",
        "111222333@hosted.lid",
        "13135550002@bot",
        "1@call",
        "15550000002@msgr",
        "2-15550000002@interop",
    ],
)
def test_nothing_is_sent_to_such_an_address(to: str) -> None:
    """It would only fail later."""
    with pytest.raises(NotSupported, match="wad does not send to"):
        check(Text("hello"), Jid.parse(to), 0)


@pytest.mark.parametrize(
    "to",
    ["bob@s.whatsapp.net", "0@s.whatsapp.net", "1@s.whatsapp.net", "1234567890123456@s.whatsapp.net",
     "bob@lid", "0@lid", "family@g.us", "12-@g.us", "1@g.us", "15550000002-1-2@g.us"],
)  # fmt: skip
def test_an_impossible_address_is_refused(to: str) -> None:
    """A text that parses as an address need not be valid yet."""
    with pytest.raises(BadInput):
        check_recipient(Jid.parse(to))


@pytest.mark.parametrize(
    "to",
    [
        "15550000002@s.whatsapp.net",
        "111222333@lid",
        "120363000000000001@g.us",
        "15550000002-1400000000@g.us",
    ],
)
def test_persons_and_groups_are_valid_recipients(to: str) -> None:
    """In each of their forms."""
    check_recipient(Jid.parse(to))


class Functions:
    """Replaces the loaded library: these bytes are its answer about a group."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def group_info(self, uuid: bytes, group: bytes) -> bytes:
        """A serialized GetGroupInfoReturnFunction."""
        return self._answer


@given(wire_bytes(pb.GetGroupInfoReturnFunction, always=("GroupInfo",), depth=4))
def test_any_group_has_a_role_or_an_error(answer: bytes) -> None:
    """Subject, description, names and addresses may be anything; unreadable data is an error of this one query."""
    library = object.__new__(Library)
    library._uuid = b"uuid"
    library._functions = Functions(answer)  # type: ignore[assignment]
    try:
        found = library.group_role(GROUP, ["15550000001", "9"])
    except (EngineFailure, DecodeError):
        return
    assert found in GroupRole
