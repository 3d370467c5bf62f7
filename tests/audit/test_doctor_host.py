"""The doctor's facts about a machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.disks import a_disk
from wad.audit import open_rows
from wad.audit.doctor import host, http, service
from wad.audit.doctor.facts import SYSTEMD, Configuration, Listener, SettingValue, Unit
from wad.audit.doctor.gathering import ask_http
from wad.core.errors import Denied
from wad.systemd import systemctl

MOUNTS = r"""22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
23 22 0:21 / /tmp rw,nosuid - tmpfs tmpfs rw,size=1024k
24 22 0:22 / /var/lib/wad\040data ro,relatime - xfs /dev/vdb rw
25 22 0:23 / /tmp rw - ext4 /dev/vdc rw
26 22 0:24 / /srv rw,relatime - ext4 /dev/vdd ro
broken line
"""


def test_mounts_are_read_as_the_kernel_writes_them() -> None:
    """Blanks in octal, the options of mount and of file system, the latest mount of a directory first."""
    found = [tuple(each) for each in host.parse_mounts(MOUNTS)]
    assert found == [
        ("/srv", "ext4", True), ("/tmp", "ext4", False), ("/var/lib/wad data", "xfs", True), ("/tmp", "tmpfs", False),
        ("/", "ext4", False),
    ]  # fmt: skip


def test_a_path_belongs_to_the_nearest_mount(tmp_path: Path) -> None:
    """Also one that does not exist yet, and one behind a link."""
    with a_disk(tmp_path / "disk", "1m") as disk:
        (tmp_path / "link").symlink_to(disk)
        at, behind, above = host.mounts_of([disk / "not/yet", tmp_path / "link", tmp_path])
    assert (at.kind, at.at, at.free_mb) == ("tmpfs", str(disk), 1)
    assert behind.path == str(disk)
    assert above.at != str(disk)


def test_listeners_have_their_process() -> None:
    """Port, address and process."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        (found,) = [each for each in host.listeners({os.getpid()}) if each.port == port]
    assert (found.address, found.pid) == ("127.0.0.1", os.getpid())
    assert found.command == Path("/proc/self/comm").read_text().strip()


def test_sockets_are_read_as_the_kernel_writes_them() -> None:
    """Addresses of both families; a connected socket does not listen."""
    text = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0\n"
        "   1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 112 1 0 100 0\n"
        "   2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 113 1\n"
    )
    assert list(host.parse_sockets(text)) == [("111", "127.0.0.1", 8080), ("113", "::1", 80)]


def test_wrong_owners_and_modes_below_a_directory(tmp_path: Path) -> None:
    """Files of another owner; files that others may read, if they may enter."""
    (tmp_path / "one").mkdir(mode=0o700)
    key = tmp_path / "one/session.db"
    key.write_bytes(b"k")
    key.chmod(0o644)
    tmp_path.chmod(0o700)
    found = host.directory(tmp_path, os.getuid())
    assert (found.exists, found.mode, found.foreign, found.exposed) == (True, 0o700, (), ())
    tmp_path.chmod(0o755)
    assert host.directory(tmp_path, os.getuid()).exposed == (str(tmp_path), str(key))
    assert str(key) in host.directory(tmp_path, os.getuid() + 1).foreign


def test_a_missing_directory(tmp_path: Path) -> None:
    """It is reported, not raised."""
    assert not host.directory(tmp_path / "none", None).exists


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run as a user without access to root's files."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_an_inaccessible_directory(tmp_path: Path) -> None:
    """It is not reported as missing."""
    (tmp_path / "wad/sessions").mkdir(parents=True)
    (tmp_path / "wad").chmod(0)
    try:
        with as_nobody():
            found = host.directory(tmp_path / "wad/sessions", 0)
            (mount,) = host.mounts_of([tmp_path / "wad/sessions"])
            with pytest.raises(Denied):
                open_rows("sqlite", tmp_path / "wad")
    finally:
        (tmp_path / "wad").chmod(0o700)
    assert (found.exists, found.hidden) == (True, True)
    assert mount.path == str(tmp_path / "wad/sessions")


def test_users_have_names() -> None:
    """A number without a name; empty if unknown."""
    assert host.user_name(0) == "root"
    assert host.user_id("root") == 0
    assert host.user_name(4_000_000_000) == "4000000000"
    assert host.user_name(None) == ""
    assert host.user_id("no-such-user") is None


SHOWN = """Id=wad.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
NRestarts=2
MainPID=812
User=wad
Environment=INSTANCE_ID=box "WAD_LOG_LEVEL=debug" "NOTE=two words"
"""


def test_a_unit_is_read_as_systemctl_shows_it() -> None:
    """Its environment has systemd's quoting."""
    shown = systemctl.parse(SHOWN)["wad.service"]
    assert service.unit_of(shown) == Unit("loaded", "active", "running", "enabled", 2, 812, "wad")
    assert service.environment_of(shown) == {
        "INSTANCE_ID": "box", "WAD_LOG_LEVEL": "debug", "NOTE": "two words",
    }  # fmt: skip


def test_without_properties_the_unit_is_missing() -> None:
    """Neither invented nor raised."""
    assert service.unit_of({}) is None
    assert service.environment_of({}) == {}


def test_systemctl_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For wad.service; if it fails there are no properties."""
    command = tmp_path / "systemctl"
    command.write_text(
        '#!/bin/sh\n[ "$2" = wad.service ] && echo "Id=$2" && echo "ActiveState=active"\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert service.show() == {"Id": "wad.service", "ActiveState": "active"}
    assert service.show("other.service") == {}
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert service.show() == {}


def test_systemd_is_detected(tmp_path: Path) -> None:
    """By the mark that sd_booted(3) checks."""
    assert systemctl.booted(tmp_path)
    assert not systemctl.booted(tmp_path / "none")


def test_a_socket_of_systemd_is_not_asked_while_the_daemon_does_not_run() -> None:
    """A connection would start it, and the doctor changes nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        server.setblocking(False)
        given = {"http.enabled": True, "http.address": "127.0.0.1", "http.port": port}
        settings = Configuration(
            {key: SettingValue(value, "") for key, value in given.items()}, False
        )
        found = ask_http(
            settings, [Listener(port, "127.0.0.1", SYSTEMD, "systemd")], (), running=False
        )
        with pytest.raises(BlockingIOError):
            server.accept()
    assert found.health is not None
    assert (found.health.status, found.burst) == (0, ())


def test_no_listener_on_a_port_is_an_answer() -> None:
    """Status 0, and the reason."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    answer = http.get("0.0.0.0", port, "/health")
    assert (answer.status, answer.document) == (0, None)
    assert "refused" in answer.error
