"""Where daemon and wadctl meet: both find the same socket."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.config.loaded import defaults
from wad.core import paths
from wadctl.__main__ import root
from wadctl.invocation import socket_path


def test_the_package_has_its_runtime_directory() -> None:
    """What need not survive a reboot is not in /var/lib."""
    assert paths.runtime_dir(Path("/var/lib/wad/")) == Path("/run/wad")


def test_another_state_directory_holds_everything() -> None:
    """A developer needs no right to write to /run."""
    assert paths.runtime_dir(Path("/home/ann/wad")) == Path("/home/ann/wad")


@pytest.mark.parametrize(
    ("option", "environ", "found"),
    [
        ("/o", {"WAD_SOCKET": "/e", "WAD_STATE_DIR": "/s"}, "/o"),
        (None, {"WAD_SOCKET": "/e", "WAD_STATE_DIR": "/s"}, "/e"),
        (None, {"WAD_SOCKET": "", "WAD_STATE_DIR": "/s"}, "/s/control.sock"),
        (None, {"WAD_STATE_DIR": "/var/lib/wad"}, "/run/wad/control.sock"),
        (None, {"WAD_STATE_DIR": ""}, "/run/wad/control.sock"),
        (None, {}, "/run/wad/control.sock"),
    ],
)
def test_wadctl_looks_at_the_nearest_place(
    option: str | None, environ: dict[str, str], found: str
) -> None:
    """--socket, else $WAD_SOCKET, else in $WAD_STATE_DIR, else the package's."""
    assert socket_path(option, environ) == found


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WAD_SOCKET": "/e"},
        {"WAD_STATE_DIR": "/s"},
        {"WAD_STATE_DIR": "/s/"},
        {"WAD_STATE_DIR": "/var/lib/wad"},
        {"WAD_STATE_DIR": "/s", "WAD_SOCKET": "/e"},
    ],
    ids=str,
)
def test_wadctl_looks_where_the_daemon_listens(environ: dict[str, str]) -> None:
    """In the same environment no option is needed twice."""
    assert socket_path(None, environ) == str(defaults(**environ).config.control.socket)


def test_wadctl_reports_a_path_that_is_too_long() -> None:
    """A Unix socket's path has at most 107 bytes."""
    result = CliRunner().invoke(root, ["status"], env={"WAD_STATE_DIR": "/" + "x" * 107})
    assert result.exit_code == 2
    assert "AF_UNIX path too long" in result.stderr
