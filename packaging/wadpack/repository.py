"""A signed repository of built packages, as files that any web server can hand out.

pool/wad_VERSION_ARCH.deb              every package that was ever put in: apt can go back to an older one
dists/stable/main/binary-ARCH/Packages, dists/stable/Release, InRelease, Release.gpg
wad-archive-keyring.asc, wad.sources   what a machine needs to trust it and to find it
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wadpack.targets import ARCHITECTURES

SUITE: Final = "stable"
KEYRING: Final = "wad-archive-keyring.asc"
_SOURCES: Final = """\
Types: deb
URIs: {url}
Suites: {suite}
Components: main
Signed-By: /etc/apt/keyrings/{keyring}
"""


@dataclass(frozen=True, slots=True)
class Repository:
    """Where it lies, where it will be found (`url`), and the OpenPGP key that signs it.

    `home`: where GnuPG keeps the key; None for the caller's.
    """

    directory: Path
    url: str
    key: str
    home: Path | None = None

    def publish(self, debs: Iterable[Path]) -> None:
        """Put packages in, and write and sign the indices again.  Raises CalledProcessError without the key."""
        pool = self.directory / "pool"
        pool.mkdir(parents=True, exist_ok=True)
        for deb in debs:
            shutil.copy(deb, pool / deb.name)
        dist = self.directory / "dists" / SUITE
        for name in ARCHITECTURES:
            self._index(dist / "main" / f"binary-{name}", name)
        self._release(dist)
        public = self._gpg("--armor", "--export", self.key)
        if not public:
            raise ValueError(f"there is no OpenPGP key {self.key!r}")
        (self.directory / KEYRING).write_bytes(public)
        sources = _SOURCES.format(url=self.url, suite=SUITE, keyring=KEYRING)
        (self.directory / "wad.sources").write_text(sources)

    def _index(self, directory: Path, architecture: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        packages = self._ftparchive("--arch", architecture, "packages", "pool")
        (directory / "Packages").write_bytes(packages)
        (directory / "Packages.gz").write_bytes(gzip.compress(packages, mtime=0))

    def _release(self, dist: Path) -> None:
        signatures = [dist / name for name in ("InRelease", "Release.gpg", "Release")]
        for old in signatures:
            old.unlink(missing_ok=True)
        facts = {
            "Origin": "wad", "Label": "wad", "Suite": SUITE, "Codename": SUITE, "Components": "main",
            "Architectures": " ".join(ARCHITECTURES),
        }  # fmt: skip
        options = [f"-oAPT::FTPArchive::Release::{name}={value}" for name, value in facts.items()]
        text = self._ftparchive(*options, "release", f"dists/{SUITE}")
        release = dist / "Release"
        release.write_bytes(text)
        for made, how in (("InRelease", ["--clearsign"]), ("Release.gpg", ["--detach-sign", "-a"])):
            self._gpg("--local-user", self.key, *how, "--output", str(dist / made), str(release))

    def _ftparchive(self, *words: str) -> bytes:
        command = ["apt-ftparchive", *words]
        return subprocess.run(
            command, cwd=self.directory, check=True, stdout=subprocess.PIPE
        ).stdout

    def _gpg(self, *words: str) -> bytes:
        home = [] if self.home is None else ["--homedir", str(self.home)]
        command = ["gpg", *home, "--batch", "--yes", "--quiet", *words]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
