"""A compromised worker reaches only its own account: every attempt, on this kernel and on older ones."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile.attempts import Targets
from tests.missing import Missing
from wad.engine import resolver_files
from wad.engine.port import Confinement
from wad.worker.confinement import landlock, rules
from wad.worker.confinement.landlock import Right
from wad.worker.confinement.rules import Needs

TOP = Path(__file__).parent.parent.parent
DEBIAN_12 = 2
"""The ABI of its kernel: no rule for truncating, for ports, for signals."""
HOSTILE = """
import json, os, sys
from pathlib import Path
from tests.hostile import attempts
from wad.worker.confinement.rules import Needs, code_paths, confine
given, most = json.loads(sys.argv[1]), int(sys.argv[2])
if most:
    wants = Needs(Path(given["account_dir"]), Path(given["media"]), code_paths(os.environ), os.environ)
    found = confine(wants, most)
    assert found.seccomp and found.landlock, found
    assert not found.missing, found
attempts.main(given)
"""
BEYOND_DEBIAN_12 = {"connect to another port"}
"""What Linux 6.1 cannot prevent; docs/security.md lists it."""
NOT_EVERYWHERE = {
    "kill a sibling's control group",
    "freeze a sibling's control group",
    "notify the service manager",
    "notify the service manager by a pair",
    "connect to the control socket by a pair",
}
"""Attempts that are not possible outside a unit, or differ there; tests/lab has them."""


@pytest.fixture
def targets(tmp_path: Path) -> Iterator[Targets]:
    """A state directory with two accounts, two processes of the same user, sockets that answer."""
    if not landlock.abi():
        raise Missing("a kernel with Landlock", "lsm=landlock,... in the kernel's command line")
    state = tmp_path / "state"
    for directory in ("sessions/ours", "sessions/other", "media"):
        (state / directory).mkdir(parents=True, mode=0o700)
    for file in ("session.db", "account.json"):
        (state / "sessions" / "other" / file).write_text("secret")
    (state / "sessions" / ".cards").mkdir(mode=0o700)
    (state / "sessions" / ".cards" / "ours.json").write_text("card")
    (state / "wad.db").write_text("secret")
    (state / "victim").write_text("victim")
    (state / "media" / ("0" * 64)).write_text("picture")
    with ExitStack() as stack:
        sleepers = [
            stack.enter_context(subprocess.Popen(["sleep", "600"])) for _ in ("daemon", "sibling")
        ]
        control = stack.enter_context(socket.socket(socket.AF_UNIX))
        control.bind(str(state / "c"))
        control.listen()
        ports = []
        for _ in range(2):
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            ports.append(listening.getsockname()[1])
        yield Targets(
            account_dir=str(state / "sessions" / "ours"), other=str(state / "sessions" / "other"),
            state=str(state), media=str(state / "media"), victim=str(state / "victim"),
            daemon=sleepers[0].pid, sibling=sleepers[1].pid, control=str(state / "c"),
            notify=str(state / "c"), group="", allowed_port=ports[0], refused_port=ports[1],
        )  # fmt: skip
        for sleeper in sleepers:
            sleeper.kill()


def hostile(targets: Targets, most: int) -> tuple[dict[str, str], dict[str, str]]:
    """The result of each attempt of a process that is confined by at most this ABI; 0: not confined."""
    environ = dict(os.environ)
    environ |= {"HTTPS_PROXY": f"http://127.0.0.1:{targets.allowed_port}", "PYTHONPATH": str(TOP)}
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, json.dumps(targets._asdict()), str(most)],
        env=environ, capture_output=True, text=True, timeout=60, check=False, cwd=targets.state,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tried, needed = json.loads(done.stdout)
    return tried, needed


@pytest.mark.parametrize("most", [DEBIAN_12, 3, 4, 5, 6, sys.maxsize])
def test_a_worker_reaches_its_own_account(targets: Targets, most: int) -> None:
    """On kernels from Debian 12's on everything else is refused, and what the worker needs is not."""
    tried, needed = hostile(targets, most)
    assert {name: why for name, why in needed.items() if why} == {}
    possible = {name for name, why in tried.items() if not why}
    assert possible == (BEYOND_DEBIAN_12 if min(most, landlock.abi()) < 4 else set())
    assert Path(targets.victim).read_text() == "victim"
    assert Path(f"{targets.state}/wad.db").read_text() == "secret"
    assert Path(f"{targets.state}/sessions/.cards/ours.json").read_text() == "card"


def test_without_confinement_nearly_every_attempt_succeeds(targets: Targets) -> None:
    """Every attempt succeeds without confinement: otherwise the test above would prove nothing."""
    if os.geteuid() != 0:
        raise Missing("root without other restrictions", "sudo make test")
    tried, needed = hostile(targets, 0)
    assert {name: why for name, why in needed.items() if why} == {}
    refused = {name: why for name, why in tried.items() if why}
    assert refused.keys() <= NOT_EVERYWHERE | {"userfaultfd", "io_uring"}, refused


