"""Which pages, headings and source files a text names, and which of them do not exist.

A page is named by a relative link in Markdown, or by its path in the repository in any text: `docs/http.md`, with or
without the anchor of a heading behind a `#`.  A source file is named by its path in a code span of Markdown.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT: Final = Path(__file__).parents[2]
_MARKDOWN: Final = MarkdownIt("commonmark").enable("table")
_FOLDERS: Final = ("docs", "packaging", "systemd", "tests", "wad", "wadctl", ".ci", ".github")
_ROOMS: Final = frozenset(
    {*_FOLDERS, *(path.name for path in (ROOT / "wad").iterdir() if path.is_dir())}
)
_SUFFIXES: Final = frozenset(
    {"", ".py", ".md", ".toml", ".sh", ".cfg", ".service", ".socket", ".yml", ".mjs", ".in", ".Debian"}
)  # fmt: skip
_NAMED: Final = re.compile(
    r"""(?<![\w/.("-])(?<!> )(?:[\w.-]+/)*[\w-]+\.md(?:#[\w-]+)?(?![\w/-])"""
)
"""A page in running text.  Directly behind a quote it may be a part of a path that code puts together, and behind a
parenthesis anything: there it counts where it begins with a folder.  Behind a `>` it is what a command writes."""
_LINK: Final = re.compile(r"\[[^\]]*\]\([^)]*\)")
_QUOTED: Final = re.compile(r"""(?<=["(])(?:[\w.-]+/)+[\w-]+\.md(?:#[\w-]+)?(?![\w/-])""")


_SOURCE: Final = re.compile(r"([\w.-]+/)+[\w.-]+\.(py|sh|toml|service|socket|rules)(?=::|$)")
_PLACEHOLDER: Final = re.compile(r"(?<![A-Za-z])[A-Z]{3,}(?![a-z])")


def anchors(markdown: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found: set[str] = set()
    tokens = _MARKDOWN.parse(markdown)
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            anchor = _anchor("".join(part.content for part in inline.children or []))
            found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
            seen[anchor] += 1
    return found


def _anchor(heading: str) -> str:
    kept = (each for each in heading.strip().lower() if each in " -_" or _is_word(each))
    return "".join(kept).replace(" ", "-")


def _is_word(each: str) -> bool:
    return unicodedata.category(each)[0] in "LNM"


def links(markdown: str) -> Iterator[str]:
    """The targets of a page's links and pictures that are in the repository."""
    for token in _all(_MARKDOWN.parse(markdown)):
        target = str(token.attrs.get("href") or token.attrs.get("src") or "")
        if target and not urlsplit(target).scheme:
            yield target


def _all(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all(token.children or [])


def named(text: str) -> Iterator[str]:
    """The pages that a text names by their path in the repository, but for the links of Markdown."""
    text = _LINK.sub("", text)
    for pattern in (_NAMED, _QUOTED):
        yield from (found.group() for found in pattern.finditer(text))


def sources(markdown: str) -> Iterator[str]:
    """The source files that a page names in code, but for placeholders such as `tests/store/test_NAME.py`."""
    for token in _all(_MARKDOWN.parse(markdown)):
        found = _SOURCE.match(token.content) if token.type == "code_inline" else None
        if (
            found
            and found.group().partition("/")[0] in _ROOMS
            and not _PLACEHOLDER.search(found.group())
        ):
            yield found.group()


def missing(file: str, text: str, root: Path = ROOT) -> list[str]:
    """What a file (its path in the repository) refers to and does not exist."""
    wrong = []
    if file.endswith(".md"):
        here = (root / file).parent
        wrong = [each for each in links(text) if not _is_there(each, here, root / file)]
        # A file of the main package is also named from there: `core/jid.py`.
        folders = (root, root / "wad")
        wrong += [
            each for each in sources(text) if not any((one / each).exists() for one in folders)
        ]
    return wrong + [each for each in named(text) if not _is_there(each, root, root / file)]


def _is_there(target: str, folder: Path, page: Path) -> bool:
    path, _, anchor = target.partition("#")
    file = folder / unquote(path) if path else page
    if not file.exists():
        return False
    return not anchor or anchor in _anchors_of(file)


@cache
def _anchors_of(page: Path) -> set[str]:
    return anchors(page.read_text("utf-8"))


def files(root: Path = ROOT) -> Iterator[str]:
    """Every file of the repository that people write; their paths in it."""
    below = (path for folder in _FOLDERS for path in (root / folder).rglob("*"))
    for path in sorted([*root.glob("*"), *below]):
        where = path.relative_to(root)
        if path.suffix in _SUFFIXES and path.is_file() and "node_modules" not in where.parts:
            yield str(where)
