"""Every page and heading that a file names exists."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from wadpack.manual import pages

from tests.docs.references import ROOT, anchors, files, links, missing, named, sources

PAGE = """# A page

## Its first part: `code`, and [a link](x.md)

```
## not a heading
```

## Twice
## Twice

| a | b |
|---|---|
| [in a table](other.md#twice-1) | ![a picture](images/a.svg) |

`wad/core/jid.py`, `core/jid.py::x`, `tests/test_NAME.py`, `https://x/y.py`, `/etc/wad/wad.toml`

Look [here](#twice), [there](https://example.org/x.md) or into docs/other.md#twice.
"""


_THESE: Final = "tests/docs/test_references.py"  # its examples are wrong on purpose


@pytest.mark.parametrize("file", [file for file in files() if file != _THESE])
def test_files_named_by_a_file_exist(file: str) -> None:
    """Pages, headings, pictures."""
    assert missing(file, (ROOT / file).read_text("utf-8", "replace")) == []


@pytest.mark.parametrize("name", pages())
def test_pages_named_by_a_manual_page_exist(name: str) -> None:
    """They are made from the code."""
    assert missing(name, pages()[name].replace("\\-", "-")) == []


def test_the_files_are_those_of_the_repository() -> None:
    """Otherwise nothing would be checked."""
    found = set(files())
    assert {
        "README.md",
        "Makefile",
        "docs/http.md",
        "wad/core/jid.py",
        "packaging/debian/rules",
    } <= found
    assert len(found) > 500


def test_the_anchors_of_headings() -> None:
    """In lower case, without punctuation; a second heading of the same text is counted."""
    assert anchors(PAGE) == {"a-page", "its-first-part-code-and-a-link", "twice", "twice-1"}


def test_the_links_of_a_page() -> None:
    """Those within the repository."""
    assert list(links(PAGE)) == ["x.md", "other.md#twice-1", "images/a.svg", "#twice"]


def test_the_source_files_that_a_page_names() -> None:
    """Those in its code, from the top or from the main package."""
    assert list(sources(PAGE)) == ["wad/core/jid.py", "core/jid.py"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(docs/internals/library.md#events)", ["docs/internals/library.md#events"]),
        ("# engine.md 3, 4", ["engine.md"]),
        ("`engine.md`", ["engine.md"]),
        ('ROOT / "docs" / "http.md"', []),
        ('read("docs/http.md")', ["docs/http.md"]),
        ("[http.md](http.md)", []),
        ("https://example.org/README.md", []),
        ("sudo wadctl doctor --markdown > report.md", []),
        ("a.mdx, b.md5", []),
    ],
)
def test_the_pages_that_a_text_names(text: str, found: list[str]) -> None:
    """By their path in the repository; a bare name is a path as well."""
    assert list(named(text)) == found


@pytest.mark.parametrize(
    ("file", "text", "wrong"),
    [
        ("a.py", "# docs/page.md#twice-1", []),
        ("a.py", "# docs/page.md#thrice", ["docs/page.md#thrice"]),
        ("a.py", "# docs/pages.md", ["docs/pages.md"]),
        ("a.py", "# reference.md 3", ["reference.md"]),
        ("docs/a.md", "[x](page.md#twice)", []),
        ("docs/a.md", "[x](page.md#Twice)", ["page.md#Twice"]),
        ("docs/a.md", "[x](docs/page.md)", ["docs/page.md"]),
        ("docs/a.md", "[docs/page.md](../docs/page.md)", []),
        ("docs/page.md", "[x](#twice)", []),
        ("docs/page.md", "[x](#nowhere)", ["#nowhere"]),
        ("docs/a.md", "![x](none.svg)", ["none.svg"]),
        ("docs/a.md", "`wad/core/a.py`, `core/a.py`", []),
        ("docs/a.md", "`wad/core/b.py`, `core/b.py`", ["wad/core/b.py", "core/b.py"]),
    ],
)
def test_a_missing_target_is_found(tmp_path: Path, file: str, text: str, wrong: list[str]) -> None:
    """A wrong anchor as well as a wrong page."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text(PAGE, "utf-8")
    (tmp_path / "wad" / "core").mkdir(parents=True)
    (tmp_path / "wad" / "core" / "a.py").touch()
    assert missing(file, text, tmp_path) == wrong
