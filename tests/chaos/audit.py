"""The audit: the server's and the peers' data compared with wad's.  Pure, one account at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

_KILLS = "kills_the_worker"
_ARRIVED = frozenset({"sent", "delivered", "read"})
_OPEN = frozenset({"queued", "sending"})
_ALLOWED = frozenset({"uncertain", "given_up"})


@dataclass(frozen=True)
class Written:
    """A text that a peer (a phone number) sent to the account, at this `second` since 1970.

    `asked_again`: the account could not decrypt it and requested it again.
    """

    ident: str
    peer: str
    text: str
    second: int = 0
    asked_again: bool = False


@dataclass(frozen=True)
class Stored:
    """A message that wad shows; `party` is the phone number (or LID) of its thread."""

    wa_id: str
    party: str
    text: str
    inbound: bool
    kind: str = "text"
    client_id: str = ""


@dataclass(frozen=True)
class Asked:
    """A text that wad accepted for sending."""

    client_id: str
    peer: str
    text: str


@dataclass(frozen=True)
class Entry:
    """Its state in wad's outbox."""

    client_id: str
    state: str
    error: str = ""
    code: str = ""


@dataclass(frozen=True)
class Arrived:
    """A text of the account that a peer's phone showed."""

    ident: str
    peer: str
    text: str


@dataclass(frozen=True)
class Evidence:
    """Everything known of one account; every list in its order of time, `stored` as wad orders it.

    `promised`: ids for which the server held a receipt at the moment of a kill.
    """

    account: str
    written: Sequence[Written]
    promised: frozenset[str]
    stored: Sequence[Stored]
    asked: Sequence[Asked]
    entries: Sequence[Entry]
    arrived: Sequence[Arrived]


@dataclass(frozen=True)
class Findings:
    """Ids (client ids for messages that wad sent) of errors; only `uncertain` and `given_up` are allowed.

    An uncertain message needs a reason.  A message is given up when two workers died while they sent it
    (wad.core.outbox): chaos cannot be distinguished from a message that crashes the library.
    """

    lost: tuple[str, ...] = ()  # sent to the account and not stored as what it was
    lost_shown: tuple[str, ...] = ()  # of these: a placeholder is shown for it
    lost_promised: tuple[str, ...] = ()  # of these: receipted by a killed process
    doubled: tuple[str, ...] = ()  # once for each extra copy, in either direction
    reordered: tuple[
        str, ...
    ] = ()  # behind one of its thread that was sent later, in either direction
    misfiled: tuple[str, ...] = ()  # in another contact's thread
    altered: tuple[str, ...] = ()  # with another text
    strange: tuple[str, ...] = ()  # shown by wad, or arrived, but never sent
    repeated: tuple[str, ...] = ()  # once for each extra arrival
    unsent: tuple[
        str, ...
    ] = ()  # wad says that it was sent, or does not know it, and it never arrived
    stuck: tuple[str, ...] = ()  # still queued or being sent
    failed: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()  # failed since it kills workers, and it never arrived
    uncertain: tuple[str, ...] = ()
    unexplained: tuple[str, ...] = ()  # uncertain without a reason, or although it arrived

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not any(getattr(self, name) for name in NAMES if name not in _ALLOWED)

    def counts(self) -> dict[str, int]:
        """The number of each."""
        return {name: len(getattr(self, name)) for name in NAMES}


NAMES = tuple(field.name for field in fields(Findings))


def together(found: Iterable[Findings]) -> Findings:
    """The findings of several accounts as one."""
    all_of = list(found)
    return Findings(**{name: sum((getattr(one, name) for one in all_of), ()) for name in NAMES})


def audit(evidence: Evidence) -> Findings:
    """The errors of one account."""
    return together((_inbound(evidence), _stored_outbound(evidence), _outbound(evidence)))


