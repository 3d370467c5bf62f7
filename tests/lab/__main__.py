"""`make lab`: the package tried on real systemd.  One line of JSON for each trial, then one for each figure.

    python -m tests.lab [--quick] [--deb dist/wad_0.1.0_amd64.deb] [--system noble ...] [--only TRIAL ...]
                        [--shuffle [SEED]]

Each trial begins with a machine in a known state, whatever was tried before it (see `machines`), so that their order
makes no difference: `--shuffle` draws one, from a seed that is printed first.

`--quick` is what CI runs: the package is compressed less, trials that do not depend on the version of Python or systemd
run on one of the systems, and the systems are tried at the same time, each in a separate process.  It needs root, for
containers and mounts.  Each system is tried in a separate network with only loopback; only before that are trees and
wheels fetched, if they are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tests.lab import (
    building,
    confining,
    doctoring,
    failing,
    installing,
    leaving,
    looking,
    migrating,
    operating,
    proxying,
    repository,
    suffering,
    trees,
    units,
    upgrading,
)
from tests.lab.ability import obstacle
from tests.lab.apart import apart
from tests.lab.figures import Figure
from tests.lab.machines import Machines
from tests.lab.network import leave_network
from tests.lab.trial import Trial, shuffled
from tests.lab.world import Packages

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
    confining.worker_taken_over,
    confining.worker_writes_what_does_not_end,
    confining.name_servers_replaced,
    failing.watchdog,
    failing.killed,
    failing.worker_killed,
    failing.restart_of_one,
    failing.stop_and_start,
    failing.restarts,
    failing.http_replaced,
    proxying.nginx_in_front,
    proxying.nginx_under_restarts,
    operating.restart_refused,
    operating.settings,
    operating.edit_unit,
    operating.another_name,
    operating.journal,
    operating.lease_by_hand,
    operating.session_moved,
    operating.put_away,
    failing.without_sockets,
    failing.another_address,
    failing.port_taken,
    units.mistake_under_probes,
    units.mistake_of_the_unit,
    units.what_can_heal,
    units.restarts_in_any_order,
    units.socket_taken_away,
    units.stopped_for_good,
    suffering.full_disk,
    suffering.read_only_disk,
    suffering.wrong_credentials,
    suffering.encrypted_credential,
    suffering.wrong_configuration,
    suffering.drop_ins_of_before,
    suffering.clock,
    leaving.upgrade_under_load,
    upgrading.stopped_stays_stopped,
    upgrading.package_of_before,
    upgrading.drop_ins_of_http,
    upgrading.a_changed_configuration,
    upgrading.removed_and_installed,
    leaving.downgrade,
    leaving.remove,
    leaving.purge,
    leaving.install_again,
    leaving.purge_of_a_volume,
    repository.from_repository,
)
"""In this order, which needs few machines."""

EVERYWHERE: frozenset[Trial] = frozenset(
    {
        *(installing.install, installing.unit, installing.every_module, installing.documents),
        installing.pair,
        *(installing.receive_and_send, installing.own_groups, installing.reboot),
        *(failing.killed, failing.stop_and_start, failing.restarts, failing.http_replaced),
        *(proxying.nginx_in_front, proxying.nginx_under_restarts),
        *(leaving.upgrade_under_load, leaving.remove, leaving.purge, leaving.install_again),
    }
)
"""Tried on every system, also in CI."""
SECOND: Final = {module.__name__ for module in (looking, operating, suffering)}
"""Of the rest CI runs the trials of these modules on the second system, and the others on the first."""


def report(line: str) -> None:
    """One line, now."""
    print(line, flush=True)


def say(**facts: object) -> None:
    """One line of JSON."""
    report(json.dumps(facts))


def line_of(figure: Figure) -> str:
    """The printed form of a figure."""
    return json.dumps(figure.as_json())


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
        ["dpkg-deb", "-Znone", "--root-owner-group", "--build", str(tree), str(made)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shutil.rmtree(tree)
    return made


async def tried(system: str, name: str, trial: Awaitable[object]) -> bool:
    """Whether it succeeded; a line reports that, or the reason."""
    begun = time.monotonic()
    try:
        await trial
    except Exception:
        say(trial=name, system=system, ok=False, why=traceback.format_exc())
        return False
    say(trial=name, system=system, ok=True, seconds=round(time.monotonic() - begun, 1))
    return True


async def in_turn(machines: Machines, trials: Sequence[Trial]) -> bool:
    """The trials on one system, each on a machine in the state that it needs; whether all succeeded."""
    bad = 0
    for trial in trials:
        good = await tried(machines.system, trial.name, _on(machines, trial))
        bad += not good
    return not bad


async def _on(machines: Machines, trial: Trial) -> None:
    world = await machines.begin(trial)
    good = False
    try:
        await trial.body(world)
        good = True
    finally:
        if not good:
            print(await machines.traces(), file=sys.stderr)
        await machines.end(trial, good=good)


async def on_system(
    prepared: Prepared, system: str, trials: Sequence[Trial], work: Path
) -> tuple[list[Figure], bool]:
    """The trials on one system; the figures, and whether all succeeded."""
    work.mkdir()
    with trees.tree(system) as tree:
        machines = Machines(system, tree, prepared.packages, work)
        try:
            good = await in_turn(machines, trials)
        finally:
            await machines.close()
    return [replace(figure, system=system) for figure in machines.figures], good


def wanted(given: argparse.Namespace, system: str) -> list[Trial]:
    """The trials of one system, in their order."""
    # An earlier package takes minutes to build.
    chosen = [trial for trial in TRIALS if trial not in _FROM_AN_EARLIER or not given.quick]
    if given.only:
        chosen = [trial for trial in TRIALS if trial.name in given.only]
    elif given.quick and len(given.system) > 1:
        number = given.system.index(system)
        chosen = [
            trial
            for trial in chosen
            if trial in EVERYWHERE or number == int(trial.module in SECOND)
        ]
    return shuffled(chosen, given.shuffle)


@dataclass
class Prepared:
    """The inputs of the trials, the figures of the package, and the number of failed trials of that."""

    packages: Packages
    figures: list[Figure] = field(default_factory=list)
    bad: int = 0


async def prepare(given: argparse.Namespace, work: Path) -> Prepared:
    """Everything that needs a network, or no container: trees, and the package with its figures, all in parallel."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_make_trees(given.system))
        group.create_task(asyncio.to_thread(migrating.fetch))
        package = group.create_task(_package(given, work))
        if given.deb is None:
            for_arm64 = group.create_task(tried("", "for_arm64", building.for_arm64(work)))
    prepared = package.result()
    prepared.bad += given.deb is None and not for_arm64.result()
    return prepared


