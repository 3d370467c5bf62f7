"""The HTTP library behind Google's, which asks for access tokens with it: 4 MB less of it.

It guesses the encoding of texts that don't say theirs, and translates host names that are not ASCII.  Google's JSON and
Google's names need neither, and whoever asks for the latter gets it.  To be imported before Google's library.
"""

from __future__ import annotations

import importlib
import warnings

from wad.lib.lazy_imports import emptied, missing

with (
    emptied("idna"),
    missing("chardet", "charset_normalizer"),
    warnings.catch_warnings(action="ignore"),  # of what is missing
):
    importlib.import_module("requests")
