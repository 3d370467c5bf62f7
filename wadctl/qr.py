"""A QR code as text, two rows of modules per line, or as a PNG file."""

from __future__ import annotations

from io import BytesIO
from typing import Final

_SCALE: Final = 8  # pixels of a module in a file
_QUIET: Final = 2  # modules of white around it; the standard says 4, phones read 2
_BLACK_ON_WHITE: Final = "\x1b[30;107m"
_RESET: Final = "\x1b[0m"
_WHITE: Final = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}
"""(upper dark, lower dark) -> a character drawn in white: for terminals of unknown, mostly dark, colours."""
_BLACK: Final = {(False, False): " ", (False, True): "▄", (True, False): "▀", (True, True): "█"}


def draw(code: str, *, colour: bool) -> list[str]:
    """The lines of a QR code.  With `colour` they are black on white, whatever the terminal's colours are."""
    rows = _modules(code)
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    blocks = _BLACK if colour else _WHITE
    lines = [
        "".join(blocks[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]
    return [f"{_BLACK_ON_WHITE}{line}{_RESET}" for line in lines] if colour else lines


def png(code: str) -> bytes:
    """The QR code as a PNG image."""
    import segno

    image = BytesIO()
    segno.make_qr(code, error="m").save(image, kind="png", scale=_SCALE, border=4)
    return image.getvalue()


def _modules(code: str) -> list[list[bool]]:
    """The rows of the code with its quiet zone; True is a dark module."""
    import segno  # only pairing needs it, and it costs 15 ms

    symbol = segno.make_qr(code, error="l", boost_error=False)
    return [[bool(module) for module in row] for row in symbol.matrix_iter(border=_QUIET)]
