"""From the Node backend to wad without a QR code: the real Baileys, the real library, the protocol server, `wadctl`."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import signal
import sqlite3
import stat
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.baileys import Backend, a_backend
from tests.support.daemons import Daemon, a_daemon
from tests.whatsapp import Account, Group, Peer, WhatsApp

pytestmark = pytest.mark.timeout(400)  # the first run of a machine fetches packages

IDENT = "account_prod_0123456789abcdef"
"""How the reference names an account, and its session's directory."""


@dataclass
class Move:
    """A WhatsApp, and a session directory on which Baileys worked and was stopped."""

    server: WhatsApp
    account: Account
    bob: Peer
    carol: Peer
    group: Group
    directory: Path

    delivered: int = 0
    bundles: int = 0

    def begin(self) -> None:
        """From here on it is wad's turn."""
        self.delivered = len(self.server.ledger.delivered_on_wire(self.account))
        self.bundles = self._bundles()

    def _bundles(self) -> int:
        return self.bob.keys.bundles + self.carol.keys.bundles

    async def went_on_in_the_same_sessions(self) -> None:
        """Each message was read at once, and written in a session that was there."""
        await self.server.ledger.settled(self.account)
        on_wire = self.server.ledger.delivered_on_wire(self.account)[self.delivered :]
        assert set(Counter(on_wire).values()) == {
            1
        }  # what cannot be read is asked for, and sent again
        assert self._bundles() == self.bundles  # a new session needs keys


@asynccontextmanager
async def a_move(tmp_path: Path) -> AsyncIterator[Move]:
    """Bob and the account have written to each other, and to their group; Carol has not answered yet."""
    directory = tmp_path / "sessions" / IDENT
    directory.parent.mkdir()
    async with WhatsApp() as server:
        account = server.add_account("15550000001", name="Shop")
        bob = server.add_peer("15550000002", name="Bob")
        carol = server.add_peer("15550000003", name="Carol")
        async with a_backend(server, directory) as backend:
            await backend.pair(account)
            group = server.add_group("Team", account, bob)
            move = Move(server, account, bob, carol, group, directory)
            await _talk(move, backend)
            await backend.stop()
        move.begin()
        yield move
        assert server.errors == []


async def _talk(move: Move, backend: Backend) -> None:
    account = move.account
    await account.phone.share_app_state(push_name="Shop")
    await move.bob.send_text(account, "first")
    await backend.received("first")
    await backend.send(str(move.bob.pn), "answer")
    await move.bob.received(account, text="answer")
    await backend.send(str(move.carol.pn), "to Carol")
    await move.carol.received(account, text="to Carol")
    await move.bob.send_text(account, "second")
    await backend.received("second")
    await move.bob.send_text(move.group, "in the group")
    await backend.received("in the group")
    await backend.send(str(move.group.jid), "from Baileys")
    await move.bob.received(account, text="from Baileys")
    # Baileys began another session with Bob for that; he continues in it.
    await move.bob.send_text(account, "third")
    await backend.received("third")


def everything_of(directory: Path) -> dict[str, tuple[bytes, int, int, int]]:
    """Each file: what is in it, its times of change, its mode; and the directory's own."""
    found = {}
    for path in [directory, *directory.iterdir()]:
        about = path.stat()
        data = path.read_bytes() if path.is_file() else b""
        found[path.name] = (data, about.st_mtime_ns, about.st_ctime_ns, about.st_mode)
    return found


async def messages(daemon: Daemon, *texts: str) -> None:
    """Until these texts are in the store."""
    async with asyncio.timeout(30):
        while not set(texts) <= {m["text"] for m in await daemon.messages(IDENT)}:
            await asyncio.sleep(0.05)


def contacts(session_db: Path) -> set[str]:
    """The names that the library knows."""
    with closing(sqlite3.connect(f"file:{session_db}?mode=ro", uri=True, timeout=30)) as db:
        return {str(name) for (name,) in db.execute("SELECT full_name FROM whatsmeow_contacts")}


