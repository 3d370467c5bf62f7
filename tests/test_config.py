"""The configuration: where values come from, and what is said about mistakes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.config import (
    RELATIONS,
    SETTINGS,
    Loaded,
    examine,
    load,
    sample,
    table,
    with_table,
)
from wad.core.errors import BadConfig

ROOT = Path(__file__).parent.parent
NOWHERE = Path("/nowhere/wad.toml")

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration file and gives its path."""

    def write(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "wad.toml"
        path.write_bytes(text.encode())
        path.chmod(mode)
        return path

    return write


def defaults(**environ: str) -> Loaded:
    return load(None, environ, default_file=NOWHERE, hostname="box")


def problems(file: Path | None, environ: dict[str, str] | None = None) -> list[str]:
    loaded, found = examine(file, environ or {}, default_file=NOWHERE, hostname="box")
    assert (loaded is None) == bool(found)
    return found


# --- where values come from -------------------------------------------------------------------


def test_without_any_source_every_value_is_a_default() -> None:
    """A machine without file and variables runs on defaults."""
    loaded = defaults()
    assert {origin.source for origin in loaded.origins.values()} == {"default"}
    assert loaded.config.state.dir == Path("/var/lib/wad")
    assert loaded.config.lease.ttl == 15.0
    assert loaded.read is None


def test_default_instance_id_is_the_references() -> None:
    """The id is `host_` and the machine's name, as the reference backend has it."""
    assert defaults().config.instance.id == "host_box"


def test_origins_cover_every_setting() -> None:
    """Each declared key has a value, a source and an attribute that holds the same value."""
    loaded = defaults()
    assert list(loaded.origins) == list(SETTINGS)
    for key, origin in loaded.origins.items():
        section, name = key.split(".")
        assert getattr(getattr(loaded.config, section), name) == origin.value


@pytest.mark.parametrize("key", SETTINGS)
def test_values_have_their_declared_type(key: str) -> None:
    """What mypy believes of an attribute is so."""
    assert isinstance(defaults().origins[key].value, SETTINGS[key].kind)


def test_file_overrides_default_and_is_named_with_its_line(write: Write) -> None:
    """A value of the file tells the line it stands in."""
    path = write("# hello\n[http]\n\nport = 9\n")
    loaded = load(path, {})
    assert loaded.config.http.port == 9
    assert loaded.origins["http.port"].source == f"file {path}:4"


def test_environment_overrides_file(write: Write) -> None:
    """PORT stands above the file."""
    loaded = load(write("[http]\nport = 9\n"), {"PORT": "10"})
    assert loaded.config.http.port == 10
    assert loaded.origins["http.port"].source == "environment PORT"


def test_credential_overrides_environment(tmp_path: Path) -> None:
    """A systemd credential stands above ADMIN_TOKEN, without the line end of its file."""
    (tmp_path / "admin-token").write_text("s3cret\n")
    loaded = defaults(ADMIN_TOKEN="other", CREDENTIALS_DIRECTORY=str(tmp_path))
    assert loaded.config.http.admin_token == "s3cret"
    assert loaded.origins["http.admin_token"].source == "credential admin-token"


def test_credentials_directory_without_ours_changes_nothing(tmp_path: Path) -> None:
    """Other credentials of the unit are none of our business."""
    assert defaults(CREDENTIALS_DIRECTORY=str(tmp_path)).config.http.admin_token == ""


def test_command_line_overrides_everything() -> None:
    """An option stands above the environment."""
    loaded = load(None, {"PORT": "10"}, {"http.port": 11}, default_file=NOWHERE)
    assert loaded.config.http.port == 11
    assert loaded.origins["http.port"].source == "command line"


def test_wad_config_names_the_file(write: Write) -> None:
    """$WAD_CONFIG is used when no file is given."""
    path = write("[http]\nport = 9\n")
    assert load(None, {"WAD_CONFIG": str(path)}).read == path


def test_given_file_stands_above_wad_config(write: Write) -> None:
    """--config is nearer than the variable."""
    path = write("")
    assert load(path, {"WAD_CONFIG": "/nowhere"}).read == path


def test_default_file_is_read_if_it_exists(write: Write) -> None:
    """The usual file needs no naming."""
    path = write("[http]\nport = 9\n")
    loaded = load(None, {}, default_file=path)
    assert (loaded.config.http.port, loaded.file, loaded.read) == (9, None, path)


def test_every_setting_has_a_variable_of_its_own() -> None:
    """WAD_SECTION_NAME works for each key, also where the reference has another name."""
    assert defaults(WAD_LEASE_TTL="30.5").config.lease.ttl == 30.5
    assert all(f"WAD_{key.replace('.', '_').upper()}" in SETTINGS[key].env for key in SETTINGS)


def test_no_variable_serves_two_settings() -> None:
    """A name means one thing."""
    names = [name for row in SETTINGS.values() for name in row.env]
    assert len(names) == len(set(names))


def test_empty_variable_counts_as_not_set() -> None:
    """`PORT=` in an environment file is no port."""
    assert defaults(PORT="").config.http.port == 8080


def test_first_directory_of_systemds_list_counts() -> None:
    """STATE_DIRECTORY may name several, separated by colons."""
    assert defaults(STATE_DIRECTORY="/a:/b").config.state.dir == Path("/a")


def test_paths_follow_the_directory_they_lie_in() -> None:
    """Sessions and socket move with state.dir and state.runtime_dir."""
    config = defaults(STATE_DIRECTORY="/a", RUNTIME_DIRECTORY="/b").config
    assert config.state.sessions == Path("/a/sessions")
    assert config.control.socket == Path("/b/wad.sock")


def test_paths_that_are_set_do_not_follow() -> None:
    """SESSIONS_PATH alone decides once it is set."""
    config = defaults(STATE_DIRECTORY="/a", SESSIONS_PATH="/s").config
    assert config.state.sessions == Path("/s")


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("OFF", False), ("1", True)])
def test_truth_in_variables_has_the_usual_words(text: str, value: bool) -> None:
    """yes/no, on/off, 1/0, true/false in any case."""
    assert defaults(WAD_HTTP_ENABLED=text).config.http.enabled is value


