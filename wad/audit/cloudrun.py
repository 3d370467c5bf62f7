"""Restarting a backend that still runs on Cloud Run, while one moves away from there, and seeing that it is back.

Knobs and JSON are those of the reference's restart-backend-gcloud.sh (docs/internals/replaced-backend.md#scripts).  Its
health step caught every error, so that `restartVerified` never said anything; here it means that a new revision is
ready and that its `/health` answers 200 and `ok`, from another process than before where it names its start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from wad.audit.doctor.facts import HttpAnswer
from wad.core.decoding import decoding
from wad.core.errors import InvalidData

MATCH: Final = "whatsapp|baileys|backend"


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[[Sequence[str]], Ran]
"""Runs gcloud with these words."""
Probe = Callable[[str], HttpAnswer]
"""Asks a URL."""


class Knobs(NamedTuple):
    """What the environment says; empty: found out."""

    project: str
    service: str
    regions: tuple[str, ...]
    match: str


class PollTimes(NamedTuple):
    """How often to look, and what to do between two looks."""

    tries: int
    wait: Callable[[], None]


class Tried(msgspec.Struct, frozen=True):
    """A service that was tried, and how far it came."""

    service: str
    region: str
    error: str


class RevisionRestarted(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """It was restarted, and answers."""

    ok: bool = True
    project: str
    restart_performed: bool = True
    restart_verified: bool = True
    service: str
    region: str
    before_revision: str | None
    after_revision: str


class NotRestarted(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`reason`: no_regions, no_candidate, update_failed or unknown; `tried` tells the rest."""

    ok: bool = False
    project: str | None
    restart_performed: bool
    restart_verified: bool = False
    reason: str
    last_error: str | None
    tried: tuple[Tried, ...]


class _Failed(Exception):
    """A service could not be restarted; `performed`: it was, and is not seen to be back."""

    def __init__(self, error: str, why: str, *, performed: bool = False) -> None:
        super().__init__(why)
        self.error = error
        self.performed = performed


def knobs_of(environ: Mapping[str, str]) -> Knobs:
    """GCLOUD_PROJECT or GCP_PROJECT, RUN_SERVICE_NAME, RUN_REGION or RUN_REGIONS, RUN_SERVICE_MATCH."""
    regions = environ.get("RUN_REGION") or environ.get("RUN_REGIONS", "")
    return Knobs(
        environ.get("GCLOUD_PROJECT") or environ.get("GCP_PROJECT", ""),
        environ.get("RUN_SERVICE_NAME", ""),
        tuple(filter(None, re.split(r"[,\s]+", regions))),
        environ.get("RUN_SERVICE_MATCH") or MATCH,
    )


def restart(
    run: Run, probe: Probe, knobs: Knobs, nonce: str, patience: PollTimes
) -> RevisionRestarted | NotRestarted:
    """Restart the first service that can be, and wait until it is seen to be back."""
    project = knobs.project or _configured(run)
    if not project:
        return _not(None, "unknown", "no project: set GCLOUD_PROJECT, or gcloud config set project")
    regions = knobs.regions or _lines(
        run(["run", "regions", "list", f"--project={project}", _value("locationId")])
    )
    if not regions:
        return _not(project, "no_regions", "no region: set RUN_REGION")
    try:
        re.compile(knobs.match)
    except re.error as error:
        return _not(project, "unknown", f"RUN_SERVICE_MATCH is no regular expression: {error}")
    tried: list[Tried] = []
    last = ""
    for service, region in _candidates(run, project, regions, knobs):
        place = _Service(run, project, service, region)
        try:
            before, after = place.restart(probe, nonce, patience)
        except _Failed as failed:
            tried.append(Tried(service, region, failed.error))
            last = str(failed)
            if failed.performed:  # another one must not be restarted in its stead
                return _not(project, "unknown", last, tried, performed=True)
            continue
        return RevisionRestarted(
            project=project, service=service, region=region, before_revision=before, after_revision=after
        )  # fmt: skip
    if not tried:
        return _not(project, "no_candidate", f"no service is named like {knobs.match}")
    refused = any(each.error == "update_failed" for each in tried)
    return _not(project, "update_failed" if refused else "unknown", last, tried)


def _not(
    project: str | None,
    reason: str,
    last: str,
    tried: Sequence[Tried] = (),
    *,
    performed: bool = False,
) -> NotRestarted:
    return NotRestarted(
        project=project, restart_performed=performed, reason=reason, last_error=last or None, tried=tuple(tried)
    )  # fmt: skip


