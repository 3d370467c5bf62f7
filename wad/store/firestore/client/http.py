"""A smaller import of `requests`, which Google's library uses to get access tokens: it saves 4 MB of memory.

`requests` imports packages that guess text encodings and translate host names that are not ASCII.  Google's JSON and
host names need neither; the latter is loaded on first use.  Import this before Google's library.
"""

from __future__ import annotations

import importlib
import warnings

from wad.lib.lazy_imports import with_empty_modules, without_modules

with (
    with_empty_modules("idna"),
    without_modules("chardet", "charset_normalizer"),
    warnings.catch_warnings(action="ignore"),  # about the missing packages
):
    importlib.import_module("requests")
