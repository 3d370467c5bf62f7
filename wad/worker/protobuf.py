"""Google's protobuf without its Python implementation, which would take 1 MB in each worker; workers use the one in C.

The package imports it in any case.
"""

from __future__ import annotations

import importlib

from google.protobuf.internal import api_implementation

from wad.lib.lazy_imports import with_empty_modules

if api_implementation.Type() == "upb":
    with with_empty_modules("google.protobuf.internal.python_message"):
        importlib.import_module("google.protobuf.internal.builder")

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.internal import builder
from google.protobuf.message import DecodeError

__all__ = ["DecodeError", "builder", "descriptor_pool", "message_factory"]