async def import_(daemon: Daemon, move: Move, *more: str) -> Any:
    """What the real command says."""
    return await daemon.wadctl_json(
        "account", "import-baileys", str(move.directory), "--yes", *more
    )


async def test_an_operator_moves_without_a_qr_code(tmp_path: Path) -> None:
    """Checked first, then imported: it logs in, reads what waits, writes on in the same sessions; nothing is asked
    again, and the source is as it was.
    """
    async with a_move(tmp_path) as move, a_daemon(tmp_path / "wad", move.server.environment()) as daemon:  # fmt: skip
        before = everything_of(move.directory)
        await move.bob.send_text(move.account, "while nobody was there")
        await move.bob.send_text(move.group, "in the group, meanwhile")

        looked = await import_(daemon, move, "--dry-run")
        assert looked["dry_run"]
        assert looked["state"] is None
        assert await daemon.call("accounts.list") == []

        done = await import_(daemon, move)
        assert done["account"] == IDENT
        assert done["jid"] == "15550000001:1@s.whatsapp.net"
        assert done["carried"] == looked["carried"]
        assert done["carried"] | {"pre_keys": 0} == {
            # Baileys has a session with its own device, too: it does not know itself by its LID.
            "pre_keys": 0, "sessions": 4, "sender_keys": 1, "identities": 4, "app_state_keys": 1,
            "privacy_tokens": 0, "lid_mappings": 3,
        }  # fmt: skip
        shown = await daemon.wait_state(IDENT, "connected")
        assert (shown["name"], shown["phone"], shown["qr"]) == ("Shop", "+15550000001", None)
        await messages(daemon, "while nobody was there", "in the group, meanwhile")
        for peer, text in ((move.bob, "from wad"), (move.carol, "from wad, too")):
            await daemon.wadctl_json("send", IDENT, f"+{peer.pn.user}", text, "--wait", "20")
            await peer.received(move.account, text=text)
        await move.carol.send_text(move.account, "Carol answers")
        await move.bob.send_text(move.account, "welcome")
        await daemon.wadctl_json("send", IDENT, str(move.group.jid), "to the group", "--wait", "20")
        await move.bob.received(move.account, text="to the group")
        await messages(daemon, "Carol answers", "welcome")
        await move.went_on_in_the_same_sessions()

        # The address book is read with the app-state key that came along.
        account_dir = daemon.state / "sessions" / IDENT
        await move.account.phone.share_app_state(contacts={move.bob.pn: "Bob the neighbour"})
        async with asyncio.timeout(30):
            while "Bob the neighbour" not in contacts(account_dir / "session.db"):
                await asyncio.sleep(0.05)

        assert everything_of(move.directory) == before
        modes = {stat.S_IMODE(path.stat().st_mode) for path in account_dir.iterdir()}
        assert modes == {0o600}
        assert stat.S_IMODE(account_dir.stat().st_mode) == 0o700

        # It is an account like any other: it connects again after kill -9, and is not imported twice.
        again = await daemon.wadctl("account", "import-baileys", str(move.directory), "--yes")
        assert again.returncode == 5
        assert "has a session already" in again.stderr
        await daemon.end(signal.SIGKILL)
        await daemon.start()
        await daemon.wait_state(IDENT, "connected")


