"""The values of a text in replies, for the description of the HTTP API (`/openapi.json`).

In a reply such a field is a plain text, which wadctl shows whatever it is: a newer daemon may have further values.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Meta


def values(*kinds: type[StrEnum] | str) -> Meta:
    """The metadata of a text that has one of these values, or one of the values of these enums."""
    found: list[str] = []
    for kind in kinds:
        found += [kind] if isinstance(kind, str) else [str(one) for one in kind]
    return Meta(extra_json_schema={"enum": list(dict.fromkeys(found))})
