"""The manual pages, made from the declarations."""

from __future__ import annotations

import pytest
from wadpack.manual import escaped, pages

from wad.config import SETTINGS
from wadctl.__main__ import root

PAGES = pages()


@pytest.mark.parametrize("name", ["wad.8", "wadctl.1", "wad.toml.5"])
def test_each_page_has_its_head(name: str) -> None:
    """What man and apropos need."""
    title, _, section = name.rpartition(".")
    assert PAGES[name].startswith(f".TH {escaped(title).upper()} {section} ")
    assert ".SH NAME\n" in PAGES[name]


@pytest.mark.parametrize("key", SETTINGS)
def test_every_setting_is_described(key: str) -> None:
    """wad.toml(5) has no settings of its own."""
    assert f"\n.B {escaped(key.partition('.')[2])} = " in PAGES["wad.toml.5"]


@pytest.mark.parametrize("name", root.commands)
def test_every_command_is_described(name: str) -> None:
    """wadctl(1) lists what `wadctl --help` does."""
    assert f"\n.SS wadctl {escaped(name)}" in PAGES["wadctl.1"]


@pytest.mark.parametrize(
    ("text", "roff"),
    [
        (".hidden", "\\&.hidden"),
        ("'tis", "\\&'tis"),
        ("--json", "\\-\\-json"),
        ("a\\b", "a\\eb"),
        ("`wad`", "wad"),
    ],
)
def test_text_stays_text(text: str, roff: str) -> None:
    """No line of it is a request to the formatter, and a hyphen can be copied."""
    assert escaped(text) == roff
