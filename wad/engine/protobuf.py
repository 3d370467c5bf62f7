"""Google's protobuf, without its implementation in Python: 1 MB in each worker, which runs the one in C.

The package imports it in any case.  For the time of the import an empty module stands in its place; whoever needs it
later gets the true one.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Final

from google.protobuf.internal import api_implementation

_IN_PYTHON: Final = "google.protobuf.internal.python_message"


def _loaded() -> tuple[ModuleType, ModuleType, ModuleType]:
    without = _IN_PYTHON not in sys.modules and api_implementation.Type() == "upb"
    if without:
        sys.modules[_IN_PYTHON] = ModuleType(_IN_PYTHON)
    try:
        from google.protobuf import descriptor_pool, message_factory
        from google.protobuf.internal import builder
    finally:
        if without:
            del sys.modules[_IN_PYTHON]
    return builder, descriptor_pool, message_factory


builder, descriptor_pool, message_factory = _loaded()
