"""The system under test and its surroundings: server, accounts, peers, daemon, and a small disk if required."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tests.chaos.audit import Arrived, Asked, Entry, Evidence, Stored, Written
from tests.chaos.scenario import Kind, Scenario
from tests.support.daemons import Daemon
from tests.support.disks import a_disk
from tests.whatsapp import Account, Peer, WhatsApp
from wad.core.errors import WadError

DISK = "64m"
"""Size of the small disk; the session databases and the store of a run need a few MB of it."""
_ANSWER = 5.0  # seconds of one call's timeout; a stopped daemon answers none
_INSIST = 60.0  # seconds after which a call that always failed counts as failed
_DELIVERED = frozenset({"delivered", "read"})
_OPEN = frozenset({"queued", "sending"})


class System:
    """One run's world.  Accounts are known by their number in the scenario, and to wad by `names`."""

    def __init__(self, server: WhatsApp, scenario: Scenario, directory: Path) -> None:
        self.server = server
        self.accounts = [
            server.add_account(f"1555000{number:04}", name=f"Account {number}")
            for number in range(scenario.accounts)
        ]
        self.peers = [
            server.add_peer(f"1555001{number:04}", name=f"Peer {number}")
            for number in range(scenario.peers)
        ]
        self.names = [f"account{number}" for number in range(scenario.accounts)]
        self.daemon = Daemon(directory, {**server.environment(), **_settings(scenario)})
        self.promised: defaultdict[int, set[str]] = defaultdict(set)
        self.asked: defaultdict[int, list[Asked]] = defaultdict(list)
        self.disk = self.daemon.state if scenario.has(Kind.DISK) else None

    # --- wad ------------------------------------------------------------------------------------

    async def insist(self, method: str, **params: Any) -> Any:
        """Repeat until wad answers: it may be stopped, restarting, passive or without a disk."""
        last: Exception | None = None
        until = time.monotonic() + _INSIST
        while time.monotonic() < until:
            try:
                async with asyncio.timeout(_ANSWER):
                    return await self.daemon.call(method, **params)
            except (OSError, TimeoutError, AssertionError, WadError) as error:
                last = error
                await asyncio.sleep(0.05)
        raise RuntimeError(f"{method} was refused for {_INSIST:g} s: {last!r}")

    async def pair_all(self) -> None:
        """Link every account."""
        for account, name in zip(self.accounts, self.names, strict=True):
            await self.daemon.call("accounts.add", name=name, phone=f"+{account.pn.user}")
            await account.phone.scan(await self.daemon.qr(name))
            await self.daemon.wait_state(name, "connected")

    async def worker_pid(self, number: int) -> int:
        """The process of an account; waits until there is one."""
        until = time.monotonic() + _INSIST
        while time.monotonic() < until:
            worker = (await self.insist("accounts.show", account=self.names[number]))["worker"]
            if worker is not None and worker["pid"]:
                return int(worker["pid"])
            await asyncio.sleep(0.02)
        raise RuntimeError(f"{self.names[number]} has had no worker for {_INSIST:g} s")

    def promise(self) -> None:
        """Record the receipts that the server holds: their messages must be stored, whatever is killed now."""
        for number, account in enumerate(self.accounts):
            self.promised[number].update(self.server.ledger.receipted_by(account))

    async def ask(self, number: int, peer: Peer, client_id: str) -> None:
        """Let wad answer a contact; repeated with the same id until it accepts."""
        text, name = f"answer {client_id}", self.names[number]
        await self.insist(
            "messages.send", account=name, to=f"+{peer.pn.user}", text=text, client_id=client_id
        )
        self.asked[number].append(Asked(client_id, peer.pn.user, text))

    # --- the end ----------------------------------------------------------------------------------

    async def settle(self, quiet: float, limit: float, report: Callable[[str], None]) -> None:
        """Wait until all is received, stored and delivered, or, with all connected, `quiet` seconds without a change.

        Raises RuntimeError after `limit` seconds, and when the daemon has ended by itself.
        """
        begun = changed = time.monotonic()
        before = ""
        while True:
            process = self.daemon.process
            if process is not None and process.poll() is not None:
                raise RuntimeError(f"wad ended by itself with code {process.returncode}")
            seen, connected, done = await self._progress()
            now = time.monotonic()
            if seen != before:
                before, changed = seen, now
                report(seen)
            if done or (connected and now - changed > quiet):
                return
            if now - begun > limit:
                raise RuntimeError(f"not settled in {limit:g} s: {seen}")
            await asyncio.sleep(0.1)

    async def _progress(self) -> tuple[str, bool, bool]:
        """The progress as a text; whether all are connected; whether nothing more is expected."""
        parts, connected, done = [], True, True
        for number, (account, name) in enumerate(zip(self.accounts, self.names, strict=True)):
            state = (await self.insist("accounts.show", account=name))["state"]
            threads = (await self.insist("threads.list", account=name, limit=1000))["threads"]
            entries = await self._entries(name)
            stored = sum(thread["messages"] for thread in threads)
            wanted = len(self.server.ledger.sent_to(account)) + len(self.asked[number])
            waiting = len(self.server.ledger.unreceipted(account))
            delivered = sum(entry["state"] in _DELIVERED for entry in entries)
            still = sum(entry["state"] in _OPEN for entry in entries)
            parts.append(
                f"{state}, {stored}/{wanted} stored, {waiting} without a receipt,"
                f" {delivered}/{len(entries)} delivered, {still} open"
            )
            connected = connected and state == "connected"
            done = done and (stored, waiting, delivered) == (wanted, 0, len(entries))
        return "; ".join(parts), connected, connected and done

    async def _entries(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.insist("outbox.list", account=name, limit=1000))[
            "entries"
        ]
        return found

    async def evidence(self, number: int) -> Evidence:
        """The data of an account."""
        account, name = self.accounts[number], self.names[number]
        return Evidence(
            account=name,
            written=[
                Written(entry.ident, entry.peer, entry.text, int(entry.at), entry.asked_again)
                for entry in self.server.ledger.sent_to(account)
            ],
            promised=frozenset(self.promised[number]),
            stored=[_stored(message) for message in await self.daemon.messages(name)],
            asked=self.asked[number],
            entries=[
                Entry(entry["client_id"], entry["state"], entry["error"], entry["error_code"])
                for entry in await self._entries(name)
            ],
            arrived=list(_arrived(account, self.peers)),
        )


