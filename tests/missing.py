"""What this machine lacks, and the command that gets it.  No test is skipped for any other reason.

python -m tests.missing [WORD]    a line for each thing that tests will miss (and that has this word in its line);
                                  exit code 1 when there is one
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from _pytest.outcomes import Skipped

_GET_IT: Final = " is missing; get it with: "
_SCRIPT: Final = "platform/cloud-firestore-emulator/cloud_firestore_emulator"
_PLACES: Final = (
    "/usr/lib/google-cloud-sdk",
    "/usr/share/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "/snap/google-cloud-cli/current",
    "~/google-cloud-sdk",
)
JAVA: Final = ("Java", "sudo apt-get install default-jre-headless")
EMULATOR: Final = ("the Firestore emulator", "make emulator")
ROOT: Final = ("the right to run a command as root", "sudo --validate")


def says_how(reason: str) -> bool:
    """Whether a reason to skip names what is missing and the command that gets it, in one line."""
    return _GET_IT in reason and "\n" not in reason


class Missing(Skipped):
    """Something is missing that this command gets: the test that meets it is skipped."""

    def __init__(self, what: str, command: str) -> None:
        super().__init__(f"{what}{_GET_IT}{command}")


def java() -> str | None:
    """The program that runs the emulator."""
    return shutil.which(os.environ.get("JAVA", "java"))


def emulator() -> Path | None:
    """The start script of Google's Firestore emulator: as WAD_FIRESTORE_EMULATOR says, or where its packages lay it."""
    named = os.environ.get("WAD_FIRESTORE_EMULATOR")
    candidates = [Path(named)] if named else [Path(p).expanduser() / _SCRIPT for p in _PLACES]
    return next((candidate for candidate in candidates if candidate.exists()), None)


def may_be_root() -> bool:
    """Whether commands can be run as root without a question: we are, or sudo lets us."""
    if os.geteuid() == 0:
        return True
    try:
        return subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def as_root(*command: str) -> None:
    """Run a command as root.  The test is skipped where we may not; raises CalledProcessError when it fails."""
    if not may_be_root():
        raise Missing(*ROOT)
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    subprocess.run([*sudo, *command], check=True, capture_output=True, text=True)


def lacking() -> list[tuple[str, str]]:
    """What tests will miss, each with the command that gets it."""
    there = {JAVA: java() is not None, EMULATOR: emulator() is not None, ROOT: may_be_root()}
    return [thing for thing, is_there in there.items() if not is_there]


def main(asked: list[str]) -> int:
    """A line for each thing that is missing; exit code 1 when there is one."""
    found = [str(Missing(*thing)) for thing in lacking()]
    found = [line for line in found if all(word in line for word in asked)]
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
