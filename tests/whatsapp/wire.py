"""WhatsApp's binary XML: one stanza is a Node.

Encoding uses no dictionary tokens (plain strings are legal everywhere); decoding needs the
dictionary, because clients compress with it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.whatsapp.golib import facts, library_path

LIST_EMPTY, DICTIONARY_0, AD_JID, LIST_8, LIST_16 = 0, 236, 247, 248, 249
JID_PAIR, HEX_8, BINARY_8, BINARY_20, BINARY_32, NIBBLE_8 = 250, 251, 252, 253, 254, 255
_DOMAINS = {"s.whatsapp.net": 0, "lid": 1, "hosted": 128, "hosted.lid": 129}
_SERVERS = {number: name for name, number in _DOMAINS.items()}


class Jid(NamedTuple):
    """An address: user, server and (for one device of a user) the device number."""

    user: str
    server: str = "s.whatsapp.net"
    device: int = 0

    def __str__(self) -> str:
        device = f":{self.device}" if self.device else ""
        return f"{self.user}{device}@{self.server}" if self.user else self.server

    def bare(self) -> Jid:
        """Without the device."""
        return self._replace(device=0)


SERVER = Jid("")
Value = str | int | Jid | None


@dataclass
class Node:
    """One element: tag, attributes, and either children or bytes."""

    tag: str
    attrs: dict[str, str | Jid] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    data: bytes | None = None

    def child(self, *path: str) -> Node | None:
        """The first descendant along a path of tags."""
        node: Node | None = self
        for tag in path:
            node = next((c for c in node.children if c.tag == tag), None) if node else None
        return node

    def bytes(self, *path: str) -> bytes:
        """The data of a descendant that must be there."""
        child = self.child(*path)
        if child is None or child.data is None:
            raise ValueError(f"<{self.tag}> has no data at {path}")
        return child.data

    def get(self, name: str) -> str:
        """An attribute as a string, "" if absent."""
        return str(self.attrs.get(name, ""))

    def jid(self, name: str) -> Jid:
        """An attribute that must be an address."""
        value = self.attrs[name]
        if not isinstance(value, Jid):
            raise TypeError(f"{name}={value!r} of <{self.tag}> is no address")
        return value

    def __str__(self) -> str:
        attrs = "".join(f' {k}="{v}"' for k, v in self.attrs.items())
        if self.data is not None:
            shown = self.data.hex() if len(self.data) <= 40 else f"({len(self.data)} bytes)"
            return f"<{self.tag}{attrs}>{shown}</{self.tag}>"
        if not self.children:
            return f"<{self.tag}{attrs}/>"
        shown = "".join(map(str, self.children[:6])) + ("..." if len(self.children) > 6 else "")
        return f"<{self.tag}{attrs}>{shown}</{self.tag}>"


def node(tag: str, *content: Node | bytes, **attrs: Value) -> Node:
    """Build a node.  `type_="x"` and `from_=jid` give attributes named like keywords."""
    given: dict[str, str | Jid] = {}
    for name, value in attrs.items():
        if value is not None:
            key = name.removesuffix("_")
            given[key] = value if isinstance(value, Jid) else str(value)
    children = [c for c in content if isinstance(c, Node)]
    data = next((c for c in content if isinstance(c, bytes)), None)
    return Node(tag, given, children, data)


# --- encoding ---------------------------------------------------------------------------


def _raw(data: bytes) -> bytes:
    if len(data) < 256:
        return bytes([BINARY_8, len(data)]) + data
    if len(data) < 1 << 20:
        return bytes([BINARY_20]) + len(data).to_bytes(3, "big") + data
    return bytes([BINARY_32]) + len(data).to_bytes(4, "big") + data


def _list(size: int) -> bytes:
    if size < 256:
        return bytes([LIST_8, size])
    return bytes([LIST_16]) + size.to_bytes(2, "big")


def _value(value: str | Jid) -> bytes:
    if isinstance(value, str):
        return _raw(value.encode())
    if value.device:
        return bytes([AD_JID, _DOMAINS[value.server], value.device]) + _raw(value.user.encode())
    user = _raw(value.user.encode()) if value.user else bytes([LIST_EMPTY])
    return bytes([JID_PAIR]) + user + _raw(value.server.encode())


def _encode(item: Node) -> bytes:
    has_content = item.data is not None or bool(item.children)
    out = _list(1 + 2 * len(item.attrs) + has_content) + _raw(item.tag.encode())
    for name, value in item.attrs.items():
        out += _raw(name.encode()) + _value(value)
    if item.data is not None:
        out += _raw(item.data)
    elif item.children:
        out += _list(len(item.children)) + b"".join(map(_encode, item.children))
    return out


def encode(item: Node) -> bytes:
    """One frame's plaintext; the leading zero says "not compressed"."""
    return b"\0" + _encode(item)


# --- decoding ---------------------------------------------------------------------------


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.tokens = facts(library_path())

    def take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def list_size(self, tag: int) -> int:
        return {LIST_EMPTY: 0, LIST_8: 1, LIST_16: 2}[tag] and self.number(tag - LIST_8 + 1)

    def packed(self, alphabet: str) -> str:
        head = self.number(1)
        digits = self.take(head & 0x7F).hex()
        text = "".join(alphabet[int(d, 16)] for d in digits)
        return text[:-1] if head & 0x80 else text

    def item(self) -> str | bytes | Jid | list[Node]:
        tag = self.number(1)
        match tag:
            case 0:
                return ""
            case 248 | 249:
                return [self.node() for _ in range(self.list_size(tag))]
            case 252:
                return self.take(self.number(1))
            case 253:
                return self.take(self.number(3) & 0xFFFFF)
            case 254:
                return self.take(self.number(4))
            case 236 | 237 | 238 | 239:
                return self.tokens.double_tokens[tag - DICTIONARY_0][self.number(1)]
            case 250:
                user, server = self.text(), self.text()
                return Jid(str(user), str(server))
            case 247:
                domain, device = self.take(2)
                return Jid(str(self.text()), _SERVERS.get(domain, "s.whatsapp.net"), device)
            case 255:
                return self.packed("0123456789-.???\0")
            case 251:
                return self.packed("0123456789ABCDEF")
        return self.tokens.single_tokens[tag]

    def text(self) -> str | Jid:
        item = self.item()
        assert not isinstance(item, list)
        return item.decode() if isinstance(item, bytes) else item

    def node(self) -> Node:
        size = self.list_size(self.number(1))
        result = Node(str(self.text()))
        for _ in range((size - 1) // 2):
            name = str(self.text())
            result.attrs[name] = self.text()
        if size % 2 == 0:
            content = self.item()
            if isinstance(content, list):
                result.children = content
            else:
                result.data = content if isinstance(content, bytes) else str(content).encode()
        return result


def decode(frame: bytes) -> Node:
    """Parse one frame's plaintext."""
    return _Reader(zlib.decompress(frame[1:]) if frame[0] & 2 else frame[1:]).node()
