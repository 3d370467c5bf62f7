"""Declarations of settings, and the table that is built from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Protocol, get_type_hints


@dataclass(frozen=True, slots=True)
class ValueCheck:
    """A rule for a value, beyond its type; `text` completes the sentence "it must be ..."."""

    text: str
    holds: Callable[[Any], bool]


def between(low: int, high: int) -> ValueCheck:
    """A number from `low` to `high`, both included."""
    return ValueCheck(f"from {low} to {high}", lambda value: low <= value <= high)


def one_of(*choices: str) -> ValueCheck:
    """One of these texts."""
    text = f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    return ValueCheck(text, lambda value: value in choices)


def matching(pattern: str, text: str) -> ValueCheck:
    """A value that matches `pattern` as a whole."""
    return ValueCheck(text, lambda value: re.fullmatch(pattern, value, re.ASCII) is not None)


SECONDS: Final = ValueCheck("more than 0 and at most 86400", lambda value: 0 < value <= 86400)


class KnownValue(Protocol):
    """The value of a setting and its source, for the rule of a derived default."""

    @property
    def value(self) -> Any:
        """The value, in the setting's type."""
        ...

    @property
    def source(self) -> str:
        """Where it was set, as in `wad.config.origin.ValueOrigin`."""
        ...


@dataclass(frozen=True, slots=True)
class Derived:
    """A default that a rule derives from settings declared before, if a `{key}` is not enough.

    `usual` is its value while these have their defaults; `rule` gets all values that are known by then, by key.
    """

    usual: object
    rule: Callable[[Mapping[str, KnownValue]], object]


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

    `default` may contain the `{key}` of a setting declared before, and `{hostname}`, or be Derived; then `doc` has the
    rule.  `env`: names of variables that are accepted besides `WAD_SECTION_NAME`.  `credential`: the name of the
    systemd credential.  `secret`: never shown; `has_password`: a URL, shown without its password; neither is in a
    `repr`.  `reload`: SIGHUP applies a new value.
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
    """A rule for several settings together; `text` completes the sentence "KEY must be ..."."""

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
        """The default while nothing is set; it may contain `{key}`."""
        return self.default.usual if isinstance(self.default, Derived) else self.default

    @property
    def is_template(self) -> bool:
        """Whether `usual` contains a `{key}`."""
        return "{" in str(self.usual)


def rows(sections: Mapping[str, type]) -> Iterator[Setting]:
    """The settings that the sections declare, in the order of declaration."""
    for section, declared in sections.items():
        kinds = get_type_hints(declared)
        for each in fields(declared):
            own = f"WAD_{section}_{each.name}".upper()
            row = {**each.metadata, "env": (own, *each.metadata["env"])}
            yield Setting(key=f"{section}.{each.name}", kind=kinds[each.name], **row)


def filled(template: str, known: Mapping[str, str]) -> str:
    """A default with each `{key}` replaced."""
    return re.sub(r"\{([a-z_.]+)\}", lambda match: known[match[1]], template)
