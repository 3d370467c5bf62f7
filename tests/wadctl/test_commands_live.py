"""wadctl against a real control socket: what it prints, asks, refuses, and how it exits."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from click.testing import CliRunner

from tests.support.fake_daemon import FakeDaemon
from tests.support.wadctl_world import COMMAND, Served, Terminal, ask, environment, run, served
from wad import __version__
from wad.core.connection import State
from wad.core.content import Content, MessageKind
from wad.core.message import Message, MessageStatus, Thread
from wad.core.outbox import Entry
from wad.core.outgoing import Text
from wad.core.problem import Problem
from wad.engine.port import Confinement
from wad.lib.procfs import Usage
from wad.store.port import Enqueued
from wad.systemd.cgroups import WorkerLimits
from wadctl.__main__ import root

# --- looking ----------------------------------------------------------------------------------------


def test_status_shows_daemon_accounts_and_warnings(world: Served) -> None:
    """All that an operator needs at a glance."""
    world.do(lambda d: d.warnings.append("a file was set aside"))
    out = run(world, "status").stdout
    assert "wad 0.1.0 on host-a: active" in out
    assert re.search(r"acc-1 +Shop .* connected .* logged in", out)
    assert "wadctl account pair Depot" in out
    assert "warning: a file was set aside" in out


def test_status_shows_each_problem_and_what_to_do(world: Served) -> None:
    """What degrades the service is a problem; each kind of hint is shown once; states are only in the table."""
    text = "spool.db-wal has grown to 331 MB"
    world.do(
        lambda d: d.findings.append(
            Problem(code="log_grown", text=text, account="acc-1", subject="a")
        )
    )
    world.do(
        lambda d: d.findings.append(Problem(code="log_grown", text="wad.db-wal too", subject="b"))
    )
    world.do(lambda d: d.warnings.append("a setting is not known"))
    out = run(world, "status").stdout
    assert "problem: acc-1: spool.db-wal has grown to 331 MB\n" in out
    assert "problem: wad.db-wal too\n" in out
    assert out.count("what to do: end the program that keeps the database open") == 1
    assert "problem: acc-2" not in out
    assert "`wadctl status` shows them" not in out
    shown = json.loads(run(world, "status", "--json").stdout)
    assert shown["health"] == "degraded"
    assert [p["account"] for p in shown["problems"] if p["code"] == "log_grown"] == ["", "acc-1"]


def test_status_shows_what_workers_use_and_may_use(world: Served) -> None:
    """Memory and processor time of each account's worker, and to what all of them are held."""
    worker = SimpleNamespace(pid=None, usage=Usage(30 << 20, 1.5), receipts=None, confinement=None)
    world.do(lambda d: setattr(d.accounts.find("acc-1"), "worker", worker))
    out = run(world, "status").stdout
    assert "each worker is limited to 1024 MB of memory and 512 tasks\n" in out
    assert re.search(r"acc-1 .* connected .* [\d.]+ MB +[\d.]+ s +logged in", out)
    assert re.search(r"acc-2 .* 0 +- +- ", out)


def test_status_shows_the_confinement_of_workers(world: Served) -> None:
    """In one line where all of them are held by the same."""
    confinement = Confinement(2, True)
    worker = SimpleNamespace(pid=None, usage=None, receipts=None, confinement=confinement)
    world.do(lambda d: setattr(d.accounts.find("acc-1"), "worker", worker))
    assert (
        "\nworkers are confined by Landlock ABI 2, any TCP port, seccomp\n"
        in run(world, "status").stdout
    )
    assert "Landlock ABI 2" in run(world, "account", "show", "acc-1").stdout


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        (WorkerLimits(why="no controller"), "workers have no limits: no controller"),
        (
            WorkerLimits(None, 512, "no controller"),
            "each worker is limited to 512 tasks: no controller",
        ),
        (WorkerLimits(None, 512), "each worker is limited to 512 tasks"),
    ],
)
def test_status_has_the_reason_of_a_missing_limit(
    world: Served, limits: WorkerLimits, line: str
) -> None:
    """In a line of its own."""
    world.do(lambda d: setattr(d, "limits", limits))
    assert f"\n{line}\n" in run(world, "status").stdout


def test_status_without_accounts(tmp_path: Path) -> None:
    """The output has the command to add one."""
    with served(tmp_path / "s") as world:
        assert "wadctl account add NAME --pair" in run(world, "status").stdout


def test_status_when_passive(world: Served) -> None:
    """A passive daemon names the holder."""
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


