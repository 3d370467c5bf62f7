"""The declarations: names, types, derived defaults, and what settings must satisfy together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.loaded import NOWHERE, Write, defaults, problems
from wad.config import SETTINGS, load
from wad.config.settings import RELATIONS


@pytest.mark.parametrize("key", SETTINGS)
def test_values_have_their_declared_type(key: str) -> None:
    """An attribute has the type that mypy infers."""
    assert isinstance(defaults().origins[key].value, SETTINGS[key].kind)


def test_every_setting_has_a_variable_of_its_own() -> None:
    """WAD_SECTION_NAME works for each key, also where the reference has another name."""
    assert defaults(WAD_LEASE_TTL="30.5").config.lease.ttl == 30.5
    assert all(f"WAD_{key.replace('.', '_').upper()}" in SETTINGS[key].env for key in SETTINGS)


def test_no_variable_serves_two_settings() -> None:
    """A name means one thing."""
    names = [name for row in SETTINGS.values() for name in row.env]
    assert len(names) == len(set(names))


def test_default_instance_id_is_the_references() -> None:
    """The id is `host_` and the machine's name, as the reference backend has it."""
    assert defaults().config.instance.id == "host_box"


def test_paths_follow_the_directory_they_lie_in() -> None:
    """Sessions and socket move with state.dir and state.runtime_dir."""
    config = defaults(STATE_DIRECTORY="/a", RUNTIME_DIRECTORY="/b").config
    assert config.state.sessions == Path("/a/sessions")
    assert config.control.socket == Path("/b/control.sock")


def test_paths_that_are_set_do_not_follow() -> None:
    """SESSIONS_PATH alone decides once it is set."""
    config = defaults(STATE_DIRECTORY="/a", SESSIONS_PATH="/s").config
    assert config.state.sessions == Path("/s")


def test_package_keeps_its_socket_in_run() -> None:
    """Without any setting nothing is in the state directory that need not survive."""
    assert defaults().config.control.socket == Path("/run/wad/control.sock")


def test_state_directory_of_systemd_is_the_packages() -> None:
    """STATE_DIRECTORY names another directory for the package's state, not a developer's."""
    config = defaults(STATE_DIRECTORY="/srv/wad").config
    assert config.state.runtime_dir == Path("/run/wad")


def test_state_directory_of_ones_own_is_the_runtime_directory(write: Write) -> None:
    """Variable, file and command line alike; the origin stays `default`."""
    ways = (
        defaults(WAD_STATE_DIR="/s"),
        load(write("[state]\ndir = '/s'\n"), {}),
        load(None, {}, {"state.dir": Path("/s")}, default_file=NOWHERE),
    )
    for loaded in ways:
        assert loaded.config.control.socket == Path("/s/control.sock")
        assert loaded.origins["state.runtime_dir"].source == "default"


def test_packages_state_directory_may_be_spelled_out(write: Write) -> None:
    """An uncommented default changes nothing."""
    config = load(write("[state]\ndir = '/var/lib/wad/'\n"), {}).config
    assert config.state.runtime_dir == Path("/run/wad")


@pytest.mark.parametrize("name", ["WAD_STATE_RUNTIME_DIR", "RUNTIME_DIRECTORY"])
def test_runtime_directory_that_is_set_stays(name: str) -> None:
    """It does not follow state.dir then."""
    config = defaults(**{"WAD_STATE_DIR": "/s", name: "/r"}).config
    assert config.control.socket == Path("/r/control.sock")


def test_bad_directory_is_one_problem() -> None:
    """Settings that are derived from it are not reported as well."""
    assert problems(None, {"RUNTIME_DIRECTORY": "r", "STATE_DIRECTORY": "s"}) == [
        "environment STATE_DIRECTORY: state.dir must be an absolute path, not 's'",
        "environment RUNTIME_DIRECTORY: state.runtime_dir must be an absolute path, not 'r'",
    ]


def test_state_directory_too_long_for_a_socket_is_reported() -> None:
    """The limit holds for the derived path."""
    (found,) = problems(None, {"WAD_STATE_DIR": "/" + "x" * 94})
    assert found.startswith("default: control.socket must be at most 107 bytes long")
    assert problems(None, {"WAD_STATE_DIR": "/" + "x" * 93}) == []


def test_first_directory_of_systemds_list_counts() -> None:
    """STATE_DIRECTORY may name several, separated by colons."""
    assert defaults(STATE_DIRECTORY="/a:/b").config.state.dir == Path("/a")


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
