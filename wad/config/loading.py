"""The configuration, loaded from all its sources."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from wad.config.origin import ValueOrigin
from wad.config.reading import ConfigReader
from wad.config.settings import SECTIONS, SETTINGS, Config
from wad.core.errors import BadConfig

_DEFAULT_FILE: Final = Path("/etc/wad/wad.toml")


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid configuration, and the origin of its values.

    `file`: the file that was requested (None: the default one); `read`: the file that was read (None: there was none).
    """

    config: Config
    origins: Mapping[str, ValueOrigin]
    warnings: tuple[str, ...]
    file: Path | None
    read: Path | None
    overrides: Mapping[str, object] = field(repr=False)

    def again(self, environ: Mapping[str, str]) -> LoadedConfig:
        """Load everything again, with the same file and command line.  Raises BadConfig."""
        return load(self.file, environ, self.overrides)

    def needs_restart(self, fresh: LoadedConfig) -> tuple[str, ...]:
        """The keys whose values differ in `fresh` and need a restart."""
        return tuple(
            key
            for key, row in SETTINGS.items()
            if not row.reload and self.origins[key].value != fresh.origins[key].value
        )


def load(
    file: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    *,
    default_file: Path = _DEFAULT_FILE,
    hostname: str | None = None,
) -> LoadedConfig:
    """Load the configuration from all its sources.

    `file` must exist if it is given (or named by `$WAD_CONFIG`); otherwise `default_file` is read if it exists.
    `overrides` are keys and values of the command line.  Raises BadConfig, which lists every problem.
    """
    loaded, problems = examine(
        file, environ, overrides, default_file=default_file, hostname=hostname
    )
    if loaded is None:
        raise BadConfig("; ".join(problems), hint="`wad config check` lists every problem")
    return loaded


def examine(
    file: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    *,
    default_file: Path = _DEFAULT_FILE,
    hostname: str | None = None,
) -> tuple[LoadedConfig | None, list[str]]:
    """Like `load`, but return None and the problems, one sentence each, if there are any."""
    overrides = dict(overrides or {})
    named = environ.get("WAD_CONFIG")
    path = file or (Path(named) if named else None)
    reading = ConfigReader()
    reading.take_defaults()
    reading.take_file(path or default_file, required=path is not None)
    reading.take_environment(environ)
    reading.take_credentials(environ)
    reading.take_overrides(overrides)
    reading.finish(os.uname().nodename if hostname is None else hostname)
    if reading.problems:
        return None, reading.problems
    origins = {key: reading.origins[key] for key in SETTINGS}
    config = _built({key: origin.value for key, origin in origins.items()})
    return LoadedConfig(config, origins, tuple(reading.warnings), file, reading.read, overrides), []


def _built(values: Mapping[str, object]) -> Config:
    sections = {
        name: declared(**{each.name: values[f"{name}.{each.name}"] for each in fields(declared)})
        for name, declared in SECTIONS.items()
    }
    return Config(**sections)
