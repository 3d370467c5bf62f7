"""The other end of client.py: a process with the real library, for tests of the server itself."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.whatsapp.account import Account
from tests.whatsapp.news import News
from tests.whatsapp.peers import Peer
from tests.whatsapp.server import WhatsApp

_TIMEOUT = 30.0
_CALL = 90.0  # the library itself gives up after 75
Event = dict[str, Any]


class Client:
    """A running client process.  `events` contains its reports, by name."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self.events: defaultdict[str, list[Event]] = defaultdict(list)
        self._results: dict[int, Event] = {}
        self._numbers = itertools.count(1)
        self._log = log
        self._news = News(())
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "result":
                self._results[event["number"]] = event
            else:
                self.events[event["event"]].append(event)
            self._news.notify()
        self.events["exited"].append({"event": "exited"})
        self._news.notify()

    async def wait(self, name: str, count: int = 1, timeout: float = _TIMEOUT) -> Event:
        """The event of that name with that number, from 1 on."""
        events = self.events[name]
        await self._news.until(lambda: len(events) >= count, timeout, f"{name} {count}", self._seen)
        return events[count - 1]

    def _seen(self) -> str:
        counts = {name: len(found) for name, found in self.events.items() if found}
        return f"{counts}; its log ends: {self._log.read_text(errors='replace')[-2000:]}"

    async def wait_for(self, name: str, fits: Callable[[Event], bool]) -> Event:
        """The first event of that name that matches."""
        count = 0
        while True:
            count += 1
            event = await self.wait(name, count)
            if fits(event):
                return event

    @property
    def messages(self) -> list[Event]:
        """The messages it received."""
        return self.events["MessageEv"]

    async def call(self, method: str, *args: object) -> Any:
        """Call a method, or read a property, of neonize's client.  Raises RuntimeError with its error."""
        assert self.process.stdin is not None
        number = next(self._numbers)
        self.process.stdin.write(json.dumps([number, method, *args]).encode() + b"\n")
        result = await self._news.until(
            lambda: self._results.get(number), _CALL, f"result of {method}{args}", self._seen
        )
        del self._results[number]
        if "error" in result:
            raise RuntimeError(result["error"])
        return result["value"]

    async def send(self, number: str, text: str) -> str:
        """Send a text; the message's id."""
        return str((await self.call("send_message", number, text))["ID"])

    async def pair(self, account: Account) -> None:
        """Show a QR code, let the account's phone scan it, and wait until it is connected."""
        await account.phone.scan((await self.wait("qr"))["code"])
        await self.wait("ConnectedEv")

    async def kill(self) -> None:
        """kill -9."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading


@asynccontextmanager
async def a_client(server: WhatsApp, database: Path) -> AsyncIterator[Client]:
    """A client process on a database; killed at the end."""
    log = database.with_suffix(".log")
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", str(Path(__file__).with_name("client.py")), str(database),
            stdin=PIPE, stdout=PIPE, stderr=errors, limit=1 << 24,
            env={**os.environ, **server.environment()},
        )  # fmt: skip
    client = Client(process, log)
    try:
        yield client
    finally:
        await client.kill()


@dataclass
class Scene:
    """A test server with an account that a client is paired with, and a peer."""

    server: WhatsApp
    account: Account
    bob: Peer
    client: Client
    database: Path

    def afresh(self) -> Scene:
        """The same client for another test, with another Bob; earlier reports are dropped."""
        number = 15550001000 + len(self.server.peers)
        self.client.events.clear()
        return replace(self, bob=self.server.add_peer(str(number), name="Bob"))

    async def text(self, text: str) -> Event:
        """Bob writes; the client's event."""
        ident = await self.bob.send_text(self.account, text)
        return await self.client.wait_for("MessageEv", lambda event: event["id"] == ident)


@asynccontextmanager
async def a_scene(directory: Path) -> AsyncIterator[Scene]:
    """The account is connected; at the end the server must have no errors."""
    async with WhatsApp() as server:
        account = server.add_account("15550000001", name="Shop")
        bob = server.add_peer("15550000002", name="Bob")
        database = directory / "client.db"
        async with a_client(server, database) as client:
            await client.pair(account)
            yield Scene(server, account, bob, client, database)
        assert server.errors == []
