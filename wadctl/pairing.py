"""`account pair`: shows QR codes until the phone has scanned one, and prints the result.

The account is read with `accounts.show` at every event and every two seconds, so a missed event does no harm.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Final

import click

from wad.api.views.account import AccountView
from wad.core.errors import EngineFailure, Passive, TimedOut, WadError
from wadctl.client import Client, Stream
from wadctl.invocation import Invocation
from wadctl.qr import draw
from wadctl.screen import columns, duration, plain, screen_of

_POLL_S: Final = 2.0  # the account is read this often even without an event
_ENDED: Final = frozenset(
    {"passive", "logged_out", "replaced", "banned", "outdated", "stopped", "elsewhere", "failed"}
)
_CLEAR: Final = "\x1b[2J\x1b[H"
_HOW: Final = "WhatsApp > Linked devices > Link a device, then point it at this code."


@dataclass
class _Shown:
    """What has been shown so far."""

    code: str = ""
    codes: int = 0
    reason: str = ""


def pair(invocation: Invocation, account: str, timeout: float = 0) -> None:
    """Pair, and return when the account is connected.  `timeout` in seconds; 0: while the pairing window is open.

    Raises TimedOut, Conflict, EngineFailure, DaemonDown; KeyboardInterrupt leaves the window open.
    """
    with invocation.client() as client, invocation.client() as events:
        ident = client.fetch(AccountView, "accounts.pair", {"account": account}).id
        updates = events.stream("events", {"account": ident, "follow": True})
        try:
            _follow(invocation, ident, client, updates, timeout)
        except KeyboardInterrupt:
            _interrupted(invocation, ident)
            raise


def _follow(
    invocation: Invocation, ident: str, client: Client, updates: Stream, timeout: float
) -> None:
    shown, end = _Shown(), invocation.monotonic() + timeout
    while True:
        view = client.fetch(AccountView, "accounts.show", {"account": ident})
        if view.state == "connected":
            _connected(invocation, view)
            return
        _raise_if_ended(view)
        _show(invocation, view, shown)
        left = end - invocation.monotonic() if timeout else _POLL_S
        if left <= 0:
            raise TimedOut(
                f"{ident} was not paired within {timeout:g} s ({view.reason})",
                hint=f"the pairing window stays open for a while: wadctl account pair {ident}",
            )
        updates.next(min(_POLL_S, left))


def _raise_if_ended(view: AccountView) -> None:
    """Raise when the account's state shows that pairing has ended without success."""
    ident, state, reason = view.id, view.state, view.reason
    hint = view.action or f"wadctl account show {ident}"
    if state in _ENDED:
        kind: type[WadError] = Passive if state == "passive" else EngineFailure
        raise kind(f"{ident} is {state}: {reason}", hint=hint)
    if state == "awaiting_scan" and view.pairing_ends_in_s is None:
        raise TimedOut(f"{ident} was not paired: {reason}", hint=f"wadctl account pair {ident}")


# --- output -------------------------------------------------------------------------------------------


def _show(invocation: Invocation, view: AccountView, shown: _Shown) -> None:
    if view.qr and view.qr != shown.code:
        shown.code, shown.codes = view.qr, shown.codes + 1
        if invocation.json:
            invocation.print_json({"event": "qr", "code": shown.code, "number": shown.codes})
        else:
            # The window may have been resized.
            invocation.screen = screen_of(sys.stdout, os.environ)
            click.echo("\n".join(_page(invocation, view, shown)), color=invocation.screen.colour)
    elif not view.qr and view.reason != shown.reason:
        if invocation.json:
            invocation.print_json({"event": "waiting", "reason": view.reason})
        invocation.print_line(f"{view.id}: {plain(view.reason)} ...")
    shown.reason = view.reason


def _page(invocation: Invocation, view: AccountView, shown: _Shown) -> list[str]:
    """The screen while a code is valid."""
    screen = invocation.screen
    lines = draw(shown.code, colour=screen.colour)
    page = [
        *([f"{_CLEAR}{lines[0]}"] if screen.terminal else [shown.code, lines[0]]),
        *lines[1:],
        *screen.paragraph("On the phone:", "bold", _HOW),
        *screen.paragraph(
            f"This is code {shown.codes};",
            "bold",
            f"it is replaced automatically when it expires. Time left: {duration(view.pairing_ends_in_s)}."
            " Ctrl-C leaves the pairing window open.",
        ),
    ]
    width = max(columns(line) for line in draw(shown.code, colour=False))
    height = len(page) + 1  # the cursor's line
    if screen.terminal and (screen.width < width or 0 < screen.height < height):
        page += screen.paragraph(
            "The terminal is too small:",
            "red",
            f"it needs {width} columns and {height} lines. Enlarge the window or choose a smaller font; the next code"
            " is then shown whole.",
        )
    return page


def _connected(invocation: Invocation, view: AccountView) -> None:
    if invocation.json:
        invocation.print_json(
            {
                "event": "connected",
                "account": view.id,
                "phone": view.phone,
                "jid": view.jid,
            }
        )
    invocation.print_line(f"{view.id} is connected as {view.phone or view.jid or '?'}")


def _interrupted(invocation: Invocation, ident: str) -> None:
    if invocation.json:
        invocation.print_json({"event": "interrupted", "account": ident})
    click.echo(
        f"\nNot paired yet. The pairing window stays open; wadctl account pair {ident} shows the code again.",
        err=True,
    )
