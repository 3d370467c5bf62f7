"""Receipts to WhatsApp and rows on the disk: the real worker, killed while many messages arrive."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import builds
from tests.support.daemons import Daemon, a_daemon
from tests.support.disks import a_disk, fill
from tests.support.spools import locked, spooled
from tests.whatsapp import Account, Peer, WhatsApp, contents
from tests.whatsapp.history import Conversation, Line

pytestmark = pytest.mark.timeout(180)
TIMEOUT = 60.0
BURST = 500


@pytest.fixture(scope="module")
def another_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PYTHONPATH with a neonize that is not the one that was released."""
    return builds.another_build(tmp_path_factory.mktemp("build"))


class Shop:
    """A paired account in a running wad, and its contact Bob."""

    def __init__(self, server: WhatsApp, daemon: Daemon) -> None:
        self.server = server
        self.daemon = daemon
        self.account: Account = server.add_account("15550000001", name="Shop")
        self.bob: Peer = server.add_peer("15550000012", name="Bob")
        self.sent: list[str] = []
        self.killed = 0

    async def pair(self) -> None:
        """Add the account and scan its code."""
        await self.daemon.call("accounts.add", name="shop", phone=f"+{self.account.pn.user}")
        await self.account.phone.scan(await self.daemon.qr("shop"))
        await self.daemon.wait_state("shop", "connected")

    async def write(self, number: int) -> None:
        """Bob writes this number of messages."""
        for _ in range(number):
            self.sent.append(await self.bob.send_text(self.account, f"text {len(self.sent)}"))

    async def answer(self, text: str) -> str:
        """The account writes to Bob; WhatsApp's id of it, once it was delivered."""
        sent = await self.daemon.call(
            "messages.send", account="shop", to=f"+{self.bob.pn.user}", text=text
        )
        async with asyncio.timeout(TIMEOUT):
            while True:
                page = await self.daemon.call("outbox.list", account="shop")
                entries = {entry["id"]: entry for entry in page["entries"]}
                if entries[sent["message"]["id"]]["state"] == "delivered":
                    return str(entries[sent["message"]["id"]]["wa_id"])
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """kill -9 of the worker; returns when another one is connected."""
        before = await self.die()
        await self.daemon.wait_account(
            "shop",
            lambda shown: (shown["worker"] or before)["pid"] != before["pid"],
            "another worker",
        )
        await self.daemon.wait_state("shop", "connected")

    async def die(self) -> dict[str, Any]:
        """kill -9 of the worker; the worker as it was."""
        worker: dict[str, Any] = (await self.daemon.account("shop"))["worker"]
        os.kill(worker["pid"], signal.SIGKILL)
        self.killed += 1
        async with asyncio.timeout(TIMEOUT):
            while Path(f"/proc/{worker['pid']}/cmdline").exists():
                await asyncio.sleep(0.005)
        return worker

    async def pid(self) -> int:
        """The worker's."""
        return int((await self.daemon.account("shop"))["worker"]["pid"])

    async def receipts(self, least: int) -> set[str]:
        """Wait until WhatsApp has receipts for this number of messages; their ids."""
        async with asyncio.timeout(TIMEOUT):
            while len(self.receipted) < least:
                await asyncio.sleep(0.002)
        return self.receipted

    @property
    def receipted(self) -> set[str]:
        """The messages for which WhatsApp has a receipt."""
        return set(self.server.ledger.receipted_by(self.account))

    @property
    def spool_file(self) -> Path:
        """The account's spool."""
        (found,) = (self.daemon.state / "sessions").glob("*/spool.db")
        return found

    def spooled(self, kind: str = "message") -> Counter[str]:
        """How often each message is in the spool."""
        return spooled(self.spool_file, kind)

    async def stored(self, idents: set[str]) -> Counter[str]:
        """Wait until these are in the store; how often each message is."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                found = Counter(m["wa_id"] for m in await self.daemon.messages("shop"))
                if idents <= set(found):
                    return found
                await asyncio.sleep(0.05)

    def spool_locked(self) -> AbstractContextManager[None]:
        """Nothing can be stored while the block runs."""
        return locked(self.spool_file)

    @contextmanager
    def slowed(self) -> Iterator[None]:
        """The spool is locked most of the time."""
        ended = threading.Event()

        def hold() -> None:
            while not ended.is_set():
                with self.spool_locked():
                    ended.wait(0.05)
                ended.wait(0.005)

        thread = threading.Thread(target=hold)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@asynccontextmanager
async def a_shop(directory: Path, python_path: Path | None = None) -> AsyncIterator[Shop]:
    """Everything up and paired."""
    async with WhatsApp() as server:
        environ = server.environment()
        if python_path is not None:
            environ["PYTHONPATH"] = f"{python_path}{os.pathsep}{environ['PYTHONPATH']}"
        environ["WAD_ENGINE_RETRY_BASE"] = "0.1"
        async with a_daemon(directory, environ) as daemon:
            shop = Shop(server, daemon)
            await shop.pair()
            yield shop
        assert server.errors == []


async def test_a_receipt_means_that_it_is_on_the_disk(tmp_path: Path) -> None:
    """kill -9 three times in a burst of 500: all that has a receipt is in the spool; in the end all are, once."""
    async with a_shop(tmp_path) as shop:
        with shop.slowed():
            writing = asyncio.create_task(shop.write(BURST))
            for least in (40, 120, 250):
                await shop.receipts(least)
                await shop.die()
                assert shop.receipted <= set(shop.spooled())
                await shop.daemon.wait_state("shop", "connected")
            await writing
        everything = set(shop.sent)
        assert await shop.stored(everything) == Counter(everything)
        assert shop.spooled() == Counter(everything)
        assert shop.spooled("lost") == Counter()
        await shop.receipts(BURST)


async def test_no_receipt_before_the_commit(tmp_path: Path) -> None:
    """While nothing can be stored no receipt is sent; a worker that is killed then has lost nothing."""
    async with a_shop(tmp_path) as shop:
        with shop.spool_locked():
            await shop.write(150)
            # Its queue is full: 64 wait for the disk, 100 in the library.
            await until_threads(shop, 64)
            assert shop.receipted == set()
            await shop.die()
        everything = set(shop.sent)
        await shop.daemon.wait_state("shop", "connected")
        assert await shop.stored(everything) == Counter(everything)
        assert shop.spooled() == Counter(everything)


async def test_stanzas_without_a_receipt_are_acknowledged_after_the_commit(tmp_path: Path) -> None:
    """Receipts of others, a channel's posts, a call: while nothing can be stored they stay in WhatsApp's queue.

    A worker killed then has lost none of them.
    """
    async with a_shop(tmp_path) as shop:
        channel = shop.server.add_newsletter()
        answers = [await shop.answer(f"answer {number}") for number in range(50)]
        (device,) = shop.account.devices.values()
        before = threads_of(await shop.pid())
        with shop.spool_locked():
            posts = [channel.post_text(shop.account, f"post {number}") for number in range(3)]
            shop.bob.call(shop.account)
            for answer in answers:
                await shop.bob.send_receipt(shop.account, answer, "read")
            # Some threads of the library are idle.
            await until_threads(shop, before + 30)
            waiting = Counter(tag for tag, _, _ in device.queue)
            assert waiting == Counter(receipt=50, message=3, call=1)
            await shop.die()
        await shop.daemon.wait_state("shop", "connected")
        async with asyncio.timeout(TIMEOUT):
            while device.queue:
                await asyncio.sleep(0.05)
        await shop.stored(set(posts))
        found = {m["wa_id"]: m for m in await shop.daemon.messages("shop")}
        assert {found[answer]["status"] for answer in answers} == {"read"}
        assert Counter(m["kind"] for m in found.values()) == {"text": 53, "call": 1}


async def test_history_is_receipted_after_the_commit(tmp_path: Path) -> None:
    """A worker killed while a history chunk cannot be downloaded gets it announced again."""
    async with a_shop(tmp_path) as shop:
        media = shop.server.media
        media.broken = True
        lines = [
            Line(f"OLD{n}", 1_700_000_000 + n, contents.text(f"{n}"), shop.bob) for n in range(5)
        ]
        (ident,) = await shop.account.phone.send_history(Conversation(shop.bob, lines))
        async with asyncio.timeout(TIMEOUT):
            while not media.refused:
                await asyncio.sleep(0.01)
        assert ident not in shop.receipted
        await shop.die()
        media.broken = False
        assert await shop.stored({line.ident for line in lines}) == Counter(
            line.ident for line in lines
        )
        async with asyncio.timeout(TIMEOUT):
            while ident not in shop.receipted:
                await asyncio.sleep(0.01)


async def until_threads(shop: Shop, least: int) -> None:
    """Wait until the worker has this number of threads: each receipt that is held has one."""
    pid = await shop.pid()
    async with asyncio.timeout(TIMEOUT):
        while threads_of(pid) < least:
            await asyncio.sleep(0.01)


def threads_of(pid: int) -> int:
    """How many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


