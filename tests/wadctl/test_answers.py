"""wadctl with an answer of the daemon that it does not know how to show."""

from __future__ import annotations

import pytest

from wad.core.errors import WadError
from wadctl.invocation import Invocation


@pytest.mark.parametrize("reply", [None, [], {}, "x", {"accounts": 7}])
def test_an_answer_that_wadctl_does_not_know(reply: object) -> None:
    """The error has the reason and how to see the answer nevertheless."""
    with pytest.raises(WadError, match="cannot be shown") as raised:
        Invocation("/none", 1.0).show("status", reply)
    assert "--json" in raised.value.hint
