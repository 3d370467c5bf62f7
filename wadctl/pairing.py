"""`account pair`: shows QR codes, or a code to type, until the phone has used one, and prints the result.

The account is read with `accounts.show` at every event and every two seconds, so a missed event does no harm.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from wad.api.views.account import AccountView
from wad.core.errors import BadInput, EngineFailure, Passive, TimedOut, WadError
from wad.lib.files import write_file
from wadctl.client import Client, Stream
from wadctl.invocation import Invocation
from wadctl.qr import draw, png
from wadctl.screen import Screen, columns, duration, plain, screen_of

_POLL_S: Final = 2.0  # the account is read this often even without an event
_ENDED: Final = frozenset(
    {"passive", "logged_out", "replaced", "banned", "outdated", "stopped", "elsewhere", "failed"}
)
_CLEAR: Final = "\x1b[2J\x1b[H"
_HOW: Final = "WhatsApp > Linked devices > Link a device, then point it at this code."
_HOW_BY_CODE: Final = (
    "WhatsApp > Linked devices > Link a device > Link with phone number instead, or tap the"
    " notification."
)


@dataclass(frozen=True)
class PairingOptions:
    """The options of `account pair`.  `timeout` in seconds; 0: while the pairing window is open.

    `code`: a code of eight characters instead of a QR code; `phone`: the number of the phone for it, empty for the
    account's number.  `png`: a file for the QR code, which is not drawn then.
    """

    timeout: float = 0
    code: bool = False
    phone: str = ""
    png: Path | None = None


@dataclass
class _Shown:
    """What has been shown so far."""

    code: str = ""
    codes: int = 0
    reason: str = ""
    size: tuple[int, int] = (0, 0)


def pair(invocation: Invocation, account: str, options: PairingOptions = PairingOptions()) -> None:
    """Pair, and return when the account is connected.

    Raises TimedOut, Conflict, EngineFailure, DaemonDown; KeyboardInterrupt leaves the window open.
    """
    request: dict[str, object] = {"account": account}
    if options.code or options.phone:
        if options.png is not None:
            raise BadInput(
                "--png writes a QR code, --code asks for a code to type",
                hint=f"wadctl account pair {shlex.quote(account)} --code",
            )
        request |= {"code": True, "phone": options.phone}
    with invocation.client() as client, invocation.client() as events:
        ident = client.fetch(AccountView, "accounts.pair", request).id
        updates = events.stream("events", {"account": ident, "follow": True})
        try:
            _follow(invocation, ident, client, updates, options)
        except KeyboardInterrupt:
            _interrupted(invocation, ident, options)
            raise


def _follow(
    invocation: Invocation, ident: str, client: Client, updates: Stream, options: PairingOptions
) -> None:
    shown, timeout = _Shown(), options.timeout
    end = invocation.monotonic() + timeout
    while True:
        view = client.fetch(AccountView, "accounts.show", {"account": ident})
        if view.state == "connected":
            _connected(invocation, view)
            return
        _raise_if_ended(view)
        if (options.code or options.phone) and view.pairing_phone is None:
            raise EngineFailure(
                f"{ident} was not paired: {view.reason}",
                hint=f"wadctl account pair {ident} shows a QR code",
            )
        _show(invocation, view, shown, options)
        left = end - invocation.monotonic() if timeout else _POLL_S
        if left <= 0:
            raise TimedOut(
                f"{ident} was not paired within {timeout:g} s ({view.reason})",
                hint=f"the pairing window stays open for a while: {_again(ident, options)}",
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


def _show(
    invocation: Invocation, view: AccountView, shown: _Shown, options: PairingOptions
) -> None:
    by_code = options.code or bool(options.phone)
    code = (view.pairing_code if by_code else view.qr) or ""
    if not invocation.json:  # the window may have been resized
        invocation.screen = screen_of(sys.stdout, os.environ)
    size = (invocation.screen.width, invocation.screen.height)
    if code and (code != shown.code or (size != shown.size and not by_code and not options.png)):
        new = code != shown.code
        shown.code, shown.codes, shown.size = code, shown.codes + new, size
        if options.png is not None:
            write_file(options.png, png(code))
        if invocation.json:
            event = "code" if by_code else "qr"
            invocation.print_json({"event": event, "code": code, "number": shown.codes})
        else:
            page = _code_page if by_code else _qr_page if options.png is None else _png_page
            lines = page(invocation.screen, view, shown, options)
            click.echo("\n".join(lines), color=invocation.screen.colour)
    elif not code and view.reason != shown.reason:
        if invocation.json:
            invocation.print_json({"event": "waiting", "reason": view.reason})
        invocation.print_line(f"{view.id}: {plain(view.reason)} ...")
    shown.reason = view.reason


def _qr_page(
    screen: Screen, view: AccountView, shown: _Shown, options: PairingOptions
) -> list[str]:
    """The screen while a QR code is valid.  A terminal that is too small gets no code: a cut one cannot be scanned."""
    lines = draw(shown.code, colour=screen.colour)
    text = [*screen.paragraph("On the phone:", "bold", _HOW), *_left(screen, view, shown)]
    width = max(columns(line) for line in draw(shown.code, colour=False))
    height = len(lines) + len(text) + 1  # the cursor's line
    if screen.terminal and (screen.width < width or 0 < screen.height < height):
        text = screen.paragraph(
            "The terminal is too small",
            "red",
            f"for the QR code: it has {screen.width} columns and {screen.height} lines, and {width} columns and"
            f" {height} lines are needed. Enlarge the window or choose a smaller font, and the code appears. Or press"
            " Ctrl-C and use one of these:",
        )
        command = f"wadctl account pair {view.id}"
        text += [f"  {command} --code", f"  {command} --png FILE", *_left(screen, view, shown)]
        return [f"{_CLEAR}{text[0]}", *text[1:]]
    return [
        *([f"{_CLEAR}{lines[0]}"] if screen.terminal else [shown.code, lines[0]]),
        *lines[1:],
        *text,
    ]


def _png_page(
    screen: Screen, view: AccountView, shown: _Shown, options: PairingOptions
) -> list[str]:
    """The text while a QR code is in a file."""
    head = screen.paragraph("On the phone:", "bold", _HOW)
    return [f"The QR code is in {options.png}.", *head, *_left(screen, view, shown)]


def _code_page(
    screen: Screen, view: AccountView, shown: _Shown, options: PairingOptions
) -> list[str]:
    """The text while a code to type is valid."""
    return [
        *screen.paragraph(f"On the phone {view.pairing_phone}:", "bold", _HOW_BY_CODE),
        f"Enter this code:  {screen.paint(shown.code, 'bold')}",
        *_left(screen, view, shown),
    ]


def _left(screen: Screen, view: AccountView, shown: _Shown) -> list[str]:
    return screen.paragraph(
        f"This is code {shown.codes};",
        "bold",
        f"it is replaced automatically when it expires. Time left: {duration(view.pairing_ends_in_s)}."
        " Ctrl-C leaves the pairing window open.",
    )


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


def _interrupted(invocation: Invocation, ident: str, options: PairingOptions) -> None:
    if invocation.json:
        invocation.print_json({"event": "interrupted", "account": ident})
    click.echo(
        f"\nNot paired yet. The pairing window stays open; {_again(ident, options)} shows the code again.",
        err=True,
    )


def _again(ident: str, options: PairingOptions) -> str:
    """The command that continues this pairing."""
    more = " --code" if options.code or options.phone else ""
    more += f" --phone {shlex.quote(options.phone)}" if options.phone else ""
    more += f" --png {shlex.quote(str(options.png))}" if options.png is not None else ""
    return f"wadctl account pair {ident}{more}"
