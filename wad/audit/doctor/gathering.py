"""All facts of an installation, each from where it can be found out best.

The running daemon knows its own settings; without one they are read as it would read them, the unit's environment
included.  What cannot be found out is left out, and the rules say so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Means:
    """What the doctor looks with.  `call` asks the daemon one operation, and raises WadError."""

    call: Callable[[str], Any]
    environ: Mapping[str, str]
    file: Path | None
    clock: Clock


def gather(means: Means, restarted: RestartComparison | None = None) -> InstallationFacts:
    """Look at everything; what is wrong with the installation becomes a fact, not an error."""
    systemd = service.booted()
    shown = service.show() if systemd else {}
    unit = service.unit_of(shown)
    daemon, error = _daemon(means)
    loaded, problems = examine(means.file, environment(means.environ, shown))
    configuration = _configuration(_told(means) if daemon is not None else {}, loaded, problems)
    state_dir, sessions = (Path(configuration.text(key)) for key in ("state.dir", "state.sessions"))
    pid = int(daemon["pid"]) if daemon is not None else unit.pid if unit and unit.runs else None
    uid = _uid(pid, unit.user if unit else "", state_dir)
    processes = dict.fromkeys(host.http_processes(), "")
    if daemon is not None:
        processes |= {one["pid"]: one["version"] for one in daemon.get("http", ())}
    listeners = host.listeners(processes.keys())
    answers = heard(configuration, listeners, processes.keys(), running=daemon is not None)
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
        accounts=_accounts(sessions),
        health=answers.health,
        ready=answers.ready,
        dashboard=answers.dashboard,
        burst=answers.burst,
        audits=_audits(configuration, loaded, means.clock),
        restarted=restarted,
        credentials=None if loaded is None else credentials_of(loaded),
    )


# --- the daemon and its settings --------------------------------------------------------------------


def _daemon(means: Means) -> tuple[Document | None, WadError | None]:
    try:
        return means.call("status"), None
    except WadError as error:
        return None, error


def _configuration(
    told: Mapping[str, SettingValue], loaded: LoadedConfig | None, problems: Sequence[str]
) -> Configuration:
    """The running daemon's settings, if it tells them; and what is wrong with what the next start would read."""
    warnings = () if loaded is None else loaded.warnings
    if not told and loaded is None:
        loaded, _ = examine(
            Path(os.devnull), {}
        )  # the defaults: where to look when nothing else is known
    read = {} if loaded is None else loaded.origins
    settings = told or {key: SettingValue(each.json, each.source) for key, each in read.items()}
    return Configuration(settings, bool(told), tuple(problems), warnings)


def _told(means: Means) -> dict[str, SettingValue]:
    try:
        return {
            each["key"]: SettingValue(each["value"], each["source"])
            for each in means.call("config")
        }
    except WadError:
        return {}  # an older daemon, or one that has just ended: what it would read is known from here


def _uid(pid: int | None, user: str, state_dir: Path) -> int | None:
    """The daemon's user: that of the process, else the unit's, else whose the state directory is."""
    running = None if pid is None else host.owner_of(pid)
    if running:
        return running
    # Root is who runs it by mistake, unless all of it is root's: its owner is meant, and not to be given to root.
    if (uid := host.user_id(user)) is not None:
        return uid
    there = os.path.isdir(state_dir)  # noqa: PTH112, is_dir() raises where we may not look
    return state_dir.stat().st_uid if there else running


# --- HTTP -------------------------------------------------------------------------------------------


class Heard(NamedTuple):
    """What the port said; None: it was not asked."""

    health: HttpAnswer | None = None
    ready: HttpAnswer | None = None
    dashboard: HttpAnswer | None = None
    burst: tuple[HttpAnswer, ...] = ()


def heard(
    settings: Configuration,
    listeners: Sequence[Listener],
    processes: Collection[int],
    *,
    running: bool,
) -> Heard:
    """What the port says; nothing more once `/health` does not answer.

    Not asked is a socket that systemd holds while the daemon does not run: asking would start it.
    """
    if settings.text("http.enabled") == "False":
        return Heard()
    address, port = settings.text("http.address"), settings.number("http.port")
    if not port:
        port = next((each.port for each in listeners if each.pid in processes), 0)
    if not running and any(each.port == port and each.pid == SYSTEMD for each in listeners):
        return Heard(HttpAnswer(0, error="systemd listens until the daemon starts"))
    health = http.get(address, port, "/health")
    if not health.status:
        return Heard(health)
    return Heard(
        health,
        http.get(address, port, "/ready"),
        http.get(address, port, "/api/status/dashboard"),
        http.burst(address, port, "/health", BURST),
    )


# --- the disk ---------------------------------------------------------------------------------------


def _accounts(sessions: Path) -> tuple[SessionCounts, ...]:
    try:
        return tuple(_counted(home) for home in AccountDirs(sessions).all())
    except WadError:
        return ()  # the directory itself cannot be read, which is a finding of its own


def _counted(home: AccountDir) -> SessionCounts:
    aside = tuple(sorted(path.name for path in home.path.glob("*.damaged-*")))
    enabled = home.card().enabled
    try:
        session_db.check(home.session_db)
        counts = session_db.counts(home.session_db)
        return SessionCounts(
            home.id, session_db.is_paired(home.session_db), enabled, *counts, set_aside=aside
        )
    except WadError as error:
        return SessionCounts(home.id, enabled=enabled, set_aside=aside, error=str(error))


def _audits(settings: Configuration, loaded: LoadedConfig | None, clock: Clock) -> Audits:
    question = Question(clock.wall_ms())
    # The running daemon hides its credentials: Firestore is reached as the next start would.
    store = None if loaded is None else loaded.config.store
    try:
        place = Path(settings.text("state.dir"))
        with closing(open_rows(settings.text("store.kind"), place, store)) as rows:
            return Audits(audit_messages(rows, question), audit_threads(rows, question))
    except WadError as error:
        return Audits(error=error)
