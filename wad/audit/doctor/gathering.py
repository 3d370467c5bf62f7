"""Gathering all facts of an installation, each from its best source.

The settings are those of the running daemon; without one they are read as it would read them, including the unit's
environment.  Facts that cannot be determined are left out, and the rules report that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import wad
from wad.audit import open_rows
from wad.audit.doctor import host, http, service
from wad.audit.doctor.cloud import credentials_of
from wad.audit.doctor.facts import (
    SYSTEMD,
    Audits,
    Configuration,
    Document,
    HttpAnswer,
    InstallationFacts,
    Listener,
    RestartComparison,
    SessionCounts,
    SettingValue,
)
from wad.audit.duplicates import Question, audit_messages, audit_threads
from wad.audit.installation import environment
from wad.config import LoadedConfig, examine
from wad.core.errors import WadError
from wad.engine import session_db
from wad.lib.clock import Clock
from wad.state.account_dir import AccountDir, AccountDirs

BURST: Final = 30
_COPIES: Final = 1000  # of damaged files that are listed: a worker can fill its account's directory
_DAMAGED: Final = ".damaged-"


@dataclass(frozen=True, slots=True)
class Means:
    """The doctor's access to the machine.  `call` runs an operation of the daemon and raises WadError."""

    call: Callable[[str], Any]
    environ: Mapping[str, str]
    file: Path | None
    clock: Clock


def gather(means: Means, restarted: RestartComparison | None = None) -> InstallationFacts:
    """Gather all facts; a problem of the installation becomes a fact, not an error."""
    systemd = service.booted()
    shown = service.show() if systemd else {}
    unit = service.unit_of(shown)
    daemon, error = _daemon(means)
    loaded, problems = examine(means.file, environment(means.environ, shown))
    configuration = _configuration(
        _live_settings(means) if daemon is not None else {}, loaded, problems
    )
    state_dir, sessions = (Path(configuration.text(key)) for key in ("state.dir", "state.sessions"))
    pid = int(daemon["pid"]) if daemon is not None else unit.pid if unit and unit.runs else None
    uid = _uid(pid, unit.user if unit else "", state_dir)
    processes = dict.fromkeys(host.http_processes(), "")
    if daemon is not None:
        processes |= {one["pid"]: one["version"] for one in daemon.get("http", ())}
    listeners = host.listeners(processes.keys())
    answers = ask_http(configuration, listeners, processes.keys(), running=daemon is not None)
    return InstallationFacts(
        version=wad.__version__,
        hostname=os.uname().nodename,
        configuration=configuration,
        systemd=systemd,
        unit=unit,
        daemon=daemon,
        daemon_error=error,
        http=processes,
        user=host.user_name(uid),
        listeners=tuple(listeners),
        mounts=tuple(host.mounts_of([state_dir, sessions])),
        sessions=host.directory(sessions, uid),
        state=host.directory(state_dir, uid),
        other_sessions=_other_sessions(state_dir, sessions),
        accounts=_accounts(sessions),
        health=answers.health,
        ready=answers.ready,
        dashboard=answers.dashboard,
        burst=answers.burst,
        audits=_audits(configuration, loaded, means.clock),
        restarted=restarted,
        credentials=None if loaded is None else credentials_of(loaded),
    )


def _other_sessions(state_dir: Path, sessions: Path) -> str:
    """The usual directory of the sessions, if it has accounts and is not the configured one; else empty."""
    usual = state_dir / "sessions"
    try:
        if usual.resolve() != sessions.resolve() and AccountDirs(usual).all():
            return str(usual)
    except OSError:
        pass  # what cannot be read is reported by the check of the state directory
    return ""


# --- the daemon and its settings --------------------------------------------------------------------


def _daemon(means: Means) -> tuple[Document | None, WadError | None]:
    try:
        return means.call("status"), None
    except WadError as error:
        return None, error


