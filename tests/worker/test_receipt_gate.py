"""The gate: which receipts are held, and what releases each.  The patch sites: which bytes, in which builds."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.waiting import until_threads as until
from tests.whatsapp.golib import library_path
from wad.worker import receipt_gate
from wad.worker.log_lines import (
    HISTORY,
    Acknowledging,
    announcement_key,
    message_key,
    parse_line,
    receipt_key,
)
from wad.worker.patching import NotThisBuild
from wad.worker.receipt_gate import PATCH_SITES, ReceiptGate, keep_plaintexts


def incoming(ident: str, parts: int = 1) -> str:
    """The library's log line of an incoming message."""
    enc = '<enc type="msg" v="2"><!-- 200 bytes --></enc>'
    return f'<message from="9@lid" id="{ident}" notify="Bob" t="17" type="text">{enc * parts}</message>'


def outgoing(ident: str, kind: str = "inactive", more: str = "") -> str:
    """The library's log line of a receipt before it is sent."""
    type_ = f' type="{kind}"' if kind else ""
    items = f'<list><item id="{more}"/></list>' if more else ""
    return f'<receipt id="{ident}" to="9@lid"{type_}>{items}</receipt>'


def never() -> None:
    """Every session in these tests can be saved."""
    raise AssertionError("called")


class Receipt:
    """A receipt on a separate thread, as the library sends it."""

    def __init__(self, gate: ReceiptGate, text: str) -> None:
        self._gate = gate
        self._names = [
            name
            for found in parse_line("Client/Send", text)
            if isinstance(found, Acknowledging)
            for name in found.names
        ]
        self._thread = threading.Thread(
            target=gate.on_log_line, args=("Client/Send", text), daemon=True
        )
        self._thread.start()

    def is_held(self) -> bool:
        """Whether the gate holds it; called only once it has arrived there."""
        if not self._names:
            return bool(self._gate._waiting)
        return any(name in self._gate._by_name for name in self._names)

    def is_sent(self) -> bool:
        """Whether it is sent; waits for that."""
        self._thread.join(20)
        return not self._thread.is_alive()


def held(gate: ReceiptGate, text: str) -> Receipt:
    """A receipt that has arrived at the gate and waits there."""
    before = len(gate._waiting)
    receipt = Receipt(gate, text)
    until(lambda: len(gate._waiting) > before)
    return receipt


def deal_with(gate: ReceiptGate, *names: str) -> None:
    """Events with these keys are handed over and stored."""
    for _ in names:
        gate.handed_over()
    gate.processed(names)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> ReceiptGate:
    """A gate without a timeout."""
    monkeypatch.setattr(receipt_gate, "_QUIET_SLICES", 1_000_000)
    return ReceiptGate(never)


@pytest.mark.parametrize("kind", ["", "inactive", "sender", "peer_msg", "hist_sync"])
def test_a_receipt_waits_for_its_message(gate: ReceiptGate, kind: str) -> None:
    """Another message does not release it; its own does."""
    gate.on_log_line("Client/Recv", incoming("A"))
    receipt = held(gate, outgoing("A", kind))
    deal_with(gate, message_key("B"))
    assert receipt.is_held()
    deal_with(gate, message_key("A"))
    assert receipt.is_sent()


def test_a_message_that_was_stored_first(gate: ReceiptGate) -> None:
    """Its receipt does not wait at all, however often it is sent."""
    gate.on_log_line("Client/Recv", incoming("A"))
    deal_with(gate, message_key("A"))
    assert Receipt(gate, outgoing("A")).is_sent()
    assert Receipt(gate, outgoing("A", "peer_msg")).is_sent()


def test_nothing_else_is_held(gate: ReceiptGate) -> None:
    """Lines that do not concern arrivals return at once."""
    gate.on_log_line("Client/Send", outgoing("A", "read"))
    gate.on_log_line("Client/Recv", outgoing("A"))
    gate.on_log_line("Client/Send", '<message id="A" to="9@lid"></message>')
    assert not gate._waiting


def test_a_message_of_two_parts(gate: ReceiptGate) -> None:
    """Keys without content, then the text: the receipt waits for both."""
    gate.on_log_line("Client/Recv", incoming("A", parts=2))
    receipt = held(gate, outgoing("A"))
    deal_with(gate, message_key("A"))
    assert receipt.is_held()
    deal_with(gate, message_key("A"))
    assert receipt.is_sent()


def test_a_repeated_message_is_counted_again(gate: ReceiptGate) -> None:
    """Stored events of the first do not count for the second."""
    gate.on_log_line("Client/Recv", incoming("A"))
    deal_with(gate, message_key("A"))
    gate.on_log_line("Client/Recv", incoming("A"))
    receipt = held(gate, outgoing("A"))
    deal_with(gate, message_key("A"))
    assert receipt.is_sent()


def test_a_receipt_for_several(gate: ReceiptGate) -> None:
    """It waits for the last of them."""
    receipt = held(gate, outgoing("A", more="B"))
    deal_with(gate, message_key("A"))
    assert receipt.is_held()
    deal_with(gate, message_key("B"))
    assert receipt.is_sent()


