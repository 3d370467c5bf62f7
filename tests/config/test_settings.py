"""The declarations: names, types, derived defaults, and what settings must satisfy together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.loaded import Write, defaults, problems
from wad.config import SETTINGS
from wad.config.settings import RELATIONS


@pytest.mark.parametrize("key", SETTINGS)
def test_values_have_their_declared_type(key: str) -> None:
    """What mypy believes of an attribute is so."""
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
    assert config.control.socket == Path("/b/wad.sock")


def test_paths_that_are_set_do_not_follow() -> None:
    """SESSIONS_PATH alone decides once it is set."""
    config = defaults(STATE_DIRECTORY="/a", SESSIONS_PATH="/s").config
    assert config.state.sessions == Path("/s")


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
