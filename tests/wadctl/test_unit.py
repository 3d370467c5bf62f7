"""wadctl without an answer on the unit's socket: it reports the state of the unit at once."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wad.core import paths
from wad.core.errors import StartFailed
from wad.systemd import systemctl
from wadctl.__main__ import root
from wadctl.unit import diagnose

PATH = "/run/wad/control.sock"
REASON = "/etc/wad/wad.toml:12: http.port must be a whole number"
SERVICE = {
    "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "Result": "success",
    "ExecMainCode": "1", "ExecMainStatus": "0", "StatusText": "active, 1 of 1 accounts connected, backlog 0",
}  # fmt: skip
FAILED = {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"}
AGAIN = {"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"}


@pytest.mark.parametrize(
    ("changed", "says", "hint"),
    [
        (FAILED | {"ExecMainStatus": "6", "StatusText": f"does not start: {REASON}"},
         f"wad does not start: {REASON}", "sudo systemctl restart wad"),
        (AGAIN | {"SubState": "start", "StatusText": "cannot start: no room (next try in 8 s)"},
         "wad cannot start: no room (next try in 8 s)", "by itself"),
        (AGAIN | {"StatusText": "cannot start: no room (next try in 0 s)"}, "wad cannot start: no room", "by itself"),
        (FAILED | {"Result": "start-limit-hit"}, "started too often within a minute", "systemctl restart wad"),
        (FAILED | {"Result": "watchdog"}, "watchdog", "journalctl"),
        (FAILED | {"Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "9"}, "killed by signal 9", "journalctl"),
        (AGAIN | {"ExecMainStatus": "203"}, "systemd cannot run it (203/EXEC) (systemd tries again)", "journalctl"),
        (AGAIN | {"ExecMainStatus": "1"}, "exited with code 1 (systemd tries again)", "journalctl"),
        ({"ActiveState": "inactive", "SubState": "dead"}, "wad is stopped", "systemctl start wad"),
        ({"LoadState": "masked", "ActiveState": "inactive"}, "wad.service is masked", "unmask"),
    ],
)  # fmt: skip
def test_the_state_of_the_unit_is_the_reason(changed: dict[str, str], says: str, hint: str) -> None:
    """As text, with a hint."""
    found = diagnose(SERVICE | changed, PATH, exists=True, log=str)
    assert found is not None
    assert says in str(found)
    assert hint in found.hint
    assert isinstance(found, StartFailed) == (changed.get("ActiveState") == "failed")


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"ActiveState": "activating", "SubState": "start"},
        {"ActiveState": "deactivating", "SubState": "stop-sigterm"},
        {"ActiveState": "activating", "SubState": "auto-restart", "StatusText": ""},
        {"ActiveState": "reloading"},
    ],
)
def test_a_restart_is_waited_for(changed: dict[str, str]) -> None:
    """Nothing is wrong: the next process answers."""
    assert diagnose(SERVICE | changed, PATH, exists=True, log=str) is None


def test_a_socket_that_is_gone_is_made_again_by_its_unit() -> None:
    """Restarting the service alone does not help: systemd holds a socket without a name."""
    found = diagnose(SERVICE, PATH, exists=False, log=str)
    assert found is not None
    assert (str(found), found.hint.split("  ")[0]) == (
        f"wad runs, but {PATH} is gone",
        "sudo systemctl restart wad.socket",
    )


def test_the_log_is_shown_where_it_may_be_read() -> None:
    """Of what happens before wad itself runs."""
    shown = SERVICE | AGAIN | {"ExecMainStatus": "243"}
    found = diagnose(
        shown, PATH, exists=True, log=lambda: "Failed to set up credentials: No such file"
    )
    assert "cannot start: Failed to set up credentials: No such file" in str(found)


# --- through the command line -------------------------------------------------------------------------


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The unit's socket, as systemd holds it: connections wait and are not accepted."""
    monkeypatch.setattr(paths, "RUNTIME_DIR", tmp_path)
    monkeypatch.setattr(systemctl, "booted", lambda: True)
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / paths.SOCKET))
        held.listen()
        yield tmp_path / paths.SOCKET


def systemctl_shows(directory: Path, monkeypatch: pytest.MonkeyPatch, **shown: str) -> None:
    """Put a systemctl first in PATH that shows this of wad.service."""
    text = "\n".join(["Id=wad.service", *(f"{key}={value}" for key, value in shown.items())])
    commands = directory / "bin"
    commands.mkdir()
    (commands / "systemctl").write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    (commands / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/bin:/usr/bin")


def wadctl(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(root, ["--socket", str(path), *arguments])


def test_a_daemon_that_does_not_start_is_not_waited_for(
    listening: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the socket takes the connection; exit 3, and one document with --json."""
    systemctl_shows(
        tmp_path, monkeypatch, **SERVICE | FAILED | {"StatusText": f"does not start: {REASON}"}
    )
    shown = wadctl(listening, "status", "--json")
    assert shown.exit_code == 3
    assert json.loads(shown.stdout)["error"]["code"] == "start_failed"
    assert f"wadctl: wad does not start: {REASON}\n" in shown.stderr


def test_a_restart_into_a_mistake_ends_at_once(
    listening: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process will start, so it does not wait a minute for one."""
    systemctl_shows(tmp_path, monkeypatch, **SERVICE | FAILED | {"Result": "start-limit-hit"})
    shown = wadctl(listening, "restart", "--json")
    assert shown.exit_code == 3
    assert json.loads(shown.stdout)["error"]["code"] == "start_failed"


def test_another_socket_is_none_of_systemd_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A developer's daemon has no unit."""
    monkeypatch.setattr(systemctl, "booted", lambda: True)
    systemctl_shows(tmp_path, monkeypatch, **SERVICE | FAILED)
    shown = wadctl(tmp_path / "other.sock", "status")
    assert shown.exit_code == 3
    assert "no daemon answers on" in shown.stderr
