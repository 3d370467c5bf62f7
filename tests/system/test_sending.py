"""Every kind of message through the real daemon and the real library: what arrives at the other end, and how often."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.support.protobufs import Message
from tests.support.sounds import OPUS_HEAD
from tests.system.systems import System, a_system
from tests.whatsapp import WhatsApp, stanzas
from tests.whatsapp.device import Device
from tests.whatsapp.media import Request
from tests.whatsapp.wire import Node
from wad.core.errors import Conflict, NotSupported

pytestmark = pytest.mark.timeout(180)

BOB = "+15550000012"
BOBS_JID = "15550000012@s.whatsapp.net"
BOBS_LID = "900015550000012@lid"  # his chat is addressed by it
SHOPS_LID = "900015550000001@lid"
# Kind: name, media type, the field of waE2E.Message, what its keys are made for
# (docs/internals/whatsapp-protocol.md#media).
FILES = {
    "image": ("photo.jpg", "image/jpeg", "imageMessage", "WhatsApp Image Keys"),
    "video": ("film.mp4", "video/mp4", "videoMessage", "WhatsApp Video Keys"),
    "audio": ("song.mp3", "audio/mpeg", "audioMessage", "WhatsApp Audio Keys"),
    "voice": ("note.ogg", "audio/ogg; codecs=opus", "audioMessage", "WhatsApp Audio Keys"),
    "document": ("bill.pdf", "application/pdf", "documentMessage", "WhatsApp Document Keys"),
    "sticker": ("smile.webp", "image/webp", "stickerMessage", "WhatsApp Image Keys"),
}


# --- what the tests do -------------------------------------------------------------------------------


async def ask(system: System, operation: str, **params: Any) -> dict[str, Any]:
    """Send something from the account; the entry as it is after it has left, or as it is after half a minute."""
    reply = await system.daemon.call(
        f"messages.{operation}", account="shop", **{"wait": 30, **params}
    )
    entry: dict[str, Any] = reply["message"]
    return entry


async def arrived(system: System, entry: dict[str, Any]) -> Any:
    """What Bob got of it: a waE2E.Message."""
    assert entry["state"] in ("sent", "delivered"), entry
    got = await system.bob.received(system.account, ident=entry["wa_id"])
    return Message.FromString(got.content)


async def put(system: System, kind: str, data: bytes) -> str:
    """Bring a file to the daemon, in pieces."""
    upload, size = "", 1 << 20
    for offset in range(0, len(data), size):
        piece = data[offset : offset + size]
        reply = await system.daemon.call(
            "media.put", kind=kind, size=len(data), data=piece, offset=offset, upload=upload
        )
        upload = reply["upload"]
    return str(reply["sha256"])


def decrypted(system: System, part: Any, words: str) -> bytes:
    """The file of an attachment, as a recipient reads it (docs/internals/whatsapp-protocol.md#media)."""
    stored = system.server.media.files[part.directPath.partition("?")[0]]
    keys = HKDF(hashes.SHA256(), 112, None, words.encode()).derive(part.mediaKey)
    iv, key, mac = keys[:16], keys[16:48], keys[48:80]
    body, signature = stored[:-10], stored[-10:]
    assert hmac.digest(mac, iv + body, "sha256")[:10] == signature
    assert hashlib.sha256(stored).digest() == part.fileEncSHA256
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    padded = decryptor.update(body) + decryptor.finalize()
    return padded[: -padded[-1]]


async def stored(system: System, ident: str) -> dict[str, Any]:
    """A message of the account as wad has it."""
    return next(m for m in await system.daemon.messages("shop") if m["id"] == ident)


async def entry_of(system: System, ident: str) -> dict[str, Any]:
    """An entry of the outbox."""
    page = await system.daemon.call("outbox.list", limit=1000)
    return next(entry for entry in page["entries"] if entry["id"] == ident)


async def wait_entry(system: System, ident: str, state: str) -> dict[str, Any]:
    """Wait until an entry is in a state."""
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(40):
            while (found := await entry_of(system, ident))["state"] != state:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {state}: {found}") from None
    return found


async def kill_worker(system: System) -> None:
    """kill -9, until the next one is connected."""
    worker = (await system.daemon.account("shop"))["worker"]
    os.kill(worker["pid"], signal.SIGKILL)
    await system.daemon.wait_account(
        "shop",
        lambda s: s["state"] == "connected" and s["worker"]["pid"] != worker["pid"],
        "another worker",
    )


async def received_text(system: System, text: str = "a question") -> str:
    """Bob writes; the id of the stored message."""
    (wa_id,) = await system.receive(text)
    return next(str(m["id"]) for m in await system.daemon.messages("shop") if m["wa_id"] == wa_id)


# --- each kind arrives -------------------------------------------------------------------------------


async def test_votes_are_read(tmp_path: Path) -> None:
    """In a poll of ours and in one of Bob's; a vote is changed, and taken back; an invalid seal has no effect."""
    async with a_system(tmp_path) as system:
        await system.pair()
        ours = await ask(system, "send_poll", to=BOB, question="Tea?", answers=["yes", "no"])
        await arrived(system, ours)
        bobs = await system.bob.poll(system.account, "Coffee?", ["yes", "no"])
        for poll, author in ((ours["wa_id"], None), (bobs, system.bob)):
            for chosen in (["yes"], ["no"], []):
                await system.bob.vote(system.account, poll, *chosen, by=author)
                await votes(system, poll, chosen)
        before = (await system.daemon.account("shop"))["worker"]["pid"]
        key = system.bob.target(system.account, bobs, system.bob).key()
        forged = {1: key, 2: {1: b"no seal", 2: bytes(16)}, 4: system.server.now() * 1000}
        await system.bob.send(system.account, {50: forged})
        await votes(system, bobs, None)
        assert (await system.daemon.account("shop"))["worker"]["pid"] == before


async def votes(system: System, poll: str, chosen: list[str] | None) -> None:
    """Until Bob's vote reads like this; None while it cannot be read."""
    async with asyncio.timeout(30):
        while True:
            found = {m["wa_id"]: m for m in await system.daemon.messages("shop")}
            if poll in found and [vote["chosen"] for vote in found[poll]["votes"]] == [chosen]:
                return
            await asyncio.sleep(0.02)


async def test_texts_locations_cards_and_polls(tmp_path: Path) -> None:
    """They arrive as the apps write them; a reply names and quotes what it answers."""
    async with a_system(tmp_path) as system:
        await system.pair()
        question = await received_text(system)
        wa_id = (await stored(system, question))["wa_id"]

        text = "yes @15550000012"
        entry = await ask(system, "send", to=BOB, text=text, reply_to=question, mentions=[BOB])
        part = (await arrived(system, entry)).extendedTextMessage
        assert (part.text, list(part.contextInfo.mentionedJID)) == (text, [BOBS_JID])
        assert (part.contextInfo.stanzaID, part.contextInfo.participant) == (wa_id, BOBS_LID)
        assert part.contextInfo.quotedMessage.conversation == "a question"

        # An answer to a message of our own.
        entry = await ask(system, "send", to=BOB, text="and more", reply_to=entry["id"])
        part = (await arrived(system, entry)).extendedTextMessage
        assert (part.contextInfo.participant, part.contextInfo.quotedMessage.conversation) == (
            SHOPS_LID,
            text,
        )

        entry = await ask(
            system, "send_location", to=BOB, latitude=44.43, longitude=-26.1, name="Shop"
        )
        part = (await arrived(system, entry)).locationMessage
        assert (part.degreesLatitude, part.degreesLongitude, part.name) == (44.43, -26.1, "Shop")

        entry = await ask(system, "send_contact", to=BOB, name="Ann", phone="+1 555 000 0013")
        part = (await arrived(system, entry)).contactMessage
        assert part.displayName == "Ann"
        assert "waid=15550000013:+15550000013" in part.vcard

        entry = await ask(
            system, "send_poll", to=BOB, question="Tea?", answers=["yes", "no"], selectable=1
        )
        message = await arrived(system, entry)
        part = message.pollCreationMessage
        assert (part.name, part.selectableOptionsCount) == ("Tea?", 1)
        assert [option.optionName for option in part.options] == ["yes", "no"]
        assert len(message.messageContextInfo.messageSecret) == 32

        shown = [(m["kind"], m["text"]) for m in await system.daemon.messages("shop")]
        assert shown == [
            ("text", "a question"), ("text", text), ("text", "and more"),
            ("location", "Shop, 44.430000,-26.100000"), ("contact", "Ann"), ("poll", "Tea?\n- yes\n- no"),
        ]  # fmt: skip


@pytest.fixture
def sent_stanzas(monkeypatch: pytest.MonkeyPatch) -> dict[str, Node]:
    """What the library wrote around each message, by id."""
    seen: dict[str, Node] = {}
    handle = stanzas.handle

    def noting(server: WhatsApp, device: Device, stanza: Node) -> None:
        if stanza.tag == "message":
            seen[stanza.get("id")] = stanza
        handle(server, device, stanza)

    monkeypatch.setattr(stanzas, "handle", noting)
    return seen


async def test_reactions_edits_and_revokes(tmp_path: Path, sent_stanzas: dict[str, Node]) -> None:
    """They name the message that they change, and are none of their own in the thread."""
    async with a_system(tmp_path) as system:
        await system.pair()
        question = await received_text(system)
        wa_id = (await stored(system, question))["wa_id"]

        for emoji in ("👍🏽", ""):
            entry = await ask(system, "react", message=question, emoji=emoji)
            part = (await arrived(system, entry)).reactionMessage
            key = (part.key.ID, part.key.remoteJID, part.key.fromMe)
            assert (*key, part.text, part.HasField("text")) == (wa_id, BOBS_LID, False, emoji, True)
            assert part.senderTimestampMS == entry["created_ms"]
            reactions = (await stored(system, question))["reactions"]
            assert [one["text"] for one in reactions] == ([emoji] if emoji else [])
            stanza = sent_stanzas[entry["wa_id"]]
            assert (stanza.get("type"), stanza.get("edit")) == ("reaction", "" if emoji else "7")

        first = await ask(system, "send", to=BOB, text="helo")
        entry = await ask(system, "edit", message=first["id"], text="hello")
        part = (await arrived(system, entry)).editedMessage.message.protocolMessage
        assert (part.key.ID, part.key.remoteJID, part.key.fromMe) == (
            first["wa_id"],
            BOBS_LID,
            True,
        )
        assert (part.type, part.editedMessage.conversation) == (part.MESSAGE_EDIT, "hello")
        assert part.timestampMS == entry["created_ms"]
        assert sent_stanzas[entry["wa_id"]].get("edit") == "1"
        assert (await stored(system, first["id"]))["text"] == "hello"

        entry = await ask(system, "revoke", message=first["id"])
        part = (await arrived(system, entry)).protocolMessage
        assert (part.key.ID, part.key.remoteJID, part.key.fromMe) == (
            first["wa_id"],
            BOBS_LID,
            True,
        )
        assert (part.type, part.HasField("type")) == (part.REVOKE, True)
        assert sent_stanzas[entry["wa_id"]].get("edit") == "7"
        gone = await stored(system, first["id"])
        assert (gone["kind"], gone["text"]) == ("revoke", "")

        assert [m["id"] for m in await system.daemon.messages("shop")] == [question, first["id"]]
        # Bob's phone says that it got each of them, and each entry knows.
        await wait_entry(system, entry["id"], "delivered")


async def test_files_of_each_kind(tmp_path: Path) -> None:
    """`wadctl send-file` guesses what it can; the other end decrypts the same bytes."""
    async with a_system(tmp_path) as system:
        await system.pair()
        for number, (kind, (name, mimetype, field, words)) in enumerate(FILES.items(), 1):
            file = tmp_path / name
            head = OPUS_HEAD if kind == "voice" else b""
            file.write_bytes(head + os.urandom(2_500_000 if kind == "video" else 1000 * number))
            extra = ["--kind", "voice"] if kind == "voice" else []
            extra += ["--caption", "look"] if kind in ("image", "document") else []
            sent = await system.daemon.wadctl_json(
                "send-file", "shop", BOB, str(file), "--wait", "30", *extra
            )
            message = await arrived(system, sent["message"])
            if kind == "document":  # how the apps send one with a caption
                message = message.documentWithCaptionMessage.message
                assert message.documentMessage.fileName == name
            part = getattr(message, field)
            assert (part.mimetype, part.fileLength) == (mimetype, file.stat().st_size)
            if extra[:1] == ["--caption"]:
                assert part.caption == "look"
            if field == "audioMessage":
                assert part.PTT is (kind == "voice")
            assert decrypted(system, part, words) == file.read_bytes()
            shown = await stored(system, sent["message"]["id"])
            assert shown["kind"] == ("audio" if kind == "voice" else kind)
        assert len(list((system.daemon.state / "media").glob("[0-9a-f]*"))) == len(FILES)


# --- once, and honest about it -----------------------------------------------------------------------


async def asks(system: System) -> dict[str, Callable[[str], Awaitable[dict[str, Any]]]]:
    """One way to send each kind, given a client id."""
    question = await received_text(system)
    ours = [(await ask(system, "send", to=BOB, text=f"ours {n}"))["id"] for n in range(2)]
    file = await put(system, "image", b"a picture, or so they say")

    def asking(operation: str, **params: Any) -> Callable[[str], Awaitable[dict[str, Any]]]:
        return lambda client_id: ask(system, operation, client_id=client_id, wait=0, **params)

    return {
        "text": asking("send", to=BOB, text="hello", reply_to=question),
        "image": asking("send_file", to=BOB, sha256=file, kind="image", mimetype="image/png"),
        "location": asking("send_location", to=BOB, latitude=1.5, longitude=2.5),
        "contact": asking("send_contact", to=BOB, name="Ann", phone="+15550000013"),
        "poll": asking("send_poll", to=BOB, question="Tea?", answers=["yes", "no"]),
        "reaction": asking("react", message=question, emoji="👍"),
        "edit": asking("edit", message=ours[0], text="ours, better"),
        "revoke": asking("revoke", message=ours[1]),
    }


async def test_the_same_client_id_is_one_message_of_each_kind(tmp_path: Path) -> None:
    """Whatever it is, it arrives once."""
    async with a_system(tmp_path) as system:
        await system.pair()
        entries = []
        for kind, send in (await asks(system)).items():
            first = await send(kind)
            entries.append(await wait_entry(system, first["id"], "delivered"))
            assert (await send(kind))["id"] == first["id"]
        await ask(system, "send", to=BOB, text="the last one")
        got = [received.ident for received in system.bob.inbox]
        assert len(got) == len(set(got)) == len(entries) + 3
        assert {entry["wa_id"] for entry in entries} <= set(got)


async def test_kill_9_while_whatsapp_has_it_is_uncertain_for_each_kind(tmp_path: Path) -> None:
    """The library noted the attempt's secret before a byte left, whatever it sent; the receipt settles it."""
    async with a_system(tmp_path) as system:
        await system.daemon.end()
        system.daemon.environ["WAD_ENGINE_RETRY_BASE"] = "0.1"
        await system.daemon.start()
        await system.pair()
        ways = await asks(system)
        system.bob.auto_receipts = False
        for kind in ("image", "poll", "reaction", "edit", "revoke"):
            bobs = len(system.bob.inbox)
            system.account.acks_messages = False
            entry = await ways[kind](kind)
            await until_inbox(system, bobs + 1)
            system.account.acks_messages = True
            await kill_worker(system)
            entry = await wait_entry(system, entry["id"], "uncertain")
            assert entry["wa_id"] == system.bob.inbox[-1].ident, kind
            await system.bob.send_receipt(system.account, entry["wa_id"])
            await wait_entry(system, entry["id"], "delivered")
        ledger = system.server.ledger.received_from(system.account)
        assert all(one.copies == 1 for one in ledger)


async def until_inbox(system: System, size: int) -> None:
    """Wait until Bob has received this number of messages."""
    inbox = system.bob.inbox
    await system.server.news.until(lambda: len(inbox) >= size, 20, f"message {size}")


async def test_kill_9_of_the_daemon_in_the_middle_of_an_upload(tmp_path: Path) -> None:
    """Nothing has left: the message is queued, and sent once by the next process."""
    async with a_system(tmp_path) as system:
        await system.pair()
        file = await put(system, "document", b"x" * 100_000)
        process = system.daemon.process
        assert process is not None
        uploading = on_upload(system, process.kill)
        entry = await ask(
            system, "send_file", to=BOB, sha256=file, kind="document", mimetype="text/plain", wait=0
        )
        await asyncio.wait_for(uploading.wait(), 30)
        await system.daemon.end(signal.SIGKILL)
        with closing(sqlite3.connect(system.daemon.state / "wad.db")) as db:
            assert db.execute("SELECT state FROM outbox").fetchall() == [("sending",)]
        await system.daemon.start()
        entry = await wait_entry(system, entry["id"], "delivered")
        assert entry["attempts"] == 1
        assert len(system.bob.inbox) == 1


async def test_a_file_over_which_the_worker_dies_twice_is_given_up(tmp_path: Path) -> None:
    """It never left; a restart of the daemon in between does not make it forget, and others are sent."""
    async with a_system(tmp_path, WAD_ENGINE_RETRY_BASE="0.1") as system:
        await system.pair()
        file = await put(system, "document", b"x" * 100_000)
        dying = on_upload(system, lambda: kill_workers_of(system))
        entry = await ask(
            system, "send_file", to=BOB, sha256=file, kind="document", mimetype="text/plain", wait=0
        )
        await asyncio.wait_for(dying.wait(), 30)
        again = on_upload(system, lambda: kill_workers_of(system))
        await system.daemon.wait_account(
            "shop", lambda shown: (shown["worker"] or {}).get("restarts"), "another worker"
        )
        if not again.is_set():
            await system.daemon.end()
            await system.daemon.start()
        failed = await wait_entry(system, entry["id"], "failed")
        assert failed["error_code"] == "kills_the_worker"
        assert (await ask(system, "send", to=BOB, text="hello"))["wa_id"]
        assert [one.text for one in system.bob.inbox] == ["hello"]


def kill_workers_of(system: System) -> None:
    """Kill -9, at once."""
    assert system.daemon.process is not None
    for task in Path(f"/proc/{system.daemon.process.pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"wad.worker.main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)


async def test_an_upload_that_fails_is_tried_again(tmp_path: Path) -> None:
    """It costs no attempt: no message is sent before the file is uploaded to WhatsApp."""
    async with a_system(tmp_path) as system:
        await system.pair()
        file = await put(system, "image", b"a picture")
        uploading = on_upload(system, lambda: None, status=500)
        entry = await ask(
            system, "send_file", to=BOB, sha256=file, kind="image", mimetype="image/png", wait=0
        )
        await asyncio.wait_for(uploading.wait(), 30)
        entry = await wait_entry(system, entry["id"], "delivered")
        assert entry["attempts"] == 1
        assert len(system.bob.inbox) == 1


async def test_a_file_that_was_changed_on_the_disk_is_not_sent(tmp_path: Path) -> None:
    """The worker hashes the file as it reads it; the message failed with the reason."""
    async with a_system(tmp_path) as system:
        await system.pair()
        file = await put(system, "image", b"a picture")
        (system.daemon.state / "media" / file).write_bytes(b"another p")
        entry = await ask(
            system, "send_file", to=BOB, sha256=file, kind="image", mimetype="image/png"
        )
        assert (entry["state"], entry["error_code"]) == ("failed", "damaged")
        assert len(system.bob.inbox) == 0


def on_upload(system: System, act: Callable[[], None], status: int = 200) -> asyncio.Event:
    """Do something when the first file is uploaded, and answer it with a status."""
    answer, first = system.server.media.answer, asyncio.Event()

    def interfering(request: Request) -> tuple[int, bytes]:
        if request.method != "POST" or first.is_set():
            return answer(request)
        first.set()
        act()
        return answer(request) if status == 200 else (status, b"")

    system.server.media.answer = interfering  # type: ignore[method-assign]
    return first


# --- invalid recipients -------------------------------------------------------------------------------


async def test_a_group_that_was_left_is_refused_at_once(tmp_path: Path) -> None:
    """Also one in which only admins write; an entry that was queued without a check delays no other."""
    async with a_system(tmp_path) as system:
        await system.pair()
        other = system.server.add_peer("15550000044", name="Eve")
        left = system.server.add_group("Left", system.bob, other)
        news = system.server.add_group("News", system.bob, system.account)
        news.admins_only = True
        ours = system.server.add_group("Ours", system.bob, system.account)
        away = system.server.add_group("Away", system.bob, other)
        for group, why in ((left, "not in the group"), (news, "only admins may write")):
            done = await system.daemon.wadctl("send", "shop", str(group.jid), "hello")
            assert done.returncode == Conflict.exit_code, done
            assert why in done.stderr
        assert (await system.daemon.call("outbox.list", account="shop"))["entries"] == []
        sent = await ask(system, "send", to=str(ours.jid), text="hello")
        assert sent["state"] in ("sent", "delivered")
        await system.daemon.call("accounts.stop", account="shop")
        for number in range(10):
            await ask(system, "send", to=str(away.jid), text=f"text {number}", wait=0)
        await system.daemon.call("accounts.start", account="shop")
        assert (await ask(system, "send", to=BOB, text="hello Bob"))["wa_id"]
        while (entries := await failed(system)) and len(entries) < 10:
            await asyncio.sleep(0.1)
        assert {entry["error_code"] for entry in entries} == {"not_in_group"}


async def failed(system: System) -> list[dict[str, Any]]:
    """What has failed."""
    found: list[dict[str, Any]] = (
        await system.daemon.call("outbox.list", account="shop", state="failed")
    )["entries"]
    return found


@pytest.mark.parametrize(
    "to", ["status@broadcast", "1234567@broadcast", "12036304@newsletter", "13135550002@bot"]
)
async def test_an_invalid_recipient_is_refused_at_once(tmp_path: Path, to: str) -> None:
    """Although the account is not connected; the reply has the reason."""
    async with a_system(tmp_path) as system:
        await system.daemon.call("accounts.add", name="shop", phone="+15550000001")
        done = await system.daemon.wadctl("send", "shop", to, "hello")
        assert done.returncode == NotSupported.exit_code, done
        assert "wad does not send to" in done.stderr
        assert (await system.daemon.call("outbox.list", account="shop"))["entries"] == []
