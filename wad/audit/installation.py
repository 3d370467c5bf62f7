"""The installation that an audit reads, from the daemon's own configuration sources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from wad.audit.doctor import service
from wad.config import load
from wad.config.settings import StoreSettings

_CREDENTIALS: Final = Path("/run/credentials/wad.service")
"""Where systemd puts the unit's credentials while the daemon runs (systemd.exec(5)); readable by root."""


class Installation(NamedTuple):
    """The kind of store, its settings, the state directory, and the path of the lease's document."""

    kind: str
    store: StoreSettings
    state_dir: Path
    lease: str


def installation_of(file: Path | None, environ: Mapping[str, str]) -> Installation:
    """Read the same file and environment as the daemon.  Raises BadConfig."""
    config = load(file, environment(environ)).config
    return Installation(config.store.kind, config.store, config.state.dir, config.lease.document)


def environment(
    environ: Mapping[str, str],
    shown: Mapping[str, str] | None = None,
    credentials: Path = _CREDENTIALS,
) -> dict[str, str]:
    """The unit's environment, overridden by our own.

    `shown`: the unit's properties; read from systemctl if not given and systemd runs.
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
