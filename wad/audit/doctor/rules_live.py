"""Rules about the running daemon: health, burst, dashboard, lease, accounts, restart, store.  Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from wad.audit.doctor.facts import Document, HttpAnswer, InstallationFacts
from wad.audit.doctor.finding import DoctorCheck, Finding, Outcome
from wad.audit.hints import is_missing_index
from wad.core.errors import Denied, NotFound

_ENDED: Final = ("logged_out", "replaced", "banned", "outdated", "failed")
_FIRESTORE: Final = "firestore"
_GIVE_CREDENTIALS: Final = (
    "systemctl edit wad    # [Service] LoadCredential=firebase-service-account:/etc/wad/firebase-sa.json",
    "wad config check",
)
_GIVE_ACCESS: Final = (
    "wad firestore check",
    "gcloud projects add-iam-policy-binding PROJECT --member=serviceAccount:CLIENT_EMAIL --role=roles/datastore.user",
)
_MAKE_INDEXES: Final = (
    "firebase deploy --only firestore:indexes    # /usr/share/wad/firestore/firestore.indexes.json"
)
_SIGNED_IN: Final = ("connected", "reconnecting", "connecting")


def health(facts: InstallationFacts) -> Finding:
    """Check `/health`, and that it agrees with the daemon's own status."""
    check = DoctorCheck("health", "GET /health")
    answer = facts.health
    if answer is None:
        return check.skipped("http.enabled is false")
    document = answer.document
    if not answer.status and facts.daemon is None:
        return check.skipped("neither the daemon nor its port answers")
    if document is None:
        return check.failed(_said(answer), _curl(facts, "/health"), *facts.log)
    reasons = document.get("reasons") or []
    if answer.status != 200 or document.get("ok") is not True:
        return check.failed(
            f"{_said(answer)}: {'; '.join(reasons) or 'not ok'}", _curl(facts, "/health")
        )
    connected, total = document.get("connected"), document.get("accounts_total")
    evidence = f"200, {document.get('status')}, {connected} of {total} accounts connected"
    if facts.daemon is not None and total not in (None, len(facts.daemon["accounts"])):
        return check.failed(
            f"{evidence}, but the daemon has {len(facts.daemon['accounts'])}: another daemon answers on the port",
            f"ss -ltnp 'sport = :{facts.configuration.text('http.port')}'",
        )
    if document.get("internalErrors"):
        return check.warned(f"{evidence}; {document['internalErrors']} internal errors", *facts.log)
    if reasons:
        return check.warned(f"{evidence}: {'; '.join(reasons)}", "wadctl status")
    return check.passed(evidence)


def burst(facts: InstallationFacts) -> Finding:
    """Make thirty requests at once: probes must never be refused."""
    check = DoctorCheck("burst", "30 x GET /health")
    if not facts.burst:
        return check.skipped("/health does not answer")
    counts = Counter(str(answer.status or answer.error) for answer in facts.burst)
    evidence = ", ".join(f"{count} x {what}" for what, count in sorted(counts.items()))
    slowest = max(answer.seconds for answer in facts.burst)
    if set(counts) == {"200"}:
        return check.passed(f"{evidence}, the slowest in {slowest * 1000:.0f} ms")
    if "429" in counts:
        return check.failed(
            f"{evidence}: something between here and the daemon limits probes",
            "exempt /health and /ready from the limits of the reverse proxy",
        )
    return check.failed(evidence, _curl(facts, "/health"), *facts.log)


def dashboard(facts: InstallationFacts) -> Finding:
    """Check `/api/status/dashboard`, if this version has it."""
    check = DoctorCheck("dashboard", "GET /api/status/dashboard")
    answer = facts.dashboard
    if answer is None:
        return check.skipped("/health does not answer")
    if answer.status == 404:
        return check.skipped("this version of wad has no dashboard")
    if answer.status != 200 or answer.document is None:
        return check.failed(_said(answer), _curl(facts, "/api/status/dashboard"), *facts.log)
    summary = answer.document.get("summary") or {}
    total = summary.get("total")
    evidence = ", ".join(f"{name} {count}" for name, count in summary.items()) or "no summary"
    if facts.daemon is not None and total != len(facts.daemon["accounts"]):
        return check.failed(
            f"{evidence}, but the daemon has {len(facts.daemon['accounts'])} accounts", *facts.log
        )
    return check.passed(evidence)


