"""The first steps of a newcomer: README's commands, their packages, and the messages about missing ones."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.lab.__main__ import TRIALS
from tests.lab.newcomer import HABITS, Failed, session, skipped_for, up_to
from tests.lab.pages import commands
from tests.lab.trees import SYSTEMS
from tests.lab.trial import shuffled
from tests.missing import EMULATOR, Missing, says_how

_TOP = Path(__file__).parent.parent.parent
_TOOLS = _TOP / "packaging/tools.sh"


def test_readme_has_all_typed_lines() -> None:
    """From the clone to green tests: the trial types only lines of README, those that end by themselves."""
    lines = commands("Two commands")
    assert lines == ["git clone URL wad && cd wad", "make demo ONCE=1", "make test"]
    typed = session(lines, HABITS["trixie"], "/srv/wad.git")
    assert "cd 'my projects'\ngit clone /srv/wad.git wad && cd wad\n" in typed
    assert typed.startswith("set -e\numask 077\n")
    assert HABITS.keys() == SYSTEMS.keys()


def test_a_run_may_end_with_an_earlier_command() -> None:
    """The lines before it are typed as well; a text that is in no line is an error."""
    assert up_to(["a", "make b", "c"], "make") == ["a", "make b"]
    assert up_to(["a", "b"], "") == ["a", "b"]
    with pytest.raises(Failed, match="no line with 'x'"):
        up_to(["a", "b"], "x")


def test_skips_are_counted_by_reason() -> None:
    """From the lines that pytest prints at its end."""
    said = (
        "ss..\nSKIPPED [2] tests/missing.py:1: no a\nSKIPPED [1] tests/x.py:3: no a\n"
        "SKIPPED [4] tests/missing.py:1: no b\n1 passed, 7 skipped in 3.00s\n"
    )
    assert skipped_for(said) == {"no a": 3, "no b": 4}


def test_a_skip_names_what_is_missing_and_how_to_get_it() -> None:
    """In one line; any other reason is rejected."""
    said = str(Missing(*EMULATOR))
    assert said == "the Firestore emulator is missing; get it with: make emulator"
    assert says_how(said)
    assert not says_how("only on Tuesdays")
    assert not says_how(f"{said}\nand more")
    assert re.search(r"^emulator: ", (_TOP / "Makefile").read_text(), re.M)


def test_trials_have_an_order_for_each_seed() -> None:
    """The same for the same seed, with every trial in it."""
    names = [trial.name for trial in TRIALS]
    first, again, other = ([trial.name for trial in shuffled(TRIALS, seed)] for seed in (1, 1, 2))
    assert first == again
    assert sorted(first) == sorted(other) == sorted(names)
    assert len({*names}) == len(names)
    assert first != names != other
    assert [*TRIALS] == shuffled(TRIALS, None)


def _installing(bin_: Path, *tools: str) -> subprocess.CompletedProcess[str]:
    """Run `packaging/tools.sh` where only these programs exist, as an ordinary user."""
    programs = {"id": "echo 1000"} | {
        "apt-get": 'echo "apt-get $*" >>"$LOG"', "env": 'shift; exec "$@"',
        "sudo": '[ "$1" != -n ] || exit 0; echo "sudo $*" >>"$LOG"; exec "$@"', "asking sudo": "exit 1",
    }  # fmt: skip
    for name in ("id", "env", *tools):
        (bin_ / name.split()[-1]).write_text(f"#!/bin/sh\n{programs[name]}\n")
        (bin_ / name.split()[-1]).chmod(0o755)
    return subprocess.run(
        [str(_TOOLS), "sh-of-another-world:other-shell", "id:coreutils"],
        env={"PATH": str(bin_), "LOG": str(bin_ / "log")},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,  # no terminal
    )


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ((), "there is no apt-get: install what your system calls them. Not there yet: other-shell\n"),
        (("apt-get",), "there is no sudo: run 'apt-get install other-shell' as root first."),
        (("apt-get", "asking sudo"), "no terminal to ask on: run 'sudo apt-get install other-shell' first."),
    ],
)  # fmt: skip
def test_programs_that_cannot_be_installed_are_named(
    tmp_path: Path, tools: tuple[str, ...], said: str
) -> None:
    """With what to do, in one line."""
    done = _installing(tmp_path, *tools)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_missing_programs_are_installed_through_sudo(tmp_path: Path) -> None:
    """Only that, and without a question of debconf's, whose environment sudo does not pass on."""
    done = _installing(tmp_path, "apt-get", "sudo")
    assert (done.returncode, done.stderr) == (0, "")
    lines = (tmp_path / "log").read_text().splitlines()
    (update, install) = (line for line in lines if line.startswith("sudo "))
    assert update.endswith(" update")
    assert install.startswith("sudo env DEBIAN_FRONTEND=noninteractive apt-get ")
    assert install.endswith(" --no-install-recommends other-shell")


@pytest.mark.parametrize(
    "script",
    ["packaging/tools.sh", "tests/setup.sh", "tests/firestore/get-emulator.sh", ".ci/run"],
)
def test_scripts_can_be_run(script: str) -> None:
    """They are programs, and the shell can read them."""
    assert os.access(_TOP / script, os.X_OK)
    shell = "bash" if "bash" in (_TOP / script).read_text().splitlines()[0] else "sh"
    subprocess.run([shell, "-n", str(_TOP / script)], check=True)
