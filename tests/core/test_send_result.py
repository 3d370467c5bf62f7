"""What became of a message that the library failed to send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.outbox import NotSent, Refused, Sent, Unknown
from wad.core.send_result import SendResult, classify, from_wire, is_not_in, to_wire


@pytest.mark.parametrize(
    ("text", "found", "result"),
    [
        ("no LID found for 1@s.whatsapp.net from server", None, Refused),
        ("server returned error 463", "WA1", Refused),
        ("failed to send message node: websocket not connected", "WA1", NotSent),
        ("failed to get device list: info query timed out", None, NotSent),
        ("websocket disconnected before message send returned response", "WA1", Unknown),
        ("message send timed out", "WA1", Unknown),
        ("something new", None, NotSent),
        ("something new", "WA1", Unknown),
    ],
)
def test_error_texts_of_the_library(text: str, found: str | None, result: type[SendResult]) -> None:
    """No trace: it did not leave; a trace: it may have; a refusal is final."""
    assert isinstance(classify(text, found), result)


@pytest.mark.parametrize(
    ("text", "unrelated"),
    [
        ("failed to save cached sessions: transaction: commit: database or disk is full", True),
        ("failed to get device list: failed to store: database is locked", True),
        ("failed to send message node: websocket not connected", True),
        ("failed to get device list: info query timed out", False),
        ("something new", False),
    ],
)
def test_failures_unrelated_to_the_message(text: str, unrelated: bool) -> None:
    """A missing disk or connection does not count against the message."""
    assert classify(text, None) == NotSent(text, unrelated=unrelated)


@pytest.mark.parametrize(
    ("text", "not_in"),
    [
        ("that group does not exist", True),
        ("you're not participating in that group", True),
        ("sending to non-status broadcast lists is not supported", False),
        ("info query timed out", False),
    ],
)
def test_errors_that_mean_not_in_the_group(text: str, not_in: bool) -> None:
    assert is_not_in(text) is not_in


TEXTS = st.text(max_size=20)


@given(
    st.one_of(
        st.builds(Sent, TEXTS, st.integers(0, 2**50)),
        st.builds(NotSent, TEXTS, st.booleans()),
        st.builds(Refused, TEXTS, TEXTS),
        st.builds(Unknown, TEXTS, TEXTS),
    )
)
def test_a_result_survives_the_pipe(result: SendResult) -> None:
    """From the worker to the daemon."""
    assert from_wire(to_wire(result)) == result
