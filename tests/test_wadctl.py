"""wadctl against a real control socket: what it prints, asks, refuses, and how it exits."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner, Result

from tests.fake_daemon import FakeDaemon
from tests.wadctl_reference import reference
from tests.wadctl_world import COMMAND, Served, Terminal, environment, served
from wad.api.operation import Access, Operation, Params, operations
from wad.core.connection import State
from wad.core.errors import BadInput, DaemonDown, Denied, WadError
from wad.core.message import MessageStatus
from wad.core.outbox import Entry
from wad.core.wire import HELLO, Response, encode
from wad.store.port import Enqueued
from wadctl.__main__ import root
from wadctl.client import Client
from wadctl.commands import Group, grow

CODE: Final = "2@" + "abcDEF0123/+=," * 12
QR_ROW: Final = re.compile(r"^[█▀▄ ]{20,}$", re.MULTILINE)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Served]:
    """A daemon with two accounts."""
    with served(tmp_path / "wad.sock") as world:
        world.do(lambda d: d.accounts.have("acc-1", "Shop").become(State.CONNECTED, "logged in"))
        world.do(lambda d: d.accounts.have("acc-2", "Depot").become(State.LOGGED_OUT, "removed"))
        yield world


def run(world: Served, *words: str, stdin: str = "") -> Result:
    """wadctl in this process, in a pipe."""
    env = {"WAD_SOCKET": str(world.socket), "NO_COLOR": None, "COLUMNS": None}
    return CliRunner().invoke(root, list(words), input=stdin, env=env, prog_name="wadctl")


def ask(world: Served, *words: str) -> Any:
    """The JSON document of a command that succeeds."""
    result = run(world, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def terminal(world: Served) -> Iterator[Callable[..., Terminal]]:
    """Starts wadctl on a terminal."""
    opened: list[Terminal] = []

    def start(*words: str, columns: int = 120, lines: int = 60, **env: str) -> Terminal:
        made = Terminal(*words, columns=columns, lines=lines, env=environment(world.socket, **env))
        opened.append(made)
        return made

    yield start
    for one in opened:
        one.close()


# --- looking ----------------------------------------------------------------------------------------


def test_status_shows_daemon_accounts_and_warnings(world: Served) -> None:
    """All that an operator needs at a glance."""
    world.do(lambda d: d.warnings.append("a file was set aside"))
    out = run(world, "status").stdout
    assert "wad 0.1.0 on host-a: active" in out
    assert re.search(r"acc-1 +Shop .* connected .* logged in", out)
    assert "wadctl account pair acc-2" in out
    assert "warning: a file was set aside" in out


def test_status_without_accounts(tmp_path: Path) -> None:
    """It says how to add one."""
    with served(tmp_path / "s") as world:
        assert "wadctl account add NAME --pair" in run(world, "status").stdout


def test_status_when_passive(world: Served) -> None:
    """A passive daemon says who acts."""
    world.do(lambda d: setattr(d.leader, "valid", None))
    world.do(lambda d: setattr(d.leader, "reason", "host-b holds epoch 8"))
    assert "passive (host-b holds epoch 8)" in run(world, "status").stdout


def test_json_is_one_document(world: Served) -> None:
    """What the daemon answered, unchanged."""
    assert ask(world, "status")["boot_id"] == "b00t"


def test_a_pipe_cuts_nothing(world: Served) -> None:
    """A table in a pipe is whole, however long its rows."""
    world.do(lambda d: d.accounts.find("acc-1").become(State.FAILED, "x" * 500))
    assert "x" * 500 in run(world, "status").stdout


def test_account_show(world: Served) -> None:
    """One account in full, by its name."""
    out = run(world, "account", "show", "Depot").stdout
    assert re.search(r"^id +acc-2$", out, re.MULTILINE)
    assert re.search(r"^added +2023-07-2\d \d\d:\d\d:\d\d$", out, re.MULTILINE)


def test_what_strangers_wrote_is_harmless(world: Served) -> None:
    """No control character of a name or reason reaches the terminal."""
    bad = "\x1b[2J\x07\x9b31m\u202egnp\nnext"
    world.do(lambda d: d.accounts.find("acc-1").become(State.FAILED, bad))
    world.do(lambda d: d.bus.publish("state", bad, account="acc-1"))
    for words in (
        ["status"],
        ["account", "show", "acc-1"],
        ["events"],
        ["account", "start", "acc-1"],
    ):
        out = run(world, *words).stdout
        assert not set("\x1b\x07\x9b\u202e") & set(out), words
        assert "\nnext" not in out


def test_events_are_lines(world: Served) -> None:
    """Time, kind, account, text."""
    world.do(lambda d: d.bus.publish("state", "connected", account="acc-1"))
    assert re.search(r"^\d{4}-\d\d-\d\d .* state +acc-1 connected$", run(world, "events").stdout)


def publish(text: str, daemon: FakeDaemon) -> None:
    """Something happens."""
    daemon.bus.publish("state", text)


def test_events_as_json_are_lines(world: Served) -> None:
    """One document a line."""
    for text in ("one", "two"):
        world.do(partial(publish, text))
    lines = run(world, "events", "--json").stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["one", "two"]


def test_version_of_both(world: Served) -> None:
    """The client's and the daemon's."""
    assert ask(world, "version")["daemon"]["instance"] == "host-a"


# --- doing ----------------------------------------------------------------------------------------


def test_stop_says_what_became_of_it(world: Served) -> None:
    """The order arrives, and the answer is one line."""
    result = run(world, "account", "stop", "acc-1")
    assert result.stdout.startswith("acc-1: ")
    assert world.daemon.accounts.find("acc-1").orders == ["stop"]


def test_options_reach_the_daemon(world: Served) -> None:
    """What was given is asked."""
    assert (
        ask(world, "account", "add", "Till", "--phone", "+15550000003")["phone"] == "+15550000003"
    )


def test_a_value_out_of_range_is_a_usage_error(world: Served) -> None:
    """Limits that are declared are checked before anything is asked."""
    assert run(world, "threads", "--limit", "0").exit_code == 2


@pytest.mark.parametrize("command", ["logout", "remove"])
def test_what_cannot_be_undone_needs_a_yes(world: Served, command: str) -> None:
    """Without a terminal it refuses, and says what to do."""
    result = run(world, "account", command, "acc-1")
    assert result.exit_code == 2
    assert f"hint: wadctl account {command} acc-1 --yes" in result.stderr
    assert world.daemon.accounts.find("acc-1").orders == []


def test_yes_is_a_yes(world: Served) -> None:
    """A script can mean it."""
    out = run(world, "account", "remove", "acc-1", "--yes").stdout
    assert "wadctl account restore acc-1" in out
    assert world.daemon.accounts.removed == ["acc-1"]


@pytest.mark.parametrize(("key", "code", "gone"), [("y", 0, ["acc-1"]), ("n", 1, [])])
def test_on_a_terminal_it_asks(
    world: Served, terminal: Callable[..., Terminal], key: str, code: int, gone: list[str]
) -> None:
    """The question names what would happen, and no is the default."""
    shown = terminal("account", "remove", "acc-1")
    shown.read_until("account remove acc-1? [y/N]")
    shown.type(f"{key}\n")
    assert shown.wait() == code
    assert world.daemon.accounts.removed == gone


def test_ctrl_c_at_the_question(world: Served, terminal: Callable[..., Terminal]) -> None:
    """130, as everywhere, and nothing is done."""
    shown = terminal("account", "remove", "acc-1")
    shown.read_until("[y/N]: ")
    shown.interrupt()
    assert shown.wait() == 130
    assert world.daemon.accounts.removed == []


# --- sending ----------------------------------------------------------------------------------------


class FakeOutbound:
    """Queues, and settles as a test says."""

    def __init__(self, state: str, code: str = "", error: str = "") -> None:
        self.state, self.code, self.error = state, code, error

    async def enqueue(self, account: str, to: Any, content: Any, *, client_id: str) -> Any:
        """Queued for the first time."""
        entry = Entry(
            id="e1", account=account, thread="t", to=str(to), content=content, client_id=client_id,
            secret=b"", created_ms=1, state=MessageStatus(self.state), error_code=self.code, error=self.error,
        )  # fmt: skip
        self.entry = entry
        return Enqueued(entry, False)

    async def settled(self, ident: str, timeout: float) -> Any:
        """As it is."""
        return self.entry


@pytest.mark.parametrize(
    ("outbound", "code"),
    [
        (FakeOutbound("sent"), 0),
        (FakeOutbound("failed", "not_on_whatsapp", "no such number"), 5),
        (FakeOutbound("failed", "odd", "no idea"), 1),
        (FakeOutbound("uncertain"), 8),
    ],
    ids=["sent", "refused", "failed", "uncertain"],
)
def test_the_fate_of_a_message_is_the_exit_code(
    world: Served, outbound: FakeOutbound, code: int
) -> None:
    """Who waits for a message can act on what became of it."""
    world.do(lambda d: setattr(d, "outbound", outbound))
    result = run(world, "send", "acc-1", "+15550000009", "hi", "--wait", "1", "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout)["message"]["state"] == outbound.state


def test_queued_is_enough_without_waiting(world: Served) -> None:
    """Without --wait the message is only queued, and that is a success."""
    world.do(lambda d: setattr(d, "outbound", FakeOutbound("queued")))
    result = run(world, "send", "acc-1", "+15550000009", "hi")
    assert (result.exit_code, result.stdout) == (0, "e1: queued\n")


# --- failing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WadError.by_code.values(), ids=WadError.by_code)
def test_an_error_has_its_exit_code(world: Served, kind: type[WadError]) -> None:
    """The code of the error's class, and its sentence and hint on stderr."""

    def fail(ref: str) -> None:
        raise kind("it is so", hint="do this")

    world.do(lambda d: setattr(d.accounts, "find", fail))
    result = run(world, "account", "show", "x")
    assert result.exit_code == kind.exit_code
    assert result.stderr == "wadctl: it is so\nhint: do this\n"
    assert result.stdout == ""


