"""Traps of the library while a QR code is shown (docs/internals/library.md#pairing).

Its connect() never returns when the codes run out or the network drops, and its stop does not help.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.real_world import Line, RealWorld, a_real_world
from tests.support.waiting import until
from tests.whatsapp.account import Failure
from wad.core.connection import Pair, State

pytestmark = pytest.mark.timeout(120)


async def a_code(world: RealWorld) -> Line:
    """An account that shows its first code."""
    line = await world.line(paired=False)
    await line.wad.pair()
    await line.code()
    return line


async def another_code(line: Line, pid: int, code: str) -> None:
    """Wait for a code of another worker; the previous one has ended."""
    await until(
        lambda: line.wad.worker is not None and line.pid != pid and line.wad.status.qr, "a new code"
    )
    assert not Path(f"/proc/{pid}/cmdline").exists()
    assert line.wad.status.qr != code


async def scanned(line: Line) -> None:
    """The phone scans the current code, and it connects."""
    await line.whatsapp.phone.scan(line.wad.status.qr)
    await line.until(State.CONNECTED)


async def test_a_code_to_type(tmp_path: Path) -> None:
    """The phone refuses another code and links with the one that is shown; the account connects."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line(paired=False)
        await line.wad.pair(line.whatsapp.pn.user)
        await until(lambda: line.wad.status.pairing_code, "a code")
        with pytest.raises(ValueError, match="another code"):
            await line.whatsapp.phone.enter_code("AAAA-AAAA")
        await line.whatsapp.phone.enter_code(line.wad.status.pairing_code)
        await line.until(State.CONNECTED)
        assert line.wad.status.pairing_code == ""


async def test_a_new_connection_shows_another_code_to_type(tmp_path: Path) -> None:
    """The code of a connection that was lost links nothing; that of the next one does."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line(paired=False)
        await line.wad.pair(line.whatsapp.pn.user)
        await until(lambda: line.wad.status.pairing_code, "a code")
        before = line.wad.status.pairing_code
        await world.server.drop_unlinked()
        await until(lambda: line.wad.status.pairing_code not in ("", before), "another code")
        await line.whatsapp.phone.enter_code(line.wad.status.pairing_code)
        await line.until(State.CONNECTED)


async def test_a_number_that_the_library_refuses(tmp_path: Path) -> None:
    """The library's reason is shown, and the QR code still links the device."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line(paired=False)
        await line.wad.pair("123")
        await until(lambda: "too short" in line.wad.status.reason, "the refusal")
        await scanned(line)


async def test_used_up_codes_are_followed_by_new_ones(tmp_path: Path) -> None:
    """WhatsApp sends no more codes: a new worker requests others, at once, and one of them connects."""
    async with a_real_world(tmp_path) as world, world.lead():
        world.server.codes = 0
        line = await world.line(paired=False)
        await line.wad.pair()
        await until(lambda: line.wad.restarts >= 2, "two more workers")
        assert line.wad.status.state is State.AWAITING_SCAN
        assert line.wad.status.attempts == 0
        world.server.codes = 6
        await line.code()
        await scanned(line)


async def test_the_network_drops_while_a_code_is_shown(tmp_path: Path) -> None:
    """The library would wait for a scan that is impossible: a new worker shows a new code."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await a_code(world)
        for _ in range(2):
            pid, code = line.pid, line.wad.status.qr
            await world.server.drop_unlinked()
            await another_code(line, pid, code)
        await scanned(line)


async def test_the_network_is_down_during_pairing(tmp_path: Path) -> None:
    """The old code is not shown any more; the reason is, until there is a new code."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await a_code(world)
        world.server.refusing = True
        await world.server.drop_unlinked()
        await until(lambda: "cannot reach" in line.wad.status.reason, "the reason")
        assert (line.wad.status.state, line.wad.status.qr) == (State.AWAITING_SCAN, "")
        world.server.refusing = False
        await line.code()
        await scanned(line)


@pytest.mark.parametrize("how", ["stop", "lease", "window"])
async def test_it_can_be_stopped_while_a_code_is_shown(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By the operator, the loss of the lease, or the end of the pairing window: no process is left, none was killed."""
    async with a_real_world(tmp_path) as world:
        async with world.lead():
            line = await a_code(world)
            pid = line.pid
            if how == "stop":
                await line.wad.stop()
            elif how == "window":
                line.wad.handle(Pair(line.wad.clock.monotonic(), paired=False))
                await until(lambda: line.wad.worker is None, "the worker's end")
                assert line.wad.status.reason == "the code was not scanned in time"
        assert not Path(f"/proc/{pid}/cmdline").exists()
        assert line.wad.status.qr == ""
    assert "killed" not in caplog.text


async def test_a_code_that_is_scanned_before_the_network_drops(tmp_path: Path) -> None:
    """The session is stored: it logs in without a new scan."""
    async with a_real_world(tmp_path, stop_timeout=0.3) as world, world.lead():
        line = await a_code(world)
        world.server.stalling = True  # the connection of the login
        await line.whatsapp.phone.scan(line.wad.status.qr)
        await world.server.wait_stalled()
        await until(lambda: line.wad.status.paired, "the pairing")
        await line.restart()
        world.server.stalling = False
        await line.until(State.CONNECTED)
        assert line.wad.status.qr == ""


async def test_a_version_that_is_refused_while_pairing(tmp_path: Path) -> None:
    """Outdated, as it would be reported later."""
    async with a_real_world(tmp_path) as world, world.lead():
        world.server.pairing_failure = Failure(405)
        line = await world.line(paired=False)
        await line.wad.pair()
        await line.until(State.OUTDATED)
        assert "2.3000." in line.wad.status.reason
        await until(lambda: line.wad.worker is None, "the worker's end")


@pytest.mark.parametrize("reason", [400, 503])
async def test_a_login_that_is_refused_while_pairing(tmp_path: Path, reason: int) -> None:
    """It keeps trying during the pairing window, and then shows a code."""
    async with a_real_world(tmp_path) as world, world.lead():
        world.server.pairing_failure = Failure(reason)
        line = await world.line(paired=False)
        await line.wad.pair()
        await until(lambda: line.wad.restarts >= 2, "two more workers")
        assert line.wad.status.state is State.AWAITING_SCAN
        world.server.pairing_failure = None
        await line.code()
        await scanned(line)
