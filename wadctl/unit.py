"""What systemd knows of a daemon that does not answer, so that nobody waits for one that does not come."""

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
_ASKED: Final = (
    "LoadState", "ActiveState", "SubState", "Result", "ExecMainCode", "ExecMainStatus", "StatusText", "Listen",
)  # fmt: skip
_RESTART: Final = "sudo systemctl restart wad"
_LOG: Final = "journalctl -u wad -n 20"
_KILLED: Final = "2"  # CLD_KILLED, as ExecMainCode= has it
_BEFORE: Final = {  # steps of systemd before the program runs: systemd.exec(5), process exit codes
    "200": "CHDIR", "203": "EXEC", "206": "FDS", "216": "GROUP", "217": "USER", "218": "CAPABILITIES", "219": "CGROUP",
    "226": "NAMESPACE", "228": "SECCOMP", "233": "RUNTIME_DIRECTORY", "238": "STATE_DIRECTORY", "243": "CREDENTIALS",
}  # fmt: skip
_RESULTS: Final = {
    "timeout": "it did not get ready, or did not stop, in time",
    "watchdog": "it did not answer systemd's watchdog",
    "oom-kill": "the machine ran out of memory",
    "start-limit-hit": "it was started too often in a minute",
    "resources": "systemd has not got what it needs for it",
}


def why_down(path: str) -> DaemonDown | None:
    """Why nobody answers on this socket.  None: it is not that of a unit, or nothing is wrong, as far as is known."""
    if not systemctl.booted():
        return None
    units = systemctl.show((SERVICE, SOCKET), _ASKED)
    service, listening = units.get(SERVICE), units.get(SOCKET, {})
    if service is None or not _is_units(path, listening.get("Listen", "")):
        return None
    there = os.path.exists(path)  # noqa: PTH110, is_socket() raises where we may not look
    return judge(service, path, there=there, log=lambda: systemctl.last_error(SERVICE))


def _is_units(path: str, listen: str) -> bool:
    """`listen` as systemctl shows it: `/run/wad/control.sock (Stream)`."""
    given = os.path.abspath(path)  # noqa: PTH100, links are none of our business
    return given in (str(paths.RUNTIME_DIR / paths.SOCKET), listen.rpartition(" (")[0])


def judge(
    service: Mapping[str, str], path: str, *, there: bool, log: Callable[[], str]
) -> DaemonDown | None:
    """What these properties of the service say of a socket that is `there`, or is not."""
    state = service.get("ActiveState", "")
    if service.get("LoadState") == "masked":
        return DaemonDown(
            "wad.service is masked", hint="sudo systemctl unmask wad && sudo systemctl start wad"
        )
    if state == "active":
        if there:
            return None
        return DaemonDown(
            f"wad runs, but {path} is gone", hint=f"{_RESTART}.socket    # makes it again"
        )
    if (announced := parse(service.get("StatusText", ""))) is not None:
        if announced.pause is None:
            return StartFailed(f"wad {announced}", hint=f"mend that, then: {_RESTART}")
        return DaemonDown(
            f"wad {announced}", hint=f"it goes on by itself once that is mended; {_LOG}"
        )
    if state == "failed":
        return StartFailed(f"wad does not run: {_result(service, log)}", hint=f"{_LOG}; {_RESTART}")
    if service.get("SubState") == "auto-restart" and service.get("Result") != "success":
        return DaemonDown(
            f"wad cannot start: {_result(service, log)} (systemd tries again)", hint=_LOG
        )
    if state == "inactive":
        return DaemonDown("wad is stopped", hint="sudo systemctl start wad")
    return None  # it starts, or ends: it may answer yet


def _result(service: Mapping[str, str], log: Callable[[], str]) -> str:
    """How the last process ended, in words."""
    result, status = service.get("Result", ""), service.get("ExecMainStatus", "")
    if result in _RESULTS:
        return _RESULTS[result]
    if service.get("ExecMainCode") == _KILLED:
        return f"it was killed by signal {status}"
    if status in _BEFORE:
        return log() or f"systemd cannot run it ({status}/{_BEFORE[status]})"
    return log() or f"it ended with exit code {status}"
