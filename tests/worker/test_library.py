"""The library's C interface and its descriptions, without neonize's own Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import in_a_process
from tests.support.protobufs import pb
from wad.core.errors import EngineFailure
from wad.worker import c_interface


def test_a_worker_imports_nothing_heavy() -> None:
    """Neither neonize's own Python and its dependencies, nor an event loop; no thread, no process."""
    found = in_a_process(
        "import json, sys, threading, wad.worker.main\n"
        "heads = sorted({name.partition('.')[0] for name in sys.modules})\n"
        "print(json.dumps([heads, threading.active_count()]))"
    )
    heavy = {"asyncio", "bs4", "httpx", "linkpreview", "magic", "neonize", "PIL", "requests"}
    assert (heavy & set(found[0]), found[1]) == (set(), 1)


def test_a_worker_leaves_out_protobufs_python() -> None:
    """The implementation in Python is not loaded, and can be loaded later."""
    found = in_a_process(
        "import json, sys, wad.worker.library\n"
        "name = 'google.protobuf.internal.python_message'\n"
        "loaded = [one in sys.modules for one in (name, 'google.protobuf.text_format')]\n"
        "from google.protobuf.internal import python_message\n"
        "print(json.dumps([loaded, hasattr(python_message, 'GeneratedProtocolMessageType')]))"
    )
    assert found == [[False, False], True]


def test_neonize_can_still_be_imported_afterwards() -> None:
    """Reading its descriptions leaves no trace of it."""
    code = (
        "import json, wad.worker.library\n"
        "from neonize.proto import Neonize_pb2 as pb\n"
        "print(json.dumps(pb.Message(Info=pb.MessageInfo(ID='A')).Info.ID))"
    )
    assert in_a_process(code) == "A"


def test_events_have_the_librarys_numbers() -> None:
    """As neonize itself maps them."""
    from neonize import events

    from wad.worker.library import EVENTS

    theirs = {number: kind.__name__ for kind, number in events.EVENT_TO_INT.items()}
    assert {number: theirs[number] for number in EVENTS} == EVENTS


@pytest.mark.parametrize("name", ["wad", "Büro", "x" * 200, "ü" * 100])
def test_device_properties(name: str) -> None:
    """The generated class reads the hand-written encoding; a long name is cut between letters."""
    from neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2 import DeviceProps

    from wad.worker.library import _device_properties

    found = DeviceProps.FromString(_device_properties(name))
    assert name.startswith(found.os)
    assert len(found.os.encode()) >= min(len(name.encode()), 126)
    assert found.platformType == DeviceProps.DESKTOP


def test_events_are_read_by_name() -> None:
    """With classes made from the descriptions."""
    from wad.worker.library import parse

    event = pb.Message(Info=pb.MessageInfo(ID="A"))
    assert parse("Message", event.SerializePartialToString()).Info.ID == "A"


def test_a_library_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is named, and not fetched from the network."""
    monkeypatch.setattr(c_interface, "package", lambda: tmp_path)
    with pytest.raises(EngineFailure, match=r"neonize-linux-\w+\.so is missing"):
        c_interface.shared_object()


def test_a_library_that_cannot_be_loaded(tmp_path: Path) -> None:
    """An error of wad, which ends the worker with a reason."""
    file = tmp_path / "neonize-linux-amd64.so"
    file.write_bytes(b"no library")
    with pytest.raises(EngineFailure, match="cannot load"):
        c_interface.Functions(file)


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its C interface may differ."""
    monkeypatch.setattr(c_interface, "VERSION", "0.4.3")
    with pytest.raises(EngineFailure, match=r"is version 0\.5\.2; wad needs 0\.4\.3"):
        c_interface.Functions(c_interface.shared_object())


def test_releasing_memory_keeps_patched_pages() -> None:
    """The process shrinks, the patch in the library's code stays, and the library works."""
    code = (
        "import ctypes, json, re\n"
        "from pathlib import Path\n"
        "from wad.worker import c_interface, memory, phone_requests, receipt_gate\n"
        "file = c_interface.shared_object()\n"
        "functions = c_interface.Functions(file)\n"
        "changed = [receipt_gate.keep_plaintexts(file), *phone_requests.enable_peer_messages(file)]\n"
        "def rss(): return int(re.search(r'Rss:\\s+(\\d+)', Path('/proc/self/smaps_rollup').read_text())[1])\n"
        "def code(): return [ctypes.string_at(address, 8).hex() for address in changed]\n"
        "before = rss(), code()\n"
        "memory.release(changed)\n"
        "after = rss(), code()\n"
        "print(json.dumps([before, after, functions.is_connected(b'nobody')]))"
    )
    (size, changed), (smaller, still), connected = in_a_process(code)
    assert smaller < size - 4000  # kB
    assert still == changed
    assert connected is False
