"""wadctl decodes replies into the types that the operations declare."""

from __future__ import annotations

import ast
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

import wadctl
from tests.support.fake_daemon import OPERATOR, FakeDaemon
from wad.api.operation import Operation, operations
from wad.api.operations.daemon import NoParams, status
from wad.api.views.status import StatusView
from wad.core.errors import WadError
from wadctl.render import RENDERERS, render
from wadctl.replies import decoded, reply_type
from wadctl.screen import Screen
from wadctl.shapes import by_shape

SCREEN = Screen(terminal=False, width=0, height=0, colour=False)
LATER: dict[str, tuple[str, ...]] = {
    "status": ("ready", "limits", "http", "health", "problems", "loops"),
    "account": ("backfill",),
    "worker": ("memory_mb", "cpu_s", "confinement"),
}
"""Fields that older daemons do not send."""
OF_WADCTL = [each for each in operations().values() if not each.name.startswith("contract.")]


async def a_status() -> dict[str, Any]:
    """The status of a daemon with an account and a problem, as it crosses the socket."""
    daemon: Any = FakeDaemon()
    daemon.accounts.have("acc-1", "Till")
    daemon.warnings = ("the clock was set back",)
    reply: dict[str, Any] = msgspec.to_builtins(await status(daemon, NoParams(), OPERATOR))
    return reply


def calls() -> Iterator[tuple[str, str]]:
    """The type and the operation of each reply that wadctl itself decodes with `fetch`."""
    for file in Path(wadctl.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "fetch":
                kind, method = node.args[:2]
                assert isinstance(kind, ast.Name)
                assert isinstance(method, ast.Constant)
                yield kind.id, str(method.value)


@pytest.mark.parametrize("name", RENDERERS)
def test_a_renderer_takes_the_declared_type(name: str) -> None:
    """Each field that it shows is one that the operation declares: mypy checks the rest."""
    hints = typing.get_type_hints(RENDERERS[name])
    taken = [kind for name, kind in hints.items() if name != "return"][1]
    declared = reply_type(operations()[name])
    assert taken == declared or (
        typing.get_origin(declared) is list and typing.get_args(taken) == typing.get_args(declared)
    )


def test_a_command_decodes_the_declared_type() -> None:
    """Where wadctl does more than show a reply."""
    found = list(calls())
    assert len(found) > 5
    for kind, method in found:
        assert reply_type(operations()[method]).__name__ == kind


def _types(kind: inspect.Type) -> Iterator[inspect.Type]:
    """The type and all types in it."""
    yield kind
    match kind:
        case inspect.StructType():
            for field in kind.fields:
                yield from _types(field.type)
        case inspect.UnionType():
            for one in kind.types:
                yield from _types(one)
        case inspect.ListType() | inspect.VarTupleType():
            yield from _types(kind.item_type)
        case inspect.DictType():
            yield from _types(kind.value_type)
        case inspect.Metadata():
            yield from _types(kind.type)


@pytest.mark.parametrize("operation", OF_WADCTL, ids=[each.name for each in OF_WADCTL])
def test_a_newer_daemon_can_be_understood(operation: Operation) -> None:
    """No reply has a type that refuses what a later version adds: a field, a member of an enum, a wider range."""
    for kind in _types(inspect.type_info(reply_type(operation))):
        assert not isinstance(kind, inspect.EnumType | inspect.LiteralType)
        assert not getattr(kind, "forbid_unknown_fields", False)
        limits = ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern")
        assert not any(getattr(kind, limit, None) is not None for limit in limits)


async def test_unknown_fields_are_ignored() -> None:
    """At every level; with --json they are printed."""
    reply = await a_status()
    before = render("status", SCREEN, reply)
    for document in (reply, reply["lease"], reply["accounts"][0], reply["accounts"][0]["inbound"]):
        document["of_a_newer_daemon"] = {"x": 1}
    assert render("status", SCREEN, reply) == before


async def test_an_older_daemon_lacks_fields() -> None:
    """What it sends is shown; its warnings stand for the problems."""
    reply = await a_status()
    for name in LATER["status"]:
        del reply[name]
    account = reply["accounts"][0]
    account["warnings"] = ["its clock is wrong"]
    account["worker"] = {"pid": 7, "started_ms": 1, "restarts": 0, "receipts": None}
    for name in LATER["account"]:
        del account[name]
    text = render("status", SCREEN, reply)
    assert "warning: the clock was set back\nwarning: acc-1: its clock is wrong" in text
    assert "workers have no limits" not in text
    assert "pid 7, 0 restarts\n" in render("accounts.show", SCREEN, account)
    assert decoded(StatusView, reply).ready


async def test_a_reply_of_another_form_is_an_error() -> None:
    """It names the field."""
    reply = await a_status()
    reply["lease"]["mode"] = 5
    with pytest.raises(WadError, match=r"cannot be shown: .*\$\.lease\.mode"):
        render("status", SCREEN, reply)


def test_a_reply_without_a_renderer_is_shown_by_its_shape() -> None:
    """Nested documents and lists as well; what is empty is a dash."""
    reply = {"name": "", "paired": True, "worker": {"pid": 7, "used": [1, 2]}, "more": {}}
    assert by_shape(SCREEN, reply).splitlines() == [
        "name    -",
        "paired  yes",
        "worker  pid 7, used 1, 2",
        "more    -",
    ]
