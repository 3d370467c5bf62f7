"""Rules for new installations: faults that are only a warning in an existing one."""

from __future__ import annotations

from typing import Final

from wad.config.settings import Config
from wad.core.token import weakness

HINT: Final = (
    "create a token: wadctl token create NAME --role admin; or head -c 24 /dev/urandom | base64"
)


def is_new(config: Config) -> bool:
    """Whether nothing is stored yet.  A directory that this user cannot read counts as in use."""
    try:
        if (config.state.dir / "wad.db").exists():
            return False
        sessions = config.state.sessions
        return not sessions.exists() or not any(sessions.iterdir())
    except OSError:
        return False


def faults(config: Config) -> list[str]:
    """The faults of a configuration for a new installation, one sentence each."""
    why = weakness(config.http.admin_token) if config.http.admin_token else ""
    return [f"http.admin_token {why}, which is not allowed in a new installation"] if why else []
