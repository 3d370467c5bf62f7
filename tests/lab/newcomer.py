"""`make newcomer`: README's commands for a newcomer, on a bare machine, as an ordinary user who may use sudo.

    python -m tests.lab.newcomer [--system noble ...]

The machine has only what README requires.  The commands are literally README's.  They fetch from the package
registries, so this is not a trial of the lab, which has only loopback.  One line of JSON for each command; exit code 1
when one failed, or when a test was skipped for anything that Debian has.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab import trees
from tests.lab.pages import commands
from tests.lab.registries import hand_on
from tests.missing import EMULATOR, Missing

_TOP: Final = Path(__file__).parent.parent.parent
_NAME: Final = "newcomer"
_HEADING: Final = "Two commands"
_MARK: Final = "lab: after "
_SKIPPED: Final = re.compile(r"^SKIPPED \[(\d+)\] \S+ (.+)$", re.M)


@dataclass(frozen=True, slots=True)
class Habits:
    """Differences between users: their umask, their working directory, their language."""

    umask: str
    work: str
    language: str


HABITS: Final = {
    "bookworm": Habits("022", ".", ""),
    "trixie": Habits("077", "my projects", ""),
    "noble": Habits("002", "src", "de_DE.UTF-8"),  # which is not generated
    "resolute": Habits("027", "Téléchargements", "C.UTF-8"),
}


class Failed(Exception):
    """README's promise was not kept."""


@dataclass(frozen=True, slots=True)
class Done:
    """A line of README that succeeded: seconds, and its output."""

    line: str
    seconds: float
    said: str


def say(**facts: object) -> None:
    """One line of JSON."""
    print(json.dumps(facts), flush=True)


def session(lines: list[str], habits: Habits, url: str) -> str:
    """The input: the lines one after the other in one shell, which ends at the first that fails."""
    typed = [
        "set -e",
        f"umask {habits.umask}",
        f"mkdir -p {shlex.quote(habits.work)}",
        f"cd {shlex.quote(habits.work)}",
    ]
    for line in lines:
        typed += [line.replace("URL", url), f"echo {shlex.quote(_MARK + line)}"]
    return "\n".join(typed)


def skipped_for(said: str) -> dict[str, int]:
    """Why tests were skipped, from pytest's summary, and how many."""
    reasons: dict[str, int] = {}
    for number, reason in _SKIPPED.findall(said):
        reasons[reason] = reasons.get(reason, 0) + int(number)
    return reasons


