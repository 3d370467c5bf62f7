"""Bounded reading of values in a JSON file: whatever the content, the only error is BadInput, which names the value."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

import msgspec

from wad.core.decoding import decoding
from wad.core.errors import BadInput, InvalidData

KEY: Final = 32
"""Bytes of a Curve25519 key, a root key, a chain key."""
SIGNATURE: Final = 64
_CURVE: Final = b"\x05"
"""The type byte before a sent or signed public key (docs/internals/whatsapp-protocol.md#keys-and-signatures)."""
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Value:
    """A value, its file, and its path in the file."""

    raw: object
    file: str
    path: str = ""

    @staticmethod
    def parse(file: str, data: bytes) -> Value:
        """The whole content of a file.  Raises BadInput."""
        try:
            with decoding("its content"):
                return Value(msgspec.json.decode(data), file)
        except InvalidData as error:
            raise BadInput(
                f"{file} is not valid JSON ({error})" if data else f"{file} is empty",
                hint="it was truncated or overwritten; restore it from a backup of the other backend",
            ) from error

    def wrong(self, what: str) -> NoReturn:
        """Raise BadInput: this is not `what`; the value itself may be a secret and is not shown."""
        location = f"{self.file}: {self.path}" if self.path else self.file
        raise BadInput(
            f"{location} is not {what}",
            hint="is this a session directory of Baileys (useMultiFileAuthState)?",
        )

    @property
    def missing(self) -> bool:
        """Whether the value is missing or null."""
        return self.raw is None

    def get(self, name: str) -> Value:
        """A field of an object; a missing value if there is none.  Raises BadInput if this is not an object."""
        return Value(self._object().get(name), self.file, f"{self.path}.{name}".lstrip("."))

    def _object(self) -> Mapping[str, object]:
        if not isinstance(self.raw, dict):
            self.wrong("an object")
        return self.raw

    def items(self, most: int) -> list[tuple[str, Value]]:
        """The fields of an object.  Raises BadInput, also for more than `most`."""
        fields = self._object()
        if len(fields) > most:
            self.wrong(f"an object of at most {most} fields")
        # The names are keys of secrets: a path shows their index.
        named = enumerate(fields.items())
        return [(name, Value(raw, self.file, f"{self.path}[{n}]")) for n, (name, raw) in named]

    def elements(self, most: int) -> list[Value]:
        """The elements of a list; none if it is missing.  Raises BadInput, also for more than `most`."""
        if self.raw is None:
            return []
        if not isinstance(self.raw, list) or len(self.raw) > most:
            self.wrong(f"a list of at most {most}")
        return [Value(raw, self.file, f"{self.path}[{n}]") for n, raw in enumerate(self.raw)]

    def text(self, most: int = 256) -> str:
        """A text; empty if it is missing.  Raises BadInput."""
        if self.raw is None:
            return ""
        if not isinstance(self.raw, str) or len(self.raw) > most or "\0" in self.raw:
            self.wrong(f"a text of at most {most} characters")
        return self.raw

    def number(self, least: int, most: int) -> int:
        """An integer, also one written as text (protobuf's 64-bit numbers).  Raises BadInput."""
        raw = self.raw
        if isinstance(raw, str) and len(raw) < 20 and raw.isascii() and raw.isdecimal():
            raw = int(raw)
        if isinstance(raw, bool) or not isinstance(raw, int) or not least <= raw <= most:
            self.wrong(f"an integer from {least} to {most}")
        return raw

    def octets(self, size: int | None = None) -> bytes:
        """Bytes, in any of the four forms that Node writes.  Raises BadInput."""
        found = _octets(self.raw)
        if found is None or len(found) > _MOST_BYTES:
            self.wrong("bytes")
        if size is not None and len(found) != size:
            self.wrong(f"{size} bytes (it has {len(found)})")
        return found

    def public_key(self) -> bytes:
        """The 32 bytes of a public key, with or without its type byte.  Raises BadInput."""
        return self.public_key_of(self.octets())

    def public_key_of(self, found: bytes) -> bytes:
        """The same for bytes that were read from this value."""
        if len(found) == KEY + 1 and found.startswith(_CURVE):
            return found[1:]
        if len(found) != KEY:
            self.wrong(f"a public key (it has {len(found)} bytes)")
        return found


def typed(key: bytes) -> bytes:
    """A public key with its type byte, as libsignal writes it."""
    return _CURVE + key


def from_base64(text: str) -> bytes | None:
    """The bytes of a base64 text; None if it is invalid."""
    try:
        with decoding("a base64 text"):
            return base64.b64decode(text, validate=True)
    except InvalidData:
        return None


def _octets(raw: object) -> bytes | None:
    """Base64; {"type": "Buffer", "data": base64 or numbers}; {"0": 1, "1": 2, ...}, which a Uint8Array becomes."""
    match raw:
        case str():
            return from_base64(raw)
        case {"type": "Buffer", "data": str(text)}:
            return from_base64(text)
        case {"type": "Buffer", "data": [*numbers]}:
            return _of_numbers(numbers)
        case dict() if raw and list(raw) == [str(n) for n in range(len(raw))]:
            return _of_numbers(list(raw.values()))
    return None


def _of_numbers(numbers: list[object]) -> bytes | None:
    fit = [n for n in numbers if isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 256]
    return bytes(fit) if len(fit) == len(numbers) else None
