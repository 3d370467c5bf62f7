"""`python -m wadpack deb ...` and `python -m wadpack repository ...`."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from wadpack.debianize import TOP, Build, architecture, build
from wadpack.repository import Repository
from wadpack.targets import ARCHITECTURES

_DIST = TOP / "dist"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wadpack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    deb = commands.add_parser("deb", help="build the package")
    deb.add_argument("--arch", action="append", choices=sorted(ARCHITECTURES))
    deb.add_argument("--out", type=Path, default=_DIST)
    deb.add_argument("--cache", type=Path, default=TOP / "build" / "wheels")
    deb.add_argument("--version", default="", help="another version than the changelog's")
    deb.add_argument("--fast", action="store_true", help="compress little")
    repository = commands.add_parser("repository", help="publish built packages")
    repository.add_argument("--key", required=True, help="the OpenPGP key that signs it")
    repository.add_argument("--url", required=True, help="where it will be found")
    repository.add_argument("--out", type=Path, default=_DIST / "apt")
    repository.add_argument("debs", type=Path, nargs="*", help="those in dist/ by default")
    return parser


def _deb(given: argparse.Namespace) -> None:
    for name in given.arch or sorted(ARCHITECTURES):
        begun = time.monotonic()
        compression = "-z0" if given.fast else "-z9"
        made = build(Build(architecture(name), given.out, given.cache, given.version, compression))
        seconds = round(time.monotonic() - begun, 1)
        print(json.dumps({"deb": str(made), "bytes": made.stat().st_size, "seconds": seconds}))


def main() -> None:
    """The command line."""
    given = _parser().parse_args()
    if given.command == "deb":
        _deb(given)
        return
    debs = given.debs or sorted(_DIST.glob("wad_*.deb"))
    Repository(given.out, given.url, given.key).publish(debs)
    print(json.dumps({"repository": str(given.out), "packages": [deb.name for deb in debs]}))


if __name__ == "__main__":
    main()
