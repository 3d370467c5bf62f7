"""Google's protobuf, without its implementation in Python: 1 MB in each worker, which runs the one in C.

The package imports it in any case.  For the time of the import an empty module stands in its place; whoever needs it
later gets the true one.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Final

from google.protobuf.internal import api_implementation

_IN_PYTHON: Final = "google.protobuf.internal.python_message"


def _import() -> None:
    if _IN_PYTHON in sys.modules or api_implementation.Type() != "upb":
        return
    sys.modules[_IN_PYTHON] = ModuleType(_IN_PYTHON)
    try:
        importlib.import_module("google.protobuf.internal.builder")
    finally:
        del sys.modules[_IN_PYTHON]


_import()

from google.protobuf import descriptor_pool, message_factory  # noqa: E402, after the import without it
from google.protobuf.internal import builder  # noqa: E402

__all__ = ["builder", "descriptor_pool", "message_factory"]
