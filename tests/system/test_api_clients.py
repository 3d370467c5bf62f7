"""Clients that are generated from `/openapi.json`, as an app's developer generates them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from tests import generators
from tests.support.http_client import ask
from tests.system.rest import ADMIN, BOB, a_site

pytestmark = pytest.mark.timeout(600)  # the first run installs the generators

_APP = """
import json, sys
from wad_client import AuthenticatedClient
from wad_client.api.apps import get_whatsapp_accounts, get_whatsapp_messages_account_thread
from wad_client.api.apps import post_whatsapp_send_message
from wad_client.api.messages import post_operations_messages_list, post_operations_messages_send
from wad_client.api.daemon import post_operations_status
from wad_client.models import Messages, NoParams, SendBody, SendText

url, token, bob = sys.argv[1:]
with AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True) as client:
    status = post_operations_status.sync(client=client, body=NoParams())
    (account,) = get_whatsapp_accounts.sync(client=client).accounts
    wanted = SendBody(account_id=account.id, to=bob, message="by the apps' route", client_message_id="a-1")
    sent = post_whatsapp_send_message.sync(client=client, body=wanted)
    own = SendText(account=account.id, to=bob, text="by wad's own route", wait=20)
    queued = post_operations_messages_send.sync(client=client, body=own)
    thread = f"{account.id}__{bob}"
    shown = get_whatsapp_messages_account_thread.sync(account.id, thread, client=client)
    listed = post_operations_messages_list.sync(client=client, body=Messages(account=account.id, chat=bob))
    print(json.dumps({
        "account": [account.name, account.status, status.accounts[0].state],
        "sent": [sent.message_id, sent.status, queued.message.id, queued.message.state],
        "shown": [[one.id, one.body, one.direction, one.message_type] for one in shown.messages],
        "listed": [[one.id, one.text, one.kind] for one in listed.messages],
    }))
"""


async def test_a_generated_python_client_works(tmp_path: Path) -> None:
    """It lists the accounts, sends texts and reads messages; nothing of the description was left out."""
    async with a_site(tmp_path / "wad") as site:
        await site.pair()
        await site.receive("hello")
        port = site.daemon.port
        description = tmp_path / "openapi.json"
        description.write_bytes((await ask(port, "/openapi.json")).body)
        printed = await asyncio.to_thread(
            generators.python_client, description, tmp_path / "client"
        )
        assert "Warning" not in printed
        assert "Unable" not in printed
        app = await asyncio.to_thread(
            subprocess.run,
            [str(generators.python()), "-c", _APP, f"http://127.0.0.1:{port}", ADMIN, BOB],
            cwd=tmp_path / "client", capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert app.returncode == 0, app.stderr
        await site.bob.received(site.account, text="by the apps' route")
        await site.bob.received(site.account, text="by wad's own route")
    found = json.loads(app.stdout)
    assert found["account"] == ["shop", "connected", "connected"]
    first, state, second, second_state = found["sent"]
    assert state == "sent"
    assert second_state in ("sent", "delivered", "read")
    assert [row[1:] for row in found["shown"]] == [
        ["by wad's own route", "outbound", "text"],
        ["by the apps' route", "outbound", "text"],
        ["hello", "inbound", "text"],
    ]
    assert [row[0] for row in found["shown"]][:2] == [second, first]
    assert [row[1:] for row in found["listed"]] == [[row[1], "text"] for row in found["shown"]]


async def test_typescript_types_are_generated(tmp_path: Path) -> None:
    """openapi-typescript accepts the description, and the compiler its result."""
    from wad.http.openapi import description

    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(description()))
    await asyncio.to_thread(generators.typescript_client, file, tmp_path / "wad.ts")
    types = (tmp_path / "wad.ts").read_text()
    for path in ("/health", "/api/whatsapp/accounts", "/api/operations/messages.send"):
        assert f'"{path}": {{' in types
    assert "unknown" not in types.split("export interface components")[0]