def lock(facts: InstallationFacts) -> Finding:
    """Check the lease, and that `/ready` agrees with it."""
    check = DoctorCheck("lock", "lease")
    if facts.daemon is None:
        return check.skipped("the daemon does not answer")
    lease = facts.daemon["lease"]
    mode, holder, reason = lease["mode"], lease["holder"], lease["reason"]
    evidence = f"{mode}: {reason}"
    shown = facts.ready.document.get("mode") if facts.ready and facts.ready.document else None
    if shown not in (None, mode):
        return check.failed(f"{evidence}, but /ready says {shown}", "wadctl status", *facts.log)
    if mode == "active":
        return check.passed(f"{evidence}, held by {holder}")
    if holder and holder != facts.daemon["instance"]:
        return check.warned(f"{evidence}; {holder} is active", f"run wadctl on {holder}")
    if facts.configuration.text("lease.kind") == _FIRESTORE:
        return check.failed(
            f"{evidence}; no instance is active", "wadctl lease history", *facts.log
        )
    where = facts.configuration.text("state.dir")
    return check.failed(
        f"{evidence}; no instance is active",
        f"ls -l {where}/lease.json",
        *facts.log,
        "systemctl restart wad",
    )


def accounts(facts: InstallationFacts) -> Finding:
    """Check each account, and what the operator has to do about it."""
    check = DoctorCheck("accounts", "accounts")
    if facts.daemon is None:
        return check.skipped("the daemon does not answer")
    found = facts.daemon["accounts"]
    if not found:
        return check.warned("there is no account", "wadctl account add NAME --pair")
    unconnected = [account for account in found if account["state"] != "connected"]
    if not unconnected:
        return check.passed(f"{len(found)} connected")
    evidence = "; ".join(f"{a['id']} is {a['state']} ({a['reason']})" for a in unconnected)
    fix = tuple(a["action"] for a in unconnected if a["action"]) or ("wadctl status",)
    if any(account["state"] in _ENDED for account in unconnected):
        return check.failed(evidence, *fix)
    return check.warned(evidence, *fix)


def limits(facts: InstallationFacts) -> Finding:
    """Check that one account cannot take memory and processes from the others."""
    check = DoctorCheck("limits", "limits of workers")
    if facts.daemon is None:
        return check.skipped("the daemon does not answer")
    found = facts.daemon.get("limits")
    if found is None:
        return check.skipped("this version of wad does not report limits")
    held = [
        f"{found[name]} {unit}"
        for name, unit in (("memory_mb", "MB of memory"), ("tasks", "tasks"))
        if found[name] is not None
    ]
    evidence = f"each may take {' and '.join(held)}" if held else "none"
    if not found["reason"]:
        return check.passed(evidence)
    if not facts.systemd:
        return check.skipped(f"{evidence}: {found['reason']}")
    return check.warned(
        f"{evidence}: {found['reason']}",
        "systemctl show --property=Delegate,DelegateControllers wad",
        "cat /sys/fs/cgroup/cgroup.controllers    # not there: boot with systemd.unified_cgroup_hierarchy=1",
    )


def confinement(facts: InstallationFacts) -> Finding:
    """Check that a compromised worker reaches no more than its account."""
    check = DoctorCheck("confinement", "confinement of workers")
    if facts.daemon is None:
        return check.skipped("the daemon does not answer")
    workers = [account.get("worker") or {} for account in facts.daemon["accounts"]]
    found = [each["confinement"] for each in workers if each.get("confinement")]
    if not found:
        return check.skipped("no worker reports its confinement")
    counts = Counter(str(each["summary"]) for each in found)
    evidence = "; ".join(f"{count} by {summary}" for summary, count in sorted(counts.items()))
    if missing := sorted({each["missing"] for each in found if each["missing"]}):
        return check.warned(
            f"{evidence}: {'; '.join(missing)}",
            "cat /sys/kernel/security/lsm    # without landlock: lsm=landlock,... in the kernel's command line",
            "systemctl show --property=SystemCallFilter wad    # without landlock_*: systemctl revert wad",
        )
    return check.passed(evidence)