def skip_one(directory: Path, group: Group, bob: Peer) -> None:
    """Put the ratchets on by one message each, as if the next one of Bob had been overtaken by the one after it.

    In Baileys' own terms (libsignal-node src/session_cipher.js, fillMessageKeys; Baileys lib/Signal/Group).
    """
    file = directory / f"session-{bob.lid.user}_1.0.json"
    record = json.loads(file.read_text())
    (entry,) = (e for e in record["_sessions"].values() if e["indexInfo"]["closed"] == -1)
    chain = entry["_chains"][entry["currentRatchet"]["lastRemoteEphemeralKey"]]
    key = base64.b64decode(chain["chainKey"]["key"])
    chain["chainKey"]["counter"] += 1
    chain["messageKeys"][chain["chainKey"]["counter"]] = _text(hmac.digest(key, b"\1", "sha256"))
    chain["chainKey"]["key"] = _text(hmac.digest(key, b"\2", "sha256"))
    file.write_text(json.dumps(record))

    file = directory / f"sender-key-{group.jid}--{bob.lid.user}_1--0.json"
    states = json.loads(base64.b64decode(json.loads(file.read_text())["data"]))
    now = states[-1]["senderChainKey"]
    seed = bytes(now["seed"]["data"])
    skipped = hmac.digest(seed, b"\1", "sha256")
    states[-1]["senderMessageKeys"].append({"iteration": now["iteration"], "seed": _buffer(skipped)})  # fmt: skip
    now["iteration"] += 1
    now["seed"] = _buffer(hmac.digest(seed, b"\2", "sha256"))
    file.write_text(json.dumps({"type": "Buffer", "data": _text(json.dumps(states).encode())}))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _buffer(data: bytes) -> dict[str, object]:
    return {"type": "Buffer", "data": list(data)}


async def test_messages_that_were_overtaken_can_still_be_read(tmp_path: Path) -> None:
    """Keys of skipped messages are carried, of sessions and of sender keys, into an account that was there before."""
    async with a_move(tmp_path) as move, a_daemon(tmp_path / "wad", move.server.environment()) as daemon:  # fmt: skip
        skip_one(move.directory, move.group, move.bob)
        await daemon.call("accounts.add", name="Front office", phone="+15550000001", id=IDENT)
        done = await import_(daemon, move)
        assert (done["existing"], done["name"]) == (True, "Front office")
        await daemon.wait_state(IDENT, "connected")
        for text in ("overtaken", "after it"):
            await move.bob.send_text(move.account, text)
            await move.bob.send_text(move.group, f"{text}, in the group")
        await messages(daemon, "overtaken", "overtaken, in the group", "after it, in the group")
        await move.went_on_in_the_same_sessions()


async def test_the_way_back(tmp_path: Path) -> None:
    """docs/migration.md: wad's account is stopped, what is out of date goes from the old directory, and Baileys works
    on it again without a QR code; then forward once more.
    """
    async with a_move(tmp_path) as move, a_daemon(tmp_path / "wad", move.server.environment()) as daemon:  # fmt: skip
        await import_(daemon, move)
        await daemon.wait_state(IDENT, "connected")
        await move.bob.send_text(move.account, "to wad")
        await messages(daemon, "to wad")
        await daemon.wadctl_json("send", IDENT, f"+{move.bob.pn.user}", "from wad", "--wait", "20")
        await daemon.wadctl_json("account", "stop", IDENT)
        await move.account.wait_offline()
        await move.bob.send_text(move.account, "to nobody")
        for pattern in ("session-*.json", "sender-key-*.json"):
            for file in move.directory.glob(pattern):
                file.unlink()
        async with a_backend(move.server, move.directory) as backend:
            await backend.next("open")
            await backend.received("to nobody")
            await move.bob.send_text(move.account, "to Baileys")
            await backend.received("to Baileys")
            await backend.send(str(move.bob.pn), "from Baileys again")
            await move.bob.received(move.account, text="from Baileys again")
            await backend.stop()
        assert {event["event"] for event in backend.reported} <= {"open", "message", "sent"}

        # And forward again.
        await daemon.wadctl_json("account", "remove", IDENT, "--yes")
        await import_(daemon, move)
        await daemon.wait_state(IDENT, "connected")
        move.begin()
        await move.bob.send_text(move.account, "to wad again")
        await messages(daemon, "to wad again")
        await move.went_on_in_the_same_sessions()
