"""Text output for a reply without a renderer of its own, by its shape: a table, or a list of fields."""

from __future__ import annotations

from typing import Any

import msgspec

from wadctl.screen import Screen, plain


def by_shape(screen: Screen, reply: Any) -> str:
    """Any reply as text: a list of documents as a table, a document as a list of its fields."""
    shape = msgspec.to_builtins(reply)
    if isinstance(shape, list) and shape and all(isinstance(row, dict) for row in shape):
        heads = list(shape[0])
        rows = [[value_text(row.get(head)) for head in heads] for row in shape]
        return screen.table([head.upper() for head in heads], rows)
    if isinstance(shape, dict):
        return screen.fields([(name, value_text(value)) for name, value in shape.items()])
    return plain(value_text(shape)) if shape else ""


def value_text(value: Any) -> str:
    """One value as text: `-` for none."""
    if value in (None, "", [], (), {}):
        return "-"
    match value:
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(map(value_text, value))
        case dict():
            return ", ".join(f"{name} {value_text(inner)}" for name, inner in value.items())
    return str(value)
