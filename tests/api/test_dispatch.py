"""Dispatch: the function that checks, runs and answers a request."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import Any

import pytest

import wad
from tests.support.fake_daemon import FakeDaemon
from wad.api.dispatch import call, stream
from wad.api.operation import Access
from wad.core.errors import (
    BadInput,
    Denied,
    Passive,
    UnknownAccount,
    UnknownOperation,
    WadError,
)

pytestmark = pytest.mark.usefixtures("acc_1")

FIELDS = ("account", "operation", "code")


async def ask(daemon: FakeDaemon, name: str, **params: Any) -> Any:
    """The reply to an administrator."""
    return await call(daemon, name, params, Access.ADMIN)


async def test_a_reply_is_made_of_plain_values(daemon: FakeDaemon) -> None:
    """A Struct becomes a dict that every interface can encode."""
    reply = await ask(daemon, "version")
    assert reply["version"] == wad.__version__
    assert reply["boot_id"] == "b00t"


async def test_no_params_are_empty_params(daemon: FakeDaemon) -> None:
    """A caller may leave them out."""
    assert await call(daemon, "accounts.list", None, Access.READ)


async def test_an_unknown_operation(daemon: FakeDaemon) -> None:
    """The error names the unknown operation."""
    with pytest.raises(UnknownOperation, match="nope"):
        await ask(daemon, "nope")


async def test_too_little_access(daemon: FakeDaemon) -> None:
    """A caller with access to operate cannot call an administrator's operation."""
    with pytest.raises(Denied, match=r"accounts\.remove"):
        await call(daemon, "accounts.remove", {"account": "acc-1"}, Access.OPERATE)
    assert daemon.accounts.removed == []


async def test_access_is_checked_before_parameters(daemon: FakeDaemon) -> None:
    """A caller without access gets no error about parameters."""
    with pytest.raises(Denied):
        await call(daemon, "accounts.remove", {"x": 1}, Access.READ)


async def test_passive_names_the_holder(daemon: FakeDaemon) -> None:
    """A passive instance refuses operations of the active one, and names it."""
    daemon.leader.valid, daemon.leader.holder = None, "host-b"
    with pytest.raises(Passive, match="host-b is active"):
        await ask(daemon, "accounts.stop", account="acc-1")
    assert daemon.accounts.find("acc-1").orders == []


async def test_passive_without_a_holder(daemon: FakeDaemon) -> None:
    """Without a known holder it gives the reason instead."""
    daemon.leader.valid, daemon.leader.holder, daemon.leader.reason = None, "", "starting"
    with pytest.raises(Passive, match="starting"):
        await ask(daemon, "accounts.stop", account="acc-1")


async def test_passive_still_reads(daemon: FakeDaemon) -> None:
    """Reading needs no lease."""
    daemon.leader.valid = None
    assert (await ask(daemon, "status"))["lease"]["mode"] == "passive"


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"account": 3}, "account: expected a text, not a whole number"),
        ({}, "account is missing"),
        ({"account": "acc-1", "acount": 1}, "acount is not a known field"),
        ([], "expected an object, not a list"),
    ],
)
async def test_parameters_that_do_not_fit(daemon: FakeDaemon, params: Any, text: str) -> None:
    """The error names the parameter and the fault."""
    with pytest.raises(BadInput, match=text):
        await call(daemon, "accounts.show", params, Access.READ)


async def test_an_error_of_the_handler_passes(daemon: FakeDaemon) -> None:
    """A WadError reaches the caller as it is."""
    with pytest.raises(UnknownAccount):
        await ask(daemon, "accounts.show", account="zz")
    assert daemon.internal_errors == 0


