"""What is a warning of an installation that runs already, and an error of a new one."""

from __future__ import annotations

from typing import Final

from wad.config.settings import Config
from wad.core.token import weakness

HINT: Final = (
    "make a token: wadctl token create NAME --role admin; or head -c 24 /dev/urandom | base64"
)


def is_new(config: Config) -> bool:
    """Whether nothing was stored yet.  A directory that this user may not look into is taken for one in use."""
    try:
        if (config.state.dir / "wad.db").exists():
            return False
        sessions = config.state.sessions
        return not sessions.exists() or not any(sessions.iterdir())
    except OSError:
        return False


def unfit(config: Config) -> list[str]:
    """What a new installation must not begin with, one sentence each."""
    why = weakness(config.http.admin_token) if config.http.admin_token else ""
    return [f"http.admin_token {why}, which a new installation may not have"] if why else []
