"""The doctor's findings from facts: each check's outcomes, and the commands that fix it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from wad.audit.doctor import rules_host, rules_live
from wad.audit.doctor.facts import (
    Audits,
    Configuration,
    Credentials,
    Directory,
    HttpAnswer,
    InstallationFacts,
    Listener,
    Mount,
    RestartComparison,
    SessionCounts,
    SettingValue,
    Unit,
)
from wad.audit.doctor.finding import Finding, Outcome
from wad.audit.doctor.report import CHECKS, examine, markdown
from wad.audit.duplicates import Question, judge_messages, judge_threads
from wad.audit.rows import MessageRow, ReadRows, ThreadRow
from wad.audit.stamps import Stamp
from wad.core.errors import DaemonDown, Damaged, Denied, NotFound

NOW: Final = 1_769_000_000_000
SETTINGS: Final[dict[str, Any]] = {
    "state.dir": "/var/lib/wad", "state.sessions": "/var/lib/wad/sessions", "state.min_free_mb": 64,
    "http.enabled": True, "http.address": "127.0.0.1", "http.port": 8080, "instance.id": "host_box",
    "store.kind": "sqlite", "lease.kind": "file", "store.firestore_emulator": "",
    "store.firestore_project": "", "store.firestore_database": "(default)", "store.firestore_credentials": "(not set)",
}  # fmt: skip
ACCOUNT: Final = {
    "id": "acc-15550000001", "state": "connected", "reason": "logged in", "action": "", "paired": True,
    "worker": {"confinement": {"landlock": 7, "seccomp": True, "summary": "Landlock ABI 7, seccomp", "missing": ""}},
}  # fmt: skip
LEASE: Final = {
    "mode": "active",
    "holder": "host_box",
    "epoch": 7,
    "reason": "holding epoch 7",
    "valid_for_s": 11.0,
}
STATUS: Final = {
    "service": "wad", "version": "0.1.0", "pid": 811, "receipts": "after-store", "engine": "neonize", "warnings": [],
    "instance": "host_box", "accounts": [ACCOUNT],
    "lease": LEASE, "limits": {"memory_mb": 1024, "tasks": 512, "reason": ""},
}  # fmt: skip
HEALTH: Final = {
    "ok": True, "status": "healthy", "reasons": [], "connected": 1, "accounts_total": 1, "instanceId": "host_box",
    "sessions_dir_writable": True, "internalErrors": 0,
}  # fmt: skip
UNIT: Final = Unit("loaded", "active", "running", "enabled", 0, 812, "wad")
STOPPED: Final = replace(UNIT, active="inactive", sub="dead", pid=0)
DISK: Final = Mount("/var/lib/wad", "/", "ext4", False, 9000)


def confined(summary: str = "Landlock ABI 7, seccomp", missing: str = "") -> dict[str, Any]:
    """A worker that reports its confinement."""
    return {"confinement": {"landlock": 7, "seccomp": True, "summary": summary, "missing": missing}}


def audits(*rows: MessageRow) -> Audits:
    """The audits of these messages."""
    question = Question(NOW)
    threads = (ThreadRow(id="t", account="one", chat="1@lid", stamp=Stamp("integer", NOW)),)
    return Audits(
        judge_messages(ReadRows(rows=rows, types={}), {}, question, "sqlite"),
        judge_threads(ReadRows(rows=threads, types={}), {}, question, "sqlite"),
    )


def message(ident: str, wa_id: str) -> MessageRow:
    """A message of the current time."""
    return MessageRow(
        id=ident, account="one", thread="t", chat="1@lid", stamp=Stamp("integer", NOW), wa_id=wa_id
    )


def settings(**changed: Any) -> Configuration:
    """The configuration; `a__b` means `a.b`."""
    given = SETTINGS | {key.replace("__", "."): value for key, value in changed.items()}
    return Configuration(
        {key: SettingValue(value, "default") for key, value in given.items()}, True
    )


def named_by_unit(name: str) -> Configuration:
    """The configuration, with an instance name from the unit's environment."""
    given = SettingValue(name, "environment INSTANCE_ID")
    return Configuration({**settings().settings, "instance.id": given}, True)


