"""Rules about the machine: configuration, unit, process, port, directories, sessions.  Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from wad.audit.doctor.facts import (
    SYSTEMD,
    Document,
    InstallationFacts,
    Listener,
    Mount,
    SessionCounts,
    SettingValue,
)
from wad.audit.doctor.finding import DoctorCheck, Finding
from wad.core.errors import Denied
from wad.core.problem import STATES

_MANY_RESTARTS: Final = 3
_SHOWN: Final = 30  # accounts that are listed one by one; the maximum of the replaced backend
_VOLATILE: Final = ("/tmp", "/run", "/var/run", "/dev/shm")
_IN_MEMORY: Final = ("tmpfs", "ramfs")
_IN_A_CONTAINER: Final = ("overlay", "aufs")
_CONTAINER_ID: Final = re.compile(r"[0-9a-f]{12}|[0-9a-f]{64}")
_COMMON_NAMES: Final = ("localhost", "debian", "ubuntu", "raspberrypi")
_EDIT: Final = "editor /etc/wad/wad.toml"
_LOG: Final = "journalctl -u wad -n 50"  # only where systemd runs


def configuration(facts: InstallationFacts) -> Finding:
    """Check the configuration of the next start."""
    check = DoctorCheck("configuration", "configuration")
    found = facts.configuration
    if found.problems:
        return check.failed("; ".join(found.problems), "wad config check", _EDIT, facts.restart)
    if found.warnings:
        return check.warned("; ".join(found.warnings), "wad config check")
    source = "those of the running daemon" if found.live else "read here, since no daemon answers"
    return check.passed(f"valid; the settings are {source}")


def service(facts: InstallationFacts) -> Finding:
    """Check the unit."""
    check = DoctorCheck("service", "systemd service")
    if not facts.systemd:
        return check.skipped("systemd does not run on this machine")
    unit = facts.unit
    if unit is None:
        return check.skipped("systemctl does not answer")
    if unit.load == "not-found":
        return check.failed("there is no unit wad.service", "apt-get install --reinstall wad")
    if unit.load == "masked":
        return check.failed("wad.service is masked", "systemctl unmask wad", "systemctl start wad")
    evidence = f"{unit.active} ({unit.sub}), {unit.enabled}, {unit.restarts} restarts"
    if unit.failure and unit.active != "active":
        return check.failed(
            f"{evidence}: it {unit.failure}", _LOG, "wad config check", facts.restart
        )
    if unit.active != "active":
        return check.failed(evidence, _LOG, "wad config check", "systemctl start wad")
    if unit.enabled != "enabled":
        return check.warned(f"{evidence}: it will not start at boot", "systemctl enable wad")
    if unit.restarts >= _MANY_RESTARTS:
        return check.warned(f"{evidence} by itself", _LOG)
    return check.passed(evidence)


def daemon(facts: InstallationFacts) -> Finding:
    """Check that the daemon answers on its own socket."""
    check = DoctorCheck("daemon", "daemon answers")
    error, status = facts.daemon_error, facts.daemon
    if isinstance(error, Denied):
        return check.skipped(f"{error}; {error.hint}")
    if status is None:
        return check.failed(str(error or "it does not answer"), facts.answer, *facts.log)
    evidence = f"{status['service']} {status['version']}, pid {status['pid']}, receipts {status.get('receipts')}"
    if status["version"] != facts.version:
        return check.warned(f"{evidence}; wadctl is {facts.version}", facts.restart)
    if status.get("engine") == "simulator":
        return check.warned(
            f"{evidence}: the simulator does not connect to WhatsApp",
            f'{_EDIT}    # [engine] kind = "neonize"',
            facts.restart,
        )
    if warnings := _warnings(status):
        return check.warned("; ".join(warnings), "wadctl status", *facts.log)
    return check.passed(evidence)


def _warnings(status: Document) -> list[str]:
    """The daemon's problems, without the accounts' states, which have their own check."""
    if "problems" not in status:  # an older daemon
        return list(status.get("warnings", ()))
    found = [each for each in status["problems"] if each["code"] not in STATES]
    named = [f"{each['account']}: {each['text']}".removeprefix(": ") for each in found]
    more = len(named) - _SHOWN
    return named if more <= 0 else [*named[:_SHOWN], f"and {more} more"]


_RESTART_HTTP: Final = "systemctl restart wad-http.socket wad-http.service"


def port(facts: InstallationFacts) -> Finding:
    """Check which process listens on the HTTP port."""
    check = DoctorCheck("port", "HTTP port")
    settings, status = facts.configuration, facts.daemon
    if settings.text("http.enabled") == "False":
        return check.skipped("http.enabled is false")
    wanted = settings.number("http.port")
    there = [each for each in facts.listeners if wanted in (0, each.port)]
    for each in there:
        if each.pid in facts.http:
            return _ours(check, each, facts)
    if status is not None and wanted and there and there[0].pid is None:
        return check.warned(
            f"only root can see which process listens on port {wanted}", "sudo wadctl doctor"
        )
    if wanted and there:
        if there[0].pid == SYSTEMD:
            return _activated(check, facts)
        return _taken(check, there[0], facts)
    if status is None:
        return check.skipped(f"the daemon does not answer, and no process listens on port {wanted}")
    show = f"ss -ltnp 'sport = :{wanted}'"
    return check.failed(f"no process listens on port {wanted}", show, *facts.log, facts.restart)


def _ours(check: DoctorCheck, listener: Listener, facts: InstallationFacts) -> Finding:
    where = f"the HTTP process listens on {listener.address} port {listener.port}"
    if facts.daemon is None:
        return check.skipped(f"{where}; the daemon does not answer on its control socket")
    version, daemon = facts.http[listener.pid or 0], facts.daemon["version"]
    if version and version != daemon:
        return check.warned(
            f"{where}; its version is {version}, the daemon's is {daemon}", _RESTART_HTTP
        )
    return check.passed(where)


def _activated(check: DoctorCheck, facts: InstallationFacts) -> Finding:
    """Check the port while systemd listens (wad-http.socket) and starts wad-http.service on a connection."""
    wanted = facts.configuration.text("http.port")
    if facts.daemon is None:
        return check.skipped(f"systemd listens on port {wanted}; the daemon does not answer")
    if facts.health is not None and facts.health.document is not None:
        return check.passed(f"systemd listens on port {wanted}, and wad-http answers")
    return check.failed(
        f"systemd listens on port {wanted}, and wad-http does not answer",
        "systemctl status wad-http.socket wad-http.service",
        _RESTART_HTTP,
    )


def _taken(check: DoctorCheck, other: Listener, facts: InstallationFacts) -> Finding:
    named = f"{other.command} (pid {other.pid})" if other.pid is not None else "another process"
    return check.failed(
        f"port {other.port} is held by {named}, not by wad",
        f"ss -ltnp 'sport = :{other.port}'",
        f"kill {other.pid or 'PID'}    # or another port: {_EDIT}, [http] port = 8081",
        facts.restart,
    )


def persistent(facts: InstallationFacts) -> Finding:
    """Check that sessions and messages survive a reboot."""
    check = DoctorCheck("sessions_persistent", "state survives a reboot")
    if not facts.mounts:
        return check.failed(f"{facts.sessions.path} does not exist", *_move(facts))
    bad = [why for mount in facts.mounts if (why := _volatile(mount))]
    if bad:
        return check.failed("; ".join(bad), *_move(facts))
    layered = [mount for mount in facts.mounts if mount.kind in _IN_A_CONTAINER]
    if layered:
        return check.warned(
            f"{layered[0].path} is in the container's own layer and is deleted with the container",
            f"docker run -v wad:{facts.configuration.text('state.dir')} ...",
        )
    shown = {f"{mount.path} on {mount.kind} ({mount.at})": None for mount in facts.mounts}
    return check.passed("; ".join(shown))


def _volatile(mount: Mount) -> str:
    if mount.kind in _IN_MEMORY:
        return f"{mount.path} is in memory ({mount.kind} at {mount.at})"
    path = PurePosixPath(mount.path)
    under = next((top for top in _VOLATILE if path.is_relative_to(top)), "")
    return f"{mount.path} is below {under}, which is emptied at boot" if under else ""


def _move(facts: InstallationFacts) -> Sequence[str]:
    old, user = facts.configuration.text("state.dir"), facts.user or "wad"
    if any(mount.at == old and mount.kind in _IN_MEMORY for mount in facts.mounts):
        backup = f"{old}.kept"
        return (
            *facts.stop,
            f"cp -a {old} {backup}",
            f"umount {old}    # and delete its line in /etc/fstab, or name a disk there",
            f"cp -a {backup}/. {old}/ && chown -R {user}: {old} && rm -r {backup}",
            facts.start,
        )
    return (
        *facts.stop,
        f"cp -a {old}/. /var/lib/wad/ && chown -R {user}: /var/lib/wad",
        f'{_EDIT}    # [state] dir = "/var/lib/wad"; and no WAD_STATE_DIR or SESSIONS_PATH elsewhere',
        facts.start,
    )


def writable(facts: InstallationFacts) -> Finding:
    """Check that the daemon can write its sessions: by its own report, and by owner, mode and file system."""
    check = DoctorCheck("sessions_writable", "sessions are writable and owned")
    sessions, user = facts.sessions, facts.user or "wad"
    if sessions.hidden:
        return check.skipped(f"no permission to read {sessions.path}: sudo wadctl doctor")
    if not sessions.exists:
        return check.failed(
            f"{sessions.path} does not exist", f"install -d -m 0700 -o {user} -g {user} {sessions.path}"
        )  # fmt: skip
    chown = f"chown -R {user}: {sessions.path}"
    if any(mount.read_only for mount in facts.mounts):
        at = next(mount.at for mount in facts.mounts if mount.read_only)
        return check.failed(
            f"{at} is mounted read-only", f"mount -o remount,rw {at}", "dmesg | tail"
        )
    state = facts.state
    if state is not None and any(not _is_in(path, sessions.path) for path in state.foreign):
        return check.failed(
            f"{len(state.foreign)} paths belong to another user than {user}: {_few(state.foreign)}",
            f"chown -R {user}: {state.path}",
            facts.restart,
        )
    if sessions.foreign:
        first = f"{len(sessions.foreign)} paths belong to another user than {user}: {_few(sessions.foreign)}"
        return check.failed(first, chown, facts.restart)
    health = facts.health.document if facts.health is not None else None
    if health is not None and health.get("sessions_dir_writable") is False:
        return check.failed(
            f"the daemon cannot write {sessions.path}", f"ls -ld {sessions.path}", chown
        )
    if sessions.exposed:
        return check.warned(
            f"others may read {_few(sessions.exposed)}: these files give access to the accounts",
            f"chmod -R go= {sessions.path}",
        )
    if state is not None and state.exposed:
        return check.warned(
            f"others may read {_few(state.exposed)}: these files hold messages and give access to the accounts",
            f"chmod -R go= {state.path}",
        )
    if state is not None and state.mode & 0o022:
        return check.warned(
            f"{state.path} is writable for others (mode {state.mode:04o}), which gives access to the accounts",
            f"chmod go= {state.path}",
        )
    return check.passed(f"{sessions.path}, {sessions.owner}, mode {sessions.mode:04o}")


def _is_in(path: str, directory: str) -> bool:
    return PurePosixPath(path).is_relative_to(directory)


def _few(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")


def space(facts: InstallationFacts) -> Finding:
    """Check the free disk space."""
    check = DoctorCheck("disk", "room on the disk")
    least = facts.configuration.number("state.min_free_mb")
    if not facts.mounts:
        return check.skipped("the state directory does not exist")
    tight = min(facts.mounts, key=lambda mount: mount.free_mb)
    evidence = f"{tight.free_mb} MB are free at {tight.at}; accounts disconnect below {least} MB"
    fix = (f"df -h {tight.at}", "journalctl --vacuum-size=100M")
    if tight.free_mb < least:
        return check.failed(evidence, *fix)
    if tight.free_mb < 4 * least:
        return check.warned(evidence, *fix)
    return check.passed(evidence)


def sessions(facts: InstallationFacts) -> Finding:
    """Check the session files of each account."""
    check = DoctorCheck("sessions", "session files")
    found = facts.accounts
    if facts.sessions.hidden:
        return check.skipped(f"no permission to read {facts.sessions.path}: sudo wadctl doctor")
    if facts.other_sessions:
        return check.warned(
            f"state.sessions (SESSIONS_PATH) is {facts.sessions.path}, but there are accounts in"
            f" {facts.other_sessions}, which wad does not use",
            *facts.stop,
            f"cp -an {facts.other_sessions}/. {facts.sessions.path}/    # or set state.sessions to the old directory",
            facts.start,
        )
    if not found:
        return check.warned("there is no account", "wadctl account add NAME --pair")
    if (facts.daemon or {}).get("engine") == "simulator":
        return check.skipped("the simulator has no session databases")
    broken = [each for each in found if each.error]
    if broken:
        return check.failed(
            "; ".join(f"{each.account}: {each.error}" for each in broken),
            *(f"restore session.db of {each.account} from a backup, then: wadctl account start {each.account}"
              for each in broken),
        )  # fmt: skip
    evidence = _counted(found)
    damaged = [each for each in found if each.set_aside]
    if damaged:
        names = "; ".join(f"{each.account}: {', '.join(each.set_aside)}" for each in damaged)
        return check.warned(f"{evidence}; damaged, set aside: {names}", *_show(damaged))
    unpaired = [each for each in found if each.enabled and not each.paired]
    if unpaired:
        return check.warned(
            f"{evidence}; not paired: {', '.join(each.account for each in unpaired)}",
            *(f"wadctl account pair {each.account}" for each in unpaired),
        )
    return check.passed(evidence)


def _show(accounts: Sequence[SessionCounts]) -> list[str]:
    return [f"wadctl account show {each.account}" for each in accounts]


def _counted(found: Sequence[SessionCounts]) -> str:
    parts = (
        ("account_dirs", len(found)),
        ("paired", sum(each.paired for each in found)),
        ("pre_keys", sum(each.pre_keys for each in found)),
        ("sessions", sum(each.sessions for each in found)),
        ("app_state_keys", sum(each.app_state_keys for each in found)),
        ("app_state_versions", sum(each.app_state_versions for each in found)),
    )
    total = ", ".join(f"{name} {count}" for name, count in parts)
    each = "; ".join(map(_of_one, found[:_SHOWN])) if len(found) > 1 else ""
    more = f"; {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{total}: {each}{more}" if each else total


def _of_one(account: SessionCounts) -> str:
    parts = (account.pre_keys, account.sessions, account.app_state_keys, account.app_state_versions)
    paired = "paired" if account.paired else "not paired"
    return f"{account.account} {paired} {'/'.join(map(str, parts))}"


def _rename(setting: SettingValue, facts: InstallationFacts) -> str:
    """The command that changes the instance name; a setting of the unit overrides the file."""
    where, _, variable = setting.source.partition("environment ")
    if facts.systemd and not where:
        return f"systemctl edit wad    # [Service] Environment={variable}=a-name-of-this-machine"
    return f'{_EDIT}    # [instance] id = "a-name-of-this-machine"'


def instance(facts: InstallationFacts) -> Finding:
    """Check the name under which this machine holds the lease: stable and unique."""
    check = DoctorCheck("instance_id", "instance id")
    found = facts.configuration.settings.get("instance.id")
    if found is None:
        return check.skipped("the configuration cannot be read")
    name, bare = str(found.value), str(found.value).removeprefix("host_")
    evidence = f"{name} (from: {found.source})"
    fix = (_rename(found, facts), facts.restart)
    if _CONTAINER_ID.fullmatch(bare):
        return check.warned(f"{evidence} looks like a container's id, which changes with it", *fix)
    if bare.lower() in _COMMON_NAMES:
        return check.warned(f"{evidence} is a name that other machines have, too", *fix)
    problems = [] if facts.daemon is None else facts.daemon.get("problems", [])
    if duplicates := [each["text"] for each in problems if each["code"] == "same_name"]:
        return check.failed(f"{evidence}; {duplicates[0]}", *fix)
    health = facts.health.document if facts.health is not None else None
    answering = None if health is None else health.get("instanceId")
    if answering not in (None, name):
        return check.failed(
            f"{evidence}, but another instance answers on the port: {answering}",
            f"ss -ltnp 'sport = :{facts.configuration.text('http.port')}'",
        )
    return check.passed(evidence)
