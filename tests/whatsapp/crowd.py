"""The console's commands for many accounts at once."""

from __future__ import annotations

import asyncio
import itertools
import time

from tests.whatsapp.mishaps import Mishaps
from tests.whatsapp.server import WhatsApp

_TURN = 0.02  # seconds between two checks of how many texts are due


class Crowd(Mishaps):
    """Each public method is a command, as in console.py."""

    def __init__(self, server: WhatsApp) -> None:
        super().__init__(server)
        self._traffic: asyncio.Task[int] | None = None

    async def online(self) -> object:
        """online: how many accounts have a device that is logged in, and how often one logged in so far"""
        accounts = self._server.accounts
        return {
            "online": sum(account.online for account in accounts),
            "logins": sum(account.logins for account in accounts),
        }

    async def cut(self) -> object:
        """cut: cut the connections of all devices"""
        for account in self._server.accounts:
            for device in account.devices.values():
                if device.connection is not None:
                    device.connection.abort()
        return "cut"

    async def traffic(self, peer: str, rate: str, seconds: str) -> object:
        """traffic PEER RATE SECONDS: a peer writes to all accounts in turn, RATE texts per second, in the background"""
        self._traffic = asyncio.create_task(self._write(peer, float(rate), float(seconds)))
        return "begun"

    async def _write(self, peer: str, rate: float, seconds: float) -> int:
        person, accounts = self._peer(peer), itertools.cycle(self._server.accounts)
        begun, sent = time.monotonic(), 0
        while (passed := time.monotonic() - begun) < seconds:
            while sent < passed * rate:
                await person.send_text(next(accounts), f"text {sent}")
                sent += 1
            await asyncio.sleep(_TURN)
        return sent

    async def sent(self) -> object:
        """sent: wait for the end of the traffic; how many texts were written"""
        return await self._traffic if self._traffic is not None else 0

    async def unreceipted(self) -> object:
        """unreceipted: how many messages to accounts have no receipt yet"""
        ledger = self._server.ledger
        return sum(len(ledger.unreceipted(account)) for account in self._server.accounts)