def _inbound(evidence: Evidence) -> Findings:
    written = {one.ident: one for one in evidence.written}
    copies: defaultdict[str, list[Stored]] = defaultdict(list)
    for message in evidence.stored:
        if message.inbound:
            copies[message.wa_id].append(message)
    whole = {ident for ident, found in copies.items() if any(m.kind == "text" for m in found)}
    lost = tuple(ident for ident in written if ident not in whole)
    known = [(written[ident], found) for ident, found in copies.items() if ident in written]
    return Findings(
        lost=lost,
        lost_shown=tuple(ident for ident in lost if ident in copies),
        lost_promised=tuple(ident for ident in lost if ident in evidence.promised),
        doubled=_too_many({ident: len(found) for ident, found in copies.items()}),
        reordered=_out_of_order(
            [(one.peer, one.ident) for one in evidence.written],
            [m.wa_id for m in evidence.stored if m.inbound],
            lambda late, other: (
                written[late].asked_again and written[late].second == written[other].second
            ),
        ),
        misfiled=tuple(
            one.ident for one, found in known if any(m.party != one.peer for m in found)
        ),
        altered=tuple(
            one.ident
            for one, found in known
            if any(m.kind == "text" and m.text != one.text for m in found)
        ),
        strange=tuple(ident for ident in copies if ident not in written),
    )


def _stored_outbound(evidence: Evidence) -> Findings:
    asked = {one.client_id: one for one in evidence.asked}
    ours = [message for message in evidence.stored if not message.inbound]
    shown = Counter(message.client_id for message in ours)
    known = [(asked[m.client_id], m) for m in ours if m.client_id in asked]
    return Findings(
        lost=tuple(ident for ident in asked if ident not in shown),
        doubled=_too_many({ident: shown[ident] for ident in asked}),
        misfiled=tuple(one.client_id for one, message in known if message.party != one.peer),
        altered=tuple(one.client_id for one, message in known if message.text != one.text),
        strange=tuple(m.client_id or m.wa_id for m in ours if m.client_id not in asked),
    )


def _outbound(evidence: Evidence) -> Findings:
    by_text = {one.text: one.client_id for one in evidence.asked}
    arrivals = Counter(by_text[one.text] for one in evidence.arrived if one.text in by_text)
    entries = {entry.client_id: entry for entry in evidence.entries}
    state = {
        one.client_id: entries[one.client_id].state if one.client_id in entries else "unknown"
        for one in evidence.asked
    }
    uncertain = tuple(ident for ident, status in state.items() if status == "uncertain")
    failed = tuple(ident for ident, status in state.items() if status == "failed")
    given_up = tuple(
        ident for ident in failed if entries[ident].code == _KILLS and not arrivals[ident]
    )
    came = [by_text[one.text] for one in evidence.arrived if one.text in by_text]
    return Findings(
        reordered=_out_of_order(
            [(one.peer, one.client_id) for one in evidence.asked], list(dict.fromkeys(came))
        ),
        strange=tuple(one.ident for one in evidence.arrived if one.text not in by_text),
        repeated=_too_many(arrivals),
        unsent=tuple(
            ident
            for ident, status in state.items()
            if status in _ARRIVED | {"unknown"} and not arrivals[ident]
        ),
        stuck=tuple(ident for ident, status in state.items() if status in _OPEN),
        failed=tuple(ident for ident in failed if ident not in given_up),
        given_up=given_up,
        uncertain=uncertain,
        unexplained=tuple(
            ident for ident in uncertain if arrivals[ident] or not entries[ident].error
        ),
    )


def _too_many(counts: dict[str, int]) -> tuple[str, ...]:
    return tuple(ident for ident, count in counts.items() for _ in range(count - 1))


def _out_of_order(
    sent: Sequence[tuple[str, str]],
    found: Sequence[str],
    excused: Callable[[str, str], bool] = lambda late, other: False,
) -> tuple[str, ...]:
    """Ids that are stored after one with the same other party that was sent later.  `sent` is (party, id).

    `excused`: whether the first may come after the second.  WhatsApp's times are whole seconds, so of one second a
    message that was asked for again comes last.
    """
    place = {ident: (party, number) for number, (party, ident) in enumerate(sent)}
    latest: defaultdict[str, int] = defaultdict(int)
    behind: list[str] = []
    for ident in found:
        party, number = place.get(ident, ("", 0))
        if number < latest[party] and not excused(ident, sent[latest[party]][1]):
            behind.append(ident)
        latest[party] = max(number, latest[party])
    return tuple(behind)
