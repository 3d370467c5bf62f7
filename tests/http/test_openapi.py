"""The description of the HTTP interface, and schemathesis, which tests the live daemon against it."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import booleans
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.daemons import Daemon
from wad.api.operation import operations
from wad.core.token import Role, named
from wad.http.openapi import description, rows

TOKEN = "wad_of_the_schema"
ACCOUNT, BOB = "acc-15550000001", "15550000012@s.whatsapp.net"
REAL = {
    "account": ACCOUNT,
    "accountId": ACCOUNT,
    "thread": f"{ACCOUNT}__{BOB}",
    "to": BOB,
    "wait": 0,  # for what becomes of a message: the account is not paired
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with the simulator, an account, and no limits."""
    environ = {
        "WAD_HTTP_TOKENS": str(named("schema", Role.ADMIN, TOKEN)),
        "WAD_HTTP_RATE_SEND": "0",
        "WAD_HTTP_RATE_ACCOUNTS": "0",
        "WAD_HTTP_RATE_QR": "0",
        "WAD_HTTP_MAX_ACCOUNTS": "5",
    }
    daemon = Daemon(tmp_path_factory.mktemp("schema"), environ, engine="simulator")
    asyncio.run(daemon.start())
    asyncio.run(daemon.call("accounts.add", name="shop", phone="+15550000001"))
    yield daemon
    assert asyncio.run(daemon.end()) == 0


@pytest.fixture(scope="module")
def api(running: Daemon) -> Any:
    """The description."""
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{running.port}/openapi.json")


DESCRIBED = [
    (path, method)
    for path, methods in description()["paths"].items()
    for method in methods
    if path != "/api/operations/restart"  # it would end the daemon
]


def name_the_account(daemon: Daemon, case: Any) -> None:
    """Put the existing account into a request, wherever it has one: else most answers would be 404."""
    asyncio.run(have_account(daemon))
    for place, name in (
        (case.path_parameters, "account"),
        (case.path_parameters, "thread"),
        (case.query, "accountId"),
        (case.body, "account"),
        (case.body, "accountId"),
        (case.body, "to"),
        (case.body, "wait"),
    ):
        if isinstance(place, dict) and name in place:
            place[name] = REAL[name]


async def have_account(daemon: Daemon) -> None:
    """Another request may have removed it."""
    if not any(one["id"] == ACCOUNT for one in await daemon.call("accounts.list")):
        await daemon.call("accounts.add", name="shop", phone="+15550000001")


@pytest.mark.parametrize(("path", "method"), DESCRIBED)
def test_answers_match_the_description(running: Daemon, api: Any, path: str, method: str) -> None:
    """For any request: a described status, type and document, and never an internal error."""

    @given(case=api[path][method].as_strategy(), real=booleans())
    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    def ask(case: Any, real: bool) -> None:
        if real:
            name_the_account(running, case)
        answer = case.call(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
        assert answer.status_code not in (401, 500), answer.text
        case.validate_response(
            answer,
            checks=[content_type_conformance, response_schema_conformance, status_code_conformance],
        )

    ask()


def test_every_operation_is_described() -> None:
    """All that HTTP offers; those that stream or carry bytes are not offered."""
    paths = description()["paths"]
    there = {path.rpartition("/")[2] for path in paths if path.startswith("/api/operations/")}
    commands = {name for name, one in operations().items() if one.command and not one.streaming}
    assert commands <= there
    assert "media.put" not in there
    assert not any(operations()[name].streaming for name in there)


def test_every_route_is_described() -> None:
    """With the role that it needs, and the error documents."""
    paths = description()["paths"]
    for _, route in rows():
        described = paths[route.path][route.method.lower()]
        assert "Requires the role" in described["description"]
        assert described["responses"]["401"]
    idents = [one["operationId"] for path in paths.values() for one in path.values()]
    assert len(set(idents)) == len(idents)


def test_it_is_served_without_a_token(running: Daemon) -> None:
    """The description is public."""
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/openapi.json") as answer:
        document = json.load(answer)
    assert document["openapi"].startswith("3.1")