HEALTHY: Final = InstallationFacts(
    http={812: "0.1.0"},
    version="0.1.0",
    hostname="box",
    configuration=settings(),
    systemd=True,
    unit=UNIT,
    daemon=STATUS,
    daemon_error=None,
    user="wad",
    listeners=(Listener(8080, "127.0.0.1", 812, "wad"),),
    mounts=(DISK,),
    sessions=Directory("/var/lib/wad/sessions", True, "wad", 0o700),
    accounts=(SessionCounts("acc-15550000001", paired=True, pre_keys=800),),
    health=HttpAnswer(200, HEALTH),
    ready=HttpAnswer(200, {"mode": "active"}),
    dashboard=HttpAnswer(200, {"summary": {"total": 1, "connected": 1}}),
    burst=(HttpAnswer(200, HEALTH, seconds=0.01),) * 30,
    audits=audits(message("a", "W")),
    restarted=RestartComparison((ACCOUNT,), (ACCOUNT,)),
)


def finding(ident: str, **changed: Any) -> Finding:
    """One finding of the healthy installation, with this changed."""
    facts = replace(HEALTHY, **changed)
    return next(found for check in CHECKS if (found := check(facts)).id == ident)


def status(**changed: Any) -> dict[str, Any]:
    """The daemon's status, with this changed."""
    return STATUS | changed


def account(**changed: Any) -> dict[str, Any]:
    """A status with one account like this."""
    return status(accounts=[ACCOUNT | changed])


def limited(tasks: int | None, why: str) -> dict[str, Any]:
    """A status whose workers have no memory limit."""
    return status(limits={"memory_mb": None, "tasks": tasks, "reason": why})


def lease(**changed: Any) -> dict[str, Any]:
    """A status with such a lease."""
    return status(lease=LEASE | changed)


def health(http_status: int = 200, **changed: Any) -> HttpAnswer:
    """An answer of /health."""
    return HttpAnswer(http_status, HEALTH | changed)


def test_a_healthy_installation_passes_every_check() -> None:
    """All except Firestore, which is not used."""
    outcomes = {found.id: found.outcome for check in CHECKS if (found := check(HEALTHY))}
    assert outcomes.pop("firestore") is Outcome.SKIPPED
    assert set(outcomes.values()) == {Outcome.PASS}
    assert len(outcomes) == len(CHECKS) - 1


W, F, S, P = Outcome.WARN, Outcome.FAIL, Outcome.SKIPPED, Outcome.PASS
CLOUD: Final = settings(lease__kind="firestore")
EMULATED: Final = settings(lease__kind="firestore", store__firestore_emulator="127.0.0.1:8081")
PASSIVE: Final = lease(mode="passive", holder=None, reason="cannot read the lease: no answer")
DOWN: Final = DaemonDown("no daemon answers on /run/wad/control.sock")


