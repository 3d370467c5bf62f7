"""What a declaration is made of, and the table made of the declarations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, get_type_hints

if TYPE_CHECKING:
    from wad.config.origin import ValueOrigin


@dataclass(frozen=True, slots=True)
class ValueCheck:
    """What a value must be, beyond its type; `text` completes the sentence "it must be ..."."""

    text: str
    holds: Callable[[Any], bool]


def between(low: int, high: int) -> ValueCheck:
    """A number from `low` to `high`, both included."""
    return ValueCheck(f"from {low} to {high}", lambda value: low <= value <= high)


def one_of(*choices: str) -> ValueCheck:
    """One of these words."""
    text = f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    return ValueCheck(text, lambda value: value in choices)


def like(pattern: str, text: str) -> ValueCheck:
    """All of the value matches `pattern`."""
    return ValueCheck(text, lambda value: re.fullmatch(pattern, value, re.ASCII) is not None)


SECONDS: Final = ValueCheck("more than 0 and at most 86400", lambda value: 0 < value <= 86400)


@dataclass(frozen=True, slots=True)
class Derived:
    """A default that follows from settings declared before, where a `{key}` cannot say it.

    `usual` is what it is as long as these have their defaults; `rule` gets all that is known by then, by key.
    """

    usual: object
    rule: Callable[[Mapping[str, ValueOrigin]], object]


def setting(
    default: object,
    doc: str,
    *,
    env: tuple[str, ...] = (),
    credential: str = "",
    secret: bool = False,
    has_password: bool = False,
    reload: bool = False,
    check: ValueCheck | None = None,
) -> Any:
    """Declare one setting, as a field of its section.

    `default` may hold `{key}` of a setting declared before, and `{hostname}`, or be Derived; then `doc` tells the rule.
    `env` are names accepted besides `WAD_SECTION_NAME`.  `credential` is the systemd credential's name.  `secret`:
    never shown; `has_password`: a URL, shown without its password; neither is in a `repr`.  `reload`: SIGHUP applies
    a new value.
    """
    metadata = {
        "default": default,
        "doc": doc,
        "env": env,
        "credential": credential,
        "secret": secret,
        "reload": reload,
        "check": check,
    }
    return field(metadata=metadata, repr=not (secret or has_password))


@dataclass(frozen=True, slots=True)
class Relation:
    """What several settings must satisfy together; `text` completes the sentence "KEY must be ..."."""

    key: str
    others: tuple[str, ...]
    text: str
    holds: Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.  `key` is `section.name`; `kind` one of str, int, float, bool, Path."""

    key: str
    kind: type
    default: Any
    doc: str
    env: tuple[str, ...]
    credential: str
    secret: bool
    reload: bool
    check: ValueCheck | None

    @property
    def usual(self) -> Any:
        """The default while nothing is set; it may hold `{key}`."""
        return self.default.usual if isinstance(self.default, Derived) else self.default

    @property
    def is_template(self) -> bool:
        """Whether `usual` holds a `{key}`."""
        return "{" in str(self.usual)


def rows(sections: Mapping[str, type]) -> Iterator[Setting]:
    """The settings that the sections declare, in the order of their declarations."""
    for section, declared in sections.items():
        kinds = get_type_hints(declared)
        for each in fields(declared):
            own = f"WAD_{section}_{each.name}".upper()
            row = {**each.metadata, "env": (own, *each.metadata["env"])}
            yield Setting(key=f"{section}.{each.name}", kind=kinds[each.name], **row)


def filled(template: str, known: Mapping[str, str]) -> str:
    """A default with its `{key}` replaced."""
    return re.sub(r"\{([a-z_.]+)\}", lambda match: known[match[1]], template)
