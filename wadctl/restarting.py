"""`restart`: a daemon is asked to restart, and is believed to have done so only when another process answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import click

from wad.core.errors import DaemonDown, StartFailed, TimedOut, Unavailable, WadError
from wadctl.session import Invocation

_LOOK: Final = 0.2  # seconds between looks
_ANSWER: Final = 5.0  # seconds that a daemon which is starting may take to answer one look


@dataclass
class RestartRun:
    """How far it went; `step` is what failures name."""

    step: str = "look"
    before: str | None = None
    after: str | None = None
    accounts_before: int | None = None
    accounts_after: int | None = None

    def facts(self) -> dict[str, Any]:
        """As --json shows them."""
        return {
            "service": "wad",
            "before": self.before,
            "after": self.after,
            "accountsBefore": self.accounts_before,
            "accountsAfter": self.accounts_after,
        }


def restart_daemon(session: Invocation, timeout: float) -> None:
    """Restart, wait until the next process answers and knows every account, and say so.  Raises Exit on failure."""
    restart = RestartRun()
    try:
        perform(session, restart, timeout)
    except WadError as error:
        session.failed(error, step=restart.step, **restart.facts())
        raise click.exceptions.Exit(error.exit_code) from error
    session.say(
        f"restarted: {restart.before} -> {restart.after}, {restart.accounts_after} accounts"
    )
    if session.json:
        session.document({"ok": True, **restart.facts()})


def perform(session: Invocation, restart: RestartRun, timeout: float, command: str = "") -> None:
    """Ask, or run what restarts it, and wait until another process knows every account.  Raises WadError."""
    with session.client() as client:
        status = client.call("status")
        restart.before, restart.accounts_before = status["boot_id"], len(status["accounts"])
        restart.step = "ask"
        if not command:
            restart.before = client.call("restart")["boot_id"]
    if command:
        _run(command, timeout)
    restart.step = "wait"
    session.say("asked; waiting for the next process ...")
    end, found = session.now() + timeout, "nobody answers"
    while session.now() < end:
        try:
            if not (found := _look(session, restart)):
                return
        except StartFailed:
            raise  # no next process comes
        except (DaemonDown, Unavailable, TimedOut) as error:
            found = str(error)
        session.sleep(_LOOK)
    raise TimedOut(
        f"the daemon was not back within {timeout:g} s: {found}",
        hint="systemctl status wad, journalctl -u wad",
    )


def _run(command: str, timeout: float) -> None:
    """A line of shell.  Raises Unavailable when it fails, TimedOut."""
    import subprocess

    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise TimedOut(f"the command to restart did not end within {timeout:g} s") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        why = f": {said[-1].strip()}" if said else ""
        raise Unavailable(f"the command to restart ended with {done.returncode}{why}")


def _look(session: Invocation, restart: RestartRun) -> str:
    """Why it is not done yet; empty when it is."""
    with session.client(_ANSWER) as client:
        status = client.call("status")
    if status["boot_id"] == restart.before:
        return "the process from before still answers"
    if not status.get("ready", True):
        return "the next process is starting"
    restart.after, restart.accounts_after = status["boot_id"], len(status["accounts"])
    known, wanted = restart.accounts_after, restart.accounts_before or 0
    return "" if known >= wanted else f"the next process knows {known} of {wanted} accounts"
