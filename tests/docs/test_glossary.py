"""The glossary has each term once, in alphabetical order."""

from __future__ import annotations

import re

import pytest

from tests.docs.references import ROOT

PAGE = (ROOT / "docs" / "glossary.md").read_text("utf-8")
TERMS = re.findall(r"(?m)^- \*\*(.+?)\*\*: ", PAGE)
SECTIONS = re.split(r"(?m)^## ", PAGE)[1:]


def test_each_term_is_there_once() -> None:
    """Two meanings need two terms."""
    assert len(TERMS) > 50
    assert sorted(set(TERMS)) == sorted(TERMS)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.split("\n")[0])
def test_a_section_is_in_alphabetical_order(section: str) -> None:
    """Without regard to capitals."""
    terms = re.findall(r"(?m)^- \*\*(.+?)\*\*: ", section)
    assert terms == sorted(terms, key=str.casefold)