def firestore(facts: InstallationFacts) -> Finding:
    """Check the Firestore database, its credentials and its reachability, if lease or store are in Firestore."""
    check = DoctorCheck("firestore", "Firestore credentials and mode")
    settings, found = facts.configuration, facts.credentials
    store, lease = settings.text("store.kind"), settings.text("lease.kind")
    if _FIRESTORE not in (store, lease):
        given = settings.text("store.firestore_credentials") == "(set)"
        unused = ", the credentials that are set are not used" if given else ""
        return check.skipped(f"store.kind is {store}, lease.kind is {lease}{unused}")
    emulator = settings.text("store.firestore_emulator")
    if found is not None and found.problem and not emulator:
        return check.failed(found.problem, *_GIVE_CREDENTIALS, facts.restart)
    if lease == _FIRESTORE and facts.daemon is not None:
        held = facts.daemon["lease"]
        if held["mode"] != "active" and held["holder"] in (None, facts.daemon["instance"]):
            if "denies access" in held["reason"]:
                return check.failed(held["reason"], *_GIVE_ACCESS, *facts.log)
            host = emulator.rpartition(":")[0] or "firestore.googleapis.com"
            return check.failed(held["reason"], f"getent hosts {host}", *facts.log)
    if emulator:
        return check.warned(
            f"mode emulator, at {emulator}: its data is lost when it stops",
            "editor /etc/wad/wad.toml    # no firestore_emulator; and no FIRESTORE_EMULATOR_HOST elsewhere",
            facts.restart,
        )
    source = found.source if found is not None else "not known"
    project = settings.text("store.firestore_project") or (
        found.project if found is not None else ""
    )
    evidence = (
        f"mode production, project {project or 'of the credentials'}, database"
        f" {settings.text('store.firestore_database')}, credentials from {source}"
    )
    if found is not None and found.exposed:
        return check.warned(
            f"{evidence}; {found.exposed} is readable by everyone", f"chmod o= {found.exposed}"
        )
    return check.passed(evidence)


def restart(facts: InstallationFacts) -> Finding:
    """Check that every account is unchanged after a restart."""
    check = DoctorCheck("restart", "accounts persist after a restart")
    done = facts.restarted
    if done is None:
        return check.skipped("not tried: wadctl doctor --restart")
    if done.error:
        return check.failed(done.error, "wadctl status", *facts.log)
    after = {account["id"]: account for account in done.after}
    gone = [account["id"] for account in done.before if account["id"] not in after]
    unpaired = [a["id"] for a in done.before if a["id"] in after and _lost(a, after[a["id"]])]
    if gone or unpaired:
        parts = [f"gone: {', '.join(gone)}"] if gone else []
        parts += [f"no longer signed in: {', '.join(unpaired)}"] if unpaired else []
        return check.failed(
            "; ".join(parts), *facts.log, *(f"wadctl account show {one}" for one in unpaired)
        )
    signed_in = sum(account["state"] == "connected" for account in done.after)
    return check.passed(f"{len(after)} accounts before and after, {signed_in} connected again")


def _lost(before: Document, after: Document) -> bool:
    if before["state"] == "connected":
        return str(after["state"]) not in _SIGNED_IN
    return bool(before["paired"] and not after["paired"])


def duplicates(facts: InstallationFacts) -> Finding:
    """Check the audits of the last 48 hours for duplicates."""
    check = DoctorCheck("duplicates", "duplicates in the store")
    audits = facts.audits
    if audits.messages is None or audits.threads is None:
        error = audits.error
        if error is None or isinstance(error, NotFound | Denied):
            return check.skipped(str(error or "the store was not read"))
        if facts.configuration.text("store.kind") == _FIRESTORE:
            if firestore(facts).outcome is Outcome.FAIL:
                return check.skipped(f"Firestore cannot be read: {error}")
            if is_missing_index(error):
                return check.failed(str(error), _MAKE_INDEXES, "wadctl audit messages")
        return check.failed(str(error), error.hint or "wadctl audit messages")
    messages, threads = audits.messages, audits.threads
    evidence = (
        f"{messages.duplicates_count_active} among {messages.active_docs} messages,"
        f" {threads.duplicates_count} among {threads.total_threads} threads of {messages.window_hours:g} h"
    )
    if messages.duplicates_count_active or threads.duplicates_count:
        repairs = ("wadctl audit repair", "wadctl audit repair --apply")
        return check.failed(evidence, "wadctl audit messages", *repairs)
    if not messages.active_docs:
        return check.skipped(f"no message in the last {messages.window_hours:g} h: inconclusive")
    return check.passed(evidence)


def _said(answer: HttpAnswer) -> str:
    if not answer.status:
        return f"no answer: {answer.error}"
    return f"{answer.status}" + ("" if answer.document is not None else ", and no JSON")


def _curl(facts: InstallationFacts, path: str) -> str:
    return f"curl -si http://127.0.0.1:{facts.configuration.text('http.port')}{path}"