def _repository(place: Path) -> Path:
    """A repository to clone from: the files of this checkout, committed or not."""
    top = ("-C", str(_TOP), "-c", "safe.directory=*")
    tip = _git(*top, "-c", "user.name=lab", "-c", "user.email=lab@example.org", "stash", "create")
    _git("init", "--quiet", "--bare", "--initial-branch=main", str(place))
    _git("-C", str(place), "config", "receive.shallowUpdate", "true")
    _git(*top, "push", "--quiet", str(place), f"{tip.strip() or 'HEAD'}:refs/heads/main")
    return place


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def _prepare(root: Path, repository: Path) -> dict[str, str]:
    """The machine's names, its user, and the repository; returns the user's environment."""
    (root / "etc/hostname").write_text(f"{_NAME}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {_NAME}\n")
    sudoers = root / "etc/sudoers.d" / _NAME
    sudoers.write_text(f"{_NAME} ALL=(ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)
    useradd = ["chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", _NAME]
    subprocess.run(useradd, check=True)
    subprocess.run(["cp", "-r", str(repository), str(root / "srv/wad.git")], check=True)
    subprocess.run(["chroot", str(root), "chown", "-R", f"{_NAME}:", "/srv/wad.git"], check=True)
    return hand_on(root)


def _enter(root: Path, typed: str, environ: dict[str, str]) -> list[str]:
    login = {
        **{"HOME": f"/home/{_NAME}", "USER": _NAME, "LOGNAME": _NAME, "SHELL": "/bin/bash"},
        **{"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games", **environ},
    }
    return [
        *("systemd-nspawn", "--quiet", f"--directory={root}", "--register=no", "--keep-unit"),
        *("--as-pid2", "--console=pipe", "--resolv-conf=replace-host", "--timezone=off"),
        *(f"--machine={_NAME}-{os.getpid()}", f"--hostname={_NAME}"),
        *(f"--user={_NAME}", f"--chdir=/home/{_NAME}"),
        *("/usr/bin/env", "-i", *(f"{name}={value}" for name, value in login.items())),
        *("/bin/bash", "-c", typed),
    ]


def _followed(command: list[str], lines: list[str], log: Path) -> Iterator[Done]:
    """The result of each line, when it ends.  Raises Failed with the end of the output."""
    begun, said = time.monotonic(), ""
    with (
        log.open("w") as kept,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        left = list(lines)
        for text in process.stdout:
            kept.write(text)
            kept.flush()
            said += text
            if left and text == f"{_MARK}{left[0]}\n":
                yield Done(left.pop(0), time.monotonic() - begun, said)
                begun, said = time.monotonic(), ""
        code = process.wait()
    if left or code:
        raise Failed(f"{(left or lines[-1:])[0]!r} ended with {code}:\n{said[-20000:]}")


def _check(done: Done) -> dict[str, object]:
    """Check README's promise about a line; returns its figures.  Raises Failed."""
    if "make demo" in done.line:
        shown = json.loads(done.said.strip().splitlines()[-2])
        if not shown["ok"]:
            raise Failed(f"the demo: {shown}")
        return {"demo": shown}
    if "make test" in done.line:
        reasons = skipped_for(done.said)
        allowed = str(Missing(*EMULATOR))
        if {*reasons} - {allowed} or f"test: {allowed}" not in done.said.splitlines():
            raise Failed(f"skipped: {reasons}")
        (counted,) = re.findall(r"^=+ (.+ passed.*) in .+=+$", done.said, re.M)
        return {"tests": counted}
    return {}


def up_to(lines: list[str], end: str) -> list[str]:
    """The lines up to the first that contains `end`; all if it is empty.  Raises Failed if none contains it."""
    if not end:
        return lines
    for number, line in enumerate(lines, 1):
        if end in line:
            return lines[:number]
    raise Failed(f"README's {_HEADING!r} has no line with {end!r}")


def _on(system: str, work: Path, end: str) -> None:
    lines = up_to(commands(_HEADING), end)
    habits = HABITS[system]
    work.mkdir()
    root = work / "root"
    with trees.tree(system, trees.BARE) as tree:
        subprocess.run(["cp", "-a", str(tree), str(root)], check=True)
    try:
        environ = _prepare(root, _repository(work / "wad.git"))
        if habits.language:
            environ["LANG"] = habits.language
        command = _enter(root, session(lines, habits, "/srv/wad.git"), environ)
        for done in _followed(command, lines, work / "log"):
            found = _check(done)
            say(system=system, command=done.line, ok=True, seconds=round(done.seconds), **found)
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make newcomer", description=__doc__)
    titles = ", ".join(f"{name} ({system.title})" for name, system in trees.SYSTEMS.items())
    parser.add_argument(
        "--system", nargs="*", choices=trees.SYSTEMS, default=[*trees.SYSTEMS], metavar="NAME",
        help=f"{titles}; all by default",
    )  # fmt: skip
    parser.add_argument(
        "--until",
        default="",
        metavar="WORDS",
        help="stop after the first command that contains this text",
    )
    given = parser.parse_args()
    bad = 0
    # On a disk, like a home directory; /tmp may be memory.
    with tempfile.TemporaryDirectory(prefix="wad-newcomer-", dir="/var/tmp") as name:
        for system in given.system:
            try:
                _on(system, Path(name) / system, given.until)
            except (Failed, trees.NotInReach) as error:
                say(system=system, ok=False, why=str(error))
                bad += 1
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