async def test_a_fault_of_ours_hides_its_insides(
    daemon: FakeDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    """Any other exception is logged with its traceback and counted; the caller gets a reference."""
    daemon.accounts = None
    with pytest.raises(WadError) as caught, caplog.at_level(logging.ERROR):
        await ask(daemon, "accounts.list")
    assert caught.value.code == "internal"
    assert "NoneType" not in str(caught.value)
    reference = str(caught.value).rpartition(" ")[2]
    assert reference in caplog.text
    assert "AttributeError" in caplog.text
    assert daemon.internal_errors == 1


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, str]]]:
    """The records of dispatch: their text and their fields."""
    return [
        (
            record.getMessage(),
            {name: value for name in FIELDS if (value := getattr(record, name, ""))},
        )
        for record in caplog.records
        if record.name == "wad.api.dispatch"
    ]


async def test_a_refused_call_is_in_the_log(
    daemon: FakeDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    """With the operation, the account's id and the error's code as fields, and nothing of the request."""
    caplog.set_level(logging.INFO)
    daemon.accounts.have("acc-2").card.name = "Other"
    with pytest.raises(Denied):
        await call(daemon, "accounts.remove", {"account": "Other"}, Access.OPERATE)
    with pytest.raises(BadInput):
        await ask(daemon, "messages.send", account="zz", text="a secret")
    assert logged(caplog) == [
        (
            "accounts.remove was refused: denied",
            {"account": "acc-2", "operation": "accounts.remove", "code": "denied"},
        ),
        (
            "messages.send was refused: bad_input",
            {"operation": "messages.send", "code": "bad_input"},
        ),
    ]
    assert "a secret" not in caplog.text


async def test_an_irreversible_call_is_in_the_log(
    daemon: FakeDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    """Under the id that the account had; other operations are not logged."""
    caplog.set_level(logging.INFO)
    await ask(daemon, "accounts.stop", account="acc-1")
    with pytest.raises(UnknownAccount):
        await ask(daemon, "accounts.show", account="zz")
    await ask(daemon, "accounts.remove", account="acc-1")
    assert logged(caplog) == [
        ("accounts.remove was done", {"account": "acc-1", "operation": "accounts.remove"})
    ]


async def test_a_fault_of_ours_has_its_operation(
    daemon: FakeDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    """So that it can be found in the journal by operation."""
    daemon.accounts = None
    with pytest.raises(WadError):
        await ask(daemon, "accounts.list")
    assert [fields for _, fields in logged(caplog)] == [
        {"operation": "accounts.list", "code": "internal"}
    ]


async def test_cancelling_does_not_count_as_a_fault(daemon: FakeDaemon) -> None:
    """A cancelled handler ends as cancelled, not as an internal error."""
    task = asyncio.create_task(anext(stream(daemon, "events", {"follow": True}, Access.READ)))
    while not daemon.bus.followers:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert daemon.internal_errors == 0


async def test_a_stream_gives_plain_values(daemon: FakeDaemon) -> None:
    """Each item of a stream is converted as a reply is."""
    daemon.bus.publish("state", "connected", account="acc-1")
    items = [item async for item in stream(daemon, "events", {"last": 5}, Access.READ)]
    assert [item["text"] for item in items if isinstance(item, dict)] == ["connected"]


async def test_closing_a_stream_ends_its_handler(daemon: FakeDaemon) -> None:
    """The bus has no follower after the reader has closed the stream."""
    daemon.bus.publish("state", "connected")
    async with aclosing(
        stream(daemon, "events", {"last": 1, "follow": True}, Access.READ)
    ) as items:
        await anext(items)
        assert daemon.bus.followers == 1
    assert daemon.bus.followers == 0


async def test_a_stream_is_checked_as_a_call_is(daemon: FakeDaemon) -> None:
    """The first item is refused where the parameters do not fit."""
    with pytest.raises(BadInput, match="last"):
        await anext(stream(daemon, "events", {"last": -1}, Access.READ))


async def test_a_stream_cannot_be_called(daemon: FakeDaemon) -> None:
    """The error says that the operation streams."""
    with pytest.raises(BadInput, match="streams"):
        await ask(daemon, "events")


async def test_a_call_cannot_be_streamed(daemon: FakeDaemon) -> None:
    """The error says that the operation does not stream."""
    with pytest.raises(BadInput, match="does not stream"):
        await anext(stream(daemon, "status", {}, Access.READ))
