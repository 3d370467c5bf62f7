"""`make lab`: the package tried on real systemd.  One line of JSON for each trial, then one for each figure.

    python -m tests.lab [--quick] [--deb dist/wad_0.1.0_amd64.deb] [--system bookworm] [--only TRIAL ...]

`--quick` is what CI runs: the package is compressed less, and what does not depend on the version of Python or systemd
is tried on the first system only.  It needs root, for containers and mounts.  The lab has a network of its own in which
there is nothing but loopback; only before that trees and wheels are fetched, where they are not there yet.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from pathlib import Path

from tests.lab import (
    building,
    doctoring,
    failing,
    installing,
    leaving,
    looking,
    migrating,
    repository,
    suffering,
    trees,
)
from tests.lab.ability import obstacle
from tests.lab.container import a_container
from tests.lab.figures import Figure
from tests.lab.network import leave_network
from tests.lab.world import Installed, Trial, World
from tests.whatsapp import WhatsApp

TRIALS: tuple[Trial, ...] = (
    installing.install,
    installing.unit,
    installing.every_module,
    installing.documents,
    installing.pair,
    installing.receive_and_send,
    looking.doctor,
    looking.verify,
    migrating.migration,
    doctoring.doctor_of_the_broken,
    installing.own_groups,
    installing.reboot,
    failing.watchdog,
    failing.killed,
    failing.worker_killed,
    failing.restart_of_one,
    failing.stop_and_start,
    failing.restarts,
    failing.without_sockets,
    failing.another_address,
    failing.port_taken,
    suffering.full_disk,
    suffering.read_only_disk,
    suffering.wrong_credentials,
    suffering.encrypted_credential,
    suffering.wrong_configuration,
    suffering.drop_ins_of_before,
    suffering.clock,
    leaving.upgrade_under_load,
    leaving.downgrade,
    leaving.remove,
    leaving.purge,
    leaving.install_again,
    leaving.purge_of_a_volume,
    repository.from_repository,
)
"""In this order: each begins where the one before ended."""

EVERYWHERE: frozenset[Trial] = frozenset(
    {
        *(installing.install, installing.unit, installing.every_module, installing.documents),
        installing.pair,
        *(installing.receive_and_send, installing.own_groups, installing.reboot),
        *(failing.killed, failing.stop_and_start, failing.restarts),
        *(leaving.upgrade_under_load, leaving.remove, leaving.purge, leaving.install_again),
    }
)
"""What is tried on every system, in CI, too."""


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
    made = directory / deb.name.replace("_amd64", "+next_amd64")
    subprocess.run(
        ["dpkg-deb", "-Zxz", "-z0", "--root-owner-group", "--build", str(tree), str(made)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shutil.rmtree(tree)
    return made


async def tried(system: str, name: str, trial: Awaitable[object]) -> bool:
    """Whether it went well; a line says so, or why not."""
    begun = time.monotonic()
    try:
        await trial
    except Exception:
        say(trial=name, system=system, ok=False, why=traceback.format_exc())
        return False
    say(trial=name, system=system, ok=True, seconds=round(time.monotonic() - begun, 1))
    return True


async def in_container(
    deb: Path, newer: Path, system: str, trials: Sequence[Trial], work: Path
) -> tuple[list[Figure], bool]:
    """The trials on one system; the figures, and whether all went well.  After a failure the rest is not tried."""
    work.mkdir()
    async with WhatsApp() as server, a_container(trees.tree(system), work) as container:
        installed = Installed(container, work / "client")
        world = World(work, container, server, installed, deb, newer)
        good = True
        for trial in trials:
            if not await tried(system, name_of(trial), trial(world)):
                print(await world.traces(), file=sys.stderr)
                good = False
                break
        return [replace(figure, system=system) for figure in world.figures], good


def wanted(given: argparse.Namespace, system: str) -> list[Trial]:
    """The trials of one system, in their order."""
    if given.only:
        return [trial for trial in TRIALS if name_of(trial) in given.only]
    if given.quick and system != given.system[0]:
        return [trial for trial in TRIALS if trial in EVERYWHERE]
    return [*TRIALS]


async def prepare(given: argparse.Namespace, work: Path) -> tuple[Path, list[Figure], int]:
    """What needs a network, or no container: the package, what can be told of it, how many trials of it failed."""
    for system in given.system:
        trees.tree(system)
    migrating.fetch()
    if given.deb is not None:
        return given.deb, [] if given.only else await building.look(given.deb), 0
    deb = await building.made("amd64", work, "-z0" if given.quick else "-z9")
    again = await building.made_again(deb, work)
    bad = not await tried("", "for_arm64", building.for_arm64(work))
    return deb, [*await building.look(deb), again], bad


async def run(given: argparse.Namespace, deb: Path, work: Path) -> tuple[list[Figure], int]:
    """The trials on every system; the figures, and how many systems had a failure."""
    figures, bad = [], 0
    newer = newer_version(deb, work)
    for system in given.system:
        found, good = await in_container(deb, newer, system, wanted(given, system), work / system)
        bad += not good
        figures += found
    return figures, bad


def main() -> int:
    """The command line; exit code 1 when a trial failed, or a goal was missed that is no time."""
    names = [name_of(trial) for trial in TRIALS]
    parser = argparse.ArgumentParser(prog="make lab", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="what CI runs")
    parser.add_argument(
        "--deb", type=Path, help="a package, instead of one made from this checkout"
    )
    parser.add_argument("--system", action="append", choices=sorted(trees.SYSTEMS), default=[])
    parser.add_argument("--only", nargs="*", choices=names, default=[], help="only these trials")
    given = parser.parse_args()
    given.system = given.system or sorted(trees.SYSTEMS)
    if (why := obstacle(in_ci=bool(os.environ.get("CI")))) is not None:
        say(lab="skipped", why=why)
        return 0
    with tempfile.TemporaryDirectory(prefix="wad-lab-") as name:
        deb, figures, bad = asyncio.run(prepare(given, Path(name)))
        leave_network()  # this thread, and those that it starts from now on
        more, failed = asyncio.run(run(given, deb, Path(name)))
    figures += more
    for figure in figures:
        say(**figure.as_json())
    missed = [figure for figure in figures if figure.decides and not figure.met]
    return 1 if bad or failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
