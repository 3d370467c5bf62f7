"""wadctl lease: who may act, who did, and a person's word in it."""

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
    """Another holds it, or nobody."""
    world.do(lambda d: setattr(d.leader, "valid", None))
    world.do(lambda d: setattr(d.leader, "seen", seen))
    world.do(lambda d: setattr(d.leader, "holder", seen.holder if seen else ""))
    world.do(lambda d: setattr(d.leader, "reason", "host-b holds epoch 8, 9.0 s left"))


def test_show_says_who_acts_why_and_for_how_long(world: Served) -> None:
    """All that is known of the lease."""
    out = run(world, "lease", "show").stdout
    assert re.search(r"^valid for +9.5 s without another renewal$", out, re.MULTILINE)
    assert re.search(r"^acquired because +epoch 6 was released$", out, re.MULTILINE)
    assert re.search(r"^stored in +/var/lib/wad/lease.json$", out, re.MULTILINE)


def test_show_knows_nothing_where_nothing_was_read(world: Served) -> None:
    """Unknown is null."""
    passive(world, None)
    shown = json.loads(run(world, "lease", "show", "--json").stdout)
    assert (shown["mode"], shown["epoch"], shown["acquired_ms"]) == ("passive", None, None)
    assert shown["reason"] == "host-b holds epoch 8, 9.0 s left"


def test_what_another_program_wrote_is_not_taken_for_ours(world: Served) -> None:
    """Its record has no times and no reason of ours."""
    passive(world, Record(holder="host_node", nonce="", epoch=8, ttl=90))
    shown = json.loads(run(world, "lease", "show", "--json").stdout)
    assert (shown["holder"], shown["epoch"], shown["acquire_reason"]) == ("host_node", 8, None)


def test_history_lists_holders(world: Served) -> None:
    """Each with why it began and how it ended."""
    told = [
        Tenure(epoch=8, holder="host-a", nonce="", began_ms=9_000, reason="epoch 7 was released"),
        Tenure(
            epoch=7, holder="host-b", nonce="", began_ms=1, reason="x", ended_ms=2, end="stopped"
        ),
    ]
    world.do(lambda d: d.leader.tenures.extend(told))
    lines = run(world, "lease", "history").stdout.splitlines()
    assert re.match(r"8 +host-a .*epoch 7 was released +- +-$", lines[1])
    assert lines[2].endswith("stopped")
    assert len(json.loads(run(world, "lease", "history", "--limit", "1", "--json").stdout)) == 1


def test_history_of_nobody(world: Served) -> None:
    """It says so."""
    assert run(world, "lease", "history").stdout == "no instance has held the lease yet\n"


def test_release_asks_and_says_for_how_long(world: Served) -> None:
    """Without a terminal there is nobody to ask, and nothing happens."""
    assert "--yes" in run(world, "lease", "release").output
    done = run(world, "lease", "release", "--yes", "--seconds", "5", "--reason", "moving")
    assert done.exit_code == 0, done.output
    assert world.daemon.leader.orders == ["let go for an operator (moving), 5 s"]


def test_taking_what_another_holds_needs_force(world: Served) -> None:
    """The refusal says who holds it, and what force means is said before it is done."""
    passive(world, Record(holder="host-b", nonce="x", epoch=8, ttl=15))
    refused = run(world, "lease", "take", "--yes")
    assert refused.exit_code == 5
    assert "host-b holds the lease" in refused.output
    assert "Use it only if the other machine is dead" in " ".join(
        run(world, "lease", "take", "--help").output.split()
    )
    assert run(world, "lease", "take", "--force", "--yes").exit_code == 0
    assert world.daemon.leader.orders == ["take for an operator by force"]


def test_taking_what_is_free_needs_none(world: Served) -> None:
    """It ends an order to leave it alone."""
    passive(world, Record(holder="", nonce="", epoch=8, ttl=15))
    assert run(world, "lease", "take", "--yes").exit_code == 0
    assert world.daemon.leader.orders == ["take for an operator"]


def test_taking_back_what_is_just_let_go_needs_none(world: Served) -> None:
    """The record bears this instance's own name until it is released."""
    passive(world, Record(holder="host-a", nonce="x", epoch=8, ttl=15))
    assert run(world, "lease", "take", "--yes").exit_code == 0
    assert world.daemon.leader.orders == ["take for an operator"]


async def test_a_real_daemon_lets_go_and_takes_again(tmp_path: Path) -> None:
    """The whole way, and the history of it."""
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
