"""`python -m wadpack deb ...` and `python -m wadpack repository ...`."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from wadpack.debianize import TOP, Build, architecture, build
from wadpack.targets import ARCHITECTURES


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="wadpack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    deb = commands.add_parser("deb", help="build the package")
    deb.add_argument("--arch", action="append", choices=sorted(ARCHITECTURES))
    deb.add_argument("--out", type=Path, default=TOP / "dist")
    deb.add_argument("--cache", type=Path, default=TOP / "build" / "wheels")
    deb.add_argument("--version", default="", help="another version than the changelog's")
    deb.add_argument("--fast", action="store_true", help="compress little")
    given = parser.parse_args()
    for name in given.arch or sorted(ARCHITECTURES):
        begun = time.monotonic()
        compression = "-z0" if given.fast else "-z9"
        made = build(Build(architecture(name), given.out, given.cache, given.version, compression))
        seconds = round(time.monotonic() - begun, 1)
        print(json.dumps({"deb": str(made), "bytes": made.stat().st_size, "seconds": seconds}))


if __name__ == "__main__":
    main()
