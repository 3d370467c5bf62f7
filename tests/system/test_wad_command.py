"""The command `wad`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from wad import __version__
from wad.__main__ import cli
from wad.config import SETTINGS, LoadedConfig
from wad.core.errors import AnotherDaemon
from wad.lib.signals import Signals
from wad.systemd.failed_start import Supervisor


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No variable of the machine counts; $WAD_CONFIG names an empty file."""
    known = {"CREDENTIALS_DIRECTORY", *(name for row in SETTINGS.values() for name in row.env)}
    for name in [name for name in os.environ if name in known or name.startswith("WAD_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "wad.toml"
    file.touch(mode=0o600)
    monkeypatch.setenv("WAD_CONFIG", str(file))
    monkeypatch.setattr(
        "wad.__main__.Signals", lambda: None
    )  # this process has handlers of its own
    return file


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[LoadedConfig]:
    """A daemon that only notes with what it was started, and ends with 42."""
    started: list[LoadedConfig] = []

    def run(loaded: LoadedConfig, _: Supervisor, signals: Signals, child: object) -> int:
        started.append(loaded)
        return 42

    daemon = ModuleType("wad.daemon")
    daemon.__dict__["run"] = run
    monkeypatch.setitem(sys.modules, "wad.daemon", daemon)
    monkeypatch.setattr(
        "wad.__main__.child_options", lambda config, start: None
    )  # nor an HTTP process
    return started


def wad(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


# --- run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("run",)])
def test_daemon_runs_with_and_without_the_command(
    started: list[LoadedConfig], arguments: tuple[str, ...]
) -> None:
    """`wad` is `wad run`, and its exit code is the daemon's."""
    assert wad(*arguments).exit_code == 42
    assert len(started) == 1


def test_options_override_the_configuration(started: list[LoadedConfig], tmp_path: Path) -> None:
    """Each option sets its setting, and the origin names the option."""
    options = ("--engine", "simulator", "--http-port", "0", "--socket", "/s")
    wad(*options, "--state-dir", tmp_path)
    origins = started[0].origins
    given = {key: str(each.value) for key, each in origins.items() if each.source == "command line"}
    assert given == {
        "engine.kind": "simulator",
        "http.port": "0",
        "control.socket": "/s",
        "state.dir": str(tmp_path),
    }


def test_config_option_names_the_file(started: list[LoadedConfig], tmp_path: Path) -> None:
    """--config overrides $WAD_CONFIG."""
    file = tmp_path / "other.toml"
    file.touch()
    wad("--config", file)
    assert started[0].read == file


def test_relative_path_is_meant_from_here(started: list[LoadedConfig]) -> None:
    """The daemon gets absolute paths alone."""
    wad("--state-dir", "here")
    assert started[0].config.state.dir == Path.cwd() / "here"


def test_bad_configuration_keeps_the_daemon_from_starting(started: list[LoadedConfig]) -> None:
    """The mistake is one line, with a hint, and the exit code is 6."""
    result = wad("--engine", "magic")
    assert (result.exit_code, started) == (6, [])
    assert result.stderr == (
        "wad: command line: engine.kind must be one of neonize, simulator, not 'magic'\n"
        "hint: `wad config check` lists every problem\n"
    )


def test_error_of_the_daemon_becomes_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A WadError is a sentence, not a traceback."""

    def run(loaded: LoadedConfig, _: Supervisor, signals: Signals, child: object) -> int:
        raise AnotherDaemon("process 7 already serves /var/lib/wad")

    daemon = ModuleType("wad.daemon")
    daemon.__dict__["run"] = run
    monkeypatch.setitem(sys.modules, "wad.daemon", daemon)
    result = wad("run")
    assert result.exit_code == 5
    assert result.stderr == "wad: process 7 already serves /var/lib/wad\n"


def test_unknown_option_is_a_usage_error(started: list[LoadedConfig]) -> None:
    """Exit 2, and nothing starts."""
    assert wad("--nonsense").exit_code == 2
    assert started == []


# --- config check -----------------------------------------------------------------------------


def test_check_reports_a_good_configuration() -> None:
    """Nothing to complain about: exit 0."""
    result = wad("config", "check")
    assert (result.exit_code, result.output) == (0, "the configuration is valid\n")


def test_check_reports_each_problem_on_a_line(own_environment: Path) -> None:
    """Every problem at once, exit 6."""
    own_environment.write_text("[http]\nport = 'x'\nfoo = 1\n")
    result = wad("config", "check")
    assert result.exit_code == 6
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == [
        f"{own_environment}:2",
        f"{own_environment}:3",
    ]


def test_check_warns_of_a_readable_secret(own_environment: Path) -> None:
    """A warning is not an error: exit 0."""
    own_environment.write_text("[http]\nadmin_token = 's3cret-of-20-characters'\n")
    own_environment.chmod(0o644)
    result = wad("config", "check")
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: {own_environment}: every user can read the file")
    assert result.stdout == "the configuration is valid, with 1 warning\n"
    assert "s3cret" not in result.output


def test_check_of_a_running_installation_warns_of_a_short_token(
    own_environment: Path, tmp_path: Path
) -> None:
    """It is reported, whatever the source of the token."""
    (tmp_path / "wad.db").touch()
    own_environment.write_text(f"[state]\ndir = '{tmp_path}'\n[http]\nadmin_token = 'short'\n")
    result = wad("config", "check")
    assert (result.exit_code, "fine" in result.stdout) == (0, False)
    assert "http.admin_token has fewer than 20 characters" in result.stderr


def weak(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation with a token that can be guessed."""
    monkeypatch.setenv("WAD_STATE_DIR", str(directory))
    monkeypatch.setenv("ADMIN_TOKEN", "s3cret")


def test_a_new_installation_needs_a_good_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not start, leaves no file that would make it an old one, and the error has the remedy."""
    state = tmp_path / "state"
    weak(state, monkeypatch)
    for command in (("config", "check"), ("run",), ("run",)):
        result = wad(*command)
        assert result.exit_code == 6, command
        assert "http.admin_token has fewer than 20 characters" in result.stderr
        assert "wadctl token create" in result.stderr
        assert "s3cret" not in result.output
    assert not state.exists()


@pytest.mark.parametrize("there", ["wad.db", "sessions/shop/account.json"])
def test_an_installation_that_runs_already_is_warned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    """It continues: an upgrade ends no service."""
    weak(tmp_path, monkeypatch)
    file = tmp_path / there
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    result = wad("config", "check")
    assert result.exit_code == 0
    assert "warning: environment ADMIN_TOKEN: http.admin_token has fewer than 20" in result.stderr
    assert wad("config", "check", "--new").exit_code == 6


# --- config show ------------------------------------------------------------------------------


def test_show_has_every_value_and_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line per setting: key, value, source."""
    monkeypatch.setenv("PORT", "9")
    rows = [line.split(maxsplit=2) for line in wad("config", "show").stdout.splitlines()]
    assert ["http.port", "9", "environment PORT"] in rows
    assert len(rows) == len(SETTINGS)


def test_show_as_json_keeps_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program reads the same."""
    monkeypatch.setenv("PORT", "9")
    document = json.loads(wad("config", "show", "--json").stdout)
    assert document["http.port"] == {"value": 9, "source": "environment PORT"}
    assert document["lease.ttl"]["value"] == 15
    assert document["state.dir"]["value"] == "/var/lib/wad"


@pytest.mark.parametrize("arguments", [("show",), ("show", "--json")])
def test_show_hides_secrets(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    """Of a secret one learns only that it is set."""
    monkeypatch.setenv("ADMIN_TOKEN", "s3cret")
    output = wad("config", *arguments).output
    assert "(set)" in output
    assert "(not set)" in output
    assert "s3cret" not in output


@pytest.mark.parametrize(
    ("systemd", "started_by_it", "noted"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_show_says_whose_settings_these_are(
    monkeypatch: pytest.MonkeyPatch, systemd: bool, started_by_it: bool, noted: bool
) -> None:
    """A shell has neither the environment nor the credentials of the service; stdout has the settings only."""
    monkeypatch.setattr("wad.__main__.booted", lambda: systemd)
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    if started_by_it:
        monkeypatch.setenv("INVOCATION_ID", "1")
    shown = wad("config", "show")
    assert ("`wadctl config` shows its settings" in shown.stderr) is noted
    assert "wadctl" not in shown.stdout


def test_show_of_a_bad_configuration_exits_with_6(own_environment: Path) -> None:
    """There is nothing to show then."""
    own_environment.write_text("x = 1")
    assert wad("config", "show").exit_code == 6


# --- the process ------------------------------------------------------------------------------


def test_version_is_printed() -> None:
    """`wad --version` is one line."""
    result = wad("--version")
    assert (result.exit_code, result.output) == (0, f"wad {__version__}\n")


def test_module_can_be_run() -> None:
    """`python -m wad` is the same command."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "wad", "config", "check"],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert (process.returncode, process.stdout) == (0, "the configuration is valid\n")


def test_looking_at_the_configuration_imports_nothing_heavy() -> None:
    """Neither the daemon nor asyncio is loaded for it; start time depends on it."""
    script = (
        "import sys, wad.__main__; print({'wad.daemon', 'asyncio', 'neonize'} & {*sys.modules})"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.stdout == "set()\n"
