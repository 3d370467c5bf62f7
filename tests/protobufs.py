"""The library's protobuf classes for tests.  Importing it leaves open files behind (`uname` twice): collected here."""

from __future__ import annotations

import gc
import logging
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    handlers = list(logging.getLogger().handlers)
    from neonize.proto import Neonize_pb2 as pb
    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

    gc.collect()
    logging.getLogger().handlers[:] = handlers  # the import configures the root logger

__all__ = ["Message", "pb"]
