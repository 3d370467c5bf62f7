"""`docs/images/wadctl.svg`: what `wadctl` shows of a small installation, as a picture of a terminal.

Everything is real but the installation: the operations answer from a daemon without anything behind it, whose clock
stands still, and `wadctl` renders their replies.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.text import Text

from tests.support.fake_daemon import OPERATOR, FakeDaemon
from wad.api.operations import daemon as about_daemon
from wad.api.operations import messages as about_messages
from wad.core.change import PutMessage
from wad.core.connection import State
from wad.core.content import Content, MediaContent, MessageKind
from wad.core.message import Message, MessageStatus
from wad.lib.procfs import Usage
from wad.store.sqlite.store import SqliteStore
from wadctl.render import render
from wadctl.screen import Screen

_NOW: Final = 1_772_446_500_000  # 2026-03-02 10:15 UTC
_MINUTE: Final = 60_000
_COLUMNS: Final = 100
_LINES: Final = 40
_ANA: Final = "15550000011@s.whatsapp.net"
_SHOP: Final = "acc-15550000001"
_FONT_FACE: Final = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


@dataclass(frozen=True)
class _Worker:
    """The process of an account, as a status shows it."""

    pid: int
    usage: Usage
    receipts: str = "after-store"
    confinement: None = None


def picture() -> str:
    """The picture, as SVG."""
    with TemporaryDirectory() as directory, _in_utc():
        shown = asyncio.run(_session(Path(directory)))
    # All that rich would otherwise take from the environment.
    console = Console(
        record=True, file=StringIO(), width=_COLUMNS, height=_LINES, force_terminal=True, no_color=False,
        color_system="standard", legacy_windows=False,
    )  # fmt: skip
    console.print(Text.from_ansi(shown))
    # No font is fetched from the network for a picture; the reader's own monospaced one will do.
    return _FONT_FACE.sub("", console.export_svg(title="wadctl", unique_id="wadctl"))


async def _session(directory: Path) -> str:
    daemon = _installation()
    daemon.store = await SqliteStore.open(directory / "wad.db")
    try:
        await daemon.store.record(_SHOP, [PutMessage(message) for message in _conversation()])
        status = await about_daemon.status(daemon, about_daemon.NoParams(), OPERATOR)
        status = msgspec.structs.replace(status, pid=1207)
        asked = about_messages.Messages(account="shop", chat="+15550000011")
        messages = await about_messages.messages(daemon, asked)
    finally:
        await daemon.store.close()
    screen = Screen(terminal=True, width=_COLUMNS, height=_LINES, colour=True)
    parts = [
        ("wadctl status", render("status", screen, msgspec.to_builtins(status))),
        (
            "wadctl messages shop +15550000011",
            render("messages.list", screen, msgspec.to_builtins(messages)),
        ),
    ]
    return "\n\n".join(f"{screen.paint('$', 'bold')} {command}\n{text}" for command, text in parts)


def _installation() -> Any:
    daemon: Any = FakeDaemon()
    daemon.clock.wall = _NOW
    daemon.uptime = 3 * 86_400 + 7_200.0
    daemon.loaded.config.instance.id = "box-1"
    daemon.loaded.config.engine.kind = "neonize"
    daemon.leader.holder, daemon.leader.valid = "box-1", 13.2
    daemon.accounts.engine.receipts = "after-store"
    for number, name in enumerate(("shop", "support", "depot"), 1):
        account = daemon.accounts.have(f"acc-1555000000{number}", name)
        account.card.phone = f"+1555000000{number}"
        account.worker = _Worker(1210 + number, Usage(47_000_000 + number * 900_000, 6.1 * number))
        account.become(State.CONNECTED, "logged in")
    daemon.accounts.find("depot").become(State.RECONNECTING, "no route to host")
    daemon.clock.now += 95
    return daemon


def _conversation() -> Iterator[Message]:
    yield _message(1, "Good morning! Is the blue one still there?")
    yield _message(2, "Yes, the last one.", MessageStatus.READ)
    photo = MediaContent(mimetype="image/jpeg", filename="", size=184_320)
    yield _message(3, "This one?", content=Content(MessageKind.IMAGE, "This one?", media=photo))
    yield _message(4, "That one. Shall I keep it for you until six?", MessageStatus.DELIVERED)
    yield _message(5, "Yes please, I will be there at five.")


def _message(
    number: int, text: str, sent: MessageStatus | None = None, content: Content | None = None
) -> Message:
    return Message(
        id=f"{number:024x}", account=_SHOP, thread=f"{_SHOP}__{_ANA}", chat=_ANA, sender="" if sent else _ANA,
        from_me=sent is not None, at_ms=_NOW - (6 - number) * _MINUTE, wa_id=f"3EB0{number:016X}",
        content=content or Content(MessageKind.TEXT, text), status=sent or MessageStatus.DELIVERED,
        push_name="" if sent else "Ana", stable_key=f"{number:040x}", fingerprint=f"{number:040x}",
    )  # fmt: skip


@contextmanager
def _in_utc() -> Iterator[None]:
    """`wadctl` shows local times."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()
