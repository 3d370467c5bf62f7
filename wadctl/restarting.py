"""`restart`: requests a restart of the daemon and waits until the new process answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import click

from wad.api.views.daemon import Restarting
from wad.api.views.status import StatusView
from wad.core.errors import DaemonDown, StartFailed, TimedOut, Unavailable, WadError
from wadctl.invocation import Invocation

_POLL_S: Final = 0.2
_STATUS_TIMEOUT_S: Final = 5.0  # for one status request to a daemon that may be starting


@dataclass
class RestartRun:
    """The progress of a restart; error documents name the `step`."""

    step: str = "look"
    before: str | None = None
    after: str | None = None
    accounts_before: int | None = None
    accounts_after: int | None = None
    seconds: float = 0.0
    """From the request until the new process had every account."""

    def facts(self) -> dict[str, Any]:
        """The fields of the JSON document."""
        return {
            "service": "wad",
            "before": self.before,
            "after": self.after,
            "accountsBefore": self.accounts_before,
            "accountsAfter": self.accounts_after,
        }


def restart_daemon(invocation: Invocation, timeout: float) -> None:
    """Restart, wait until the new process answers with every account, and print it.  Raises Exit on failure."""
    restart = RestartRun()
    try:
        perform(invocation, restart, timeout)
    except WadError as error:
        invocation.print_failure(error, step=restart.step, **restart.facts())
        raise click.exceptions.Exit(error.exit_code) from error
    invocation.print_line(
        f"restarted: ready after {restart.seconds:.1f} s, {restart.accounts_after} of"
        f" {restart.accounts_before} accounts"
    )
    if invocation.json:
        invocation.print_json({"ok": True, **restart.facts()})


def perform(invocation: Invocation, restart: RestartRun, timeout: float, command: str = "") -> None:
    """Request the restart, or run `command`, and wait until a new process has every account.  Raises WadError."""
    with invocation.client() as client:
        status = client.fetch(StatusView, "status")
        restart.before, restart.accounts_before = status.boot_id, len(status.accounts)
        restart.step = "ask"
        if not command:
            restart.before = client.fetch(Restarting, "restart").boot_id
    if command:
        _run(command, timeout)
    restart.step = "wait"
    invocation.print_line("restart requested; waiting for the new process ...")
    begun, found = invocation.monotonic(), "no reply"
    end = begun + timeout
    while invocation.monotonic() < end:
        try:
            if not (found := _pending(invocation, restart)):
                restart.seconds = invocation.monotonic() - begun
                return
        except StartFailed:
            raise  # no new process will start
        except (DaemonDown, Unavailable, TimedOut) as error:
            found = str(error)
        invocation.sleep(_POLL_S)
    raise TimedOut(
        f"the daemon was not back within {timeout:g} s: {found}",
        hint="systemctl status wad, journalctl -u wad",
    )


def _run(command: str, timeout: float) -> None:
    """Run a shell command.  Raises Unavailable when it fails, TimedOut."""
    import subprocess

    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise TimedOut(f"the restart command did not finish within {timeout:g} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        why = f": {lines[-1].strip()}" if lines else ""
        raise Unavailable(f"the restart command exited with {done.returncode}{why}")


def _pending(invocation: Invocation, restart: RestartRun) -> str:
    """Why the restart is not complete yet; empty when it is."""
    with invocation.client(_STATUS_TIMEOUT_S) as client:
        status = client.fetch(StatusView, "status")
    if status.boot_id == restart.before:
        return "the old process still answers"
    if not status.ready:
        return "the new process is starting"
    restart.after, restart.accounts_after = status.boot_id, len(status.accounts)
    loaded, expected = restart.accounts_after, restart.accounts_before or 0
    return "" if loaded >= expected else f"the new process has {loaded} of {expected} accounts"
