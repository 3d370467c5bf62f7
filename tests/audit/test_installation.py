"""Finding the installation: by the daemon's own file, environment and credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from wad.audit import open_rows
from wad.audit.installation import environment, installation_of
from wad.core.errors import BadConfig


def test_our_own_environment_overrides_the_units(tmp_path: Path) -> None:
    """The unit's environment is used without being in ours."""
    shown = {"Environment": "WAD_STATE_DIR=/srv/wad INSTANCE_ID=box"}
    found = environment({"INSTANCE_ID": "here"}, shown, tmp_path / "none")
    assert found == {"WAD_STATE_DIR": "/srv/wad", "INSTANCE_ID": "here"}


def test_the_units_credentials(tmp_path: Path) -> None:
    """systemd keeps them in a directory while the daemon runs; the file's name is the setting."""
    (tmp_path / "firebase-service-account").write_text('{"project_id": "demo"}')
    found = environment({}, {}, tmp_path)
    assert found == {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    installation = installation_of(
        None, found | {"WAD_STORE_KIND": "firestore", "WAD_STATE_DIR": "/srv/wad"}
    )
    assert (installation.kind, installation.state_dir) == ("firestore", Path("/srv/wad"))
    assert "demo" in installation.store.firestore_credentials


def test_firestore_without_a_configuration(tmp_path: Path) -> None:
    """An invalid file leaves the access to Firestore unknown."""
    with pytest.raises(BadConfig, match="the Firestore settings"):
        open_rows("firestore", tmp_path)
