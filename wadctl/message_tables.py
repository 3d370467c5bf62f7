"""Text output for threads, messages and the outbox."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from wad.api.views.message import (
    MediaView,
    MessagePage,
    MessageShown,
    MessageView,
    ReplyView,
    ThreadPage,
)
from wad.api.views.outbox import EntryPage, EntryView, SendReply
from wadctl.screen import Screen, local, plain, short_id

_PLAIN: Final = ("text", "location", "contact")  # kinds that their text describes fully
_NAMED: Final = 5  # ids that are listed under a page
_UNITS: Final = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


def line(message: MessageView) -> str:
    """A message in one line: `re "lunch?": yes (edited) [+2 !]`."""
    parts = [_reply(message.reply_to), _kind(message), message.text, _changes(message)]
    return " ".join(filter(None, parts))


def _kind(message: MessageView) -> str:
    """The kind of the message, where the text alone does not show it."""
    kind, media, call = message.kind, message.media, message.call
    if kind == "revoke":
        return "[deleted]"
    if call:
        return f"[{'video ' if call.video else ''}call: {call.outcome}]"
    if media:
        return f"[{', '.join(_media(kind, media))}]"
    if kind in _PLAIN and message.text:
        return ""
    return f"[{kind}: {message.detail}]" if message.detail else f"[{kind}]"


def _media(kind: str, media: MediaView) -> list[str]:
    facts = ["voice" if media.voice else kind]
    if media.filename:
        facts.append(media.filename)
    if media.seconds:
        facts.append(f"{media.seconds} s")
    if media.size:
        facts.append(_size(media.size))
    return facts


def _size(size: int) -> str:
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.0f} {name}"
    return f"{size} B"


def _reply(reply: ReplyView | None) -> str:
    if not reply:
        return ""
    return f're "{reply.text}":' if reply.text else "re:"


def _changes(message: MessageView) -> str:
    """Edits, reactions and votes."""
    marks = []
    if message.edited_ms and not message.revoked_ms:
        marks.append("(edited)")
    signs = Counter(reaction.text for reaction in message.reactions)
    if signs:
        counted = (f"{sign} {count}" if count > 1 else sign for sign, count in signs.items())
        marks.append(f"[{', '.join(counted)}]")
    if message.votes:
        marks.append(f"[votes: {len(message.votes)}]")
    return " ".join(marks)


# --- pages ----------------------------------------------------------------------------------------


def threads(screen: Screen, page: ThreadPage) -> str:
    """A page of threads as a table."""
    heads = ["THREAD", "NAME", "LAST", "UNREAD", "MESSAGES", "TEXT"]
    rows = [
        [
            thread.id,
            thread.name or "-",
            local(thread.last_ms or None) or "-",
            str(thread.unread),
            str(thread.messages),
            ("you: " if thread.last_from_me else "") + thread.last_text,
        ]
        for thread in page.threads
    ]
    drop = ("MESSAGES", "TEXT", "LAST", "NAME")
    text = screen.table(heads, rows, drop=drop) if rows else "no conversations yet"
    return _page(text, page.next)


def messages(screen: Screen, page: MessagePage) -> str:
    """A page of a thread's messages as a table."""
    heads = ["TIME", "ID", "FROM", "STATE", "TEXT"]
    idents = [message.id for message in page.messages]
    rows = [
        [
            local(message.at_ms),
            short_id(screen, message.id, idents),
            "you" if message.direction == "outbound" else message.name or message.sender,
            _state(message),
            line(message),
        ]
        for message in page.messages
    ]
    cut = [message.id for message in page.messages if message.cut]
    text = screen.table(heads, rows, drop=("STATE", "TIME")) if rows else "no messages"
    if cut:
        commands = [f"wadctl message {ident}" for ident in cut[:_NAMED]]
        text += "\n".join(["", "shown in full by:", *commands])
        text += f"\n... and {len(cut) - _NAMED} more" if len(cut) > _NAMED else ""
    return _page(text, page.next)


