"""The reader of the configuration's sources, in order of rising precedence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wad.config.declaration import Derived, Relation, Setting, filled
from wad.config.file import InvalidFile, Statement, read_file
from wad.config.origin import ValueOrigin
from wad.config.settings import RELATIONS, SECTIONS, SETTINGS
from wad.config.values import InvalidValue, converted, from_text
from wad.config.wording import nearest
from wad.core.token import weakness

_VARIABLES: Final = {name for row in SETTINGS.values() for name in row.env} | {"WAD_CONFIG"}
_LONGEST: Final = 80  # characters of a name that are shown
_MOST_PROBLEMS: Final = 100
"""A longer list helps nobody, and the suggestion for each problem takes a millisecond."""
ADMIN_TOKEN: Final = "http.admin_token"
_COLON_LISTS: Final = frozenset({"STATE_DIRECTORY", "RUNTIME_DIRECTORY"})
"""Variables in which systemd names several directories, separated by colons; the first is ours."""


class ConfigReader:
    """A collector of values, problems and warnings; its methods must be called in the order of their definitions.

    `read` is the file that was read.
    """

    def __init__(self) -> None:
        self.origins: dict[str, ValueOrigin] = {}
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.read: Path | None = None
        self._bad: set[str] = set()

    # The sources.

    def take_defaults(self) -> None:
        """The fixed defaults; templates follow in `finish`, when the other settings are known."""
        for row in SETTINGS.values():
            if not row.is_template:
                self._take(row, row.usual, "default")

    def take_file(self, path: Path, *, required: bool) -> None:
        """The configuration file, which may be missing if it is not required."""
        try:
            file = read_file(path, SECTIONS)
        except InvalidFile as error:
            self.problems.append(str(error))
            return
        if file is None:
            if required:
                self.problems.append(f"{path}: the file does not exist")
            return
        self.read = path
        for statement in file.statements:
            if len(self.problems) >= _MOST_PROBLEMS:
                self.problems.append(
                    f"{path}:{statement.line}: too many problems, the rest was not checked"
                )
                break
            self._take_statement(statement, f"{path}:{statement.line}")
        if file.world_readable:
            self._warn_of_secrets(path)

    def take_environment(self, environ: Mapping[str, str]) -> None:
        """The variables of each setting; the first of its names that is set wins."""
        for row in SETTINGS.values():
            name = next((name for name in row.env if environ.get(name)), None)
            if name is not None:
                text = environ[name].split(":")[0] if name in _COLON_LISTS else environ[name]
                self._take_text(row, text, f"environment {name}")
        for name in environ:
            if name.startswith("WAD_") and name not in _VARIABLES:
                near = nearest(name, _VARIABLES)
                self.warnings.append(f"environment {name}: unknown setting{near}")

    def take_credentials(self, environ: Mapping[str, str]) -> None:
        """systemd's credentials for this service, without the line end that an editor may have added."""
        directory = environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            return
        for row in SETTINGS.values():
            if not row.credential:
                continue
            source = f"credential {row.credential}"
            try:
                text = Path(directory, row.credential).read_bytes().decode()
            except FileNotFoundError:
                continue
            except OSError as error:
                self._complain(row.key, f"{source}: cannot be read: {error.strerror}")
            except UnicodeDecodeError:
                self._complain(row.key, f"{source}: is not UTF-8")
            else:
                self._take_text(row, text.rstrip("\r\n"), source)

    def take_overrides(self, overrides: Mapping[str, object]) -> None:
        """The options of the command line."""
        for key, value in overrides.items():
            self._take(SETTINGS[key], value, "command line")

    def finish(self, hostname: str) -> None:
        """The defaults that depend on other settings, and the rules for several settings together."""
        for row in SETTINGS.values():
            if row.key not in self._bad and self._is_default(row.key):
                self._take(row, self._default(row, hostname), "default")
        for relation in RELATIONS:
            self._check_relation(relation)
        self._warn_of_weak_token()

    def _is_default(self, key: str) -> bool:
        return key not in self.origins or self.origins[key].source == "default"

    def _default(self, row: Setting, hostname: str) -> object:
        if isinstance(row.default, Derived):
            return row.default.rule(self.origins)
        if row.is_template:
            known = {key: str(origin.value) for key, origin in self.origins.items()}
            return filled(row.default, known | {"hostname": hostname})
        return row.default

    # One value.

    def _take_statement(self, statement: Statement, place: str) -> None:
        name, depth = statement.name, len(statement.key)
        # A quoted key that contains a dot is one name, not a section and a setting.
        row = SETTINGS.get(name) if depth == 2 else None
        if row is not None:
            self._take(row, statement.value, f"file {place}")
        elif depth == 1 and name in SECTIONS:
            self.problems.append(
                f"{place}: {name} is a section: write [{name}] and its settings below"
            )
        elif depth == 1 and isinstance(statement.value, dict):
            near = nearest(name, SECTIONS)
            self.problems.append(f"{place}: unknown section {name[:_LONGEST]}{near}")
        else:
            near = nearest(name, SETTINGS)
            self.problems.append(f"{place}: unknown setting {name[:_LONGEST]}{near}")

    def _take_text(self, row: Setting, text: str, source: str) -> None:
        try:
            value = from_text(row, text)
        except InvalidValue as error:
            self._complain(row.key, f"{source}: {row.key} {error}")
            return
        self._take(row, value, source)

    def _take(self, row: Setting, raw: object, source: str) -> None:
        try:
            value = converted(row, raw)
        except InvalidValue as error:
            self._complain(row.key, f"{source.removeprefix('file ')}: {row.key} {error}")
            return
        before = self.origins.get(row.key)
        if before and before.in_file and before.value != value:
            self.warnings.append(f"{before.place}: {row.key} has no effect: {source} overrides it")
        self.origins[row.key] = ValueOrigin(row, value, source)

    def _complain(self, key: str, problem: str) -> None:
        self._bad.add(key)
        self.problems.append(problem)

    # Several values.

    def _warn_of_secrets(self, path: Path) -> None:
        secrets = [
            key for key, origin in self.origins.items() if origin.in_file and origin.sensitive
        ]
        if secrets:
            self.warnings.append(
                f"{path}: every user can read the file, which contains {', '.join(secrets)}: chmod o-r {path}"
            )

    def _warn_of_weak_token(self) -> None:
        origin = self.origins.get(ADMIN_TOKEN)
        if origin is not None and origin.value and (why := weakness(str(origin.value))):
            self.warnings.append(
                f"{origin.place}: {ADMIN_TOKEN} {why} and can be guessed: wadctl token create NAME --role admin"
            )

    def _check_relation(self, relation: Relation) -> None:
        keys = (relation.key, *relation.others)
        if self._bad.intersection(keys):
            return
        found = {key: self.origins[key] for key in keys}
        if relation.holds({key: origin.value for key, origin in found.items()}):
            return
        set_at = next(origin for origin in found.values() if origin.source != "default")
        values = ", ".join(
            f"{key} is {origin.shown} ({origin.source})" for key, origin in found.items()
        )
        self.problems.append(f"{set_at.place}: {relation.key} must be {relation.text}; {values}")