def _settings(scenario: Scenario) -> dict[str, str]:
    """wad recovers fast; where workers are stopped, some of them are detected and replaced."""
    settings = {
        "WAD_ENGINE_RETRY_BASE": "0.2",
        "WAD_ENGINE_RETRY_CAP": "1",
        "WAD_LOG_LEVEL": "debug",
    }
    if scenario.has(Kind.DISK):
        settings |= {"WAD_STATE_MIN_FREE_MB": "16"}
    if scenario.has(Kind.STOP_WORKER):
        settings |= {"WAD_ENGINE_PROBE_EVERY": "0.3", "WAD_ENGINE_PROBE_TIMEOUT": "4"}
    return settings


def _stored(message: dict[str, Any]) -> Stored:
    return Stored(
        wa_id=message["wa_id"],
        party=message["thread"].partition("__")[2].partition("@")[0],
        text=message["text"],
        inbound=message["direction"] == "inbound",
        kind=message["kind"],
        client_id=message["client_id"],
    )


def _arrived(account: Account, peers: list[Peer]) -> Iterator[Arrived]:
    for peer in peers:
        for one in peer.inbox:
            if one.account is account:
                yield Arrived(one.ident, peer.pn.user, one.text)


@asynccontextmanager
async def a_system(scenario: Scenario, directory: Path) -> AsyncIterator[System]:
    """Everything is started and paired; removed afterwards, except the directory."""
    async with WhatsApp() as server:
        system = System(server, scenario, directory)
        daemon = system.daemon
        with _kept_disk(system):
            try:
                await daemon.start()
                await system.pair_all()
                yield system
            finally:
                if daemon.process is not None:
                    daemon.process.kill()
                    await asyncio.to_thread(daemon.process.wait)
                for account in system.accounts:
                    await account.wait_offline()  # the workers have ended


@contextmanager
def _kept_disk(system: System) -> Iterator[None]:
    """The small disk, if there is one; its content is copied at the end."""
    if system.disk is None:
        yield
        return
    with a_disk(system.disk, DISK):
        try:
            yield
        finally:
            copy = system.disk.with_name("state-of-the-small-disk")
            subprocess.run(["cp", "-a", system.disk, copy], check=True)