def test_a_stanza_that_the_library_ignores_has_no_event(gate: ReceiptGate) -> None:
    """It was handed over before; its receipt must be sent, since the server would send it again forever."""
    gate.on_log_line("Client/Recv", incoming("A"))
    gate.on_log_line("Client", "Ignoring message A from 9@lid: received message with old counter 1")
    assert Receipt(gate, outgoing("A")).is_sent()


def test_a_missing_event_in_a_busy_stream(gate: ReceiptGate) -> None:
    """When everything that can have been in the library's queue is stored, the receipt is released."""
    receipt = held(gate, outgoing("A"))
    for number in range(101):
        deal_with(gate, message_key(f"B{number}"))
    assert receipt.is_held()
    deal_with(gate, "")
    assert receipt.is_sent()


def test_a_missing_event_in_silence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last resort applies, and is logged."""
    monkeypatch.setattr(receipt_gate, "_SLICE", 0.001)
    gate = ReceiptGate(never)
    assert Receipt(gate, outgoing("A")).is_sent()
    until(lambda: "1 receipts sent for messages without an event" in caplog.text)


def test_while_the_disk_refuses_all_receipts_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that was handed over and is not stored holds everything, without a limit."""
    waits: list[float] = []
    monkeypatch.setattr(receipt_gate, "_SLICE", 0.001)
    monkeypatch.setattr(receipt_gate, "_QUIET_SLICES", 3)
    gate = ReceiptGate(never)
    gate.handed_over()
    receipt = held(gate, outgoing("A"))
    (waiter,) = gate._waiting
    monkeypatch.setattr(
        type(waiter),
        "slices",
        property(lambda self: 0, lambda self, n: waits.append(n)),
        raising=True,
    )
    until(lambda: len(waits) > 50)
    assert set(waits) == {0}
    assert receipt.is_held()
    gate.processed([message_key("A")])
    assert receipt.is_sent()


def reading(ident: str) -> str:
    """A receipt of another device, as it arrives."""
    return f'<receipt from="9@lid" id="{ident}" t="17" type="read"/>'


def knowing(ident: str) -> str:
    """Its acknowledgement."""
    return f'<ack class="receipt" id="{ident}" to="9@lid" type="read"/>'


def test_an_acknowledgement_waits_for_its_receipt(gate: ReceiptGate) -> None:
    """Two receipts for one message: both acknowledgements wait for both; the message itself is separate."""
    gate.on_log_line("Client/Recv", reading("A"))
    gate.on_log_line("Client/Recv", reading("A"))
    acks = [held(gate, knowing("A")), held(gate, knowing("A"))]
    deal_with(gate, message_key("A"), receipt_key("A"))
    assert all(ack.is_held() for ack in acks)
    deal_with(gate, receipt_key("A"))
    assert all(ack.is_sent() for ack in acks)


def test_a_missing_receipt_is_waited_for_once(gate: ReceiptGate) -> None:
    """A connection that broke dropped it; the next one's acknowledgement waits only for its own."""
    gate.on_log_line("Client/Recv", reading("A"))
    ack = held(gate, knowing("A"))
    deal_with(gate, *[""] * 102)
    assert ack.is_sent()
    gate.on_log_line("Client/Recv", reading("A"))
    ack = held(gate, knowing("A"))
    deal_with(gate, receipt_key("A"))
    assert ack.is_sent()


def test_a_receipt_without_a_key_waits_for_all_before_it(gate: ReceiptGate) -> None:
    """The acknowledgement of a call is released when the library's queue must have been stored."""
    ack = held(gate, '<ack class="call" id="C" to="9@lid"/>')
    deal_with(gate, *[""] * 101)
    assert ack.is_held()
    deal_with(gate, "")
    assert ack.is_sent()


