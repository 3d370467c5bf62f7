"""The table of operations: complete, documented, safe to declare."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from wad.api import operation as module
from wad.api.caller import Caller
from wad.api.operation import (
    Access,
    Http,
    Limit,
    Operation,
    Params,
    find,
    operation,
    operations,
)
from wad.core.errors import UnknownOperation
from wadctl.commands import command_of

EVERY = pytest.mark.parametrize("declared", operations().values(), ids=operations())


class Ask(Params, frozen=True):
    """What the operations of these tests are asked."""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Operation]:
    """An empty table to declare into."""
    table: dict[str, Operation] = {}
    monkeypatch.setattr(module, "_REGISTRY", table)
    return table


@EVERY
def test_help_is_one_sentence(declared: Operation) -> None:
    """Every operation says in one line what it does."""
    assert declared.help.endswith(".")
    assert 10 < len(declared.help) <= 100


@EVERY
def test_access_is_declared(declared: Operation) -> None:
    """Every operation declares its access; an operation that changes something needs more than read access."""
    assert isinstance(declared.access, Access)
    assert not declared.leader_only or declared.access > Access.READ


@pytest.mark.parametrize(
    "declared", [one for one in operations().values() if one.command or "." not in one.name]
)
def test_fields_are_documented(declared: Operation) -> None:
    """Every field of a request has a description."""
    for field in msgspec.structs.fields(declared.request):
        metas = [meta for meta in getattr(field.type, "__metadata__", ()) if meta.description]
        assert metas, f"{declared.name}.{field.name} has no Meta(description=...)"


@EVERY
def test_request_and_reply_have_docstrings(declared: Operation) -> None:
    """The documents of an operation say what they are."""
    assert declared.request.__doc__
    if isinstance(declared.reply, type) and issubclass(declared.reply, msgspec.Struct):
        assert declared.reply.__doc__


@pytest.mark.parametrize(
    "declared", [declared for declared in operations().values() if declared.command]
)
def test_a_command_can_be_made(declared: Operation) -> None:
    """wadctl has a type for every field."""
    assert command_of(declared).help


@EVERY
def test_an_irreversible_command_needs_confirmation(declared: Operation) -> None:
    """What only an administrator may do and takes something away has a question for wadctl."""
    assert declared.confirm or declared.name not in ("accounts.logout", "accounts.remove")


def test_an_unknown_name_is_an_error() -> None:
    """An undeclared name raises UnknownOperation."""
    with pytest.raises(UnknownOperation, match=r"accounts\.fly"):
        find("accounts.fly")


def test_a_name_is_declared_once(registry: dict[str, Operation]) -> None:
    """Two handlers cannot share a name."""

    async def handler(context: object, request: Ask) -> None:
        """Do it."""

    operation("twice", access=Access.READ)(handler)
    with pytest.raises(ValueError, match="twice"):
        operation("twice", access=Access.READ)(handler)


def test_a_request_must_refuse_unknown_fields(registry: dict[str, Operation]) -> None:
    """A request that would ignore a misspelt field cannot be declared."""

    async def handler(context: object, request: msgspec.Struct) -> None:
        """Do it."""

    with pytest.raises(TypeError, match="Params"):
        operation("lax", access=Access.READ)(handler)


class Nothing(Params, frozen=True):
    """Nothing."""


class One(Params, frozen=True):
    """One thing."""

    thing: str = ""


async def plain(context: object, request: Nothing) -> None:
    """Do it."""


async def with_caller(context: object, request: Nothing, caller: Caller) -> None:
    """An operation that uses its caller."""


async def with_parameters(context: object, request: One) -> None:
    """Do it to something."""


@pytest.mark.parametrize(
    ("handler", "access", "http", "why"),
    [
        (plain, Access.READ, Http(shared=True), "asks for rights"),
        (plain, Access.ANYBODY, Http(access=Access.READ, shared=True), "asks for rights"),
        (plain, Access.ANYBODY, Http(limit=Limit.SEND, shared=True), "counts its callers"),
        (with_caller, Access.ANYBODY, Http(shared=True), "knows its caller"),
        (with_parameters, Access.ANYBODY, Http(shared=True), "has parameters"),
    ],
)
def test_an_answer_that_depends_on_the_caller_is_not_shared(
    registry: dict[str, Operation], handler: Any, access: Access, http: Http, why: str
) -> None:
    """One caller's answer cannot become another's: such an operation cannot be declared as shared."""
    with pytest.raises(TypeError, match=why):
        operation("it", access=access, http=http)(handler)
    assert registry == {}
    operation("it", access=Access.ANYBODY, http=Http(shared=True))(plain)


def test_probes_are_shared() -> None:
    """All public operations over HTTP, except those of the HTTP process itself."""
    shared = {one.name for one in operations().values() if one.http and one.http.shared}
    public = {one.name for one in operations().values() if one.http_access is Access.ANYBODY}
    assert shared == {name for name in public if not name.startswith("http.")}
    assert "probe.health" in shared


@pytest.mark.parametrize(
    ("access", "cancellable"),
    [(Access.READ, True), (Access.OPERATE, False), (Access.ADMIN, False)],
)
def test_only_reading_may_be_cut_off(
    registry: dict[str, Operation], access: Access, cancellable: bool
) -> None:
    """What changes something runs to its end."""

    async def handler(context: object, request: Ask) -> None:
        """Do it."""

    operation("it", access=access)(handler)
    assert registry["it"].cancellable is cancellable


def test_declarations_are_light() -> None:
    """Loading every operation loads neither asyncio nor flow, store or engine."""
    code = (
        "import sys; from wad.api.operation import operations; operations();"
        "print([m for m in sys.modules if m == 'asyncio' or m.startswith(('wad.flow', 'wad.store', 'wad.engine'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