async def test_a_message_that_is_sent_again_is_stored_once(tmp_path: Path) -> None:
    """WhatsApp forgets the receipts and sends everything again after a restart: it is known, and receipted again."""
    async with a_shop(tmp_path) as shop:
        shop.account.forgets_receipts = True
        await shop.write(30)
        await shop.receipts(30)
        shop.account.forgets_receipts = False
        receipts = len(shop.server.ledger.receipts_of(shop.account))
        await shop.kill()
        async with asyncio.timeout(TIMEOUT):
            while len(shop.server.ledger.receipts_of(shop.account)) < receipts + 30:
                await asyncio.sleep(0.01)
        assert shop.spooled() == Counter(shop.sent)
        assert await shop.stored(set(shop.sent)) == Counter(shop.sent)


async def test_another_build_reports_early_receipts(tmp_path: Path, another_build: Path) -> None:
    """An unknown library is not patched and works, and the missing guarantee is shown."""
    async with a_shop(tmp_path, another_build) as shop:
        status = await shop.daemon.call("status")
        assert status["receipts"] == "early"
        (account,) = status["accounts"]
        assert account["worker"]["receipts"] == "early"
        assert any("receipts are early" in warning for warning in account["warnings"])
        assert "is an unknown build" in shop.daemon.log.read_text()
        await shop.write(20)
        assert await shop.stored(set(shop.sent)) == Counter(shop.sent)


