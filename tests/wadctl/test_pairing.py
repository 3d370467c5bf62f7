"""Pairing with wadctl: in a pipe, as JSON, on a terminal."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.fake_daemon import FakeDaemon
from tests.support.wadctl_world import (
    COMMAND,
    Served,
    Terminal,
    environment,
    run,
    served,
)
from wad.core.connection import State

CODE: Final = "2@" + "abcDEF0123/+=," * 12
QR_ROW: Final = re.compile(r"^[█▀▄ ]{20,}$", re.MULTILINE)


def fresh(world: Served, qr: str = CODE) -> None:
    """An account that shows a code."""

    def make(daemon: FakeDaemon) -> None:
        account = daemon.accounts.have("acc-9", "New")
        until = daemon.clock.now + 600
        account.become(State.AWAITING_SCAN, "scan the QR code", qr=qr, pair_until=until)

    world.do(make)


def change(world: Served, state: State, reason: str, **more: Any) -> None:
    """Change the account's state, and publish an event."""

    def happen(daemon: FakeDaemon) -> None:
        daemon.accounts.find("acc-9").become(state, reason, **more)
        daemon.bus.publish("state", reason, account="acc-9")

    world.do(happen)


def start(world: Served, *arguments: str) -> subprocess.Popen[str]:
    """wadctl in a pipe of its own."""
    return subprocess.Popen(
        [*COMMAND, *arguments], env=environment(world.socket), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def line(process: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """The exit code and the rest of the output."""
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_pairing_as_json(world: Served) -> None:
    """Each new code once, then the number."""
    fresh(world)
    process = start(world, "account", "pair", "acc-9", "--json")
    assert json.loads(line(process)) == {"event": "qr", "code": CODE, "number": 1}
    change(world, State.AWAITING_SCAN, "scan", qr="2@next", pair_until=9e9)
    assert json.loads(line(process))["code"] == "2@next"
    change(world, State.CONNECTED, "logged in")
    code, out, _ = end(process)
    assert code == 0
    assert json.loads(out)["event"] == "connected"
    assert json.loads(out)["phone"] == "+15550000001"
    assert world.daemon.accounts.find("acc-9").orders == ["pair"]


def test_pairing_in_a_pipe(world: Served) -> None:
    """The code as text and drawn, once, without anything for terminals."""
    fresh(world)
    process = start(world, "account", "pair", "acc-9")
    assert line(process) == CODE
    while not line(process).startswith("On the phone: WhatsApp > Linked devices"):
        pass
    change(world, State.CONNECTED, "logged in")
    code, out, _ = end(process)
    assert code == 0
    assert out.endswith("acc-9 is connected as +15550000001\n")
    assert "\x1b" not in out


def test_pairing_on_a_terminal(world: Served, terminal: Callable[..., Terminal]) -> None:
    """The screen is cleared, the code is black on white, and a new one replaces it."""
    fresh(world)
    shown = terminal("account", "pair", "acc-9")
    shown.read_until("This is code 1")
    assert shown.seen.count("\x1b[2J\x1b[H") == 1
    assert "\x1b[30;107m" in shown.seen
    assert CODE not in shown.seen
    change(world, State.AWAITING_SCAN, "scan", qr="2@next", pair_until=9e9)
    shown.read_until("This is code 2")
    assert shown.seen.count("\x1b[2J\x1b[H") == 2
    change(world, State.CONNECTED, "logged in")
    assert shown.wait() == 0


def test_pairing_without_colour(world: Served, terminal: Callable[..., Terminal]) -> None:
    """The code is drawn with blocks alone."""
    fresh(world)
    shown = terminal("account", "pair", "acc-9", NO_COLOR="1")
    shown.read_until("This is code 1")
    assert "\x1b[30" not in shown.seen
    assert len(QR_ROW.findall(shown.seen.replace("\r\n", "\n"))) > 15


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (60, 24), (40, 60)])
def test_a_terminal_too_small(
    world: Served, terminal: Callable[..., Terminal], columns: int, lines: int
) -> None:
    """A code that does not fit is not drawn; the text says the size and the other ways, within the screen."""
    fresh(world)
    shown = terminal("account", "pair", "acc-9", columns=columns, lines=lines, NO_COLOR="1")
    shown.read_until("open.")
    page = shown.seen.rpartition("\x1b[H")[2].splitlines()
    assert page[0].startswith("The terminal is too small")
    assert "  wadctl account pair acc-9 --code" in page
    assert "  wadctl account pair acc-9 --png FILE" in page
    assert max(map(len, page)) <= columns
    assert len(page) < lines
    assert "█" not in shown.seen


def test_a_terminal_that_is_enlarged(world: Served, terminal: Callable[..., Terminal]) -> None:
    """The code appears without a new command."""
    fresh(world)
    shown = terminal("account", "pair", "acc-9", columns=80, lines=24, NO_COLOR="1")
    shown.read_until("The terminal is too small")
    shown.resize(columns=80, lines=60)
    shown.read_until("█")


def code_shown(world: Served, code: str = "ABCD-EFGH") -> None:
    """The code to type of an account that shows one."""
    change(
        world, State.AWAITING_SCAN, "enter the code", qr=CODE, pair_until=9e9,
        pairing_phone="15550000001", pairing_code=code,
    )  # fmt: skip


def test_pairing_by_a_code_to_type(world: Served, terminal: Callable[..., Terminal]) -> None:
    """The code, the phone and where to type it; 24 lines of 60 columns are enough."""
    fresh(world)
    code_shown(world)
    shown = terminal("account", "pair", "acc-9", "--code", columns=60, lines=24, NO_COLOR="1")
    shown.read_until("pairing window open.")
    assert "Enter this code:  ABCD-EFGH" in shown.seen
    assert "On the phone +15550000001:" in shown.seen
    assert "█" not in shown.seen
    assert max(map(len, shown.seen.splitlines())) <= 60
    code_shown(world, "WXYZ-1234")
    shown.read_until("Enter this code:  WXYZ-1234")
    change(world, State.CONNECTED, "logged in")
    assert shown.wait() == 0
    assert world.daemon.accounts.find("acc-9").orders == ["pair +15550000001"]