def test_texts_of_strangers_are_harmless(world: Served) -> None:
    """No control character of a name or reason reaches the terminal."""
    bad = "\x1b[2J\x07\x9b31m\u202egnp\nnext"
    world.do(lambda d: d.accounts.find("acc-1").become(State.FAILED, bad))
    world.do(lambda d: d.bus.publish("state", bad, account="acc-1"))
    for arguments in (
        ["status"],
        ["account", "show", "acc-1"],
        ["events"],
        ["account", "start", "acc-1"],
    ):
        out = run(world, *arguments).stdout
        assert not set("\x1b\x07\x9b\u202e") & set(out), arguments
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


def test_stop_shows_the_result(world: Served) -> None:
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
def test_an_irreversible_command_needs_confirmation(world: Served, command: str) -> None:
    """Without a terminal it refuses, with a hint."""
    result = run(world, "account", command, "acc-1")
    assert result.exit_code == 2
    assert f"hint: wadctl account {command} acc-1 --yes" in result.stderr
    assert world.daemon.accounts.find("acc-1").orders == []


@pytest.mark.parametrize(
    "arguments",
    [
        "lease release",
        "lease take --force",
        "lease release --seconds 5.0",
        "lease release --reason 'kernel update'",
    ],
)
def test_the_hint_is_what_was_typed(world: Served, arguments: str) -> None:
    """Options keep their names, and those that were not given do not appear."""
    assert f"hint: wadctl {arguments} --yes" in run(world, *shlex.split(arguments)).stderr


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
        self.texts: list[str] = []
        self.waits: list[float] = []

    async def enqueue(self, account: str, to: Any, content: Any, *, client_id: str) -> Any:
        """Queued for the first time."""
        entry = Entry(
            id="e1", account=account, thread="t", to=str(to), content=content, client_id=client_id,
            secret=b"", created_ms=1, state=MessageStatus(self.state), error_code=self.code, error=self.error,
        )  # fmt: skip
        self.entry = entry
        self.texts.append(entry.text)
        return Enqueued(entry, False)

    async def settled(self, ident: str, timeout: float) -> Any:
        """As it is, after the wait."""
        self.waits.append(timeout)
        await asyncio.sleep(0 if self.state != "queued" else timeout)
        return self.entry

    async def stored(self, ident: str) -> Any:
        """The entry in the store."""
        return self.entry