def test_silence_releases_receipts_without_a_key(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """This is not logged as unexpected."""
    monkeypatch.setattr(receipt_gate, "_SLICE", 0.001)
    gate = ReceiptGate(never)
    assert Receipt(gate, '<ack class="call" id="C" to="9@lid"/>').is_sent()
    assert caplog.text == ""


def download(gate: ReceiptGate, ending: str = "") -> None:
    """A history chunk was downloaded, or failed with this error text."""
    if ending:
        gate.on_log_line("Client", f"Failed to download history sync: {ending}")
    else:
        gate.on_log_line("Client", "Received history sync (type RECENT, chunk 1, progress 7)")


def test_a_part_of_the_history_is_waited_for(gate: ReceiptGate) -> None:
    """Its announcement's receipts are released when it is stored, however much is stored before; also a late one."""
    gate.on_log_line("Client/Recv", incoming("H"))
    receipt = held(gate, outgoing("H", "hist_sync"))
    deal_with(gate, announcement_key("H"), *[""] * 200)
    late = Receipt(gate, outgoing("H", "peer_msg"))
    until(lambda: len(gate._by_name[message_key("H")]) == 2)
    assert receipt.is_held()
    assert late.is_held()
    download(gate)
    assert receipt.is_held()
    deal_with(gate, HISTORY)
    assert receipt.is_sent()
    assert late.is_sent()


def test_history_chunks_arrive_in_order(gate: ReceiptGate) -> None:
    """The first part does not release the second announcement; a part may be stored before its announcement."""
    receipts_ = [held(gate, outgoing(ident, "hist_sync")) for ident in ("H1", "H2")]
    download(gate)
    download(gate)
    deal_with(gate, HISTORY, announcement_key("H1"), announcement_key("H2"))
    assert receipts_[0].is_sent()
    assert receipts_[1].is_held()
    deal_with(gate, HISTORY)
    assert receipts_[1].is_sent()


def test_a_part_of_the_history_that_is_gone(
    gate: ReceiptGate, caplog: pytest.LogCaptureFixture
) -> None:
    """One that failed is not acknowledged, so that it is sent again; one that is gone is, and that is logged."""
    failed, gone = (held(gate, outgoing(ident, "hist_sync")) for ident in ("H1", "H2"))
    deal_with(gate, announcement_key("H1"), announcement_key("H2"))
    download(gate, "dial tcp: connection refused")
    download(gate, "download failed with status code 404")
    assert gone.is_sent()
    assert failed.is_held()
    assert "no longer available" in caplog.text


def test_a_part_of_the_history_that_fails_after_one_that_waits_for_the_disk(
    gate: ReceiptGate,
) -> None:
    """The failure is reported first; it belongs to the second part all the same, which is sent again."""
    first, second = (held(gate, outgoing(ident, "hist_sync")) for ident in ("H1", "H2"))
    deal_with(gate, announcement_key("H1"), announcement_key("H2"))
    download(gate)
    download(gate, "dial tcp: connection refused")
    deal_with(gate, HISTORY)
    assert first.is_sent()
    assert second.is_held()


def test_more_is_expected_than_the_library_has_in_its_queue(gate: ReceiptGate) -> None:
    """A message of two parts waits for both, also behind 2048 receipts that were logged meanwhile."""
    gate.on_log_line("Client/Recv", incoming("A", parts=2))
    for number in range(2048):
        gate.on_log_line("Client/Recv", reading(f"B{number}"))
    receipt = held(gate, outgoing("A"))
    deal_with(gate, message_key("A"))
    assert receipt.is_held()
    deal_with(gate, message_key("A"))
    assert receipt.is_sent()


@given(st.permutations([f"M{n}" for n in range(8)]), st.permutations([f"M{n}" for n in range(8)]))
def test_in_any_order(asked: list[str], stored: list[str]) -> None:
    """In any order: after each commit exactly the receipts of events that are not stored yet are held."""
    gate = ReceiptGate(never)
    sent = {ident: Receipt(gate, outgoing(ident)) for ident in asked[:4]}
    until(lambda: len(gate._waiting) == 4)
    for number, ident in enumerate(stored):
        deal_with(gate, message_key(ident))
        left = {message_key(ident) for ident in set(asked[:4]) - set(stored[: number + 1])}
        assert {name for waiter in gate._waiting for name in waiter.names} == left
    assert all(receipt.is_sent() for receipt in sent.values())
    assert all(Receipt(gate, outgoing(ident)).is_sent() for ident in asked[4:])


# --- kept plaintexts ------------------------------------------------------------------------------


def test_the_patch_sites_change_one_number() -> None:
    """0xa9, the switch that cannot be set, becomes 0x7c, which is always set; the instruction stays the same."""
    amd64, arm64 = PATCH_SITES
    assert amd64.before.replace(b"\xa9", b"\x7c") == amd64.after
    before, after = (int.from_bytes(code, "little") for code in (arm64.before, arm64.after))
    assert (before >> 10 & 0xFFF, after >> 10 & 0xFFF) == (0xA9, 0x7C)
    assert before & ~(0xFFF << 10) == after & ~(0xFFF << 10)


def test_the_installed_library_is_known() -> None:
    """An upgrade of neonize needs new patch sites, or the guarantee is lost (docs/upstream.md says how)."""
    digest = hashlib.sha256(library_path().read_bytes()).hexdigest()
    assert digest in {place.sha256 for place in PATCH_SITES}


def test_another_file_is_refused(tmp_path: Path) -> None:
    """Nothing is read in memory, let alone changed."""
    file = tmp_path / "neonize-linux-amd64.so"
    file.write_bytes(b"another build")
    with pytest.raises(NotThisBuild, match="unknown build"):
        keep_plaintexts(file)


def test_a_library_that_is_not_loaded_is_refused(tmp_path: Path) -> None:
    """The right bytes on the disk are not enough."""
    file = tmp_path / library_path().name
    file.write_bytes(library_path().read_bytes())
    with pytest.raises(NotThisBuild, match="not loaded"):
        keep_plaintexts(file)


def test_a_session_that_cannot_be_saved_is_reported() -> None:
    """Before the library acknowledges the message."""
    calls: list[None] = []
    gate = ReceiptGate(lambda: calls.append(None))
    gate.on_log_line("Client", "Error decrypting message A from 9@lid in 9@lid: database is locked")
    assert calls == [None]
