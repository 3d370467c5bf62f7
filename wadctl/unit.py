"""Why a daemon does not answer, from the state of its systemd units."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

from wad.core import paths
from wad.core.errors import DaemonDown, StartFailed
from wad.core.start_failure import parse
from wad.systemd import systemctl

SERVICE: Final = "wad.service"
SOCKET: Final = "wad.socket"
_PROPERTIES: Final = (
    "LoadState", "ActiveState", "SubState", "Result", "ExecMainCode", "ExecMainStatus", "StatusText", "Listen",
)  # fmt: skip
_RESTART: Final = "sudo systemctl restart wad"
_LOG: Final = "journalctl -u wad -n 20"
_KILLED: Final = "2"  # CLD_KILLED, in ExecMainCode=
_EXEC_STEPS: Final = {  # exit codes of systemd's own steps before it runs the program: systemd.exec(5)
    "200": "CHDIR", "203": "EXEC", "206": "FDS", "216": "GROUP", "217": "USER", "218": "CAPABILITIES", "219": "CGROUP",
    "226": "NAMESPACE", "228": "SECCOMP", "233": "RUNTIME_DIRECTORY", "238": "STATE_DIRECTORY", "243": "CREDENTIALS",
}  # fmt: skip
_RESULTS: Final = {
    "timeout": "it did not become ready, or did not stop, in time",
    "watchdog": "it did not answer systemd's watchdog",
    "oom-kill": "the machine ran out of memory",
    "start-limit-hit": "it was started too often within a minute",
    "resources": "systemd lacks the resources to start it",
}


def why_down(path: str) -> DaemonDown | None:
    """Why the daemon does not answer on this socket; None when it is not the unit's socket, or no cause is known."""
    if not systemctl.booted():
        return None
    units = systemctl.show((SERVICE, SOCKET), _PROPERTIES)
    service, listening = units.get(SERVICE), units.get(SOCKET, {})
    if service is None or not _is_units(path, listening.get("Listen", "")):
        return None
    exists = os.path.exists(path)  # noqa: PTH110, is_socket() raises without permission
    return diagnose(service, path, exists=exists, log=lambda: systemctl.last_error(SERVICE))


def _is_units(path: str, listen: str) -> bool:
    """Whether `path` is the unit's socket.  `listen` as systemctl shows it: `/run/wad/control.sock (Stream)`."""
    given = os.path.abspath(path)  # noqa: PTH100, links are not resolved
    return given in (str(paths.RUNTIME_DIR / paths.SOCKET), listen.rpartition(" (")[0])


def diagnose(
    service: Mapping[str, str], path: str, *, exists: bool, log: Callable[[], str]
) -> DaemonDown | None:
    """The error that the service's properties show; `exists`: whether the socket's file exists.  None: none."""
    state = service.get("ActiveState", "")
    if service.get("LoadState") == "masked":
        return DaemonDown(
            "wad.service is masked", hint="sudo systemctl unmask wad && sudo systemctl start wad"
        )
    if state == "active":
        if exists:
            return None
        return DaemonDown(
            f"wad runs, but {path} is gone", hint=f"{_RESTART}.socket    # creates it again"
        )
    if (announced := parse(service.get("StatusText", ""))) is not None:
        if announced.pause is None:
            return StartFailed(f"wad {announced}", hint=f"fix that, then: {_RESTART}")
        return DaemonDown(
            f"wad {announced}", hint=f"it starts by itself once that is fixed; {_LOG}"
        )
    if state == "failed":
        return StartFailed(f"wad does not run: {_result(service, log)}", hint=f"{_LOG}; {_RESTART}")
    if service.get("SubState") == "auto-restart" and service.get("Result") != "success":
        return DaemonDown(
            f"wad cannot start: {_result(service, log)} (systemd tries again)", hint=_LOG
        )
    if state == "inactive":
        return DaemonDown("wad is stopped", hint="sudo systemctl start wad")
    return None  # it is starting or stopping, and may still answer


def _result(service: Mapping[str, str], log: Callable[[], str]) -> str:
    """How the last process ended, as text."""
    result, status = service.get("Result", ""), service.get("ExecMainStatus", "")
    if result in _RESULTS:
        return _RESULTS[result]
    if service.get("ExecMainCode") == _KILLED:
        return f"it was killed by signal {status}"
    if status in _EXEC_STEPS:
        return log() or f"systemd cannot run it ({status}/{_EXEC_STEPS[status]})"
    return log() or f"it exited with code {status}"