@pytest.mark.parametrize(
    ("ident", "changed", "outcome", "evidence", "fix"),
    [
        ("configuration", {"configuration": Configuration({}, False, problems=("http.port must be ...",))}, F,
         "http.port must be", "wad config check"),
        ("configuration", {"configuration": Configuration({}, True, warnings=("readable by everybody",))}, W,
         "readable", "wad config check"),
        ("service", {"systemd": False, "unit": None}, S, "systemd does not run", ""),
        ("service", {"unit": None}, S, "systemctl does not answer", ""),
        ("service", {"unit": replace(UNIT, load="not-found")}, F, "no unit", "apt-get install"),
        ("service", {"unit": replace(UNIT, load="masked")}, F, "masked", "systemctl unmask wad"),
        ("service", {"unit": replace(UNIT, active="failed", sub="failed")}, F, "failed", "systemctl start wad"),
        ("service", {"unit": replace(UNIT, enabled="disabled")}, W, "at boot", "systemctl enable wad"),
        ("service", {"unit": replace(UNIT, restarts=5)}, W, "5 restarts", "journalctl"),
        ("service", {"unit": replace(STOPPED, active="failed", failure="does not start: wad.toml:2: ...")}, F,
         "it does not start: wad.toml:2", "systemctl restart wad"),
        ("daemon", {"daemon": None, "daemon_error": DOWN, "unit": STOPPED}, F, "no daemon", "systemctl start wad"),
        ("daemon", {"daemon": None, "daemon_error": DOWN}, F, "no daemon answers", "systemctl restart wad.socket"),
        ("daemon", {"daemon": None, "daemon_error": DOWN, "systemd": False}, F, "no daemon", "wad run"),
        ("daemon", {"daemon": None, "daemon_error": Denied("you may not", hint="adduser")}, S, "adduser", ""),
        ("daemon", {"daemon": status(version="0.0.9")}, W, "wadctl is 0.1.0", "systemctl restart wad"),
        ("daemon", {"daemon": status(engine="simulator")}, W, "does not connect to WhatsApp", "kind = \"neonize\""),
        ("daemon", {"daemon": status(warnings=["a file was set aside"])}, W, "set aside", "wadctl status"),
        ("port", {"configuration": settings(http__enabled=False)}, S, "http.enabled", ""),
        ("port", {"listeners": ()}, F, "no process listens", "systemctl restart wad"),
        ("port", {"listeners": (Listener(8080, "::", 99, "nginx"),)}, F, "nginx (pid 99)", "kill 99"),
        ("port", {"listeners": (Listener(8080, "::", None, ""),)}, W, "only root", "sudo wadctl doctor"),
        ("port", {"listeners": (Listener(8080, "::", 1, "systemd"),)}, P, "wad-http answers", ""),
        ("port", {"listeners": (Listener(8080, "::", 1, "systemd"),), "health": HttpAnswer(0, error="timed out")}, F,
         "does not answer", "wad-http.service"),
        ("port", {"daemon": None, "listeners": (Listener(8080, "::", 1, "systemd"),)}, S, "daemon does not answer", ""),
        ("port", {"daemon": None, "listeners": ()}, S, "no process listens", ""),
        ("port", {"daemon": None}, S, "does not answer on its control socket", ""),
        ("port", {"daemon": None, "listeners": (Listener(8080, "::", 99, "node"),)}, F, "node (pid 99)", "kill 99"),
        ("port", {"configuration": settings(http__port=0), "listeners": (Listener(41234, "127.0.0.1", 812, "wad"),)}, P,
         "port 41234", ""),
        ("sessions_persistent", {"mounts": (replace(DISK, kind="tmpfs"),)}, F, "in memory", "cp -a /var/lib/wad/."),
        ("sessions_persistent", {"mounts": (replace(DISK, at="/var/lib/wad", kind="tmpfs"),)}, F, "in memory",
         "cp -a /var/lib/wad /var/lib/wad.kept"),
        ("sessions_persistent", {"mounts": (replace(DISK, path="/tmp/wad"),)}, F, "emptied at boot", "/var/lib/wad"),
        ("sessions_persistent", {"mounts": (replace(DISK, kind="overlay"),)}, W, "container", "docker run -v"),
        ("sessions_writable", {"sessions": Directory("/x", False)}, F, "does not exist", "install -d -m 0700 -o wad"),
        ("sessions_writable", {"sessions": Directory("/x", True, hidden=True)}, S, "no permission to read", ""),
        ("sessions", {"sessions": Directory("/x", True, hidden=True)}, S, "no permission to read", ""),
        ("sessions_writable", {"mounts": (replace(DISK, read_only=True),)}, F, "read-only", "mount -o remount,rw /"),
        ("sessions_writable", {"sessions": replace(HEALTHY.sessions, foreign=("/x/a",))}, F, "/x/a",
         "chown -R wad: /var/lib/wad/sessions"),
        ("sessions_writable", {"sessions": replace(HEALTHY.sessions, exposed=("/x/a",))}, W, "others may read /x/a",
         "chmod -R go= /var/lib/wad/sessions"),
        ("sessions_writable", {"state": Directory("/x", True, foreign=("/x/lease.json",))}, F, "/x/lease.json",
         "chown -R wad: /x"),
        ("sessions_writable", {"state": Directory("/x", True, mode=0o755, exposed=("/x/wad.db",))}, W,
         "others may read /x/wad.db", "chmod -R go= /x"),
        ("sessions", {"other_sessions": "/var/lib/wad/old"}, W,
         "is /var/lib/wad/sessions, but there are accounts in /var/lib/wad/old", "cp -an /var/lib/wad/old/."),
        ("sessions_writable", {"state": Directory("/x", True, mode=0o770)}, W, "writable for others", "chmod go= /x"),
        ("sessions_writable", {"health": health(503, sessions_dir_writable=False)}, F, "cannot write", "ls -ld"),
        ("disk", {"mounts": (replace(DISK, free_mb=63),)}, F, "63 MB are free", "df -h /"),
        ("disk", {"mounts": (replace(DISK, free_mb=200),)}, W, "200 MB", "df -h /"),
        ("sessions", {"accounts": ()}, W, "no account", "wadctl account add"),
        ("sessions", {"accounts": (SessionCounts("one", error="it is damaged"),)}, F, "damaged", "restore session.db"),
        ("sessions", {"accounts": (SessionCounts("one", error="damaged"),), "daemon": status(engine="simulator")}, S,
         "the simulator has no", ""),
        ("sessions", {"accounts": (SessionCounts("one"),)}, W, "not paired: one", "wadctl account pair one"),
        ("sessions", {"accounts": (SessionCounts("one", True, True, 30, 3, 2, 1), SessionCounts("two", True))}, P,
         "sessions 3, app_state_keys 2, app_state_versions 1: one paired 30/3/2/1; two paired 0/0/0/0", ""),
        ("sessions", {"accounts": tuple(SessionCounts(f"a{n}", True) for n in range(32))}, P, "; 2 more", ""),
        ("sessions", {"accounts": (SessionCounts("one", enabled=False),)}, P, "account_dirs 1, paired 0", ""),
        ("sessions", {"accounts": (SessionCounts("one", paired=True, set_aside=("spool.db.damaged-1",)),)}, W,
         "spool.db.damaged-1", "wadctl account show one"),
        ("accounts", {"daemon": None}, S, "answer", ""),
        ("accounts", {"daemon": status(accounts=[])}, W, "no account", "wadctl account add"),
        ("accounts", {"daemon": account(state="logged_out", action="wadctl account pair X")}, F, "logged_out",
         "wadctl account pair X"),
        ("accounts", {"daemon": account(state="reconnecting")}, W, "reconnecting", "wadctl status"),
        ("limits", {"daemon": None}, S, "answer", ""),
        ("limits", {"daemon": {k: v for k, v in STATUS.items() if k != "limits"}}, S, "does not report limits", ""),
        ("limits", {"daemon": limited(512, "no controller of memory")}, W,
         "each may take 512 tasks: no controller of memory", "/sys/fs/cgroup/cgroup.controllers"),
        ("limits", {"daemon": limited(None, "not started by systemd"), "systemd": False}, S,
         "none: not started by systemd", ""),
        ("limits", {"daemon": limited(512, "")}, P, "each may take 512 tasks", ""),
        ("confinement", {"daemon": None}, S, "answer", ""),
        ("confinement", {"daemon": account(worker=None)}, S, "no worker reports", ""),
        ("confinement", {"daemon": account(worker={"pid": 1})}, S, "no worker reports", ""),
        ("confinement", {"daemon": account(worker=confined())}, P, "1 by Landlock ABI 7, seccomp", ""),
        ("confinement", {"daemon": account(worker=confined(summary="no Landlock, seccomp", missing="reads all"))}, W,
         "1 by no Landlock, seccomp: reads all", "lsm=landlock"),
        ("health", {"health": None}, S, "http.enabled", ""),
        ("health", {"health": HttpAnswer(0, error="refused")}, F, "no answer: refused", "curl -si"),
        ("health", {"health": HttpAnswer(0, error="refused"), "daemon": None}, S, "answer", ""),
        ("health", {"health": HttpAnswer(502)}, F, "502, and no JSON", "curl -si"),
        ("health", {"health": health(503, ok=False, reasons=["the disk"])}, F, "503: the disk", "curl -si"),
        ("health", {"health": health(accounts_total=3)}, F, "another daemon", "ss -ltnp"),
        ("health", {"health": health(internalErrors=2)}, W, "2 internal errors", "journalctl"),
        ("health", {"health": health(reasons=["1 account is reconnecting"])}, W, "reconnecting", "wadctl status"),
        ("health", {"health": HttpAnswer(200, {"ok": True, "status": "healthy"})}, P, "200, healthy", ""),
        ("burst", {"burst": ()}, S, "answer", ""),
        ("burst", {"burst": (HttpAnswer(200),) * 20 + (HttpAnswer(429),) * 10}, F, "20 x 200, 10 x 429",
         "exempt /health"),
        ("burst", {"burst": (HttpAnswer(200), HttpAnswer(0, error="timed out"))}, F, "1 x timed out", "curl -si"),
        ("dashboard", {"dashboard": None}, S, "answer", ""),
        ("dashboard", {"dashboard": HttpAnswer(404, {})}, S, "no dashboard", ""),
        ("dashboard", {"dashboard": HttpAnswer(500, {})}, F, "500", "curl -si"),
        ("dashboard", {"dashboard": HttpAnswer(200, {"summary": {"total": 9}})}, F, "the daemon has 1", "journalctl"),
        ("lock", {"daemon": None}, S, "answer", ""),
        ("lock", {"ready": HttpAnswer(200, {"mode": "passive"})}, F, "/ready says passive", "wadctl status"),
        ("lock", {"daemon": lease(mode="passive", holder="other"), "ready": None}, W, "other is active", "on other"),
        ("lock", {"daemon": lease(mode="passive", holder=None), "ready": None}, F, "no instance", "lease.json"),
        ("instance_id", {"configuration": Configuration({}, False)}, S, "cannot be read", ""),
        ("instance_id", {"configuration": settings(instance__id="host_0123456789ab")}, W, "container's", "[instance]"),
        ("instance_id", {"configuration": settings(instance__id="host_localhost")}, W, "other machines", "[instance]"),
        ("instance_id", {"configuration": named_by_unit("localhost")}, W, "other machines",
         "systemctl edit wad    # [Service] Environment=INSTANCE_ID="),
        ("instance_id", {"configuration": named_by_unit("localhost"), "systemd": False}, W, "other machines",
         "[instance]"),
        ("instance_id", {"daemon": {**STATUS, "engine": "simulator", "problems": [
            {"code": "same_name", "account": "", "text": "another machine, there, has it, too"}]}},
         F, "another machine, there", "[instance]"),
        ("instance_id", {"health": health(instanceId="another")}, F, "another instance answers", "ss -ltnp"),
        ("firestore", {"configuration": settings(store__firestore_credentials="(set)")}, S, "are not used", ""),
        ("firestore", {"configuration": CLOUD, "credentials": Credentials("environment X", problem="not JSON")}, F,
         "not JSON", "LoadCredential=firebase-service-account"),
        ("firestore", {"configuration": CLOUD, "credentials": Credentials("file F", "demo", "/etc/sa.json")}, W,
         "project demo, database (default), credentials from file F; /etc/sa.json", "chmod o= /etc/sa.json"),
        ("firestore", {"configuration": CLOUD, "credentials": Credentials("file F", "demo")}, P, "mode production", ""),
        ("firestore", {"configuration": CLOUD, "daemon": PASSIVE}, F, "no answer", "getent hosts firestore.googleapis"),
        ("firestore", {"configuration": EMULATED}, W, "mode emulator", "firestore_emulator"),
        ("lock", {"configuration": CLOUD, "daemon": PASSIVE, "ready": None}, F, "no instance", "lease history"),
        ("restart", {"restarted": None}, S, "wadctl doctor --restart", ""),
        ("restart", {"restarted": RestartComparison((), (), "not back within 60 s")}, F, "not back", "wadctl status"),
        ("restart", {"restarted": RestartComparison((ACCOUNT,), ())}, F, "gone: acc-15550000001", "journalctl"),
        ("restart", {"restarted": RestartComparison((ACCOUNT,), (ACCOUNT | {"state": "awaiting_scan"},))}, F,
         "no longer signed in", "wadctl account show acc-15550000001"),
        ("duplicates", {"audits": audits(message("a", "W"), message("b", "W"))}, F, "1 among 2", "wadctl audit repair"),
        ("duplicates", {"audits": audits()}, S, "inconclusive", ""),
        ("duplicates", {"audits": Audits(error=NotFound("no store"))}, S, "no store", ""),
        ("duplicates", {"audits": Audits(error=Denied("you may not"))}, S, "may not", ""),
        ("duplicates", {"audits": Audits(error=Damaged("is damaged"))}, F, "damaged", "wadctl audit messages"),
    ],
)  # fmt: skip
def test_each_problem_has_its_finding_and_fix(
    ident: str, changed: dict[str, Any], outcome: Outcome, evidence: str, fix: str
) -> None:
    """By the right check, with evidence and a command; passed and skipped checks need none."""
    found = finding(ident, **changed)
    assert found.outcome is outcome
    assert evidence in found.evidence
    assert any(fix in line for line in found.fix) if fix else found.fix == ()