async def test_lost_messages_are_found(tmp_path: Path, another_build: Path) -> None:
    """With early receipts a kill loses messages that were receipted and not stored; each gets one row as lost."""
    async with a_shop(tmp_path, another_build) as shop:
        await shop.write(5)
        await shop.stored(set(shop.sent))
        with shop.spool_locked():
            await shop.write(60)
            receipted = await shop.receipts(65)
            await shop.die()
        gone = receipted - set(shop.spooled())
        assert len(gone) == 60
        await shop.daemon.wait_state("shop", "connected")
        await shop.stored(set(shop.sent))
        assert shop.spooled("lost") == Counter(gone)
        kinds = Counter(message["kind"] for message in await shop.daemon.messages("shop"))
        assert kinds == {"text": 5, "lost": 60}
        await shop.kill()
        await shop.write(1)
        await shop.stored(set(shop.sent))
        assert shop.spooled("lost") == Counter(gone)


async def test_no_guarantee_is_known_without_a_worker(tmp_path: Path) -> None:
    """Unknown is null, not a guess."""
    async with a_daemon(tmp_path) as daemon:
        assert (await daemon.call("status"))["receipts"] is None


async def test_a_disk_that_fills_up_in_a_burst_costs_nothing(tmp_path: Path) -> None:
    """The library must not acknowledge what it cannot store: everything is sent again, whole and in order."""
    with a_disk(tmp_path / "disk", "96m") as disk:
        environ = {"SESSIONS_PATH": str(disk), "WAD_STATE_MIN_FREE_MB": "0"}
        async with (
            WhatsApp() as server,
            a_daemon(tmp_path, server.environment() | environ) as daemon,
        ):
            shop = Shop(server, daemon)
            await shop.pair()
            await shop.write(10)
            await shop.receipts(10)
            filler = disk / "filler"
            fill(filler)
            await shop.write(300)
            await daemon.wait_account("shop", lambda shown: "disk" in str(shown), "a word of it")
            filler.unlink()
            assert await shop.stored(set(shop.sent)) == Counter(shop.sent)
            stored = await daemon.messages("shop")
            assert [m["text"] for m in stored] == [f"text {n}" for n in range(310)]
