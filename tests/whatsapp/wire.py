"""WhatsApp's binary XML: one stanza is a Node.

Encoding uses no dictionary tokens (plain strings are legal everywhere); decoding needs the dictionary, because clients
compress with it.  Byte layouts: docs/internals/whatsapp-protocol.md#stanzas.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from tests.whatsapp.golib import facts, library_path

LIST_EMPTY, DICTIONARY_0, AD_JID, LIST_8, LIST_16 = 0, 236, 247, 248, 249
JID_PAIR, HEX_8, BINARY_8, BINARY_20, BINARY_32, NIBBLE_8 = 250, 251, 252, 253, 254, 255
_COMPRESSED = 2
_NIBBLES, _HEX = "0123456789-.???\0", "0123456789ABCDEF"
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
        return Jid(self.user, self.server)

    def of_device(self, device: int) -> Jid:
        """The address of one device."""
        return Jid(self.user, self.server, device)


SERVER = Jid("")
STATUS = Jid("status", "broadcast")
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
        found: Node | None = self
        for tag in path:
            found = next((c for c in found.children if c.tag == tag), None) if found else None
        return found

    def content(self, *path: str) -> bytes:
        """The bytes of a descendant that must be there.  Raises ValueError."""
        child = self.child(*path)
        if child is None or child.data is None:
            raise ValueError(f"<{self.tag}> has no bytes at {path}")
        return child.data

    def get(self, name: str) -> str:
        """An attribute as a string, "" if absent."""
        return str(self.attrs.get(name, ""))

    def jid(self, name: str) -> Jid:
        """An attribute that must be an address.  Raises ValueError."""
        match self.attrs.get(name):
            case Jid() as value:
                return value
        raise ValueError(f"{name}={self.get(name)!r} of <{self.tag}> is not an address")

    def with_attrs(self, **attrs: str | Jid) -> Node:
        """The same with further attributes."""
        return Node(self.tag, {**self.attrs, **attrs}, self.children, self.data)

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
    """Build a node.  `type_="x"` and `from_=jid` give attributes named like keywords; None leaves one out."""
    made = Node(tag)
    for name, value in attrs.items():
        if value is not None:
            made.attrs[name.removesuffix("_")] = value if isinstance(value, Jid) else str(value)
    for item in content:
        if isinstance(item, bytes):
            made.data = item
        else:
            made.children.append(item)
    return made


# --- encoding ---------------------------------------------------------------------------------


def as_bytes(text: str) -> bytes:
    """A text as it is sent, which may have any bytes: one that is not UTF-8 is written as a lone surrogate."""
    return text.encode(errors="surrogateescape")


def _raw(data: bytes) -> bytes:
    size = len(data)
    if size < 256:
        return bytes((BINARY_8, size)) + data
    if size < 1 << 20:
        return bytes((BINARY_20,)) + size.to_bytes(3, "big") + data
    return bytes((BINARY_32,)) + size.to_bytes(4, "big") + data


@lru_cache(4096)
def _name(name: str) -> bytes:
    """Tags and names of attributes: few, and always the same."""
    return _raw(name.encode())


def _list(size: int) -> bytes:
    return bytes((LIST_8, size)) if size < 256 else bytes((LIST_16,)) + size.to_bytes(2, "big")


@lru_cache(4096)
def _jid(value: Jid) -> bytes:
    if value.device:
        return bytes((AD_JID, _DOMAINS[value.server], value.device)) + _raw(as_bytes(value.user))
    user = _raw(as_bytes(value.user)) if value.user else bytes((LIST_EMPTY,))
    return bytes((JID_PAIR,)) + user + _raw(value.server.encode())


def _encode(item: Node, out: bytearray) -> None:
    has_content = item.data is not None or bool(item.children)
    out += _list(1 + 2 * len(item.attrs) + has_content)
    out += _name(item.tag)
    for name, value in item.attrs.items():
        out += _name(name)
        out += _jid(value) if isinstance(value, Jid) else _raw(as_bytes(value))
    if item.data is not None:
        out += _raw(item.data)
    elif item.children:
        out += _list(len(item.children))
        for child in item.children:
            _encode(child, out)


def encode(item: Node) -> bytes:
    """One frame's plaintext; the leading zero says "not compressed"."""
    out = bytearray(1)
    _encode(item, out)
    return bytes(out)


# --- decoding ---------------------------------------------------------------------------------


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.tokens = facts(library_path())

    def take(self, size: int) -> bytes:
        taken = self.data[self.at : self.at + size]
        if len(taken) < size:
            raise ValueError("the stanza ends early")
        self.at += size
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def list_size(self, tag: int) -> int:
        match tag:
            case 0:
                return 0
            case 248:
                return self.number(1)
            case 249:
                return self.number(2)
        raise ValueError(f"{tag} is not a list")

    def packed(self, alphabet: str) -> str:
        head = self.number(1)
        text = "".join(alphabet[int(digit, 16)] for digit in self.take(head & 0x7F).hex())
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
                return self.token(self.tokens.double_tokens[tag - DICTIONARY_0], self.number(1))
            case 250:
                user, server = self.text(), self.text()
                return Jid(str(user), str(server))
            case 247:
                domain, device = self.take(2)
                return Jid(str(self.text()), _SERVERS.get(domain, "s.whatsapp.net"), device)
            case 255:
                return self.packed(_NIBBLES)
            case 251:
                return self.packed(_HEX)
        return self.token(self.tokens.single_tokens, tag)

    def token(self, table: tuple[str, ...], index: int) -> str:
        if index >= len(table):
            raise ValueError(f"token {index} is not in the dictionary")
        return table[index]

    def text(self) -> str | Jid:
        match self.item():
            case bytes(text):
                return text.decode(errors="surrogateescape")  # as `as_bytes` writes it
            case str() | Jid() as text:
                return text
        raise ValueError("a list where a text belongs")

    def node(self) -> Node:
        size = self.list_size(self.number(1))
        if size == 0:
            raise ValueError("a stanza without a tag")
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
    """Parse one frame's plaintext.  Raises ValueError for an invalid stanza."""
    if not frame:
        raise ValueError("an empty frame")
    try:
        plain = zlib.decompress(frame[1:]) if frame[0] & _COMPRESSED else frame[1:]
    except zlib.error as error:
        raise ValueError(f"a damaged compressed frame: {error}") from error
    reader = _Reader(plain)
    result = reader.node()
    if reader.at != len(plain):
        raise ValueError("more bytes than one stanza")
    return result