def test_byte_order_mark_and_crlf_do_no_harm(write: Write) -> None:
    """A file edited on Windows is read."""
    path = write("\ufeff[http]\r\nport = 9\r\n")
    assert load(path, {}).origins["http.port"].source == f"file {path}:2"


# --- lines ------------------------------------------------------------------------------------


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


# --- mistakes ---------------------------------------------------------------------------------


def test_unknown_key_is_named_with_its_line_and_the_nearest(write: Write) -> None:
    """A slip of the pen is answered with what was meant."""
    path = write("[lease]\nrenew_evry = 5\n")
    assert problems(path) == [
        f"{path}:2: there is no setting lease.renew_evry; did you mean lease.renew_every?"
    ]


def test_key_outside_of_its_section_is_recognised(write: Write) -> None:
    """A forgotten header is answered with the full key."""
    path = write("ttl = 5\n")
    assert problems(path) == [f"{path}:1: there is no setting ttl; did you mean lease.ttl?"]


def test_unknown_section_is_named_with_the_nearest(write: Write) -> None:
    """A wrong header is one problem, not one for each of its keys."""
    path = write("\n[htp]\nport = 5\naddress = 'x'\n")
    assert problems(path) == [f"{path}:2: there is no section htp; did you mean http?"]


def test_section_that_is_a_value_is_told_how_to_write_it(write: Write) -> None:
    """`lease = 5` is answered with the form of a section."""
    path = write("lease = 5\n")
    assert problems(path) == [f"{path}:1: lease is a section: write [lease] and its settings below"]


def test_quoted_key_with_a_dot_is_not_a_sections(write: Write) -> None:
    """`"lease.ttl"` is another key than lease.ttl."""
    assert len(problems(write('"lease.ttl" = 20\n'))) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http.port = '9'", "http.port must be a whole number, not '9'"),
        ("http.port = true", "http.port must be a whole number, not true"),
        ("http.port = 65536", "http.port must be from 0 to 65535, not 65536"),
        ("http.enabled = 1", "http.enabled must be true or false, not 1"),
        ("state.dir = 'var'", "state.dir must be an absolute path, not 'var'"),
        ("state.dir = '/a\\u0000'".replace("'", '"'), "state.dir must be printable, on one line"),
        ("log.level = 'loud'", "log.level must be one of debug, info, warning, error, not 'loud'"),
        ("lease.ttl = {}", "lease.ttl must be a number, not a table"),
        ("lease.ttl = [1]", "lease.ttl must be a number, not a list"),
        ("lease.ttl = nan", "lease.ttl must be a number, not nan"),
        ("lease.ttl = inf", "lease.ttl must be a number, not inf"),
        (f"lease.ttl = 1{'0' * 400}", "lease.ttl must be a number, not 1000"),
        ("lease.ttl = 0", "lease.ttl must be more than 0 and at most 86400, not 0"),
        ("engine.proxy = 'ftp://x'", "engine.proxy must be empty, or a URL"),
        ("engine.proxy = 'http://'", "engine.proxy must be empty, or a URL"),
        ("engine.device_name = ''", "engine.device_name must be 1 to 50 characters, not ''"),
        ("instance.id = 'a b'", "instance.id must be 1 to 128 of"),
        (f"control.socket = '/{'x' * 107}'", "control.socket must be at most 107 bytes long"),
        ("store.kind = 'firestore'", "store.kind 'firestore' comes with a later version"),
    ],
)
def test_bad_value_is_told_what_it_must_be(write: Write, text: str, problem: str) -> None:
    """Type, range and form are checked, each with its sentence."""
    path = write(text)
    (found,) = problems(path)
    assert found.startswith(f"{path}:1: {problem}")


