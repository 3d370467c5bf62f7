"""A protobuf of which no string field is read but by the readers of translate_base: for the test of that rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from wad.worker.translate import base, content


class ReadDirectly(BaseException):
    """A string field was read without the readers.  Not an Exception, since an item may raise those."""


class Guarded:
    """An object of a protobuf; everything that is reached through it is guarded as well."""

    def __init__(self, part: Any) -> None:
        object.__setattr__(self, "part", part)

    def __getattr__(self, name: str) -> Any:
        if name == "ListFields":
            return self._list_fields
        field = self.part.DESCRIPTOR.fields_by_name.get(name)
        found = getattr(self.part, name)
        if field is None:
            return found
        if field.type == field.TYPE_STRING:
            raise ReadDirectly(f"{self.part.DESCRIPTOR.full_name}.{name}")
        return _guarded(found) if field.message_type is not None else found

    def _list_fields(self) -> list[tuple[Any, Any]]:
        """The fields that are there; their values are not to be used."""
        return [(field, None) for field, _ in self.part.ListFields()]


class _GuardedList:
    def __init__(self, parts: Any) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Guarded]:
        return map(Guarded, self.parts)


def _guarded(found: Any) -> Any:
    return Guarded(found) if hasattr(found, "DESCRIPTOR") else _GuardedList(found)


def guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only the readers access guarded objects."""
    read = base.raw_text

    def raw_text(part: Any, field: str) -> Any:
        return read(part.part if isinstance(part, Guarded) else part, field)

    monkeypatch.setattr(base, "raw_text", raw_text)
    # It copies the message, and reads no field of it.
    monkeypatch.setattr(content, "_has_more", lambda body: False)