def _configured(run: Run) -> str:
    found = _lines(run(["config", "get-value", "project"]))
    return found[0] if found and found[0] != "(unset)" else ""


def _candidates(
    run: Run, project: str, regions: Sequence[str], knobs: Knobs
) -> Iterator[tuple[str, str]]:
    for region in regions:
        if knobs.service:
            yield knobs.service, region
            continue
        listed = run(
            [
                "run",
                "services",
                "list",
                f"--project={project}",
                f"--region={region}",
                _value("metadata.name"),
            ]
        )
        for name in _lines(listed):
            if re.search(knobs.match, name, re.IGNORECASE):
                yield name, region


def _value(field: str) -> str:
    return f"--format=value({field})"


def _lines(ran: Ran) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, ran.out.splitlines()))) if ran.code == 0 else ()


# --- one service ------------------------------------------------------------------------------------


class _Service:
    """A service in a region."""

    def __init__(self, run: Run, project: str, name: str, region: str) -> None:
        self._run = run
        self._name = name
        self._where = [f"--project={project}", f"--region={region}"]

    def restart(self, probe: Probe, nonce: str, patience: PollTimes) -> tuple[str | None, str]:
        """The revisions before and after.  Raises _Failed."""
        document = self._describe()
        if not _image(document):
            raise _Failed("missing_image", f"{self._name} has no image")
        before = _status(document).get("latestReadyRevisionName")
        booted = _booted(probe(_health_url(document)))
        env = f"--update-env-vars=RESTART_NONCE={nonce}"
        updated = self._run(["run", "services", "update", self._name, *self._where, env, "--quiet"])
        if updated.code != 0:
            raise _Failed("update_failed", _why(updated))
        after, url = self._await_revision(before, patience)
        _await_health(probe, url, booted, patience)
        return before, after

    def _describe(self) -> dict[str, Any]:
        ran = self._run(["run", "services", "describe", self._name, *self._where, "--format=json"])
        if ran.code != 0:
            raise _Failed("describe_failed", _why(ran))
        try:
            with decoding("what gcloud printed"):
                return msgspec.json.decode(ran.out, type=dict[str, Any])
        except InvalidData as error:
            raise _Failed("describe_failed", str(error)) from error

    def _await_revision(self, before: str | None, patience: PollTimes) -> tuple[str, str]:
        """The revision that is ready and was not before, and where it answers."""
        why = ""
        for _ in range(patience.tries):
            try:
                document = self._describe()
            except _Failed as failed:
                why = str(failed)
            else:
                status = _status(document)
                ready, made = (
                    status.get("latestReadyRevisionName"),
                    status.get("latestCreatedRevisionName"),
                )
                if ready and ready != before and ready == made and _is_ready(status):
                    return str(ready), _health_url(document)
                why = f"{made} is not ready"
            patience.wait()
        raise _Failed("timeout_waiting_ready", why, performed=True)


def _await_health(probe: Probe, url: str, booted: object, patience: PollTimes) -> None:
    why = "it was not asked"
    for _ in range(patience.tries):
        answer = probe(url)
        if answer.status != 200 or answer.document is None or answer.document.get("ok") is not True:
            why = answer.error or f"{url} answers {answer.status}, and not ok"
        elif booted is not None and _booted(answer) == booted:
            why = f"{url} is still answered by the process from before"
        else:
            return
        patience.wait()
    raise _Failed("health_check_failed", why, performed=True)


def _booted(answer: HttpAnswer) -> object:
    return None if answer.document is None else answer.document.get("bootTimestamp")


def _status(document: Mapping[str, Any]) -> Mapping[str, Any]:
    found = document.get("status")
    return found if isinstance(found, dict) else {}


def _is_ready(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions")
    ready = {"type": "Ready", "status": "True"}
    return isinstance(conditions, list) and any(
        isinstance(each, dict) and ready.items() <= each.items() for each in conditions
    )


def _health_url(document: Mapping[str, Any]) -> str:
    return f"{str(_status(document).get('url', '')).rstrip('/')}/health"


def _image(document: Mapping[str, Any]) -> str:
    try:
        return str(document["spec"]["template"]["spec"]["containers"][0].get("image") or "")
    except (KeyError, IndexError, TypeError, AttributeError):
        return ""


def _why(ran: Ran) -> str:
    """The last line that gcloud said."""
    said = [line.strip() for line in ran.err.splitlines() if line.strip()]
    return said[-1][:300] if said else f"gcloud ended with {ran.code}"
