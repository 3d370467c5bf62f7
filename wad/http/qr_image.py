"""QR codes as images.  Each code is drawn once, on a thread, since it takes some 30 ms."""

from __future__ import annotations

import asyncio
import io
from functools import lru_cache
from typing import Final

_SCALE: Final = 6  # pixels per module


async def data_url(code: str) -> str:
    """The code as the data URL of a PNG image."""
    return await asyncio.to_thread(_data_url, code)


@lru_cache(maxsize=64)
def _data_url(code: str) -> str:
    import segno  # only pairing needs it, and it costs 15 ms

    uri: str = segno.make_qr(code, error="m").png_data_uri(scale=_SCALE, border=4)
    return uri


def page(name: str, word: str, picture: str | None) -> bytes:
    """An HTML page with the QR code to scan, reloaded every five seconds; without an image it shows the status."""
    import html  # only this page needs it, and it costs 1 ms

    title = html.escape(name)
    shown = f'<img alt="QR code" src="{picture}">' if picture else f"<p>{html.escape(word)}</p>"
    text = io.StringIO()
    text.write('<!doctype html><html lang="en"><head><meta charset="utf-8">')
    text.write(
        '<meta http-equiv="refresh" content="5"><meta name="referrer" content="no-referrer">'
    )
    text.write(f"<title>{title}</title></head><body><h1>{title}</h1>{shown}</body></html>")
    return text.getvalue().encode()