async def _make_trees(systems: Sequence[str]) -> None:
    for system in systems:
        await asyncio.to_thread(_make_tree, system)


def _make_tree(system: str) -> None:
    with trees.tree(system):
        pass


async def _package(given: argparse.Namespace, work: Path) -> Prepared:
    deb = given.deb or await building.made("amd64", work, "-z0" if given.quick else "-z9")
    async with asyncio.TaskGroup() as group:
        newer = group.create_task(asyncio.to_thread(_newer, given, deb, work))
        looked = [] if given.only else [group.create_task(building.look(deb))]
        made = [] if given.deb else [group.create_task(building.made_again(deb, work))]
        before = group.create_task(asyncio.to_thread(_before, given, work))
    figures = [figure for task in looked for figure in task.result()]
    packages = Packages(deb, newer.result(), before.result())
    return Prepared(packages, [*figures, *(task.result() for task in made)])


def _newer(given: argparse.Namespace, deb: Path, work: Path) -> Path:
    newer: Path = given.newer or newer_version(deb, work)
    return newer


_FROM_AN_EARLIER: Final = (upgrading.package_of_before, upgrading.a_changed_configuration)
"""Trials that need an earlier package."""


def _before(given: argparse.Namespace, work: Path) -> Path | None:
    """The earlier package, if a trial needs it."""
    chosen = {trial for system in given.system for trial in wanted(given, system)}
    if given.before is not None or chosen.isdisjoint(_FROM_AN_EARLIER):
        before: Path | None = given.before
        return before
    return building.of_commit(upgrading.BEFORE, work)