def test_pairing_by_a_code_as_json(world: Served) -> None:
    """The code is an event of its own."""
    fresh(world)
    code_shown(world)
    process = start(world, "account", "pair", "acc-9", "--code", "--json")
    assert json.loads(line(process)) == {"event": "code", "code": "ABCD-EFGH", "number": 1}
    change(world, State.CONNECTED, "logged in")
    assert end(process)[0] == 0


def test_a_code_that_whatsapp_refuses(world: Served) -> None:
    """The reason, and the other way."""
    fresh(world)
    process = start(world, "account", "pair", "acc-9", "--code")
    code, _, err = end(process)
    assert code == 9
    assert "acc-9 was not paired: scan the QR code" in err
    assert "hint: wadctl account pair acc-9 shows a QR code" in err


def test_a_code_needs_a_number(world: Served) -> None:
    """That of the account, or one that is given; otherwise the hint is the command with a number."""
    fresh(world)
    world.do(lambda d: setattr(d.accounts.find("acc-9").card, "phone", ""))
    result = run(world, "account", "pair", "acc-9", "--code")
    assert result.exit_code == 2
    assert "hint: wadctl account pair acc-9 --code --phone +15550000001" in result.stderr


def test_the_qr_code_as_a_file(world: Served, tmp_path: Path) -> None:
    """A PNG image that nobody else can read, replaced by each new code."""
    fresh(world)
    file = tmp_path / "a code.png"
    process = start(world, "account", "pair", "acc-9", "--png", str(file))
    assert line(process) == f"The QR code is in {file}."
    first = file.read_bytes()
    assert first.startswith(b"\x89PNG\r\n\x1a\n")
    assert file.stat().st_mode & 0o777 == 0o600
    change(world, State.AWAITING_SCAN, "scan", qr="2@next", pair_until=9e9)
    while line(process) != f"The QR code is in {file}.":
        pass
    assert file.read_bytes() != first
    process.send_signal(signal.SIGINT)
    code, out, err = end(process)
    assert code == 130
    assert f"wadctl account pair acc-9 --png '{file}' shows the code again" in err
    assert "█" not in out


def test_a_qr_code_file_that_cannot_be_written(world: Served, tmp_path: Path) -> None:
    """One line, and its code."""
    fresh(world)
    result = run(world, "account", "pair", "acc-9", "--png", str(tmp_path / "no" / "code.png"))
    assert result.exit_code == 8
    assert "code.png" in result.stderr


def test_pairing_without_a_scan(world: Served) -> None:
    """The end of the window is an error with a hint to try again."""
    fresh(world)
    process = start(world, "account", "pair", "acc-9", "--json")
    line(process)
    change(world, State.AWAITING_SCAN, "the code was not scanned in time")
    code, out, err = end(process)
    assert code == 8
    assert json.loads(out)["error"]["code"] == "timed_out"
    assert "hint: wadctl account pair acc-9" in err


@pytest.mark.parametrize(
    ("state", "code"), [(State.FAILED, 9), (State.BANNED, 9), (State.PASSIVE, 8)]
)
def test_pairing_that_fails(world: Served, state: State, code: int) -> None:
    """A state that does not change by waiting ends it, with the reason."""
    fresh(world)
    process = start(world, "account", "pair", "acc-9")
    line(process)
    change(world, state, "it is so")
    found, _, err = end(process)
    assert found == code
    assert f"acc-9 is {state}: it is so" in err


def test_pairing_takes_too_long(world: Served) -> None:
    """--timeout ends the waiting, not the window."""
    fresh(world)
    result = run(world, "account", "pair", "acc-9", "--timeout", "0.2")
    assert result.exit_code == 8
    assert "the pairing window stays open" in result.stderr


def test_pairing_is_interrupted(world: Served) -> None:
    """Ctrl-C leaves the window open, and prints this."""
    fresh(world)
    process = start(world, "account", "pair", "acc-9")
    line(process)
    process.send_signal(signal.SIGINT)
    code, _, err = end(process)
    assert code == 130
    assert "window stays open" in err
    assert "Traceback" not in err


def test_pairing_before_the_first_code(world: Served) -> None:
    """The wait has a reason."""
    fresh(world, qr="")
    process = start(world, "account", "pair", "acc-9", "--json")
    assert json.loads(line(process)) == {"event": "waiting", "reason": "scan the QR code"}
    change(world, State.CONNECTED, "logged in")
    assert end(process)[0] == 0


def test_the_daemon_ends_while_pairing(tmp_path: Path) -> None:
    """It is reported, not waited for."""
    with served(tmp_path / "s") as world:
        fresh(world)
        process = start(world, "account", "pair", "acc-9")
        line(process)
    code, _, err = end(process)
    assert code in (3, 8)
    assert "daemon" in err


def test_add_and_pair_in_one(world: Served) -> None:
    """The new account is paired at once."""

    def add(daemon: FakeDaemon) -> None:
        have = daemon.accounts.have

        def showing(ident: str, name: str) -> Any:
            account = have(ident, name)
            account.become(State.CONNECTED, "logged in")
            return account

        daemon.accounts.have = showing

    world.do(add)
    result = run(world, "account", "add", "Till", "--pair", "--json")
    events = [json.loads(text)["event"] for text in result.stdout.splitlines()]
    assert (result.exit_code, events) == (0, ["added", "connected"])
