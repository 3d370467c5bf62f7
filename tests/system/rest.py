"""A whole system with a token for HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.http_client import Reply, ask
from tests.support.reply_types import check_reply
from tests.system.systems import System, a_system
from wad.core.token import Role, named

ADMIN = "wad_admin_of_the_tests"


API = "/api/whatsapp"


BOB = "15550000012@s.whatsapp.net"


async def get(system: System, path: str) -> Any:
    """The document at a path, which must be there."""
    reply = await ask(system.daemon.port, path, token=ADMIN)
    assert reply.status == 200, reply
    assert reply.document["success"] is True
    check_reply("GET", path, reply.document)
    return reply.document


async def post(
    system: System, path: str, content: object = None, method: str = "POST", **headers: str
) -> Reply:
    """Change something; a successful reply has exactly the declared fields."""
    reply = await ask(
        system.daemon.port, path, method, content=content, token=ADMIN, headers=headers
    )
    if reply.status in (200, 202):
        check_reply(method, path, reply.document)
    return reply


@asynccontextmanager
async def a_site(directory: Path, **environ: str) -> AsyncIterator[System]:
    """Everything up, with a token for HTTP; nothing paired."""
    async with a_system(directory, **environ) as system:
        await system.daemon.end()
        system.daemon.environ["WAD_HTTP_TOKENS"] = str(named("tests", Role.ADMIN, ADMIN))
        await system.daemon.start()
        yield system
