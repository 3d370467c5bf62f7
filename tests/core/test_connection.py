"""The account's state machine: what happens in which state, and what never happens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.connection import (
    ENDED,
    WORKING,
    Banned,
    Begin,
    Broken,
    Connected,
    Due,
    Ended,
    Input,
    Launched,
    LoggedOut,
    Lost,
    Outdated,
    Pair,
    Paired,
    PairingCode,
    PairingCodeRefused,
    QrOver,
    QrShown,
    Replaced,
    Restart,
    RetryDelays,
    State,
    Status,
    StepDown,
    Stop,
    step,
)
from wad.core.errors import Conflict

DELAYS = RetryDelays(base=1, cap=60)


def after(*events: Input, status: Status | None = None, now: float = 100.0) -> Status:
    """The status after these events, all at one time."""
    status = status or Status()
    for event in events:
        status = step(status, event, now, 0.5, DELAYS)
    return status


CONNECTED = after(Begin(paired=True), Connected())


def test_a_paired_account_starts_to_connect() -> None:
    """With a session on the disk a worker is wanted at once."""
    status = after(Begin(paired=True))
    assert (status.state, status.worker) == (State.CONNECTING, True)


def test_an_unpaired_account_waits_without_a_worker() -> None:
    """Without a pairing window no QR code is fetched; the action names the command."""
    status = after(Begin(paired=False))
    assert (status.state, status.worker) == (State.AWAITING_SCAN, False)
    assert status.action == "wadctl account pair ACCOUNT"


def test_pairing_from_code_to_connected() -> None:
    """The code is shown, scanned and removed; the window closes."""
    status = after(Begin(paired=False), Pair(200, paired=False), QrShown("code"))
    assert (status.state, status.qr) == (State.AWAITING_SCAN, "code")
    status = after(Paired(), Connected(), status=status)
    assert (status.state, status.qr, status.pair_until) == (State.CONNECTED, "", None)


PHONE = "15550000001"
BY_CODE = after(Begin(paired=False), Pair(500, paired=False, phone=PHONE), QrShown("qr"))


def test_pairing_by_a_code_to_type() -> None:
    """It can be requested once a QR code is shown, and is gone after the login."""
    before = after(Begin(paired=False), Pair(500, paired=False, phone=PHONE))
    assert (before.needs_pairing_code, BY_CODE.needs_pairing_code) == (False, True)
    status = after(PairingCode(PHONE, "ABCD-EFGH"), status=BY_CODE)
    assert (status.pairing_code, status.needs_pairing_code) == ("ABCD-EFGH", False)
    assert "Link with phone number" in status.action
    assert after(QrShown("next"), status=status).pairing_code == "ABCD-EFGH"
    status = after(Paired(), Connected(), status=status)
    assert (status.pairing_code, status.pairing_phone) == ("", "")


@pytest.mark.parametrize("end", [QrOver(), Lost("the network"), Ended("crashed"), Restart()])
def test_a_code_to_type_ends_with_its_connection(end: Input) -> None:
    """The next connection needs another one, for the same phone."""
    status = after(PairingCode(PHONE, "ABCD-EFGH"), end, status=BY_CODE)
    assert (status.pairing_code, status.pairing_phone) == ("", PHONE)
    status = after(Due(), QrShown("next"), status=replace(status, worker=True))
    assert status.needs_pairing_code


def test_a_refused_code_leaves_the_qr_code() -> None:
    """The reason is shown, and the window stays open."""
    status = after(PairingCodeRefused(PHONE, "rate-overlimit"), status=BY_CODE)
    assert (status.qr, status.pairing_phone, status.needs_pairing_code) == ("qr", "", False)
    assert "rate-overlimit" in status.reason
    assert status.pair_until == 500


def test_a_code_of_an_earlier_request_is_dropped() -> None:
    """It was for another phone, or the connection that it belongs to is gone."""
    assert after(PairingCode("15550000009", "ABCD-EFGH"), status=BY_CODE) == BY_CODE
    lost = after(Lost("the network"), status=BY_CODE)
    assert after(PairingCode(PHONE, "ABCD-EFGH"), status=lost).pairing_code == ""


def test_another_phone_gets_another_code() -> None:
    """A second request while a code is shown keeps it for the same phone only; without a phone it is dropped."""
    status = after(PairingCode(PHONE, "ABCD-EFGH"), status=BY_CODE)
    same = after(Pair(600, paired=False, phone=PHONE), status=status)
    assert (same.pairing_code, same.pair_until) == ("ABCD-EFGH", 600)
    other = after(Pair(600, paired=False, phone="15550000009"), status=status)
    assert (other.pairing_code, other.needs_pairing_code) == ("", True)
    none = after(Pair(600, paired=False), status=status)
    assert (none.pairing_code, none.needs_pairing_code, none.qr) == ("", False, "qr")


def test_used_up_codes_are_followed_by_new_ones() -> None:
    """While the window is open the worker is replaced at once, and that does not count as a failure."""
    status = after(Begin(paired=False), Pair(500, paired=False), QrShown("code"), QrOver())
    assert not status.worker
    status = after(Ended("nobody scanned the QR code"), Due(), status=status)
    assert status.worker
    assert status.attempts == 0


def test_the_pairing_window_closes() -> None:
    """No scan: no worker, no code, and the account waits for another request."""
    status = after(Begin(paired=False), Pair(500, paired=False), QrShown("code"))
    status = after(Due(), status=status, now=501)
    assert (status.state, status.worker, status.qr) == (State.AWAITING_SCAN, False, "")
    status = after(Ended("stopped"), status=status)
    assert status.reason == "the code was not scanned in time"


def test_a_scan_in_the_last_moment_counts() -> None:
    """The window had just closed: the session is there, and a fresh worker logs in."""
    status = after(Begin(paired=False), Pair(500, paired=False), QrShown("code"))
    status = after(Due(), status=status, now=501)
    status = after(Paired(), Ended("stopped"), Due(), status=status, now=502)
    assert (status.state, status.worker, status.paired) == (State.RECONNECTING, True, True)


def test_a_worker_that_is_being_replaced_cannot_stay() -> None:
    """Its late `Connected` does not undo the replacement."""
    status = after(Restart(), Connected(), status=CONNECTED)
    assert not status.worker
    assert status.retry_at is not None


def test_an_outage_of_any_length_is_reconnecting() -> None:
    """A thousand failures in a row never ask for a QR code, and the delay is capped."""
    status = CONNECTED
    now = 100.0
    for _ in range(1000):
        status = step(status, Ended("no network"), now, 0.99, DELAYS)
        assert status.state is State.RECONNECTING
        assert status.retry_at is not None
        assert status.retry_at - now <= DELAYS.cap
        now = status.retry_at
        status = step(status, Due(), now, 0.5, DELAYS)
        assert status.worker
    assert status.paired


def test_a_lost_connection_keeps_its_worker() -> None:
    """The library tries again by itself."""
    status = after(Lost("gone"), status=CONNECTED)
    assert (status.state, status.worker) == (State.RECONNECTING, True)
    assert after(Connected(), status=status).state is State.CONNECTED


@pytest.mark.parametrize(
    ("events", "timeout"),
    [
        ((Begin(paired=True),), DELAYS.library),
        ((Begin(paired=True), Connected(), Lost("gone")), DELAYS.library),
        ((Begin(paired=False), Pair(999, paired=False)), DELAYS.library),
        ((Begin(paired=False), Pair(999, paired=False), QrShown("code")), DELAYS.code),
        ((Begin(paired=False), Pair(999, paired=False), Paired()), DELAYS.library),
    ],
)
def test_a_worker_that_gets_nowhere_is_replaced(events: tuple[Input, ...], timeout: float) -> None:
    """Dialling, reconnecting, fetching a code or the next one, logging in: each has a timeout."""
    status = after(*events)
    assert after(Due(), status=status, now=99.9 + timeout).worker
    status = after(Due(), status=status, now=100 + timeout)
    assert (status.worker, status.qr) == (False, "")
    assert after(Ended("killed"), Due(), status=status, now=100 + timeout).worker


def test_reported_attempts_of_the_library_extend_no_deadline() -> None:
    """The deadline counts from the first loss."""
    status = after(Lost("gone"), status=CONNECTED)
    status = after(Lost("still gone"), status=status, now=150)
    assert not after(Due(), status=status, now=100 + DELAYS.library).worker


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (LoggedOut("phone"), State.LOGGED_OUT),
        (Replaced(), State.REPLACED),
        (Broken("disk"), State.FAILED),
        (Stop(), State.STOPPED),
        (StepDown(), State.PASSIVE),
        (Banned(60, "why"), State.BANNED),
        (Outdated("old"), State.OUTDATED),
    ],
)
def test_events_that_end_the_worker(event: Input, state: State) -> None:
    """Each of these leaves the account without a worker, in its own state."""
    status = after(event, status=CONNECTED)
    assert (status.state, status.worker) == (state, False)
    assert after(Ended("gone"), status=status).state is state


def test_a_ban_is_waited_for() -> None:
    """The account tries again at the time that WhatsApp gave, not before."""
    status = after(Banned(60, "why"), status=CONNECTED)
    assert not after(Due(), status=status, now=159).worker
    assert after(Due(), status=status, now=160).worker


def test_an_outdated_library_tries_again_slowly() -> None:
    """Only an upgrade helps: between half and one `outdated` pause."""
    status = after(Outdated("old"), status=CONNECTED)
    assert status.retry_at is not None
    assert 1800 <= status.retry_at - 100 <= 3600
    assert "upgrade" in status.action


def test_replaced_waits_for_the_operator_or_a_new_lease() -> None:
    """It does not fight; Begin starts it again."""
    status = after(Replaced(), status=CONNECTED)
    assert not after(Due(), status=status, now=1e9).worker
    assert after(Begin(paired=True), status=status).worker


def test_an_invalid_session_shows_no_codes_by_itself() -> None:
    """A code without a pairing window ends the worker and reports that the account is not paired."""
    status = after(Begin(paired=True), QrShown("code"))
    assert (status.state, status.worker, status.qr) == (State.AWAITING_SCAN, False, "")


@pytest.mark.parametrize("event", [Pair(9, paired=True), Pair(9, paired=False), Restart()])
def test_orders_to_a_passive_instance_are_refused(event: Input) -> None:
    """Only the active instance acts."""
    with pytest.raises(Conflict):
        after(event)


def test_pairing_a_paired_account_is_refused() -> None:
    """It would end the present pairing."""
    with pytest.raises(Conflict, match="already paired"):
        after(Pair(9, paired=True), status=CONNECTED)


@pytest.mark.parametrize("state", sorted(ENDED))
def test_restarting_what_does_not_run_is_refused(state: State) -> None:
    """The hint names the command to use instead."""
    with pytest.raises(Conflict) as caught:
        after(Restart(), status=replace(CONNECTED, state=state, worker=False))
    assert caught.value.hint


EVENTS = st.one_of(
    st.builds(Begin, paired=st.booleans()),
    st.just(StepDown()),
    st.just(Stop()),
    st.builds(Pair, st.floats(0, 1000), paired=st.booleans()),
    st.just(Restart()),
    st.just(Launched()),
    st.builds(QrShown, st.text(max_size=3)),
    st.just(QrOver()),
    st.just(Paired()),
    st.just(Connected()),
    st.builds(Lost, st.just("lost")),
    st.builds(Ended, st.just("ended")),
    st.builds(LoggedOut, st.just("out")),
    st.just(Replaced()),
    st.builds(Banned, st.floats(0, 1000), st.just("ban")),
    st.builds(Outdated, st.just("old")),
    st.builds(Broken, st.just("broken")),
    st.just(Due()),
)


@pytest.mark.parametrize(("lasted", "attempts"), [(59.9, 4), (60.0, 1)])
def test_failures_are_forgotten_after_a_stable_minute(lasted: float, attempts: int) -> None:
    """A connection that broke earlier counts on."""
    connected = replace(CONNECTED, attempts=3)
    delays = replace(DELAYS, stable=60.0)
    broken = step(connected, Ended("it is gone"), connected.since + lasted, 0.5, delays)
    assert broken.attempts == attempts


@given(st.lists(st.tuples(EVENTS, st.floats(0, 50)), max_size=40), st.floats(0, 0.999))
def test_laws_of_the_machine(events: list[tuple[Input, float]], chance: float) -> None:
    """Whatever happens in whatever order, these hold after every step."""
    status, now = Status(), 0.0
    for event, pause in events:
        now += pause
        before = status
        try:
            status = step(status, event, now, chance, DELAYS)
        except Conflict:
            assert isinstance(event, Pair | Restart)
            continue
        assert status.worker <= (status.state in WORKING), "a worker runs only in a working state"
        assert (status.qr == "") or status.state is State.AWAITING_SCAN, (
            "a code is shown only for a scan"
        )
        assert status.qr == "" or status.pair_until is not None, (
            "a code is shown only while asked for"
        )
        assert status.reason, "every state has its sentence"
        if before.paired and not status.paired:
            assert isinstance(event, LoggedOut | Begin | QrShown | Pair), "only these end a pairing"
        if status.state is not before.state:
            assert status.since == now
        assert (status.worker_until is not None) == (
            status.worker and status.state is not State.CONNECTED
        ), "a worker that is not connected has its time, and nothing else has"
        assert status.settles_at is None or (
            status.state is State.CONNECTED and status.attempts > 0
        ), "only what is connected can settle, and only failures are forgotten"
        assert status.launched_at is None or status.worker, "what was launched is wanted"
        if status.attempts < before.attempts and status.state in WORKING:
            lasted = before.state is State.CONNECTED and now - before.since >= DELAYS.stable
            assert lasted or isinstance(event, Begin | Pair | Restart | QrShown), (
                "only a stable minute, or a person, makes failures forgotten"
            )
        if status.state is State.RECONNECTING:
            assert status.worker or status.retry_at is not None, (
                "an outage always ends in another try"
            )