def test_the_verdict_is_that_of_the_worst_finding() -> None:
    """Healthy, attention, unhealthy; a skipped check is not a fault."""
    assert examine(HEALTHY, NOW, sanitised=True).verdict == "healthy"
    warned = replace(HEALTHY, unit=replace(UNIT, restarts=5))
    assert (
        examine(warned, NOW, sanitised=True).verdict,
        examine(warned, NOW, sanitised=True).ok,
    ) == (
        "attention",
        True,
    )
    examination = examine(replace(warned, health=HttpAnswer(502)), NOW, sanitised=True)
    assert (examination.verdict, examination.ok, examination.counts["FAIL"]) == (
        "unhealthy",
        False,
        1,
    )


def test_a_report_names_neither_person_nor_machine() -> None:
    """Numbers are masked in evidence and fixes; the host is a hash; --full hides nothing."""
    facts = replace(HEALTHY, accounts=(SessionCounts("acc-15550000001"),))
    page = markdown(examine(facts, NOW, sanitised=True))
    assert "15550000001" not in page
    assert "acc-1555****01" in page
    assert "box" not in page
    full = markdown(examine(facts, NOW, sanitised=False))
    assert "wadctl account pair acc-15550000001" in full
    assert "host_box" in full


def test_the_markdown_page_is_escaped() -> None:
    """Untrusted text stays in its cell."""
    nasty = replace(HEALTHY, daemon=account(state="failed", reason="a|b\n# c `d` <e>"))
    page = markdown(examine(nasty, NOW, sanitised=True))
    assert "a\\|b # c 'd' &lt;e>" in page


def test_every_check_has_an_id_of_its_own() -> None:
    """Scripts use the ids."""
    found = [check(HEALTHY) for check in CHECKS]
    assert len({each.id for each in found}) == len({each.title for each in found}) == len(CHECKS)
    assert {check.__module__ for check in CHECKS} == {rules_host.__name__, rules_live.__name__}