def _state(message: MessageView) -> str:
    """The status for people: a message of somebody else was received, whatever the store calls it."""
    incoming = message.direction == "inbound" and message.status == "delivered"
    return "received" if incoming else message.status


def message(screen: Screen, reply: MessageShown) -> str:
    """One message in full."""
    found = reply.message
    sender = "you" if found.direction == "outbound" else found.name or found.sender
    facts = {
        "time": local(found.at_ms),
        "from": sender,
        "thread": found.thread,
        "id": f"{found.id} ({found.wa_id or 'not sent yet'})",
        "state": _state(found),
        "content": line(msgspec.structs.replace(found, text="")),
        "pinned": f"until {local(found.pinned_until_ms)}" if found.pinned_until_ms else "",
        "kept": "yes, it does not disappear from the phones" if found.kept else "",
    }
    lines = [f"{name:<9}{plain(value)}" for name, value in facts.items() if value]
    lines += ["", *map(plain, found.text.split("\n"))] if found.text else []
    for version in found.earlier:
        lines += ["", f"earlier version, from {local(version.at_ms)}:"]
        lines += map(plain, version.text.split("\n"))
    if found.cut:
        lines += ["", f"shortened: {', '.join(found.cut)}"]
    if reply.next is not None:
        lines.append(f"more: --at {reply.next}")
    return "\n".join(lines)


def entries(screen: Screen, page: EntryPage) -> str:
    """A page of the outbox as a table."""
    heads = ["ID", "ACCOUNT", "TO", "STATE", "TRIES", "QUEUED", "TEXT", "ERROR"]
    idents = [entry.id for entry in page.entries]
    rows = [
        [
            short_id(screen, entry.id, idents),
            entry.account,
            entry.to,
            entry.state,
            str(entry.attempts),
            local(entry.created_ms),
            _text(entry),
            entry.error or "-",
        ]
        for entry in page.entries
    ]
    if not rows:
        return _page("the outbox is empty", page.next)
    if screen.fits(heads, rows):
        return _page(screen.table(heads, rows), page.next)
    # On a narrow terminal the whole error is below its entry.
    first, *lines = screen.table(
        heads[:-1], [row[:-1] for row in rows], drop=("TRIES", "QUEUED", "ACCOUNT", "TEXT")
    ).split("\n")
    text = [first]
    for entry, row in zip(page.entries, lines, strict=True):
        text.append(row)
        if entry.error:
            text += screen.paragraph("error:", "dim", entry.error, "  ")
    return _page("\n".join(text), page.next)


def _text(entry: EntryView) -> str:
    kind, text = entry.kind, entry.text
    return text if kind == "text" else f"[{kind}] {text}".rstrip()


def _page(text: str, next_page: str) -> str:
    return f"{text}\nmore: --before {next_page}" if next_page else text


def entry(screen: Screen, found: EntryView) -> str:
    """One outbox entry in full."""
    pairs = [
        ("id", found.id),
        ("account", found.account),
        ("to", found.to),
        ("state", found.state),
        ("attempts", str(found.attempts)),
        ("queued", local(found.created_ms)),
        ("sent", local(found.sent_ms) or "-"),
        ("WhatsApp id", found.wa_id or "-"),
        ("client id", found.client_id or "-"),
        ("error", found.error or "-"),
        ("text", _text(found)),
    ]
    return screen.fields(pairs)


def entry_line(screen: Screen, entry: EntryView) -> str:
    """An outbox entry in one line."""
    error = f" ({plain(entry.error)})" if entry.error else ""
    return f"{entry.id}: {screen.state(entry.state)}{error}"


def sent(screen: Screen, reply: SendReply) -> str:
    """A queued message in one line."""
    known = " (already queued: same client id)" if reply.duplicate else ""
    lines = [entry_line(screen, reply.message) + known]
    if reply.waiting and reply.message.state == "queued":
        lines += screen.paragraph("not sent yet:", "yellow", reply.waiting)
        if reply.action:
            lines += screen.paragraph("what to do:", "dim", reply.action, "  ")
    return "\n".join(lines)
