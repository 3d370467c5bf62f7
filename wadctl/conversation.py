"""One line for one message: what it says, what it is, and what has become of it."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

_PLAIN: Final = ("text", "location", "contact")  # their text says it all
_UNITS: Final = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


def line(message: Any) -> str:
    """A message in one line: `re "lunch?": yes (edited) [+2 !]`."""
    parts = [_reply(message["reply_to"]), _what(message), message["text"], _since(message)]
    return " ".join(filter(None, parts))


def _what(message: Any) -> str:
    """The kind, where the text alone does not say it."""
    kind, media, call = message["kind"], message["media"], message["call"]
    if kind == "revoke":
        return "[deleted]"
    if call:
        return f"[{'video ' if call['video'] else ''}call: {call['outcome']}]"
    if media:
        return f"[{', '.join(_media(kind, media))}]"
    if kind in _PLAIN and message["text"]:
        return ""
    return f"[{kind}: {message['detail']}]" if message["detail"] else f"[{kind}]"


def _media(kind: str, media: Any) -> list[str]:
    facts = ["voice" if media["voice"] else kind]
    if media["filename"]:
        facts.append(media["filename"])
    if media["seconds"]:
        facts.append(f"{media['seconds']} s")
    if media["size"]:
        facts.append(_size(media["size"]))
    return facts


def _size(size: int) -> str:
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.0f} {name}"
    return f"{size} B"


def _reply(reply: Any) -> str:
    if not reply:
        return ""
    return f're "{reply["text"]}":' if reply["text"] else "re:"


def _since(message: Any) -> str:
    """Edits, reactions and votes."""
    marks = []
    if message["edited_ms"] and not message["revoked_ms"]:
        marks.append("(edited)")
    signs = Counter(reaction["text"] for reaction in message["reactions"])
    if signs:
        told = (f"{sign} {count}" if count > 1 else sign for sign, count in signs.items())
        marks.append(f"[{', '.join(told)}]")
    if message["votes"]:
        marks.append(f"[votes: {len(message['votes'])}]")
    return " ".join(marks)