@pytest.mark.parametrize("text", ["", "x", "1.5", "1_000", "９", "-", "1" * 5000])
def test_bad_number_in_a_variable_is_named(text: str) -> None:
    """Only plain decimal numbers pass; the message names the variable."""
    found = problems(None, {"PORT": text})
    assert [each.split(":")[0] for each in found] == (["environment PORT"] if text else [])


def test_broken_relation_names_the_values_and_their_sources(write: Write) -> None:
    """A ttl too short for two renewals is explained."""
    path = write("[lease]\nttl = 12\n")
    (found,) = problems(path)
    assert found.startswith(f"{path}:2: lease.ttl must be at least 2 x lease.renew_every + lease")
    assert "lease.ttl is 12 (file" in found
    assert "lease.renew_every is 5 (default)" in found


def test_relation_at_its_limit_holds() -> None:
    """Two renewals and the margin may fill the ttl."""
    assert defaults(WAD_LEASE_TTL="13").config.lease.ttl == 13


def test_relations_are_between_declared_settings() -> None:
    """A renamed key cannot leave a relation behind."""
    assert all({each.key, *each.others} <= set(SETTINGS) for each in RELATIONS)


def test_all_problems_are_told_at_once(write: Write) -> None:
    """File, variable and relation in one go."""
    path = write("[http]\nport = 'x'\nfoo = 1\n[engine]\nretry_base = 500\n")
    assert len(problems(path, {"WAD_LOG_LEVEL": "loud"})) == 4


def test_load_raises_with_every_problem(write: Write) -> None:
    """The one error of `load` holds them all."""
    with pytest.raises(BadConfig, match=r"http\.port .*; .*there is no setting http\.foo"):
        load(write("[http]\nport = 'x'\nfoo = 1\n"), {})


@pytest.mark.parametrize(
    ("text", "line"),
    [("[http\n", 1), ("a = 1\nb = \n", 2), ("[a]\n[a]\n", 2), ('a = 1\nb = """x\n\n', 2)],
)
def test_malformed_toml_is_told_with_its_line(write: Write, text: str, line: int) -> None:
    """The line of the syntax error is in the message."""
    path = write(text)
    (found,) = problems(path)
    assert found.startswith(f"{path}:{line}: not valid TOML: ")


def test_deep_nesting_is_a_problem_not_a_crash(write: Write) -> None:
    """A list nested a hundred thousand deep is refused."""
    (found,) = problems(write("a = " + "[" * 100_000))
    assert re.search(r":\d+: not ", found)


def test_text_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    """A file in Latin-1 is named as such."""
    path = tmp_path / "wad.toml"
    path.write_bytes(b"# a\n# \xe9\n")
    assert problems(path) == [f"{path}:2: is not UTF-8"]


def test_missing_file_that_was_asked_for_is_an_error() -> None:
    """--config of nothing is not silently the defaults."""
    assert problems(NOWHERE) == ["/nowhere/wad.toml: there is no such file"]


def test_missing_file_named_by_the_variable_is_an_error() -> None:
    """$WAD_CONFIG asks for a file, too."""
    assert problems(None, {"WAD_CONFIG": "/nowhere/x"}) == ["/nowhere/x: there is no such file"]


def test_directory_as_file_is_an_error(tmp_path: Path) -> None:
    """What cannot be read is said with the system's reason."""
    assert problems(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]


