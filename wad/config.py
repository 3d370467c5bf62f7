"""The configuration: every setting is declared once, below, and everything else is made from that.

A setting gets its value from the last of these that has one: its default, the file (`/etc/wad/wad.toml`, or the one
named by `--config` or `$WAD_CONFIG`), the environment, a systemd credential, the command line.  An environment
variable that is empty counts as not set.  The sample file, the reference page and `wad config show` are derived.

    python -m wad.config sample|table|write [ROOT]
"""

# ruff: noqa: RUF009, `setting` is a `dataclasses.field`
from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, get_type_hints

from wad.core.errors import BadConfig

DEFAULT_FILE: Final = Path("/etc/wad/wad.toml")
_COLON_LISTS: Final = frozenset({"STATE_DIRECTORY", "RUNTIME_DIRECTORY"})
"""Variables in which systemd names several directories, separated by colons; the first is ours."""

# --- what a declaration is made of ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """What a value must be, beyond its type; `text` completes the sentence "it must be ..."."""

    text: str
    holds: Callable[[Any], bool]
    later: tuple[str, ...] = ()
    """Values that a later version will take."""


def _between(low: int, high: int) -> Check:
    return Check(f"from {low} to {high}", lambda value: low <= value <= high)


def _one_of(*choices: str, later: tuple[str, ...] = ()) -> Check:
    text = f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    return Check(text, lambda value: value in choices, later)


def _like(pattern: str, text: str) -> Check:
    return Check(text, lambda value: re.fullmatch(pattern, value, re.ASCII) is not None)


_SECONDS: Final = Check("more than 0 and at most 86400", lambda value: 0 < value <= 86400)


def setting(
    default: object,
    doc: str,
    *,
    env: tuple[str, ...] = (),
    credential: str = "",
    secret: bool = False,
    has_password: bool = False,
    reload: bool = False,
    check: Check | None = None,
) -> Any:
    """Declare one setting, as a field of its section.

    `default` may hold `{key}` of a setting declared before, and `{hostname}`.  `env` are names accepted besides
    `WAD_SECTION_NAME`.  `credential` is the systemd credential's name.  `secret`: never shown; `has_password`: a
    URL, shown without its password; neither is in a `repr`.  `reload`: SIGHUP applies a new value.
    """
    metadata = {
        "default": default,
        "doc": doc,
        "env": env,
        "credential": credential,
        "secret": secret,
        "reload": reload,
        "check": check,
    }
    return field(metadata=metadata, repr=not (secret or has_password))


