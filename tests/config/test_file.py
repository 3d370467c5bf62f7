"""The configuration file: lines in every form of TOML, and the messages about errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.config.loaded import Write, problems
from wad.config import SETTINGS, file, load


def test_byte_order_mark_and_crlf_do_no_harm(write: Write) -> None:
    """A file edited on Windows is read."""
    path = write("\ufeff[http]\r\nport = 9\r\n")
    assert load(path, {}).origins["http.port"].source == f"file {path}:2"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("http.port = 9", 1),
        ("\nhttp = { port = 9 }", 2),
        ("[ 'http' ]\n\"port\" = 9", 2),
        ("[store]\nfirestore_credentials = '''\n[http]\nport = 1'''\n[http]\nport = 9", 6),
        ("[http]\naddress = 'x' # '''\nport = 9", 3),
        ('[engine]\nproxy = ""\ndevice_name = "[http]"\n# port = 1\n[http]\nport = 9', 6),
        ("[lease]\nttl = 20\n[http]\nport = 9", 4),
    ],
)
def test_line_of_a_key_is_found_in_every_form_of_toml(write: Write, text: str, line: int) -> None:
    """Dotted keys, inline tables, quoted keys, long strings and comments don't mislead."""
    path = write(text)
    assert load(path, {}).origins["http.port"].source == f"file {path}:{line}"


@pytest.mark.parametrize("lines", [1000, 4000])
def test_finding_lines_reads_each_character_once_or_twice(
    write: Write, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    """Also of a list over thousands of lines, and of thousands of settings."""
    parsed, real = 0, file._loads

    def counted(text: str) -> dict[str, Any]:
        nonlocal parsed
        parsed += len(text)
        return real(text)

    monkeypatch.setattr(file, "_loads", counted)
    origins = "".join(f'  "https://a{n}.example.org", # [\n' for n in range(lines))
    text = f"[http]\ncors_origins = [\n{origins}]\n" + "".join(f"k{n} = 1\n" for n in range(lines))
    problems(write(text))
    assert len(text) < parsed <= 2 * len(text)


def test_the_number_of_reported_mistakes_is_limited(write: Write) -> None:
    """The list is bounded, since each problem takes time."""
    found = problems(write("[http]\n" + "".join(f"key{n} = 1\n" for n in range(5000))))
    assert len(found) == 101
    assert "the rest was not checked" in found[-1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("#" * 300_000, "larger than 256 kB"),
        ("a." * 50_000 + "b = 1", "dots"),
        ("[" + "a." * 50_000 + "b]", "dots"),
        ("x" * 100_000 + " = 1", "unknown setting xxx"),
    ],
)
def test_a_file_that_would_take_for_ever_is_refused(write: Write, text: str, says: str) -> None:
    """At once, and in a short sentence."""
    (found,) = problems(write(text))
    assert says in found
    assert len(found) < 500


def test_unknown_key_is_named_with_its_line_and_the_nearest(write: Write) -> None:
    """A slip of the pen is answered with what was meant."""
    path = write("[lease]\nrenew_evry = 5\n")
    assert problems(path) == [
        f"{path}:2: unknown setting lease.renew_evry; did you mean lease.renew_every?"
    ]


def test_key_outside_of_its_section_is_recognised(write: Write) -> None:
    """A forgotten header is answered with the full key."""
    path = write("ttl = 5\n")
    assert problems(path) == [f"{path}:1: unknown setting ttl; did you mean lease.ttl?"]


def test_unknown_section_is_named_with_the_nearest(write: Write) -> None:
    """A wrong header is one problem, not one for each of its keys."""
    path = write("\n[htp]\nport = 5\naddress = 'x'\n")
    assert problems(path) == [f"{path}:2: unknown section htp; did you mean http?"]


def test_section_that_is_a_value_has_a_hint(write: Write) -> None:
    """`lease = 5` is answered with the form of a section."""
    path = write("lease = 5\n")
    assert problems(path) == [f"{path}:1: lease is a section: write [lease] and its settings below"]


def test_quoted_key_with_a_dot_is_not_a_sections(write: Write) -> None:
    """`"lease.ttl"` is another key than lease.ttl."""
    assert len(problems(write('"lease.ttl" = 20\n'))) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [("[http\n", 1), ("a = 1\nb = \n", 2), ("[a]\n[a]\n", 2), ('a = 1\nb = """x\n\n', 2)],
)
def test_malformed_toml_is_reported_with_its_line(write: Write, text: str, line: int) -> None:
    """The line of the syntax error is in the message."""
    path = write(text)
    (found,) = problems(path)
    assert found.startswith(f"{path}:{line}: not valid TOML: ")


def test_deep_nesting_is_a_problem_not_a_crash(write: Write) -> None:
    """A list nested a hundred thousand deep is refused."""
    (found,) = problems(write("a = " + "[" * 100_000))
    assert re.search(r":\d+: not ", found)


def test_text_that_is_not_utf8_is_reported_with_its_line(tmp_path: Path) -> None:
    """A file in Latin-1 is named as such."""
    path = tmp_path / "wad.toml"
    path.write_bytes(b"# a\n# \xe9\n")
    assert problems(path) == [f"{path}:2: is not UTF-8"]


def test_directory_as_file_is_an_error(tmp_path: Path) -> None:
    """The error has the system's reason."""
    assert problems(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]


_KEYS = st.sampled_from(
    [*SETTINGS, *("http", "lease", "nonsense", "a.b.c", '"x.y"', "http.port.x")]
)
_VALUES = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.text(st.characters(codec="utf-8")).map(lambda text: f'"{text}"'),
    st.sampled_from(["{}", "[]", "{ port = 1 }", "[\n1,\n2]", "'''\n[http]\n'''", "1979-05-27"]),
)
_LINES = st.one_of(
    st.tuples(_KEYS, _VALUES).map(" = ".join),
    st.sampled_from(["[http]", "[[lease]]", "[state.dir]", "# x", "", '["a.b"]', "[lease.x.y]"]),
    st.text(st.characters(codec="utf-8"), max_size=20),
)


@given(st.one_of(st.lists(_LINES).map("\n".join), st.text(st.characters(codec="utf-8"))))
def test_any_text_gives_a_configuration_or_problems_with_their_lines(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    """Every invalid file gives problems only, each with file and line."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode())
    for problem in problems(path):
        match = re.match(rf"{re.escape(str(path))}:(\d+): \S", problem)
        assert match
        assert 1 <= int(match[1]) <= text.count("\n") + 1
