"""A setting's value, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wad.config.declaration import Setting
from wad.config.wording import plain


@dataclass(frozen=True, slots=True)
class ValueOrigin:
    """A setting's value and where it came from.

    `source`: `default`, `file /etc/wad/wad.toml:12`, `environment PORT`, `credential admin-token` or `command line`.
    """

    setting: Setting = field(repr=False)
    value: Any = field(repr=False)
    source: str

    @property
    def shown(self) -> str:
        """The value for people: a secret only as `(set)` or `(not set)`, a URL without its password."""
        if self.setting.secret:
            return "(set)" if self.value else "(not set)"
        return plain(self.value)

    @property
    def json(self) -> str | int | float | bool:
        """`shown`, with numbers and truth values as they are."""
        return self.value if self.setting.kind in (int, float, bool) else self.shown

    @property
    def in_file(self) -> bool:
        """Whether the file has it."""
        return self.source.startswith("file ")

    @property
    def place(self) -> str:
        """How a message names the source: `/etc/wad/wad.toml:12`, or the source itself."""
        return self.source.removeprefix("file ")

    @property
    def sensitive(self) -> bool:
        """Whether the value is something that not everybody may read."""
        if self.setting.secret:
            return bool(self.value)
        return isinstance(self.value, str) and plain(self.value) != self.value