def test_confinement_requires_a_single_thread(tmp_path: Path) -> None:
    """It is refused before any right is dropped."""
    code = (
        "import os, sys, threading\nfrom pathlib import Path\n"
        "from wad.worker.confinement.rules import Needs, confine\n"
        "event = threading.Event()\nthreading.Thread(target=event.wait, daemon=True).start()\n"
        "try:\n    confine(Needs(Path(sys.argv[1]), None, [], {}))\n"
        "except Exception as error:\n    print(type(error).__name__, os.listdir('/') != [])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "EngineFailure True\n", done.stderr


# --- the rules ------------------------------------------------------------------------------------

WANTS = Needs(
    Path("/var/lib/wad/sessions/a"), Path("/var/lib/wad/media"), [Path("/usr/lib/wad")], {}
)


def test_only_the_accounts_directory_is_writable() -> None:
    """Except for its own memory and /dev/null."""
    writing = (
        Right.WRITE_FILE | Right.REMOVE_FILE | Right.REMOVE_DIR | Right.MAKE_REG | Right.TRUNCATE
        | Right.MAKE_SYM | Right.MAKE_DIR | Right.MAKE_SOCK | Right.MAKE_FIFO | Right.REFER
        | Right.MAKE_CHAR | Right.MAKE_BLOCK | Right.EXECUTE | Right.IOCTL_DEV
    )  # fmt: skip
    written = {
        str(path): rights & writing for path, rights in rules.rules(WANTS, 7) if rights & writing
    }
    assert written == {
        "/dev/null": Right.WRITE_FILE,
        "/proc/7/mem": Right.WRITE_FILE,
        "/var/lib/wad/sessions/a": Right.WRITE_FILE
        | Right.REMOVE_FILE
        | Right.MAKE_REG
        | Right.TRUNCATE,
    }


def test_only_named_files_of_etc_are_readable() -> None:
    """The same directories contain wad.toml and the secrets of others."""
    paths = {str(path) for path, _ in rules.rules(WANTS, 7)}
    assert not paths & {
        "/",
        "/etc",
        "/etc/ssl",
        "/etc/wad",
        "/run",
        "/run/wad",
        "/proc",
        "/var",
        "/var/lib",
    }


@pytest.mark.parametrize(
    ("environ", "more"),
    [
        ({}, set()),
        ({"HTTPS_PROXY": "http://proxy:3128"}, {3128}),
        ({"https_proxy": "socks5://u:p@[::1]:9050"}, {9050}),
        ({"ALL_PROXY": "socks5://proxy"}, {1080}),
        ({"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "x:1"}, {3128}),
        ({"HTTPS_PROXY": "http://proxy"}, {80}),
        ({"HTTPS_PROXY": "http://proxy:99999"}, set()),
        ({"HTTPS_PROXY": "http://[::1"}, set()),
        ({"HTTPS_PROXY": ""}, set()),
    ],
)
def test_the_ports_of_proxies(environ: dict[str, str], more: set[int]) -> None:
    """With WhatsApp's and the name servers' own."""
    assert rules.ports(environ) == {443, 53} | more


@given(st.text())
def test_any_proxy_is_parsed_or_left_out(value: str) -> None:
    """A worker starts whatever the variable contains."""
    assert all(0 <= port < 1 << 16 for port in rules.ports({"HTTPS_PROXY": value}))


def test_the_working_directory_is_not_readable(tmp_path: Path) -> None:
    """Under systemd it is the root directory; only absolute paths in PYTHONPATH count."""
    paths = rules.code_paths({"PYTHONPATH": f":.:relative:{tmp_path}"})
    assert tmp_path in paths
    assert all(path.is_absolute() and path != Path("/") for path in paths)


def test_accounts_below_a_system_directory_are_reported(tmp_path: Path) -> None:
    """A state directory below /usr is reported with its consequence."""
    wants = replace(WANTS, account_dir=tmp_path / "sessions" / "a", code=[tmp_path])
    found = rules.exposed(list(rules.rules(wants, 7)), wants)
    assert found == str(tmp_path)
    assert f"below {tmp_path}" in Confinement(7, True, (), found).missing
    assert rules.exposed(list(rules.rules(WANTS, 7)), WANTS) == ""


@pytest.mark.parametrize(
    ("found", "summary", "missing"),
    [
        (Confinement(7, True), "Landlock ABI 7, seccomp", ""),
        (Confinement(2, True), "Landlock ABI 2, any TCP port, seccomp", ""),
        (
            Confinement(0, True, ("no Landlock here",)),
            "no Landlock, seccomp",
            "files of other accounts (no Landlock here)",
        ),
        (Confinement(7, False, ("no",)), "Landlock ABI 7, no seccomp", "signal other processes"),
    ],
)
def test_the_confinement_in_force_is_reported(
    found: Confinement, summary: str, missing: str
) -> None:
    """The summary; and the missing protection in a sentence."""
    assert found.summary == summary
    assert missing in found.missing
    assert bool(found.missing) == bool(missing)


# --- files that are replaced ------------------------------------------------------------------------


def test_a_list_of_name_servers_that_is_replaced(tmp_path: Path) -> None:
    """A file that was rewritten is the same; one that replaced it is not, nor one that appeared or disappeared."""
    file = tmp_path / "resolv.conf"
    seen = [resolver_files.signature([str(file)], [])]
    file.write_text("nameserver 192.0.2.1\n")
    seen.append(resolver_files.signature([str(file)], []))
    file.write_text("nameserver 192.0.2.2\n")
    assert resolver_files.signature([str(file)], []) == seen[-1]
    (tmp_path / "new").write_text("nameserver 192.0.2.3\n")
    (tmp_path / "new").rename(file)
    seen.append(resolver_files.signature([str(file)], []))
    assert len(set(seen)) == 3


def test_a_file_in_a_directory_that_is_read_may_be_replaced(tmp_path: Path) -> None:
    """Like systemd-resolved's."""
    run, file = tmp_path / "run", tmp_path / "resolv.conf"
    run.mkdir()
    (run / "stub").write_text("a")
    file.symlink_to(run / "stub")
    seen = resolver_files.signature([str(file)], [str(run)])
    (run / "new").write_text("b")
    (run / "new").rename(run / "stub")
    assert resolver_files.signature([str(file)], [str(run)]) == seen
