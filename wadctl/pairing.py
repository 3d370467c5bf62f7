"""`account pair`: shows the QR codes until the phone has scanned one, and says how it ended.

What is shown comes from `accounts.show`, asked again at every event and every two seconds: a missed event is no loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import click

from wad.core.errors import EngineFailure, Passive, TimedOut, WadError
from wadctl.client import Stream
from wadctl.qr import draw
from wadctl.screen import columns, duration, plain
from wadctl.session import Invocation

_LOOK: Final = 2.0  # seconds after which the account is looked at even if no event came
_ENDED: Final = frozenset(
    {"passive", "logged_out", "replaced", "banned", "outdated", "stopped", "elsewhere", "failed"}
)
_CLEAR: Final = "\x1b[2J\x1b[H"
_HOW: Final = "On the phone: WhatsApp > Linked devices > Link a device, then point it at this code."


@dataclass
class _Shown:
    """What the person has seen."""

    code: str = ""
    codes: int = 0
    reason: str = ""


def pair(session: Invocation, account: str, timeout: float = 0) -> None:
    """Pair, and return when the account is connected.  `timeout` in seconds; 0: while the window is open.

    Raises TimedOut, Conflict, EngineFailure, DaemonDown; KeyboardInterrupt leaves the window open.
    """
    with session.client() as client, session.client() as events:
        view = client.call("accounts.pair", {"account": account})
        ident = view["id"]
        happenings = events.stream("events", {"account": ident, "follow": True})
        try:
            _follow(session, ident, client.call, happenings, timeout)
        except KeyboardInterrupt:
            _interrupted(session, ident)
            raise


def _follow(session: Invocation, ident: str, call: Any, happenings: Stream, timeout: float) -> None:
    shown, end = _Shown(), session.now() + timeout
    while True:
        view = call("accounts.show", {"account": ident})
        if view["state"] == "connected":
            _connected(session, view)
            return
        _refuse_end(view)
        _show(session, view, shown)
        left = end - session.now() if timeout else _LOOK
        if left <= 0:
            raise TimedOut(
                f"{ident} was not paired within {timeout:g} s ({view['reason']})",
                hint=f"the window stays open for a while: wadctl account pair {ident}",
            )
        happenings.next(min(_LOOK, left))


def _refuse_end(view: Any) -> None:
    """Raises when waiting longer is of no use."""
    ident, state, reason = view["id"], view["state"], view["reason"]
    hint = view["action"] or f"wadctl account show {ident}"
    if state in _ENDED:
        kind: type[WadError] = Passive if state == "passive" else EngineFailure
        raise kind(f"{ident} is {state}: {reason}", hint=hint)
    if state == "awaiting_scan" and view["pairing_s"] is None:
        raise TimedOut(f"{ident} was not paired: {reason}", hint=f"wadctl account pair {ident}")


# --- what a person sees -----------------------------------------------------------------------------


def _show(session: Invocation, view: Any, shown: _Shown) -> None:
    if view["qr"] and view["qr"] != shown.code:
        shown.code, shown.codes = view["qr"], shown.codes + 1
        if session.json:
            session.document({"event": "qr", "code": shown.code, "number": shown.codes})
        else:
            click.echo("\n".join(_page(session, view, shown)), color=session.screen.colour)
    elif not view["qr"] and view["reason"] != shown.reason:
        if session.json:
            session.document({"event": "waiting", "reason": view["reason"]})
        session.say(f"{view['id']}: {plain(view['reason'])} ...")
    shown.reason = view["reason"]


def _page(session: Invocation, view: Any, shown: _Shown) -> list[str]:
    """All that is on the screen while a code is valid."""
    screen = session.screen
    lines = draw(shown.code, colour=screen.colour)
    page = [
        *([f"{_CLEAR}{lines[0]}"] if screen.terminal else [shown.code, lines[0]]),
        *lines[1:],
        _HOW,
        f"This is code {shown.codes}; another takes its place by itself when it ends."
        f" Time left: {duration(view['pairing_s'])}. Ctrl-C leaves the window open.",
    ]
    width = max(columns(line) for line in draw(shown.code, colour=False))
    if screen.terminal and (screen.width < width or 0 < screen.height < len(lines) + 3):
        page.append(
            f"The terminal is too small: make it {width} columns and {len(lines) + 3} lines large."
        )
    return page


def _connected(session: Invocation, view: Any) -> None:
    if session.json:
        session.document(
            {
                "event": "connected",
                "account": view["id"],
                "phone": view["phone"],
                "jid": view["jid"],
            }
        )
    session.say(f"{view['id']} is connected as {view['phone'] or view['jid'] or '?'}")


def _interrupted(session: Invocation, ident: str) -> None:
    if session.json:
        session.document({"event": "interrupted", "account": ident})
    click.echo(
        f"\nNot paired yet. The pairing window stays open; wadctl account pair {ident} shows the code again.",
        err=True,
    )
