"""The value of a setting, and its source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wad.config.declaration import Setting
from wad.config.wording import plain


@dataclass(frozen=True, slots=True)
class ValueOrigin:
    """The value of a setting, and its source.

    `source`: `default`, `file /etc/wad/wad.toml:12`, `environment PORT`, `credential admin-token` or `command line`.
    """

    setting: Setting = field(repr=False)
    value: Any = field(repr=False)
    source: str

    @property
    def shown(self) -> str:
        """The value for display: a secret only as `(set)` or `(not set)`, a URL without its password."""
        if self.setting.secret:
            return "(set)" if self.value else "(not set)"
        return plain(self.value)

    @property
    def json(self) -> str | int | float | bool:
        """`shown`, but numbers and booleans in their own types."""
        return self.value if self.setting.kind in (int, float, bool) else self.shown

    @property
    def in_file(self) -> bool:
        """Whether it was set in the file."""
        return self.source.startswith("file ")

    @property
    def place(self) -> str:
        """The source as messages name it: `/etc/wad/wad.toml:12`, or the source itself."""
        return self.source.removeprefix("file ")

    @property
    def sensitive(self) -> bool:
        """Whether the value is confidential."""
        if self.setting.secret:
            return bool(self.value)
        return isinstance(self.value, str) and plain(self.value) != self.value
