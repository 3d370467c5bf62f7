"""The library's protobuf classes for tests.

Importing the library leaves processes behind that were not waited for (`uname`, twice); Python closes their pipes
when the next process is started, which would then be reported against whatever test that happens in.  So it is done
here.
"""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import time
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    handlers = list(logging.getLogger().handlers)
    from neonize.proto import Neonize_pb2 as pb
    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
    from neonize.proto.waHistorySync.WAWebProtobufsHistorySync_pb2 import HistorySync

    logging.getLogger().handlers[:] = handlers  # the import configures the root logger
    for _ in range(200):
        gc.collect()
        subprocess.run(["true"], check=True)
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:
            break  # no child is left
        time.sleep(0.01)

__all__ = ["HistorySync", "Message", "pb"]
