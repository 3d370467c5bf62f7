"""The configuration that the running daemon goes by."""

from __future__ import annotations

import msgspec

from wad.api.context import Context
from wad.api.operation import Access, operation
from wad.api.operations.daemon import NoParams


class SettingView(msgspec.Struct, frozen=True):
    """One setting; `value` of a secret is only whether it is set, `source` as `wad config show` tells it."""

    key: str
    value: str | int | float | bool
    source: str


@operation("config", access=Access.READ, command="config")
async def config(context: Context, request: NoParams) -> list[SettingView]:
    """Show the settings that the running daemon goes by, and where each came from."""
    origins = context.loaded.origins
    return [SettingView(key, origin.json, origin.source) for key, origin in origins.items()]
