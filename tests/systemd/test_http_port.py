"""Another HTTP port than that of wad-http.socket: when the settings of wad.service have one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from wad.config import LoadedConfig, load
from wad.systemd import http_port
from wad.systemd.http_port import Address, parse_listen, text, wanted

TOP = Path(__file__).parent.parent.parent
USUAL = [Address("127.0.0.1", 8080)]


def settings(tmp_path: Path, environ: Mapping[str, str], file: str = "") -> LoadedConfig:
    """What the daemon would read."""
    path = tmp_path / "wad.toml"
    path.write_text(file)
    path.chmod(0o600)
    return load(path, environ)


def test_addresses_are_read_as_systemctl_shows_them() -> None:
    """TCP alone, IPv6 too."""
    shown = "Listen=127.0.0.1:8080 (Stream)\nListen=[::]:9090 (Stream)\nListen=/run/wad/control.sock (Stream)\n"
    assert parse_listen(shown) == [Address("127.0.0.1", 8080), Address("::", 9090)]
    assert [str(each) for each in parse_listen(shown)] == ["127.0.0.1:8080", "[::]:9090"]


@pytest.mark.parametrize(
    ("environ", "file", "listening", "found"),
    [
        ({}, "", USUAL, []),
        ({"PORT": "9191"}, "", USUAL, ["127.0.0.1:9191"]),
        ({"PORT": "8080"}, "", USUAL, []),
        ({"PORT": "8080"}, "", [Address("0.0.0.0", 8080)], []),
        ({}, "", [Address("0.0.0.0", 9090)], []),
        ({}, "[http]\nport = 9191\n", USUAL, ["127.0.0.1:9191"]),
        ({}, '[http]\naddress = "::1"\n', USUAL, ["[::1]:8080"]),
        ({}, '[http]\naddress = "0.0.0.0"\n', USUAL, ["0.0.0.0:8080"]),
        ({"PORT": "9191"}, "[http]\nenabled = false\n", USUAL, []),
        ({"PORT": "0"}, "", USUAL, []),
        ({}, "", [], ["127.0.0.1:8080"]),
        ({"PORT": "9191"}, "", [], ["127.0.0.1:9191"]),
    ],
)
def test_a_wish_that_nothing_fulfils(
    tmp_path: Path,
    environ: Mapping[str, str],
    file: str,
    listening: list[Address],
    found: list[str],
) -> None:
    """A default is none, unless wad-http.socket is masked."""
    loaded = settings(tmp_path, environ, file)
    assert [str(each) for each in wanted(loaded, listening)] == found


def test_a_name_becomes_addresses(tmp_path: Path) -> None:
    """systemd accepts no names."""
    loaded = settings(tmp_path, {}, '[http]\naddress = "localhost"\nport = 9191\n')
    assert Address("127.0.0.1", 9191) in wanted(loaded, USUAL)


@pytest.mark.parametrize(
    ("environ", "config", "looks"),
    [
        ({}, "", False),
        ({}, (TOP / "packaging" / "wad.toml").read_text(), False),
        ({}, "[http]\nport = 9191\n", True),
        ({}, '[http]\naddress = "::1"\n', True),
        ({}, "http = { port = 9191 }\n", True),
        ({"PORT": "9191"}, "", True),
        ({"WAD_HTTP_ADDRESS": "::1"}, "", True),
    ],
)
def test_most_starts_cost_a_few_lines_of_shell(
    tmp_path: Path, environ: dict[str, str], config: str, looks: bool
) -> None:
    """Python runs only if a port or an address may be set; here its absence shows whether it ran."""
    script = (TOP / "packaging" / "debian" / "http-socket").read_text()
    (tmp_path / "http-socket").write_text(script.replace("/usr/lib/wad/", "/nonexistent/"))
    (tmp_path / "wad.toml").write_text(config)
    words = {"PATH": "/bin:/usr/bin", "WAD_CONFIG": str(tmp_path / "wad.toml"), **environ}
    done = subprocess.run(
        ["sh", tmp_path / "http-socket"], env=words, capture_output=True, check=False
    )
    assert done.returncode == (127 if looks else 0), done


def test_the_unit_is_made_once_and_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd is notified of each change, and of nothing else."""
    calls = tmp_path / "calls"
    command = tmp_path / "bin" / "systemctl"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\necho "$*" >>{calls}\n'
        'case "$*" in\n*property=Load*) echo LoadState=loaded ;;\n'
        '*property=Listen*) echo "Listen=127.0.0.1:8080 (Stream)" ;;\nesac\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/bin:/usr/bin")
    monkeypatch.setattr(http_port, "_UNIT_DIR", tmp_path)
    for name in [name for name in os.environ if name.startswith("WAD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WAD_CONFIG", str(tmp_path / "wad.toml"))
    (tmp_path / "wad.toml").touch(mode=0o600)
    unit = tmp_path / http_port.UNIT

    def changes() -> list[str]:
        http_port.main()
        made = calls.read_text().splitlines()
        calls.unlink()
        return [line for line in made if not line.startswith("show")]

    assert changes() == []
    monkeypatch.setenv("PORT", "9191")
    assert changes() == [
        "daemon-reload",
        "try-restart --no-block wad-http.service",
        f"start --no-block {http_port.UNIT}",
    ]
    assert unit.read_text() == text([Address("127.0.0.1", 9191)])
    assert "ListenStream=127.0.0.1:9191\n" in unit.read_text()
    assert changes() == []
    monkeypatch.delenv("PORT")
    assert changes() == [
        f"stop {http_port.UNIT}",
        "daemon-reload",
        "try-restart --no-block wad-http.service",
    ]
    assert not unit.exists()