def test_unusable_credential_is_an_error(tmp_path: Path) -> None:
    """A credential that cannot be read does not become "no token"."""
    (tmp_path / "admin-token").mkdir()
    (found,) = problems(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert found == "credential admin-token: cannot be read: Is a directory"


# --- secrets ----------------------------------------------------------------------------------


def test_secret_is_in_no_representation() -> None:
    """Neither repr of what was loaded nor the shown value holds a secret."""
    loaded = defaults(ADMIN_TOKEN="s3cret")
    assert "s3cret" not in repr(loaded)
    assert loaded.origins["http.admin_token"].shown == "(set)"


def test_bad_secret_is_not_quoted() -> None:
    """The message about a bad token does not hold it."""
    (found,) = problems(None, {"ADMIN_TOKEN": "s3cret token"})
    assert found == "environment ADMIN_TOKEN: http.admin_token must be ASCII without blanks"


@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_password_of_a_proxy_is_not_shown(scheme: str) -> None:
    """Neither a good nor a bad proxy URL gives its password away."""
    url = f"{scheme}://u:p4ss@proxy:1"
    loaded, found = examine(None, {"WAD_ENGINE_PROXY": url}, default_file=NOWHERE)
    assert "p4ss" not in repr(found) + repr(loaded)
    if loaded:
        assert loaded.origins["engine.proxy"].shown == "http://***@proxy:1"


@pytest.mark.parametrize("text", ["[http]\nadmin_token = 'x'", "[engine]\nproxy = 'http://u:p@h'"])
def test_world_readable_file_with_a_secret_is_warned_about(write: Write, text: str) -> None:
    """Everybody can read the token: said, with the command that ends it."""
    (warning,) = load(write(text, 0o644), {}).warnings
    assert "everybody can read it" in warning
    assert load(write(text, 0o640), {}).warnings == ()


def test_world_readable_file_without_secrets_is_fine(write: Write) -> None:
    """There is nothing to hide in a port."""
    assert load(write("[http]\nport = 9", 0o644), {}).warnings == ()


# --- warnings and reloads ---------------------------------------------------------------------


def test_value_of_the_file_without_effect_is_warned_about(write: Write) -> None:
    """Who edits a value that a variable overrides is told so."""
    path = write("[state]\ndir = '/a'\n")
    assert load(path, {"STATE_DIRECTORY": "/b"}).warnings == (
        f"{path}:2: state.dir has no effect: environment STATE_DIRECTORY overrides it",
    )


def test_misspelled_variable_is_warned_about() -> None:
    """WAD_... that means nothing is answered with the nearest."""
    assert defaults(WAD_LOG_LEVL="debug").warnings == (
        "environment WAD_LOG_LEVL: there is no such setting; did you mean WAD_LOG_LEVEL?",
    )


def test_reading_again_keeps_file_and_command_line(write: Write) -> None:
    """A reload sees the edited file, under the same options."""
    path = write("")
    loaded = load(path, {}, {"http.port": 5})
    write("[log]\nlevel = 'debug'\n[http]\nport = 6\n")
    fresh = loaded.again({})
    assert (fresh.config.log.level, fresh.config.http.port) == ("debug", 5)


def test_changes_that_need_a_restart_are_told(write: Write) -> None:
    """A reload applies the log's level and nothing else."""
    loaded = load(write(""), {})
    write("[log]\nlevel = 'debug'\n[http]\nport = 6\n")
    assert loaded.needs_restart(loaded.again({})) == ("http.port",)


# --- what is generated ------------------------------------------------------------------------


def test_sample_file_is_what_the_code_generates() -> None:
    """packaging/wad.toml is never edited by hand: `python -m wad.config write`."""
    assert (ROOT / "packaging/wad.toml").read_text("utf-8") == sample()


def test_reference_page_is_what_the_code_generates() -> None:
    """The table in docs/configuration.md is up to date: `python -m wad.config write`."""
    page = (ROOT / "docs/configuration.md").read_text("utf-8")
    assert table() in page
    assert with_table(page) == page


def test_sample_with_every_line_uncommented_gives_the_defaults(write: Write) -> None:
    """What the sample says is the default is the default."""
    text = re.sub(r"(?m)^#(\w)", r"\1", sample())
    loaded = load(write(text), {})
    assert {origin.source.split()[0] for origin in loaded.origins.values()} == {"file"}
    assert loaded.config == load(None, {}, default_file=NOWHERE, hostname="HOSTNAME").config


def test_sample_as_it_is_changes_nothing(write: Write) -> None:
    """The sample can be installed as the file."""
    assert load(write(sample()), {}, hostname="box").config == defaults().config


# --- any text ---------------------------------------------------------------------------------

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
    """Whatever the file holds, nothing but problems comes out, each naming file and line."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode())
    for problem in problems(path):
        match = re.match(rf"{re.escape(str(path))}:(\d+): \S", problem)
        assert match
        assert 1 <= int(match[1]) <= text.count("\n") + 1


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


@given(
    st.dictionaries(
        st.sampled_from([name for row in SETTINGS.values() for name in row.env]), _TEXTS
    )
)
def test_any_environment_gives_a_configuration_or_problems(environ: dict[str, Any]) -> None:
    """Whatever the variables hold, every problem names where it is."""
    for problem in problems(None, environ):
        assert re.match(r"(environment [A-Z_]+|default): [a-z]+\.[a-z_]+ ", problem)