def sending(world: Served, outbound: FakeOutbound) -> None:
    """Messages are queued by this outbox."""
    world.do(lambda d: setattr(d, "outbound", outbound))
    world.do(lambda d: setattr(d.store, "entry", outbound.stored))


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
def test_the_result_of_a_message_is_the_exit_code(
    world: Served, outbound: FakeOutbound, code: int
) -> None:
    """A caller that waits for a message can act on its result."""
    sending(world, outbound)
    result = run(world, "send", "acc-1", "+15550000009", "hi", "--wait", "1", "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout)["message"]["state"] == outbound.state


def test_queued_is_enough_without_waiting(world: Served) -> None:
    """Without --wait the message is only queued, and that is a success."""
    sending(world, FakeOutbound("queued"))
    result = run(world, "send", "acc-1", "+15550000009", "hi")
    assert (result.exit_code, result.stdout) == (0, "e1: queued\n")


@pytest.mark.parametrize(
    ("given", "text"), [("hello\n", "hello"), ("one\n\ntwo\r\n", "one\n\ntwo"), ("-\n", "-")]
)
def test_a_text_from_standard_input(world: Served, given: str, text: str) -> None:
    """`-` is the text on standard input without its last line end."""
    outbound = FakeOutbound("queued")
    sending(world, outbound)
    result = run(world, "send", "acc-1", "+15550000009", "-", stdin=given)
    assert (result.exit_code, outbound.texts) == (0, [text])


@pytest.mark.parametrize("given", [b"", b"\n", b"\xff\xfe", b"x" * (1 << 20) + b"y"])
def test_standard_input_without_a_text(world: Served, given: bytes) -> None:
    """Nothing, no UTF-8, or too much is one line, and nothing is queued."""
    outbound = FakeOutbound("queued")
    sending(world, outbound)
    done = subprocess.run(
        [*COMMAND, "send", "acc-1", "+15550000009", "-"], env=environment(world.socket),
        input=given, capture_output=True, check=False, timeout=30,
    )  # fmt: skip
    assert (done.returncode, outbound.texts) == (2, [])
    assert done.stderr.startswith(b"wadctl: ")
    assert b"Traceback" not in done.stderr


def test_an_account_that_cannot_send(world: Served) -> None:
    """The message is queued, and it is said at once why it stays there and what helps."""
    sending(world, FakeOutbound("queued"))
    result = run(world, "send", "Depot", "+15550000009", "hi")
    assert result.exit_code == 0
    assert "not sent yet: account Depot is logged_out (removed)" in result.stdout
    assert "what to do: wadctl account pair Depot" in result.stdout


def test_a_wait_that_runs_out(world: Served) -> None:
    """The message stays queued; the exit code shows scripts that the wait ran out."""
    sending(world, FakeOutbound("queued"))
    result = run(world, "send", "acc-1", "+15550000009", "hi", "--wait", "0.2")
    assert (result.exit_code, result.stdout) == (8, "e1: queued\n")
    assert result.stderr == "not sent yet, it stays queued; wadctl outbox show e1 --wait 60\n"


def test_progress_and_ctrl_c_while_waiting(
    world: Served, terminal: Callable[..., Terminal]
) -> None:
    """The state is shown while it lasts; Ctrl-C prints the id of what stays queued."""
    sending(world, FakeOutbound("queued"))
    shown = terminal("send", "Depot", "+15550000009", "hi", "--wait", "60", NO_COLOR="1")
    shown.read_until("e1: queued (account Depot is logged_out (removed)")
    shown.interrupt()
    assert shown.wait() == 130
    assert "the message is queued as e1; wadctl outbox cancel e1 cancels it" in shown.seen


FULL: Final = Path("/dev/full")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["send", "acc-1", "+15550000009", "hi"], "the message is queued as e1"),
        (["send", "acc-1", "+15550000009", "hi", "--json"], "the message is queued as e1"),
        (["account", "stop", "acc-1"], "`account stop` was done"),
        (["status"], ""),
    ],
)
def test_a_full_device(world: Served, arguments: list[str], said: str) -> None:
    """What was done is said on stderr, and the exit code is that of an output that cannot be written."""
    sending(world, FakeOutbound("queued"))
    with FULL.open("w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments], env=environment(world.socket), stdout=full,
            stderr=subprocess.PIPE, text=True, check=False, timeout=30,
        )  # fmt: skip
    assert done.returncode == 74
    *before, last = done.stderr.splitlines()
    assert last == "wadctl: cannot write: No space left on device"
    assert len(before) == bool(said)
    assert said in "".join(before)


