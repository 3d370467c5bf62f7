"""A WhatsApp test server for people: `python -m tests.whatsapp`.

It prints what a process needs in its environment, and takes commands on standard input, one a line; `help` lists them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
from collections.abc import Awaitable, Callable

from tests.whatsapp import Account, Peer, WhatsApp

Command = Callable[..., Awaitable[object]]


class Console:
    """The commands; each answers with something that JSON can hold, or None."""

    def __init__(self, server: WhatsApp) -> None:
        self._server = server
        self.commands: dict[str, Command] = {
            "help": self.help, "account": self.account, "peer": self.peer, "scan": self.scan, "text": self.text,
            "inbox": self.inbox, "drop": self.drop, "logout": self.logout, "network": self.network,
            "ledger": self.ledger,
        }  # fmt: skip

    def _account(self, name: str) -> Account:
        for account in self._server.accounts:
            if name in (account.name, account.pn.user):
                return account
        raise ValueError(f"there is no account {name!r}")

    def _peer(self, name: str) -> Peer:
        for peer in self._server.peers:
            if name in (peer.name, peer.pn.user):
                return peer
        raise ValueError(f"there is no peer {name!r}")

    async def help(self) -> object:
        """help: this list"""
        return [(command.__doc__ or "").strip() for command in self.commands.values()]

    async def account(self, number: str, name: str = "") -> object:
        """account NUMBER [NAME]: add an account"""
        return str(self._server.add_account(number, name=name).lid)

    async def peer(self, number: str, name: str = "") -> object:
        """peer NUMBER [NAME]: add an ordinary user"""
        return str(self._server.add_peer(number, name=name).lid)

    async def scan(self, account: str, qr: str) -> object:
        """scan ACCOUNT QR: the account's phone scans a QR code (its text)"""
        await self._account(account).phone.scan(qr)
        return "scanned"

    async def text(self, peer: str, account: str, *words: str) -> object:
        """text PEER ACCOUNT WORDS...: a peer writes to an account"""
        return await self._peer(peer).send_text(self._account(account), " ".join(words))

    async def inbox(self, peer: str) -> object:
        """inbox PEER: what accounts sent to a peer"""
        return [
            {"from": m.account.name, "id": m.ident, "text": m.text} for m in self._peer(peer).inbox
        ]

    async def drop(self, account: str) -> object:
        """drop ACCOUNT: cut the connection of its device"""
        await self._account(account).drop()
        return "dropped"

    async def logout(self, account: str) -> object:
        """logout ACCOUNT: the phone removes its device"""
        await self._account(account).log_out()
        return "removed"

    async def network(self, state: str) -> object:
        """network up|down: accept or refuse connections"""
        self._server.refusing = {"up": False, "down": True}[state]
        return state

    async def ledger(self) -> object:
        """ledger: what passed"""
        return self._server.ledger.as_json()

    async def run(self, line: str) -> object:
        """Run one line.  Raises ValueError for one that makes no sense."""
        name, *words = shlex.split(line)
        if name not in self.commands:
            raise ValueError(f"there is no command {name!r}; try help")
        try:
            return await self.commands[name](*words)
        except (TypeError, KeyError) as error:
            raise ValueError(f"usage: {self.commands[name].__doc__}") from error


async def serve(port: int, *, as_json: bool) -> None:
    """Serve until standard input ends."""
    async with WhatsApp(port) as server:
        environment = server.environment()
        if as_json:
            print(json.dumps(environment), flush=True)
        else:
            print("# A process that should take this server for WhatsApp needs:")
            for name, value in environment.items():
                print(f"export {name}={shlex.quote(value)}")
            print(
                "# Commands, one a line (help lists them; the end of input ends the server):",
                flush=True,
            )
        console = Console(server)
        while line := await asyncio.to_thread(sys.stdin.readline):
            if not line.strip():
                continue
            try:
                answer = await console.run(line)
            except (ValueError, ConnectionError, TimeoutError) as error:
                answer = {"error": str(error)}
            if as_json or not isinstance(answer, list):
                print(json.dumps(answer), flush=True)
            else:
                print(*answer, sep="\n", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.whatsapp", description=__doc__)
    parser.add_argument(
        "--port", type=int, default=0, help="the port on 127.0.0.1 (default: a free one)"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON for each answer")
    given = parser.parse_args()
    asyncio.run(serve(given.port, as_json=given.json))


if __name__ == "__main__":
    main()
