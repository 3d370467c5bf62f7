"""wadctl lease: the holder, the history, and an operator's orders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemons import a_daemon
from tests.support.wadctl_world import Served, run, served
from wad.core.lease import Record, Tenure


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Served]:
    """A daemon that holds the lease."""
    with served(tmp_path / "wad.sock") as world:
        yield world


def passive(world: Served, seen: Record | None) -> None:
    """Make another instance the holder, or none."""
    world.do(lambda d: setattr(d.leader, "valid", None))
    world.do(lambda d: setattr(d.leader, "seen", seen))
    world.do(lambda d: setattr(d.leader, "holder", seen.holder if seen else ""))
    world.do(lambda d: setattr(d.leader, "reason", "host-b holds epoch 8, 9.0 s left"))


def test_show_has_the_holder_the_reason_and_the_time_left(world: Served) -> None:
    """All that is known of the lease."""
    out = run(world, "lease", "show").stdout
    assert re.search(r"^valid for +9.5 s without another renewal$", out, re.MULTILINE)
    assert re.search(r"^acquired because +epoch 6 was released$", out, re.MULTILINE)
    assert re.search(r"^stored in +/var/lib/wad/lease.json$", out, re.MULTILINE)


def test_show_has_nulls_before_the_first_read(world: Served) -> None:
    """Unknown is null."""
    passive(world, None)
    shown = json.loads(run(world, "lease", "show", "--json").stdout)
    assert (shown["mode"], shown["epoch"], shown["acquired_ms"]) == ("passive", None, None)
    assert shown["reason"] == "host-b holds epoch 8, 9.0 s left"


def test_the_record_of_another_program_is_not_taken_for_ours(world: Served) -> None:
    """Its record has no times and no reason of ours."""
    passive(world, Record(holder="host_node", nonce="", epoch=8, ttl=90))
    shown = json.loads(run(world, "lease", "show", "--json").stdout)
    assert (shown["holder"], shown["epoch"], shown["acquire_reason"]) == ("host_node", 8, None)


def test_history_lists_holders(world: Served) -> None:
    """Each with the reason for its begin and its end."""
    tenures = [
        Tenure(epoch=8, holder="host-a", nonce="", began_ms=9_000, reason="epoch 7 was released"),
        Tenure(
            epoch=7, holder="host-b", nonce="", began_ms=1, reason="x", ended_ms=2, end="stopped"
        ),
    ]
    world.do(lambda d: d.leader.tenures.extend(tenures))
    lines = run(world, "lease", "history").stdout.splitlines()
    assert re.match(r"8 +host-a .*epoch 7 was released +- +-$", lines[1])
    assert lines[2].endswith("stopped")
    assert len(json.loads(run(world, "lease", "history", "--limit", "1", "--json").stdout)) == 1


def test_an_empty_history(world: Served) -> None:
    """A sentence instead of a table."""
    assert run(world, "lease", "history").stdout == "no instance has held the lease yet\n"


def test_release_needs_confirmation(world: Served) -> None:
    """Without a terminal and without --yes nothing happens."""
    assert "--yes" in run(world, "lease", "release").output
    done = run(world, "lease", "release", "--yes", "--seconds", "5", "--reason", "moving")
    assert done.exit_code == 0, done.output
    assert world.daemon.leader.orders == ["let go for an operator (moving), 5 s"]


def test_the_lease_of_another_holder_needs_force(world: Served) -> None:
    """The refusal names the holder, and the help explains --force."""
    passive(world, Record(holder="host-b", nonce="x", epoch=8, ttl=15))
    refused = run(world, "lease", "take", "--yes")
    assert refused.exit_code == 5
    assert "host-b holds the lease" in refused.output
    assert "Use it only if the other machine is dead" in " ".join(
        run(world, "lease", "take", "--help").output.split()
    )
    assert run(world, "lease", "take", "--force", "--yes").exit_code == 0
    assert world.daemon.leader.orders == ["take for an operator by force"]


def test_a_free_lease_is_taken_without_force(world: Served) -> None:
    """It ends an order to leave it alone."""
    passive(world, Record(holder="", nonce="", epoch=8, ttl=15))
    assert run(world, "lease", "take", "--yes").exit_code == 0
    assert world.daemon.leader.orders == ["take for an operator"]


def test_a_lease_that_is_being_released_is_taken_without_force(world: Served) -> None:
    """The record bears this instance's own name until it is released."""
    passive(world, Record(holder="host-a", nonce="x", epoch=8, ttl=15))
    assert run(world, "lease", "take", "--yes").exit_code == 0
    assert world.daemon.leader.orders == ["take for an operator"]


async def test_a_real_daemon_releases_and_acquires_again(tmp_path: Path) -> None:
    """The whole sequence, and its history."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        await daemon.call("lease.release", seconds=600)
        while (await daemon.call("lease.show"))["holder"] is not None:
            pass
        await daemon.call("lease.take")
        while (await daemon.call("lease.show"))["mode"] != "active":
            pass
        newest, oldest = await daemon.call("lease.history")
        assert (oldest["epoch"], oldest["end_reason"]) == (1, "released by order of an operator")
        assert (newest["epoch"], newest["ended_ms"]) == (2, None)
