"""`make lab`: the package tried on real systemd.  One line of JSON for each trial, then one for each figure.

    python -m tests.lab --deb dist/wad_0.1.0_amd64.deb [--system bookworm] [--only TRIAL ...]

It needs root, for containers and mounts.  The lab has a network of its own in which there is nothing but loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.lab import failing, installing, leaving, suffering, trees
from tests.lab.container import a_container
from tests.lab.network import leave_network
from tests.lab.world import Installed, Trial, World
from tests.whatsapp import WhatsApp

TRIALS: tuple[Trial, ...] = (
    installing.install,
    installing.pair,
    installing.receive_and_send,
    installing.own_groups,
    installing.reboot,
    failing.watchdog,
    failing.killed,
    failing.worker_killed,
    failing.restart_of_one,
    failing.stop_and_start,
    failing.restarts,
    failing.without_sockets,
    suffering.full_disk,
    suffering.read_only_disk,
    suffering.wrong_credentials,
    suffering.wrong_configuration,
    suffering.drop_ins_of_before,
    suffering.clock,
    leaving.upgrade_under_load,
    leaving.downgrade,
    leaving.remove,
    leaving.purge,
    leaving.install_again,
)
"""In this order: each begins where the one before ended."""


def name_of(trial: Trial) -> str:
    """As it is called on the command line."""
    return trial.__name__


def say(**facts: object) -> None:
    """One line of JSON."""
    print(json.dumps(facts), flush=True)


def newer_version(deb: Path, directory: Path) -> Path:
    """The same package with a higher version, as an upgrade."""
    tree = directory / "newer"
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(tree)], check=True)
    control = tree / "DEBIAN" / "control"
    lines = control.read_text().splitlines()
    lines = [f"{line}+next" if line.startswith("Version:") else line for line in lines]
    control.write_text("\n".join([*lines, ""]))
    made = directory / "newer.deb"
    subprocess.run(
        ["dpkg-deb", "-Zxz", "-z0", "--root-owner-group", "--build", str(tree), str(made)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shutil.rmtree(tree)
    return made


async def run(deb: Path, tree: Path, wanted: Sequence[str]) -> int:
    """All trials, or those that are wanted; how many failed.  After a failure the rest is not tried."""
    with tempfile.TemporaryDirectory(prefix="wad-lab-") as name:
        work = Path(name)
        newer = newer_version(deb, work)
        async with WhatsApp() as server, a_container(tree, work) as container:
            world = World(container, server, Installed(container, work / "client"), deb, newer)
            for trial in TRIALS:
                if wanted and name_of(trial) not in wanted:
                    continue
                begun = time.monotonic()
                try:
                    await trial(world)
                except Exception:
                    say(trial=name_of(trial), ok=False, why=traceback.format_exc())
                    print((await world.log("--lines=60")), file=sys.stderr)
                    return 1
                say(trial=name_of(trial), ok=True, seconds=round(time.monotonic() - begun, 1))
        for figure in world.figures:
            say(**figure.as_json())
        return sum(not figure.as_json()["met"] for figure in world.figures)


def main() -> int:
    """The command line; exit code 1 when a trial failed or a goal was missed."""
    names = [name_of(trial) for trial in TRIALS]
    parser = argparse.ArgumentParser(prog="make lab", description=__doc__)
    parser.add_argument("--deb", type=Path, required=True, help="the package to try")
    parser.add_argument("--system", choices=sorted(trees.SYSTEMS), default="bookworm")
    parser.add_argument("--only", nargs="*", choices=names, default=[], help="only these trials")
    given = parser.parse_args()
    tree = trees.tree(given.system)
    leave_network()
    return 1 if asyncio.run(run(given.deb.absolute(), tree, given.only)) else 0


if __name__ == "__main__":
    sys.exit(main())