def _configuration(
    live: Mapping[str, SettingValue], loaded: LoadedConfig | None, problems: Sequence[str]
) -> Configuration:
    """The running daemon's settings, if it tells them; and what is wrong with what the next start would read."""
    warnings = () if loaded is None else loaded.warnings
    if not live and loaded is None:
        loaded, _ = examine(
            Path(os.devnull), {}
        )  # the defaults: where to look when nothing else is known
    read = {} if loaded is None else loaded.origins
    settings = live or {key: SettingValue(each.json, each.source) for key, each in read.items()}
    return Configuration(settings, bool(live), tuple(problems), warnings)


def _live_settings(means: Means) -> dict[str, SettingValue]:
    try:
        return {
            each["key"]: SettingValue(each["value"], each["source"])
            for each in means.call("config")
        }
    except WadError:
        return {}  # an older daemon, or one that has just ended: the settings are read here instead


def _uid(pid: int | None, user: str, state_dir: Path) -> int | None:
    """The daemon's user: that of the process, else the unit's, else the owner of the state directory."""
    running = None if pid is None else host.owner_of(pid)
    if running:
        return running
    # A daemon that runs as root does so by mistake, unless everything belongs to root: take the intended owner.
    if (uid := host.user_id(user)) is not None:
        return uid
    there = os.path.isdir(state_dir)  # noqa: PTH112, is_dir() raises without access
    return state_dir.stat().st_uid if there else running


# --- HTTP -------------------------------------------------------------------------------------------


class HttpAnswers(NamedTuple):
    """The responses of the HTTP port; None: no request was made."""

    health: HttpAnswer | None = None
    ready: HttpAnswer | None = None
    dashboard: HttpAnswer | None = None
    burst: tuple[HttpAnswer, ...] = ()


def ask_http(
    settings: Configuration,
    listeners: Sequence[Listener],
    processes: Collection[int],
    *,
    running: bool,
) -> HttpAnswers:
    """Ask the HTTP port; stop after `/health` if that does not answer.

    A socket that systemd holds while the daemon does not run is not asked: a request would start the daemon.
    """
    if settings.text("http.enabled") == "False":
        return HttpAnswers()
    address, port = settings.text("http.address"), settings.number("http.port")
    if not port:
        port = next((each.port for each in listeners if each.pid in processes), 0)
    if not running and any(each.port == port and each.pid == SYSTEMD for each in listeners):
        return HttpAnswers(HttpAnswer(0, error="systemd listens until the daemon starts"))
    health = http.get(address, port, "/health")
    if not health.status:
        return HttpAnswers(health)
    return HttpAnswers(
        health,
        http.get(address, port, "/ready"),
        http.get(address, port, "/api/status/dashboard"),
        http.burst(address, port, "/health", BURST),
    )


# --- the disk ---------------------------------------------------------------------------------------


def _accounts(sessions: Path) -> tuple[SessionCounts, ...]:
    try:
        return tuple(_counted(account_dir) for account_dir in AccountDirs(sessions).all())
    except WadError:
        return ()  # the directory itself cannot be read, which is a separate finding


def _counted(account_dir: AccountDir) -> SessionCounts:
    damaged: tuple[str, ...] = ()
    with suppress(OSError), os.scandir(account_dir.path) as entries:
        names = (entry.name for entry in entries if _DAMAGED in entry.name)
        damaged = tuple(sorted(islice(names, _COPIES)))
    enabled = account_dir.card().enabled
    file = account_dir.session_db
    try:
        session_db.check(file)
        counts = session_db.counts(file)
        return SessionCounts(
            account_dir.id, session_db.is_paired(file), enabled, *counts, set_aside=damaged
        )
    except WadError as error:
        return SessionCounts(account_dir.id, enabled=enabled, set_aside=damaged, error=str(error))


def _audits(settings: Configuration, loaded: LoadedConfig | None, clock: Clock) -> Audits:
    question = Question(clock.wall_ms())
    # The running daemon hides its credentials: Firestore is accessed with those of the next start.
    store = None if loaded is None else loaded.config.store
    try:
        state_dir = Path(settings.text("state.dir"))
        with closing(open_rows(settings.text("store.kind"), state_dir, store)) as rows:
            return Audits(audit_messages(rows, question), audit_threads(rows, question))
    except WadError as error:
        return Audits(error=error)
