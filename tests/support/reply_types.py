"""Compares replies over HTTP with the types that their operations declare, key by key."""

from __future__ import annotations

import re
import types
from typing import Any, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

import msgspec

from wad.api.operation import find
from wad.http.openapi import rows
from wad.http.probes import PROBES


def check_reply(method: str, path: str, document: Any) -> None:
    """Assert that a successful reply has the declared keys, no others, and values of the declared types."""
    kind = _kind_of(method, path.partition("?")[0])
    msgspec.convert(document, kind, strict=True)
    found = differences(document, kind)
    assert not found, found


def _kind_of(method: str, path: str) -> Any:
    """The type of the reply of a route."""
    if path in PROBES:
        return find(PROBES[path]).reply
    for operation, route in rows():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(route.path))
        if route.method == method and re.fullmatch(pattern, path):
            return operation.reply
    raise AssertionError(f"no route {method} {path}")


def differences(document: Any, kind: Any, where: str = "reply") -> list[str]:
    """The keys that are missing or not declared, at any depth."""
    if is_typeddict(kind):
        if not isinstance(document, dict):
            return [f"{where}: not a document"]
        hints = get_type_hints(kind)
        # Not `__required_keys__`: it does not see what is in the text of an annotation.
        extras = get_type_hints(kind, include_extras=True)
        required = {key for key, hint in extras.items() if get_origin(hint) is not NotRequired}
        found = [f"{where}.{key}: missing" for key in required - document.keys()]
        found += [f"{where}.{key}: not declared" for key in document.keys() - hints.keys()]
        for key in document.keys() & hints.keys():
            found += differences(document[key], hints[key], f"{where}.{key}")
        return found
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return [
            text
            for number, one in enumerate(document)
            for text in differences(one, item, f"{where}[{number}]")
        ]
    if get_origin(kind) in (Union, types.UnionType):
        if document is None:
            return []
        (other,) = [one for one in get_args(kind) if one is not type(None)]
        return differences(document, other, where)
    return []
