"""Masking of phone numbers and addresses in texts for a log, a report or a health document.

Every run of seven digits may be a phone number and is shortened.  Exceptions are recognised by their form: a time as in
our file names, a message id, the last part of WhatsApp's version, a number after a word like `pid`.
"""

from __future__ import annotations

import re
from typing import Final

_READABLE: Final = re.compile(
    r"(?<![0-9A-Za-z])(?:"
    # A message id, or a random name of ours: hexadecimal with a letter, so that it cannot be a phone number.
    r"(?=\d*[A-Fa-f])[0-9A-Fa-f]{16,64}"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    # 20261125T101010Z, 20261125-101010: in names of files that were set aside.
    r"|20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])[T-](?:[01]\d|2[0-3])[0-5]\d[0-5]\dZ?"
    # 2026-11-25T10:10:10.123456789Z
    r"|20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z?"
    r"|2\.\d{4}\.\d{7,10}"
    r"|(?:pid|port|row|rows|seq|epoch|line|offset|size)[ =:]{1,2}\d{7,9}"
    r"|\d{7,12}(?= bytes\b)"
    r"|req_\d{13}"
    r")(?![0-9A-Za-z@])"
)
_RUN: Final = re.compile(r"\d{7,}")
_SPACED: Final = re.compile(r"\+\d[\d ().\-]{5,18}\d")


def masked(text: str) -> str:
    """The text with only the first 4 and last 2 digits of each possible phone number or address."""
    parts, end = [], 0
    for found in _READABLE.finditer(text):
        parts += [_shortened(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*parts, _shortened(text[end:])])


def scrubbed(text: str) -> str:
    """masked(), also for numbers that are written with blanks, brackets, dots or dashes after a `+`."""
    return masked(_SPACED.sub(lambda found: "+" + re.sub(r"\D", "", found[0]), text))


def _shortened(text: str) -> str:
    return _RUN.sub(lambda found: f"{found[0][:4]}****{found[0][-2:]}", text)