def test_an_error_as_json(world: Served) -> None:
    """One document on stdout, with the code that never changes."""
    result = run(world, "account", "show", "zz", "--json")
    assert json.loads(result.stdout) == {
        "ok": False,
        "error": {
            "code": "unknown_account",
            "message": "there is no account 'zz'",
            "hint": "wadctl account list",
        },
    }


def test_no_daemon(tmp_path: Path) -> None:
    """Exit 3, and where to look."""
    result = CliRunner().invoke(root, ["--socket", str(tmp_path / "none"), "status"])
    assert result.exit_code == 3
    assert "systemctl status wad" in result.stderr


def test_version_needs_no_daemon(tmp_path: Path) -> None:
    """It says its own, and why it does not know the other."""
    result = CliRunner().invoke(root, ["--socket", str(tmp_path / "none"), "version", "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["client"], document["daemon"]) == ("0.1.0", None)
    assert "no daemon answers" in document["error"]


def test_a_dead_socket(tmp_path: Path) -> None:
    """A file that nobody listens on is no daemon either."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    assert CliRunner().invoke(root, ["--socket", str(tmp_path / "s"), "status"]).exit_code == 3


def test_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 7, and how to get it."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    result = CliRunner().invoke(root, ["status"], env={"USER": "ann"})
    assert result.exit_code == 7
    assert "adduser ann wad" in result.stderr


class Late(Client):
    """Asks only after the daemon, here `listener`, has said `last_words` and hung up."""

    def __init__(self, listener: socket.socket, last_words: bytes) -> None:
        super().__init__(listener.getsockname())
        self._listener, self._last_words = listener, last_words

    def _connect(self) -> socket.socket:
        sock = super()._connect()
        other, _ = self._listener.accept()
        with other:
            other.sendall(self._last_words)
        return sock


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that listens, with nobody behind it."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        yield sock


def test_a_daemon_that_does_not_answer(listener: socket.socket) -> None:
    """Exit 8 after --timeout; it says that it may have been done."""
    words = ["--socket", listener.getsockname(), "--timeout", "0.1", "account", "list"]
    result = CliRunner().invoke(root, words)
    assert result.exit_code == 8
    assert "may or may not" in result.stderr


def test_a_refusal_before_the_question(listener: socket.socket) -> None:
    """A daemon that refuses and hangs up at once is still understood."""
    refusal = encode(HELLO) + encode(Response(0, Denied("not you"), None))
    with Late(listener, refusal) as client, pytest.raises(Denied, match="not you"):
        client.call("status")


def test_a_daemon_that_hangs_up(listener: socket.socket) -> None:
    """One that ends before it answers is down, and what was asked may have been done."""
    with Late(listener, b"") as client, pytest.raises(DaemonDown, match="may or may not"):
        client.call("accounts.stop", {"account": "acc-1"})


def test_a_daemon_that_speaks_otherwise(listener: socket.socket) -> None:
    """What is no frame is an error, not a traceback."""
    with Late(listener, b"HTTP/1.1 200 OK") as client, pytest.raises(BadInput):
        client.call("status")


def test_an_unknown_command_is_a_usage_error(world: Served) -> None:
    """Click's own exit code."""
    assert run(world, "fly").exit_code == 2


def test_the_socket_option_wins(world: Served, tmp_path: Path) -> None:
    """Over the environment."""
    env = {"WAD_SOCKET": str(tmp_path / "none")}
    words = ["--socket", str(world.socket), "account", "list"]
    assert CliRunner().invoke(root, words, env=env).exit_code == 0


def test_a_closed_pipe_is_quiet(world: Served) -> None:
    """`wadctl ... | head -1` ends without a traceback."""
    world.do(lambda d: d.bus.publish("state", "connected"))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        env = environment(world.socket)
        done = subprocess.run([*COMMAND, "events"], env=env, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


# --- on a terminal --------------------------------------------------------------------------------------


def test_colour_on_a_terminal(terminal: Callable[..., Terminal]) -> None:
    """A good state is green."""
    shown = terminal("status")
    assert shown.wait() == 0
    assert "\x1b[32mconnected\x1b[0m" in shown.seen


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(
    terminal: Callable[..., Terminal], env: dict[str, str]
) -> None:
    """NO_COLOR and dumb terminals."""
    shown = terminal("status", **env)
    assert shown.wait() == 0
    assert "\x1b[" not in shown.seen


def test_no_colour_in_a_pipe(world: Served) -> None:
    """A file gets text."""
    assert "\x1b" not in run(world, "status").stdout


def test_a_table_fits_its_terminal(world: Served, terminal: Callable[..., Terminal]) -> None:
    """Long texts are cut, and no line breaks; what may be copied stays whole."""
    world.do(lambda d: d.accounts.find("acc-2").become(State.LOGGED_OUT, "日本語 " * 40))
    shown = terminal("account", "list", columns=90, NO_COLOR="1")
    shown.wait()
    lines = shown.seen.splitlines()
    assert "…" in lines[2]
    assert "logged_out" in lines[2]
    wide = sum(2 if ord(char) > 0x2FFF else 1 for char in lines[2])
    assert wide <= 90


# --- pairing ----------------------------------------------------------------------------------------------


def fresh(world: Served, qr: str = CODE) -> None:
    """An account that shows a code."""

    def make(daemon: FakeDaemon) -> None:
        account = daemon.accounts.have("acc-9", "New")
        until = daemon.clock.now + 600
        account.become(State.AWAITING_SCAN, "scan the QR code", qr=qr, pair_until=until)

    world.do(make)


def change(world: Served, state: State, reason: str, **more: Any) -> None:
    """Something happens to that account, and the bus says so."""

    def happen(daemon: FakeDaemon) -> None:
        daemon.accounts.find("acc-9").become(state, reason, **more)
        daemon.bus.publish("state", reason, account="acc-9")

    world.do(happen)


def start(world: Served, *words: str) -> subprocess.Popen[str]:
    """wadctl in a pipe of its own."""
    return subprocess.Popen(
        [*COMMAND, *words], env=environment(world.socket), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def line(process: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code and what it still said."""
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
    """The screen is cleared, the code is black on white, and a new one takes its place."""
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


def test_a_terminal_too_small(world: Served, terminal: Callable[..., Terminal]) -> None:
    """A code that cannot be seen whole is told."""
    fresh(world)
    shown = terminal("account", "pair", "acc-9", columns=40, lines=10)
    shown.read_until("The terminal is too small")


def test_pairing_that_nobody_scanned(world: Served) -> None:
    """The end of the window is an error that says how to try again."""
    fresh(world)
    process = start(world, "account", "pair", "acc-9", "--json")
    line(process)
    change(world, State.AWAITING_SCAN, "nobody scanned the code in time")
    code, out, err = end(process)
    assert code == 8
    assert json.loads(out)["error"]["code"] == "timed_out"
    assert "hint: wadctl account pair acc-9" in err


@pytest.mark.parametrize(
    ("state", "code"), [(State.FAILED, 9), (State.BANNED, 9), (State.PASSIVE, 8)]
)
def test_pairing_that_fails(world: Served, state: State, code: int) -> None:
    """A state that waiting does not mend ends it, with the reason."""
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
    assert "the window stays open" in result.stderr


def test_pairing_is_interrupted(world: Served) -> None:
    """Ctrl-C leaves the window open, and says so."""
    fresh(world)
    process = start(world, "account", "pair", "acc-9")
    line(process)
    process.send_signal(signal.SIGINT)
    code, _, err = end(process)
    assert code == 130
    assert "window stays open" in err
    assert "Traceback" not in err


def test_pairing_while_there_is_no_code_yet(world: Served) -> None:
    """The wait has a reason."""
    fresh(world, qr="")
    process = start(world, "account", "pair", "acc-9", "--json")
    assert json.loads(line(process)) == {"event": "waiting", "reason": "scan the QR code"}
    change(world, State.CONNECTED, "logged in")
    assert end(process)[0] == 0


def test_the_daemon_ends_while_pairing(tmp_path: Path) -> None:
    """It is told, not waited for."""
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


# --- restarting -------------------------------------------------------------------------------------------


def restarts_as(world: Served, boot_id: str, accounts: int) -> None:
    """What answers after the restart."""

    def restart(daemon: FakeDaemon) -> None:
        daemon.boot_id = boot_id
        while len(daemon.accounts.all()) > accounts:
            del daemon.accounts._all[daemon.accounts.all()[-1].id]

    world.do(lambda d: setattr(d, "restart", lambda: restart(d)))


def test_restart_waits_for_another_process(world: Served) -> None:
    """It is done when another process knows as many accounts."""
    restarts_as(world, "next", 2)
    assert ask(world, "restart") == {
        "ok": True,
        "service": "wad",
        "before": "b00t",
        "after": "next",
        "accountsBefore": 2,
        "accountsAfter": 2,
    }


@pytest.mark.parametrize(
    ("boot_id", "accounts", "words"),
    [("b00t", 2, "the process from before"), ("next", 1, "knows 1 of 2 accounts")],
)
def test_restart_that_does_not_come_to_an_end(
    world: Served, boot_id: str, accounts: int, words: str
) -> None:
    """The failure says at which step and what was seen last."""
    restarts_as(world, boot_id, accounts)
    result = run(world, "restart", "--timeout", "0.3", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ok"], document["step"]) == (8, False, "wait")
    assert words in document["error"]["message"]


def test_restart_without_a_daemon(tmp_path: Path) -> None:
    """The failure says at which step."""
    words = ["--socket", str(tmp_path / "none"), "restart", "--json"]
    result = CliRunner().invoke(root, words)
    assert (result.exit_code, json.loads(result.stdout)["step"]) == (3, "look")


def test_restart_of_one_account(world: Served) -> None:
    """The daemon stays."""
    assert run(world, "restart", "acc-1").exit_code == 0
    assert world.daemon.accounts.find("acc-1").orders == ["restart"]


# --- commands -----------------------------------------------------------------------------------------------


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


EVERY = dict(commands(root))


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    """Asked for, it explains itself and what it takes."""
    result = CliRunner().invoke(root, [*path, "--help"])
    assert result.exit_code == 0
    command = EVERY[path]
    assert command.help
    for param in command.params:
        if isinstance(param, click.Argument):
            assert "Arguments:" in result.stdout
        elif isinstance(param, click.Option):
            assert param.help, param.name


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_speaks_json(path: tuple[str, ...]) -> None:
    """All but the script for a shell, and groups that do nothing alone."""
    command = EVERY[path]
    if path == ("completion",) or (isinstance(command, Group) and not command.callback):
        return
    assert "--json" in [option for param in command.params for option in param.opts]


def test_every_operation_with_words_is_a_command() -> None:
    """The table is the command line."""
    assert {found.command for found in operations().values() if found.command} <= set(EVERY)


def test_a_new_operation_appears_by_itself(world: Served) -> None:
    """A declaration is enough for a command with arguments, options and a table."""

    class Ask(Params, frozen=True):
        """What to ask."""

        first: str
        many: int = 3

    async def handler(context: object, request: Ask) -> None:
        """Do something new."""

    group = Group("wadctl")
    new = Operation("new", Access.READ, ("new", "thing"), False, Ask, dict, False, handler)
    grow(group, [new], {})
    result = CliRunner().invoke(group, ["new", "thing", "--help"])
    assert "FIRST" in result.stdout
    assert "--many INTEGER" in result.stdout


def test_the_outbox_is_a_command_and_a_group(world: Served) -> None:
    """Alone it lists; with another word it does that."""

    async def entries(*_: object, **__: object) -> list[Any]:
        return []

    world.do(lambda d: setattr(d.store, "entries", entries))
    assert run(world, "outbox").stdout == "the outbox is empty\n"
    assert "Cancel" not in run(world, "outbox", "retry", "--help").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    """A script that calls wadctl back."""
    result = CliRunner().invoke(root, ["completion", shell])
    assert result.exit_code == 0
    assert "_WADCTL_COMPLETE" in result.stdout


def test_completion_completes(world: Served) -> None:
    """What a shell asks is answered."""
    env = environment(
        world.socket, _WADCTL_COMPLETE="bash_complete", COMP_WORDS="wadctl acc", COMP_CWORD="1"
    )
    out = subprocess.run(COMMAND, env=env, capture_output=True, text=True, check=True).stdout
    assert out == "plain,account\n"


def test_it_starts_light(world: Served) -> None:
    """`status` loads neither asyncio nor what only pairing or the daemon needs."""
    code = (
        "import sys; from wadctl.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'asyncio', 'segno', 'neonize', 'uvicorn', 'sqlite3', 'subprocess', 'wad.flow', 'wad.store',"
        " 'wad.engine', 'wad.config', 'wad.audit'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    command = [COMMAND[0], "-c", code, "status"]
    done = subprocess.run(
        command, env=environment(world.socket), capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"


def test_the_exit_codes_are_documented() -> None:
    """Every exit code of an error stands in the reference."""
    text = reference()
    for kind in WadError.by_code.values():
        assert f"`{kind.code}`" in text
        assert re.search(rf"^\| {kind.exit_code} \|", text, re.MULTILINE)
