"""The operation that shows the configuration of the running daemon."""

from __future__ import annotations

import msgspec

from wad.api.context import Context
from wad.api.operation import Access, operation
from wad.api.operations.daemon import NoParams


class SettingView(msgspec.Struct, frozen=True):
    """One setting; the `value` of a secret is only whether it is set, `source` is as in `wad config show`."""

    key: str
    value: str | int | float | bool
    source: str


@operation("config", access=Access.READ, command="config")
async def config(context: Context, request: NoParams) -> list[SettingView]:
    """Show the settings of the running daemon and the source of each."""
    origins = context.loaded.origins
    return [SettingView(key, origin.json, origin.source) for key, origin in origins.items()]
