"""Where the installation is that an audit looks at: what the daemon would be configured with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from wad.audit.doctor import service
from wad.config import load
from wad.config.settings import StoreSettings

_CREDENTIALS: Final = Path("/run/credentials/wad.service")
"""Where systemd puts the unit's credentials while the daemon runs (systemd.exec(5)); for root to read."""


class Installation(NamedTuple):
    """The kind of store, how Firestore is reached, the state directory, and the lease's document."""

    kind: str
    store: StoreSettings
    state_dir: Path
    lease: str


def place_of(file: Path | None, environ: Mapping[str, str]) -> Installation:
    """By the same file and environment as the daemon goes by.  Raises BadConfig."""
    config = load(file, environment(environ)).config
    return Installation(config.store.kind, config.store, config.state.dir, config.lease.document)


def environment(
    environ: Mapping[str, str],
    shown: Mapping[str, str] | None = None,
    credentials: Path = _CREDENTIALS,
) -> dict[str, str]:
    """What the unit gives the daemon, below what stands in our own environment.

    `shown`: what systemctl says of the unit; asked where it is not given and systemd runs.
    """
    if shown is None:
        shown = service.show() if service.booted() else {}
    given = service.environment_of(shown)
    try:
        there = credentials.is_dir()
    except PermissionError:
        there = False
    if there:
        given["CREDENTIALS_DIRECTORY"] = str(credentials)
    return {**given, **environ}
