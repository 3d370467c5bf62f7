"""The sources of values, and their order of precedence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.loaded import NOWHERE, Write, defaults, problems
from wad.config import SETTINGS, load
from wad.core.errors import BadConfig


def test_without_any_source_every_value_is_a_default() -> None:
    """A machine without file and variables runs on defaults."""
    loaded = defaults()
    assert {origin.source for origin in loaded.origins.values()} == {"default"}
    assert loaded.config.state.dir == Path("/var/lib/wad")
    assert loaded.config.lease.ttl == 15.0
    assert loaded.read is None


def test_origins_cover_every_setting() -> None:
    """Each declared key has a value, a source and an attribute that holds the same value."""
    loaded = defaults()
    assert list(loaded.origins) == list(SETTINGS)
    for key, origin in loaded.origins.items():
        section, name = key.split(".")
        assert getattr(getattr(loaded.config, section), name) == origin.value


def test_file_overrides_default_and_is_named_with_its_line(write: Write) -> None:
    """A value of the file has its line number."""
    path = write("# hello\n[http]\n\nport = 9\n")
    loaded = load(path, {})
    assert loaded.config.http.port == 9
    assert loaded.origins["http.port"].source == f"file {path}:4"


def test_environment_overrides_file(write: Write) -> None:
    """PORT overrides the file."""
    loaded = load(write("[http]\nport = 9\n"), {"PORT": "10"})
    assert loaded.config.http.port == 10
    assert loaded.origins["http.port"].source == "environment PORT"


def test_credential_overrides_environment(tmp_path: Path) -> None:
    """A systemd credential overrides ADMIN_TOKEN, without the line end of its file."""
    (tmp_path / "admin-token").write_text("s3cret\n")
    loaded = defaults(ADMIN_TOKEN="other", CREDENTIALS_DIRECTORY=str(tmp_path))
    assert loaded.config.http.admin_token == "s3cret"
    assert loaded.origins["http.admin_token"].source == "credential admin-token"


def test_credentials_directory_without_ours_changes_nothing(tmp_path: Path) -> None:
    """Other credentials of the unit are none of our business."""
    assert defaults(CREDENTIALS_DIRECTORY=str(tmp_path)).config.http.admin_token == ""


def test_command_line_overrides_everything() -> None:
    """An option overrides the environment."""
    loaded = load(None, {"PORT": "10"}, {"http.port": 11}, default_file=NOWHERE)
    assert loaded.config.http.port == 11
    assert loaded.origins["http.port"].source == "command line"


def test_wad_config_names_the_file(write: Write) -> None:
    """$WAD_CONFIG is used when no file is given."""
    path = write("[http]\nport = 9\n")
    assert load(None, {"WAD_CONFIG": str(path)}).read == path


def test_given_file_overrides_wad_config(write: Write) -> None:
    """--config is nearer than the variable."""
    path = write("")
    assert load(path, {"WAD_CONFIG": "/nowhere"}).read == path


def test_default_file_is_read_if_it_exists(write: Write) -> None:
    """The usual file needs no naming."""
    path = write("[http]\nport = 9\n")
    loaded = load(None, {}, default_file=path)
    assert (loaded.config.http.port, loaded.file, loaded.read) == (9, None, path)


def test_empty_variable_counts_as_not_set() -> None:
    """`PORT=` in an environment file is not a port."""
    assert defaults(PORT="").config.http.port == 8080


def test_missing_file_that_was_asked_for_is_an_error() -> None:
    """--config of nothing is not silently the defaults."""
    assert problems(NOWHERE) == ["/nowhere/wad.toml: the file does not exist"]


def test_missing_file_named_by_the_variable_is_an_error() -> None:
    """$WAD_CONFIG requires its file as well."""
    assert problems(None, {"WAD_CONFIG": "/nowhere/x"}) == ["/nowhere/x: the file does not exist"]


def test_unusable_credential_is_an_error(tmp_path: Path) -> None:
    """A credential that cannot be read does not become "no token"."""
    (tmp_path / "admin-token").mkdir()
    (found,) = problems(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert found == "credential admin-token: cannot be read: Is a directory"


def test_value_of_the_file_without_effect_is_warned_about(write: Write) -> None:
    """A value that a variable overrides gives a warning."""
    path = write("[state]\ndir = '/a'\n")
    assert load(path, {"STATE_DIRECTORY": "/b"}).warnings == (
        f"{path}:2: state.dir has no effect: environment STATE_DIRECTORY overrides it",
    )


def test_misspelled_variable_is_warned_about() -> None:
    """WAD_... that means nothing is answered with the nearest."""
    assert defaults(WAD_LOG_LEVL="debug").warnings == (
        "environment WAD_LOG_LEVL: unknown setting; did you mean WAD_LOG_LEVEL?",
    )


def test_all_problems_are_reported_at_once(write: Write) -> None:
    """File, variable and relation in one go."""
    path = write("[http]\nport = 'x'\nfoo = 1\n[engine]\nretry_base = 500\n")
    assert len(problems(path, {"WAD_LOG_LEVEL": "loud"})) == 4


def test_load_raises_with_every_problem(write: Write) -> None:
    """The one error of `load` holds them all."""
    with pytest.raises(BadConfig, match=r"http\.port .*; .*unknown setting http\.foo"):
        load(write("[http]\nport = 'x'\nfoo = 1\n"), {})


def test_reading_again_keeps_file_and_command_line(write: Write) -> None:
    """A reload sees the edited file, under the same options."""
    path = write("")
    loaded = load(path, {}, {"http.port": 5})
    write("[log]\nlevel = 'debug'\n[http]\nport = 6\n")
    fresh = loaded.again({})
    assert (fresh.config.log.level, fresh.config.http.port) == ("debug", 5)


def test_changes_that_need_a_restart_are_reported(write: Write) -> None:
    """A reload applies the log's level and nothing else."""
    loaded = load(write(""), {})
    write("[log]\nlevel = 'debug'\n[http]\nport = 6\n")
    assert loaded.needs_restart(loaded.again({})) == ("http.port",)