# --- the settings -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSettings:
    """Where things lie on the disk."""

    dir: Path = setting(
        "/var/lib/wad",
        "Everything that has to survive: the store, the sessions, the lease. Mode 0700.",
        env=("STATE_DIRECTORY",),
    )
    sessions: Path = setting(
        "{state.dir}/sessions",
        "One directory per account: its WhatsApp session and its durable inbox; `sessions` in state.dir by default.",
        env=("SESSIONS_PATH",),
    )
    runtime_dir: Path = setting(
        "/run/wad",
        "What need not survive a reboot: the control socket.",
        env=("RUNTIME_DIRECTORY",),
    )
    min_free_mb: int = setting(
        64,
        "Below so much free space on the disk, in MB, nothing new is taken on and health says so.",
        check=_between(0, 1_000_000),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSettings:
    """Who this daemon is among others."""

    id: str = setting(
        "host_{hostname}",
        "The name under which this machine holds the lease; different on every machine, the same after a restart.",
        env=("INSTANCE_ID",),
        check=_like(r"[A-Za-z0-9._:@-]{1,128}", "1 to 128 of A-Z a-z 0-9 . _ : @ -"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """The Unix socket that wadctl speaks to."""

    socket: Path = setting(
        "{state.runtime_dir}/wad.sock",
        "The control socket; `wad.sock` in state.runtime_dir by default.",
        env=("WAD_SOCKET",),
        check=Check(
            "at most 107 bytes long (a limit of Unix sockets)",
            lambda value: len(os.fsencode(value)) <= 107,
        ),
    )
    group: str = setting(
        "wad",
        "Members of this group may use wadctl.",
        check=_like(r"[a-z_][a-z0-9_.-]{0,31}\$?", "the name of a group"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Health probes, and the apps that read over HTTP."""

    enabled: bool = setting(True, "Whether to serve HTTP at all.")
    address: str = setting(
        "127.0.0.1",
        "The address to listen on; `0.0.0.0` or `::` for all.",
        check=_like(r"[0-9A-Za-z.:%_-]{1,255}", "an IP address or a host name"),
    )
    port: int = setting(
        8080,
        "The TCP port; 0 lets the system choose one.",
        env=("PORT",),
        check=_between(0, 65535),
    )
    admin_token: str = setting(
        "",
        "The bearer token that allows changes over HTTP; while it is empty, HTTP can change nothing.",
        env=("ADMIN_TOKEN",),
        credential="admin-token",
        secret=True,
        check=Check(
            "ASCII without blanks", lambda value: value.isascii() and not re.search(r"\s", value)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where messages, threads and the outbox are kept."""

    kind: str = setting(
        "sqlite",
        "The kind of store.",
        check=_one_of("sqlite", later=("firestore",)),
    )
    firestore_credentials: str = setting(
        "",
        "The service account for Firestore, as JSON; not used yet.",
        env=("FIREBASE_SERVICE_ACCOUNT_JSON",),
        credential="firebase-service-account",
        secret=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The connection to WhatsApp."""

    kind: str = setting(
        "neonize",
        "What speaks to WhatsApp; the simulator speaks to nobody.",
        check=_one_of("neonize", "simulator"),
    )
    proxy: str = setting(
        "",
        "The proxy to reach WhatsApp through, as a URL; empty for none.",
        has_password=True,
        check=Check(
            "empty, or a URL that begins with http://, https:// or socks5:// and names a host",
            lambda value: (
                not value
                or re.fullmatch(r"(https?|socks5)://([^\s/@]+@)?[^\s/@:]\S*", value) is not None
            ),
        ),
    )
    device_name: str = setting(
        "wad",
        "What the phone shows under Linked devices; used when an account is paired.",
        check=Check("1 to 50 characters", lambda value: 1 <= len(value) <= 50),
    )
    pairing_window: float = setting(
        600, "For so many seconds new QR codes are shown after pairing began.", check=_SECONDS
    )
    probe_every: float = setting(
        10, "Seconds between two probes of an account's worker.", check=_SECONDS
    )
    probe_timeout: float = setting(
        20,
        "A worker that does not answer a probe for so many seconds is replaced.",
        check=_SECONDS,
    )
    stop_timeout: float = setting(
        6, "Seconds that a worker gets to end by itself, before it is killed.", check=_SECONDS
    )
    retry_base: float = setting(
        1,
        "Seconds before the first attempt to reconnect; doubled with every failure.",
        check=_SECONDS,
    )
    retry_cap: float = setting(
        300, "The longest wait between two attempts to reconnect, in seconds.", check=_SECONDS
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """Only the holder of the lease acts; the same values on every machine."""

    ttl: float = setting(
        15,
        "Seconds after its last renewal at which another machine may take the lease.",
        check=_SECONDS,
    )
    renew_every: float = setting(5, "Seconds between two renewals.", check=_SECONDS)
    margin: float = setting(
        3,
        "So many seconds before the lease ends its workers are stopped.",
        check=_SECONDS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundSettings:
    """The way of what was received, from the inbox of an account to the store."""

    batch: int = setting(
        500, "At most so many events are written to the store at once.", check=_between(1, 10_000)
    )
    retention_days: int = setting(
        14,
        "For so many days the inbox keeps what the store already has.",
        check=_between(1, 3650),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What the log says."""

    level: str = setting(
        "info",
        "The least important lines that are logged.",
        reload=True,
        check=_one_of("debug", "info", "warning", "error"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of the daemon.  Times are in seconds."""

    state: StateSettings
    instance: InstanceSettings
    control: ControlSettings
    http: HttpSettings
    store: StoreSettings
    engine: EngineSettings
    lease: LeaseSettings
    inbound: InboundSettings
    log: LogSettings


@dataclass(frozen=True, slots=True)
class Relation:
    """What several settings must satisfy together; `text` completes the sentence "KEY must be ..."."""

    key: str
    others: tuple[str, ...]
    text: str
    holds: Callable[[Mapping[str, Any]], bool]


RELATIONS: Final = (
    Relation(
        "lease.ttl",
        ("lease.renew_every", "lease.margin"),
        "at least 2 x lease.renew_every + lease.margin, so that one lost renewal does no harm",
        lambda value: value["lease.renew_every"] * 2 + value["lease.margin"] <= value["lease.ttl"],
    ),
    Relation(
        "engine.retry_cap",
        ("engine.retry_base",),
        "at least engine.retry_base",
        lambda value: value["engine.retry_base"] <= value["engine.retry_cap"],
    ),
)

# --- the table made of it ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.  `key` is `section.name`; `kind` one of str, int, float, bool, Path."""

    key: str
    kind: type
    default: Any
    doc: str
    env: tuple[str, ...]
    credential: str
    secret: bool
    reload: bool
    check: Check | None


_SECTIONS: Final[dict[str, type]] = get_type_hints(Config)


def _settings() -> Iterator[Setting]:
    for section, declared in _SECTIONS.items():
        kinds = get_type_hints(declared)
        for each in fields(declared):
            own = f"WAD_{section}_{each.name}".upper()
            row = {**each.metadata, "env": (own, *each.metadata["env"])}
            yield Setting(key=f"{section}.{each.name}", kind=kinds[each.name], **row)


SETTINGS: Final[Mapping[str, Setting]] = {row.key: row for row in _settings()}
_VARIABLES: Final = {name for row in SETTINGS.values() for name in row.env} | {"WAD_CONFIG"}


# --- what comes out ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """A setting's value and where it came from.

    `source`: `default`, `file /etc/wad/wad.toml:12`, `environment PORT`, `credential admin-token` or `command line`.
    """

    setting: Setting = field(repr=False)
    value: Any = field(repr=False)
    source: str

    @property
    def shown(self) -> str:
        """The value for people: a secret only as `(set)` or `(not set)`, a URL without its password."""
        if self.setting.secret:
            return "(set)" if self.value else "(not set)"
        return _plain(self.value)

    @property
    def json(self) -> str | int | float | bool:
        """`shown`, with numbers and truth values as they are."""
        return self.value if self.setting.kind in (int, float, bool) else self.shown

    @property
    def place(self) -> str:
        """How a message names the source: `/etc/wad/wad.toml:12`, or the source itself."""
        return self.source.removeprefix("file ")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used, and how it came to be.

    `file` is the file that was asked for (None: the usual one), `read` the one that was read (None: there was none).
    """

    config: Config
    origins: Mapping[str, Origin]
    warnings: tuple[str, ...]
    file: Path | None
    read: Path | None
    overrides: Mapping[str, object] = field(repr=False)

    def again(self, environ: Mapping[str, str]) -> Loaded:
        """Read everything anew, with the same file and command line.  Raises BadConfig."""
        return load(self.file, environ, self.overrides)

    def needs_restart(self, fresh: Loaded) -> tuple[str, ...]:
        """The keys whose values in `fresh` differ, and that only a restart can apply."""
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
    default_file: Path = DEFAULT_FILE,
    hostname: str | None = None,
) -> Loaded:
    """The configuration from all its sources.

    `file` must exist if it is given (or named by `$WAD_CONFIG`); otherwise `default_file` is read if it exists.
    `overrides` are keys and values of the command line.  Raises BadConfig, which names every problem.
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
    default_file: Path = DEFAULT_FILE,
    hostname: str | None = None,
) -> tuple[Loaded | None, list[str]]:
    """Like `load`, but hands the problems back, one sentence each; None if there are any."""
    reading = _Reading(
        file, dict(overrides or {}), os.uname().nodename if hostname is None else hostname
    )
    reading.take_defaults()
    reading.take_file(environ, default_file)
    reading.take_environment(environ)
    reading.take_credentials(environ)
    reading.take_overrides()
    return reading.result(), reading.problems


# --- reading ----------------------------------------------------------------------------------


class _Wrong(Exception):
    """A value cannot be used; the text completes the sentence "KEY ..."."""


class _Malformed(Exception):
    """A text is no TOML; `line` counts from 1."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


_Path = tuple[str, ...]


class _Reading:
    """One pass over all sources, in rising precedence; collects values and problems."""

    def __init__(self, file: Path | None, overrides: Mapping[str, object], hostname: str) -> None:
        self.problems: list[str] = []
        self._file = file
        self._read: Path | None = None
        self._mode = 0
        self._overrides = overrides
        self._hostname = hostname
        self._origins: dict[str, Origin] = {}
        self._bad: set[str] = set()
        self._warnings: list[str] = []

    # The sources.

    def take_defaults(self) -> None:
        """All but those that are made from other settings, which are not known yet."""
        for row in SETTINGS.values():
            if "{" not in str(row.default):
                self._take(row, row.default, "default")

    def take_file(self, environ: Mapping[str, str], default_file: Path) -> None:
        """The file that was asked for, or the usual one if there is one."""
        path = self._file
        if path is None and environ.get("WAD_CONFIG"):
            path = Path(environ["WAD_CONFIG"])
        text = self._text_of(path or default_file, required=path is not None)
        if text is None:
            return
        self._read = path or default_file
        try:
            document = _loads(text)
        except _Malformed as error:
            self.problems.append(f"{self._read}:{error.line}: {error}")
            return
        lines = _lines(text)
        for at, value in _flat(document):
            self._take_from_file(at, value, f"{self._read}:{lines.get(at) or lines[at[:1]]}")
        self._check_mode()

    def take_environment(self, environ: Mapping[str, str]) -> None:
        """The variables of each setting; the first of its names that is set counts."""
        for row in SETTINGS.values():
            name = next((name for name in row.env if environ.get(name)), None)
            if name is not None:
                text = environ[name].split(":")[0] if name in _COLON_LISTS else environ[name]
                self._take_text(row, text, f"environment {name}")
        for name in environ:
            if name.startswith("WAD_") and name not in _VARIABLES:
                near = _nearest(name, _VARIABLES)
                self._warnings.append(f"environment {name}: there is no such setting{near}")

    def take_credentials(self, environ: Mapping[str, str]) -> None:
        """What systemd laid out for this service; the line end that an editor leaves is no part of a secret."""
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

    def take_overrides(self) -> None:
        """The command line."""
        for key, value in self._overrides.items():
            self._take(SETTINGS[key], value, "command line")

    # One value.

    def _take_from_file(self, at: _Path, value: object, place: str) -> None:
        name = _spelled(at)
        # A quoted key with a dot in it is one name, not a section's.
        row = SETTINGS.get(name) if len(at) == 2 else None
        if row is not None:
            self._take(row, value, f"file {place}")
        elif len(at) == 1 and name in _SECTIONS:
            self.problems.append(
                f"{place}: {name} is a section: write [{name}] and its settings below"
            )
        elif len(at) == 1 and isinstance(value, dict):
            near = _nearest(name, _SECTIONS)
            self.problems.append(f"{place}: there is no section {name}{near}")
        else:
            self.problems.append(f"{place}: there is no setting {name}{_nearest(name, SETTINGS)}")

    def _take_text(self, row: Setting, text: str, source: str) -> None:
        try:
            value = _from_text(row, text)
        except _Wrong as error:
            self._complain(row.key, f"{source}: {row.key} {error}")
            return
        self._take(row, value, source)

    def _take(self, row: Setting, raw: object, source: str) -> None:
        try:
            value = _typed(row, raw)
            _check(row, value)
        except _Wrong as error:
            self._complain(row.key, f"{source.removeprefix('file ')}: {row.key} {error}")
            return
        before = self._origins.get(row.key)
        if before and before.source.startswith("file ") and before.value != value:
            self._warnings.append(f"{before.place}: {row.key} has no effect: {source} overrides it")
        self._origins[row.key] = Origin(row, value, source)

    def _complain(self, key: str, problem: str) -> None:
        self._bad.add(key)
        self.problems.append(problem)

    # The file.

    def _text_of(self, path: Path, *, required: bool) -> str | None:
        try:
            with path.open("rb") as file:
                self._mode = os.fstat(file.fileno()).st_mode
                # An editor may have left a byte order mark and CR LF; TOML allows the latter.
                return file.read().decode("utf-8-sig").replace("\r\n", "\n")
        except (FileNotFoundError, NotADirectoryError):
            if required:
                self.problems.append(f"{path}: there is no such file")
        except OSError as error:
            self.problems.append(f"{path}: cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self.problems.append(f"{path}:{line}: is not UTF-8")
        except ValueError as error:  # a NUL in the name
            self.problems.append(f"{str(path)!r}: cannot be read: {error}")
        return None

    def _check_mode(self) -> None:
        kept = [
            origin.setting.key
            for origin in self._origins.values()
            if origin.source.startswith("file ") and _sensitive(origin)
        ]
        if kept and self._mode & 0o004:
            self._warnings.append(
                f"{self._read}: everybody can read it, and it holds {', '.join(kept)}: chmod o-r {self._read}"
            )

    # The end.

    def result(self) -> Loaded | None:
        """What was found, unless there are problems."""
        for row in SETTINGS.values():
            if row.key not in self._origins and row.key not in self._bad:
                self._take(row, self._derived(str(row.default)), "default")
        for relation in RELATIONS:
            self._check_relation(relation)
        if self.problems:
            return None
        origins = {key: self._origins[key] for key in SETTINGS}
        return Loaded(
            _built({key: origin.value for key, origin in origins.items()}),
            origins,
            tuple(self._warnings),
            self._file,
            self._read,
            self._overrides,
        )

    def _derived(self, default: str) -> str:
        known = {key: str(origin.value) for key, origin in self._origins.items()}
        return _filled(default, known | {"hostname": self._hostname})

    def _check_relation(self, relation: Relation) -> None:
        keys = (relation.key, *relation.others)
        if self._bad.intersection(keys):
            return
        found = {key: self._origins[key] for key in keys}
        if relation.holds({key: origin.value for key, origin in found.items()}):
            return
        set_at = next(origin for origin in found.values() if origin.source != "default")
        values = ", ".join(
            f"{key} is {origin.shown} ({origin.source})" for key, origin in found.items()
        )
        self.problems.append(f"{set_at.place}: {relation.key} must be {relation.text}; {values}")


def _built(values: Mapping[str, Any]) -> Config:
    sections = {
        name: declared(**{each.name: values[f"{name}.{each.name}"] for each in fields(declared)})
        for name, declared in _SECTIONS.items()
    }
    return Config(**sections)


def _filled(template: str, known: Mapping[str, str]) -> str:
    return re.sub(r"\{([a-z_.]+)\}", lambda match: known[match[1]], template)


# --- one value --------------------------------------------------------------------------------

_WORDS: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_TYPES: Final = {
    str: "a text",
    Path: "an absolute path",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _must(row: Setting, text: str, raw: object) -> _Wrong:
    return _Wrong(f"must be {text}" + ("" if row.secret else f", not {_quoted(raw)}"))


def _from_text(row: Setting, text: str) -> object:
    """What TOML would have given for the text of a variable or credential."""
    if row.kind is bool:
        if text.lower() not in _WORDS:
            raise _must(row, _TYPES[bool], text)
        return _WORDS[text.lower()]
    if row.kind is int or row.kind is float:
        pattern = r"[+-]?[0-9]{1,18}" + (r"(\.[0-9]{1,18})?" if row.kind is float else "")
        if not re.fullmatch(pattern, text.strip()):
            raise _must(row, _TYPES[row.kind], text)
        return int(text) if row.kind is int else float(text)
    return text


def _typed(row: Setting, raw: object) -> object:
    if row.kind is bool and isinstance(raw, bool):
        return raw
    if row.kind is int and isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if row.kind is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        if not -1e18 < raw < 1e18:  # nor is NaN; a larger integer may not even convert
            raise _must(row, _TYPES[float], raw)
        return float(raw)
    if row.kind is str and isinstance(raw, str):
        if not row.secret and not raw.isprintable():
            raise _must(row, "printable, on one line", raw)
        return raw
    if row.kind is Path and isinstance(raw, str | Path) and str(raw).startswith("/"):
        if not str(raw).isprintable():
            raise _must(row, "printable, on one line", raw)
        return Path(raw)
    raise _must(row, _TYPES[row.kind], raw)


def _check(row: Setting, value: object) -> None:
    check = row.check
    if check is None or check.holds(value):
        return
    if value in check.later:
        raise _Wrong(f"{value!r} comes with a later version of wad; now it must be {check.text}")
    raise _must(row, check.text, value)


def _plain(value: object) -> str:
    """A value for people; what stands before an `@` in a URL may be a password."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return re.sub(r"//[^@/]*@", "//***@", str(value))


def _quoted(raw: object) -> str:
    if isinstance(raw, dict | list):
        return "a table" if isinstance(raw, dict) else "a list"
    text = _plain(raw)
    text = text if len(text) <= 80 else text[:77] + "..."
    return repr(text) if isinstance(raw, str | Path) else text


def _sensitive(origin: Origin) -> bool:
    if origin.setting.secret:
        return bool(origin.value)
    return isinstance(origin.value, str) and _plain(origin.value) != origin.value


def _nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, where something is near enough."""
    import difflib  # only where there is a mistake: it is slow to import

    names = list(known)
    by_leaf = {each.rpartition(".")[2]: each for each in reversed(names)}
    near = difflib.get_close_matches(name, names, 1) or [
        by_leaf[leaf] for leaf in difflib.get_close_matches(name.rpartition(".")[2], by_leaf, 1)
    ]
    return f"; did you mean {near[0]}?" if near else ""


# --- TOML and its lines -----------------------------------------------------------------------


def _loads(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _Malformed("not usable: lists or tables are nested too deeply", 1) from None
    except ValueError as error:
        found = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        line = int(found[1]) if found else text.rstrip("\n").count("\n") + 1
        why = str(error).removesuffix(" (at end of document)")
        why = f"{why[: found.start()]} in column {found[2]}" if found else why
        raise _Malformed(f"not valid TOML: {why}", line) from None


def _flat(document: Mapping[str, Any]) -> Iterator[tuple[_Path, Any]]:
    for section, content in document.items():
        if section in _SECTIONS and isinstance(content, dict):
            yield from (((section, name), value) for name, value in content.items())
        else:
            yield (section,), content


def _lines(text: str) -> dict[_Path, int]:
    """The line at which each section and each setting begins.

    tomllib does not tell.  A statement ends at the first line end up to which it parses by itself, so tomllib finds
    the statements too, whatever strings and lists over several lines they hold.
    """
    lines: dict[_Path, int] = {}
    header: _Path = ()
    pending: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        pending.append(line)
        try:
            part = _loads("\n".join(pending))
        except _Malformed:
            continue
        paths = list(_paths(part))
        if pending[0].lstrip().startswith("["):
            header = paths[-1]
            paths = [header[:length] for length in (1, 2)]
        else:
            paths = [header + path for path in paths]
        for path in paths:
            lines.setdefault(path[:2], number - len(pending) + 1)
            lines.setdefault(path[:1], number - len(pending) + 1)
        pending.clear()
    return lines


def _paths(part: object) -> Iterator[_Path]:
    """Every path into nested tables, a table before what it holds."""
    if isinstance(part, list):
        part = part[-1] if part else None
    for key, value in part.items() if isinstance(part, dict) else ():
        yield (key,)
        yield from ((key, *rest) for rest in _paths(value))


def _spelled(path: _Path) -> str:
    """The path as one would write it in TOML."""
    return ".".join(
        name if re.fullmatch(r"[\w-]+", name, re.ASCII) else repr(name) for name in path
    )


# --- what is generated ------------------------------------------------------------------------

_EXAMPLE: Final = {
    "hostname": "HOSTNAME",
    **{key: str(row.default) for key, row in SETTINGS.items() if "{" not in str(row.default)},
}
_BEGIN: Final = "<!-- generated by `python -m wad.config write`: begin -->\n"
_END: Final = "<!-- generated: end -->\n"


def _example(row: Setting) -> str:
    """The default as TOML; HOSTNAME stands for the name of the machine."""
    if row.kind is str or row.kind is Path:
        return f'"{_filled(row.default, _EXAMPLE)}"'
    return _plain(row.default)


def _limits(row: Setting) -> str:
    return f" Must be {row.check.text}." if row.check else ""


def sample() -> str:
    """The commented sample file: every setting, what it means, its default."""
    import textwrap

    parts = [
        "# The configuration of wad. Every line below is a default; uncomment what you change.\n"
        "# `wad config check` finds mistakes, `wad config show` tells every value and where it came from.\n"
        "# A change needs a restart, except where it says that a reload is enough.\n"
    ]
    for section, declared in _SECTIONS.items():
        parts.append(f"\n# {declared.__doc__}\n[{section}]\n")
        for row in SETTINGS.values():
            if not row.key.startswith(f"{section}."):
                continue
            also = f" Better: the systemd credential {row.credential}." if row.credential else ""
            also += " A reload (SIGHUP) is enough." if row.reload else ""
            doc = textwrap.wrap(row.doc + _limits(row) + also, 100, break_on_hyphens=False)
            parts += [f"# {line}\n" for line in doc]
            parts.append(f"#{row.key.partition('.')[2]} = {_example(row)}\n")
    return "".join(parts)


def table() -> str:
    """The reference of all settings, as Markdown."""
    head = "| setting | type | default | environment | reload | meaning |\n"
    lines = [head, "|---|---|---|---|---|---|\n"]
    for row in SETTINGS.values():
        kind = "secret text" if row.secret else _TYPES[row.kind].partition(" ")[2]
        kind = "true or false" if row.kind is bool else kind
        names = [f"`{name}`" for name in row.env]
        names += [f"credential `{row.credential}`"] if row.credential else []
        when = "yes" if row.reload else "no"
        lines.append(
            f"| `{row.key}` | {kind} | `{_example(row)}` | {'<br>'.join(names)} | {when} |"
            f" {row.doc}{_limits(row)} |\n"
        )
    return "".join(lines)


def with_table(document: str) -> str:
    """The document with the table between its two marks written anew."""
    before, _, rest = document.partition(_BEGIN)
    return f"{before}{_BEGIN}\n{table()}\n{_END}{rest.partition(_END)[2]}"


def _main(arguments: list[str]) -> str:
    match arguments:
        case ["sample"]:
            return sample()
        case ["table"]:
            return table()
        case ["write", *root] if len(root) <= 1:
            top = Path(*root)
            page = top / "docs" / "configuration.md"
            page.write_text(with_table(page.read_text("utf-8")), "utf-8")
            (top / "packaging" / "wad.toml").write_text(sample(), "utf-8")
            return ""
        case _:
            raise SystemExit("usage: python -m wad.config sample|table|write [ROOT]")


if __name__ == "__main__":
    import sys

    sys.stdout.write(_main(sys.argv[1:]))