def here(given: argparse.Namespace, prepared: Prepared, work: Path) -> tuple[list[str], int]:
    """The trials on one system, in this process and a separate network; lines of figures, and the exit code."""
    (system,) = given.system
    trials = wanted(given, system)
    leave_network()  # this thread, and those that it starts from now on
    found, good = asyncio.run(on_system(prepared, system, trials, work / system))
    return [line_of(figure) for figure in found], int(not good or missed(found))


async def everywhere(given: argparse.Namespace, prepared: Prepared) -> tuple[list[str], int]:
    """The trials on every system, each in a separate process: in parallel with --quick, else one after the other.

    Two in parallel disturb each other's times, which are shown and do not affect the result.
    """
    at_once = asyncio.Semaphore(len(given.system) if given.quick else 1)

    async def on(system: str) -> tuple[list[str], int]:
        found = prepared.packages
        packages = ["--deb", str(found.deb), "--newer", str(found.newer)]
        packages += ["--before", str(found.before)] if found.before else []
        only = [trial.name for trial in wanted(given, system)]
        seed = [] if given.shuffle is None else ["--shuffle", str(given.shuffle)]
        async with at_once:
            return await apart(["--system", system, *packages, *seed, "--only", *only], report)

    results = await asyncio.gather(*map(on, given.system))
    return [line for lines, _ in results for line in lines], max(code for _, code in results)


def missed(figures: Sequence[Figure]) -> bool:
    """Whether a goal was missed that is not a time."""
    return any(figure.decides and not figure.met for figure in figures)


def _parser() -> argparse.ArgumentParser:
    names = [trial.name for trial in TRIALS]
    parser = argparse.ArgumentParser(prog="make lab", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="what CI runs")
    parser.add_argument(
        "--deb", type=Path, help="a package, instead of one made from this checkout"
    )
    parser.add_argument("--newer", type=Path, help="the package to upgrade to, likewise")
    parser.add_argument("--before", type=Path, help="one whose daemon serves HTTP itself, likewise")
    titles = ", ".join(f"{name} ({system.title})" for name, system in trees.SYSTEMS.items())
    parser.add_argument(
        "--system", action="append", choices=trees.SYSTEMS, default=[], metavar="NAME",
        help=f"{titles}; {' and '.join(trees.USUAL)} by default",
    )  # fmt: skip
    parser.add_argument(
        "--only", nargs="*", choices=names, default=[], metavar="TRIAL",
        help=f"only these trials: {', '.join(names)}",
    )  # fmt: skip
    parser.add_argument(
        "--shuffle", nargs="?", type=int, const=-1, metavar="SEED",
        help="the trials in another order, drawn from this seed or from one that is printed",
    )  # fmt: skip
    return parser


def main() -> int:
    """The command line; exit code 1 when a trial failed, or a goal was missed that is not a time."""
    given = _parser().parse_args()
    given.system = given.system or [*trees.USUAL]
    if given.shuffle == -1:
        given.shuffle = secrets.randbelow(10**6)
        say(shuffle=given.shuffle)
    if (why := obstacle()) is not None:
        say(lab="skipped", why=why)
        return int(bool(os.environ.get("CI")))  # in CI a skip is a failure
    with tempfile.TemporaryDirectory(prefix="wad-lab-") as name:
        work = Path(name)
        prepared = asyncio.run(prepare(given, work))
        if len(given.system) == 1:
            lines, code = here(given, prepared, work)
        else:
            lines, code = asyncio.run(everywhere(given, prepared))
    for line in [*map(line_of, prepared.figures), *lines]:
        report(line)
    return int(bool(code or prepared.bad or missed(prepared.figures)))


if __name__ == "__main__":
    sys.exit(main())
