"""The console's commands for faults."""

from __future__ import annotations

import time

from tests.whatsapp import contents
from tests.whatsapp.account import Failure
from tests.whatsapp.parties import Parties


def _switch(state: str) -> bool:
    return {"on": True, "off": False}[state]


class Mishaps(Parties):
    """Each public method is a command, as in console.py."""

    async def drop(self, account: str) -> object:
        """drop ACCOUNT: cut the connection of its device"""
        await self._account(account).drop()
        return "dropped"

    async def logout(self, account: str) -> object:
        """logout ACCOUNT: the phone removes its device"""
        await self._account(account).log_out()
        return "removed"

    async def replace(self, account: str) -> object:
        """replace ACCOUNT: the session is taken over elsewhere"""
        await self._account(account).replace()
        return "replaced"

    async def stream(self, account: str, code: str) -> object:
        """stream ACCOUNT CODE: end its streams with an error (401, 403, 405, 409, 500, 503, 515)"""
        await self._account(account).end_stream(int(code))
        return "ended"

    async def ban(self, account: str, seconds: str) -> object:
        """ban ACCOUNT SECONDS: cut it off, and refuse logins as banned"""
        await self._account(account).ban(seconds=int(seconds))
        return "banned"

    async def refuse(self, account: str, reason: str) -> object:
        """refuse ACCOUNT REASON|off: refuse logins with a failure (401, 402, 403, 405, 409, 503, ...)"""
        failure = None if reason == "off" else Failure(int(reason))
        self._account(account).login_failure = failure
        return reason

    async def silent(self, account: str, state: str) -> object:
        """silent ACCOUNT on|off: leave everything on its live connection without an answer"""
        self._account(account).silent = _switch(state)
        return state

    async def acks(self, account: str, state: str) -> object:
        """acks ACCOUNT on|off|SECONDS: acknowledge what it sends, or not, or late"""
        one = self._account(account)
        one.acks_messages = state != "off"
        one.ack_delay = 0.0 if state in ("on", "off") else float(state)
        return state

    async def garbled(self, peer: str, to: str, *words: str) -> object:
        """garbled PEER ACCOUNT|GROUP WORDS...: a message that the device cannot read until it asked again"""
        content = contents.text(" ".join(words))
        return await self._peer(peer).send(self._chat(to), content, garbled=True)

    async def redeliver(self, account: str, ident: str, how: str = "same") -> object:
        """redeliver ACCOUNT ID [same|anew]: a message once more, in the same ciphertext or another one"""
        self._account(account).redeliver(ident, anew={"same": False, "anew": True}[how])
        return "sent"

    async def network(self, state: str) -> object:
        """network up|down|stalled: accept connections, refuse them, or leave them waiting"""
        self._server.refusing, self._server.stalling = {
            "up": (False, False), "down": (True, False), "stalled": (False, True),
        }[state]  # fmt: skip
        return state

    async def clock(self, seconds: str) -> object:
        """clock SECONDS: the server's clock is SECONDS ahead (or, negative, behind)"""
        ahead = float(seconds)
        self._server.clock = lambda: time.time() + ahead
        return self._server.now()