@pytest.mark.parametrize("locale", ["C", "POSIX", "xx_YY.UTF-8", "de_DE.ISO-8859-1", ""])
@pytest.mark.parametrize("closed", ["", "<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_traceback_in_any_environment(world: Served, locale: str, closed: str) -> None:
    """Whatever the locale, and whichever stream is closed."""
    world.do(lambda d: setattr(d.accounts.find("acc-1").card, "name", "Büro 日本"))
    env = environment(world.socket, LC_ALL=locale, PYTHONIOENCODING="")
    command = f"{shlex.join([*COMMAND, 'account', 'list'])} {closed}"
    done = subprocess.run(
        ["/bin/sh", "-c", command], env=env, capture_output=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "arguments",
    [["account", "show", b"\xff"], ["send", "acc-1", "+15550000009", b"\xff"], [b"\xff"]],
)
def test_arguments_that_are_not_utf8(world: Served, arguments: list[str | bytes]) -> None:
    """One line and its code."""
    done = subprocess.run(
        [*COMMAND, *arguments], env=environment(world.socket), capture_output=True, check=False,
        timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


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
    """Long texts are cut, and no line breaks."""
    world.do(lambda d: setattr(d.accounts.find("acc-2").card, "name", "日本語 " * 40))
    shown = terminal("account", "list", columns=60, NO_COLOR="1")
    shown.wait()
    line = next(line for line in shown.seen.splitlines() if line.startswith("acc-2"))
    assert "…" in line
    assert sum(2 if ord(char) > 0x2FFF else 1 for char in line) <= 60


def test_accounts_can_be_read_at_80_columns(
    world: Served, terminal: Callable[..., Terminal]
) -> None:
    """The state stays whole; the reason and the hint are below the account."""
    reason = "the phone removed this device; " * 4
    world.do(lambda d: d.accounts.find("acc-2").become(State.LOGGED_OUT, reason))
    shown = terminal("account", "list", columns=80, NO_COLOR="1")
    shown.wait()
    lines = shown.seen.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(re.match(r"acc-2 .* logged_out ", line) for line in lines)
    assert reason.strip() in " ".join(shown.seen.split())
    assert "  what to do: wadctl account pair Depot" in lines


def test_one_account_can_be_read_at_80_columns(
    world: Served, terminal: Callable[..., Terminal]
) -> None:
    """A long value continues below itself, between words; a path stays whole."""
    path = f"/var/lib/wad/{'x' * 90}"
    reason = f"{path} cannot be read; {'the phone removed this device; ' * 4}"
    world.do(lambda d: d.accounts.find("acc-2").become(State.FAILED, reason))
    shown = terminal("account", "show", "acc-2", columns=80, NO_COLOR="1")
    shown.wait()
    lines = shown.seen.splitlines()
    assert [line for line in lines if len(line) > 80 and path not in line] == []
    assert path in shown.seen
    assert reason.strip() in " ".join(shown.seen.split())
    first = next(n for n, line in enumerate(lines) if path in line)
    assert lines[first + 1].startswith(" " * 10)


def long_lists(daemon: FakeDaemon) -> None:
    """Threads, messages and outbox entries with long ids, addresses and texts."""
    chat, account = "15550000012@s.whatsapp.net", "acc-15550000001"
    daemon.accounts.have(account, "Front desk").become(State.CONNECTED, "logged in")
    thread = Thread(
        id=f"{account}__{chat}", account=account, chat=chat, name="Somebody with a long name",
        last_ms=1000, last_text="word " * 40, unread=3, messages=1000,
    )  # fmt: skip
    messages = [
        Message(
            id=f"{n}" * 40, account=account, thread=thread.id, chat=chat, sender=chat, from_me=False,
            at_ms=1_000_000 * n, wa_id=f"W{n}", content=Content(MessageKind.TEXT, "word " * 40),
            push_name="Somebody with a long name", status=MessageStatus.DELIVERED,
            stable_key=f"{n}" * 40, fingerprint="f",
        )
        for n in (1, 2)
    ]  # fmt: skip
    entries = [
        Entry(
            id=f"{n}" * 40, account=account, thread=thread.id, to=chat, content=Text("word " * 40),
            client_id="c", secret=b"", created_ms=1, state=MessageStatus.FAILED,
            error="the number has no WhatsApp account; check it and send the message again",
        )
        for n in (1, 2)
    ]  # fmt: skip

    async def lists(found: list[Any], *_: Any, **__: Any) -> list[Any]:
        return found

    async def one(ident: str) -> Any:
        return thread

    daemon.store.thread = one
    daemon.store.threads = partial(lists, [thread])
    daemon.store.messages = partial(lists, messages)
    daemon.store.entries = partial(lists, entries)


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize(
    ("arguments", "whole"),
    [
        (["threads"], ["acc-15550000001__15550000012@s.whatsapp.net"]),
        (["messages", "acc-15550000001", "+15550000012"], ["11111111", "22222222", "Somebody"]),
        (["outbox"], ["11111111", "15550000012@s.whatsapp.net", "failed"]),
        (["status"], ["acc-15550000001", "connected", "logged_out"]),
        (["account", "list"], ["acc-15550000001", "connected", "logged_out"]),
    ],
    ids=lambda value: value[0],
)
def test_tables_drop_columns_before_they_cut(
    world: Served,
    terminal: Callable[..., Terminal],
    width: int,
    arguments: list[str],
    whole: list[str],
) -> None:
    """At 80 and 60 columns no line is wrapped, and ids, states and advice are whole."""
    world.do(long_lists)
    shown = terminal(*arguments, columns=width, NO_COLOR="1")
    assert shown.wait() == 0
    lines = shown.seen.splitlines()
    assert [line for line in lines if len(line) > width and "--before" not in line] == []
    words = " ".join(shown.seen.split())
    assert [text for text in whole if text not in words] == []
    if arguments == ["outbox"]:
        assert (
            "error: the number has no WhatsApp account; check it and send the message again"
            in words
        )


def test_messages_of_others_are_received(world: Served) -> None:
    """`delivered` is a state of our own messages."""
    world.do(long_lists)
    out = run(world, "messages", "acc-15550000001", "+15550000012").stdout
    assert " received " in out
    assert " delivered " not in out


def test_json_on_a_terminal_has_no_control_characters(
    world: Served, terminal: Callable[..., Terminal]
) -> None:
    """They are escaped; the document is the same, and in a pipe it is unchanged."""
    name = "\x9b31m\u202egnp\U000e0041\x7f"
    world.do(lambda d: setattr(d.accounts.find("acc-1").card, "name", name))
    shown = terminal("account", "show", "acc-1", "--json")
    assert shown.wait() == 0
    assert not {"\x9b", "\u202e", "\U000e0041", "\x7f"} & set(shown.seen)
    assert json.loads(shown.seen)["name"] == name
    assert name[:3] in run(world, "account", "show", "acc-1", "--json").stdout


def test_events_say_which_message(world: Served) -> None:
    """The id, by which `wadctl message` and `wadctl outbox show` find it."""
    world.do(lambda d: d.bus.publish("outbox", "sent to +15550000002", account="acc-1", id="e1"))
    assert "outbox   acc-1 sent to +15550000002 (e1)\n" in run(world, "events").stdout


def test_rename_prints_what_it_did(world: Served) -> None:
    """One line."""
    world.do(lambda d: setattr(d.accounts, "rename", d.accounts.name))
    assert run(world, "account", "rename", "acc-1", "Till").stdout == "acc-1 is now named Till\n"


def test_version_and_help() -> None:
    """As most programs have them."""
    assert CliRunner().invoke(root, ["--version"]).stdout == f"wadctl {__version__}\n"
    helped = CliRunner().invoke(root, ["help", "account", "pair"], prog_name="wadctl")
    asked = CliRunner().invoke(root, ["account", "pair", "--help"], prog_name="wadctl")
    assert helped.stdout == asked.stdout
    assert CliRunner().invoke(root, ["help"], prog_name="wadctl").stdout.startswith("Usage: wadctl")
    assert CliRunner().invoke(root, ["help", "nothing"]).exit_code == 2


def test_a_token_comes_with_commands_that_add_it(tmp_path: Path) -> None:
    """The commands are run by a shell; the file and the drop-in have what wad reads."""
    out = CliRunner().invoke(root, ["token", "create", "crm", "--role", "viewer"]).stdout
    line = re.search(r"^line +(\S+)$", out, re.MULTILINE)
    assert line is not None
    commands = out.partition("accept it:\n")[2].partition("\nThe credential")[0]
    script = re.sub(r"^systemctl .*$", "", commands, flags=re.MULTILINE)
    assert commands.count("systemctl ") == 2
    subprocess.run(
        ["/bin/sh", "-ec", script.replace("/etc/", f"{tmp_path}/etc/")], check=True, timeout=30
    )
    assert (tmp_path / "etc/wad/http-tokens").read_text() == f"{line[1]}\n"
    drop_in = tmp_path / "etc/systemd/system/wad.service.d/http-tokens.conf"
    assert drop_in.read_text() == (
        f"[Service]\nLoadCredential=http-tokens:{tmp_path}/etc/wad/http-tokens\n"
    )


def test_a_restart_says_how_long_it_took(world: Served) -> None:
    """And how many accounts there are again."""
    restarts_as(world, "next", 2)
    out = run(world, "restart").stdout
    assert re.search(r"^restarted: ready after \d+\.\d s, 2 of 2 accounts$", out, re.MULTILINE)


def test_status_does_not_count_down(world: Served) -> None:
    """A lease that is renewed is no news."""
    assert "without renewal" not in run(world, "status").stdout


def test_every_command_is_described_whole() -> None:
    """No description in a list of commands ends in dots at 80 columns."""
    left = list(root.commands.values())
    while left:
        command = left.pop()
        assert not command.get_short_help_str(60).endswith("..."), command.name
        left += getattr(command, "commands", {}).values()


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
    ("boot_id", "accounts", "arguments"),
    [("b00t", 2, "the old process"), ("next", 1, "has 1 of 2 accounts")],
)
def test_restart_that_does_not_come_to_an_end(
    world: Served, boot_id: str, accounts: int, arguments: str
) -> None:
    """The failure says at which step and what was seen last."""
    restarts_as(world, boot_id, accounts)
    result = run(world, "restart", "--timeout", "0.3", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ok"], document["step"]) == (8, False, "wait")
    assert arguments in document["error"]["message"]


def test_restart_without_a_daemon(tmp_path: Path) -> None:
    """The failure says at which step."""
    arguments = ["--socket", str(tmp_path / "none"), "restart", "--json"]
    result = CliRunner().invoke(root, arguments)
    assert (result.exit_code, json.loads(result.stdout)["step"]) == (3, "look")


def test_restart_of_one_account(world: Served) -> None:
    """The daemon stays."""
    assert run(world, "restart", "acc-1").exit_code == 0
    assert world.daemon.accounts.find("acc-1").orders == ["restart"]
