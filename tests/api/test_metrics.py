"""The metrics: each account and all of them, counters that count, nothing that is not known."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.fake_daemon import FakeDaemon
from wad.api.views import metrics
from wad.core.connection import State
from wad.engine.port import Receipts
from wad.lib.procfs import Usage

BOARD = Path(__file__).parent.parent.parent / "docs" / "grafana.json"


class Worker:
    """A process: this one."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.receipts = Receipts.AFTER_STORE
        self.usage = Usage(30 << 20, 1.0)


@pytest.fixture
def daemon() -> FakeDaemon:
    """Two accounts, one at work."""
    daemon = FakeDaemon()
    shop, home = daemon.accounts.have("shop"), daemon.accounts.have("home")
    shop.become(State.CONNECTED)
    shop.worker, shop.restarts, shop.sent = Worker(), 2, 7
    shop.inbound.recorded, shop.inbound.backlog, shop.inbound.lost = 10, 3, None
    shop.inbound.oldest_ms = daemon.clock.wall - 4000
    home.become(State.RECONNECTING)
    home.inbound.recorded = 5
    return daemon


def samples(daemon: FakeDaemon, *, each: bool = True) -> dict[tuple[str, ...], float]:
    """What a scraper reads: name and labels to value."""
    text = metrics.exposition(metrics.read(daemon), each=each).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_account_and_all_of_them(daemon: FakeDaemon) -> None:
    """A counter of each account, and their sum."""
    found = samples(daemon)
    assert found["wad_account_messages_recorded_total", "shop"] == 10
    assert found["wad_account_messages_recorded_total", "home"] == 5
    assert found[("wad_messages_recorded_total",)] == 15
    assert found["wad_account_worker_restarts_total", "shop"] == 2
    assert found[("wad_messages_sent_total",)] == 7


def test_all_of_them_alone(daemon: FakeDaemon) -> None:
    """Nothing names an account; the sums are the same."""
    found, whole = samples(daemon, each=False), samples(daemon)
    assert found[("wad_messages_recorded_total",)] == 15
    assert {"shop", "home"}.isdisjoint(label for _, *labels in found for label in labels)
    assert set(found) == {key for key in whole if not key[0].startswith("wad_account_")}


def test_the_lag_of_all_is_the_greatest(daemon: FakeDaemon) -> None:
    """A lag is not added up."""
    found = samples(daemon)
    assert found["wad_account_lag_seconds", "shop"] == found[("wad_lag_seconds",)] == 4
    assert found["wad_account_lag_seconds", "home"] == 0
    assert found["wad_account_backlog_rows", "shop"] == 3


def test_states(daemon: FakeDaemon) -> None:
    """One is 1, the others are 0."""
    found = samples(daemon)
    assert found["wad_account_state", "shop", "connected"] == 1
    assert found["wad_account_state", "shop", "reconnecting"] == 0
    assert found["wad_accounts", "reconnecting"] == 1


def test_memory_of_workers(daemon: FakeDaemon) -> None:
    """Of each that runs, and together."""
    found = samples(daemon)
    assert found["wad_account_worker_resident_bytes", "shop"] == 30 << 20
    assert found[("wad_workers_resident_bytes",)] == 30 << 20
    assert ("wad_account_worker_resident_bytes", "home") not in found


def test_a_process_that_is_gone() -> None:
    """No number is better than a wrong one."""
    assert metrics.resident(2**22 + 1) is None


def test_unknown_values_are_left_out(daemon: FakeDaemon) -> None:
    """They are not shown as zero."""
    daemon.leader.valid, daemon.leader.epoch = None, None
    found = samples(daemon)
    assert ("wad_account_messages_lost", "shop") not in found
    assert ("wad_lease_valid_seconds",) not in found
    assert found[("wad_lease_active",)] == 0


def test_receipts_after_store(daemon: FakeDaemon) -> None:
    """One worker that sends receipts early shows in the total."""
    late = samples(daemon)[("wad_receipts_after_store",)]
    early = Worker()
    early.receipts = Receipts.EARLY
    daemon.accounts.find("home").worker = early
    assert (late, samples(daemon)[("wad_receipts_after_store",)]) == (1, 0)


def test_the_board_asks_for_what_there_is(daemon: FakeDaemon) -> None:
    """Every metric that the Grafana board draws exists."""
    board: dict[str, Any] = json.loads(BOARD.read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel.get("targets", [])
        for name in re.findall(r"\bwad_[a-z_]+", target["expr"])
    }
    there = {name for name, *_ in samples(daemon)}
    assert len(asked) > 15
    assert asked <= there


def test_the_board_is_what_an_import_needs() -> None:
    """Grafana asks for the data source; panels have distinct ids and are side by side within 24 columns."""
    board: dict[str, Any] = json.loads(BOARD.read_text())
    assert {"uid", "title", "schemaVersion", "time", "refresh"} <= board.keys()
    assert "id" not in board or board["id"] is None  # Grafana gives it one
    variables = {one["name"]: one["type"] for one in board["templating"]["list"]}
    assert variables["datasource"] == "datasource"
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not taken & cells
        taken |= cells
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            asked = set(re.findall(r"\$\{?(\w+)", target["expr"])) - {"__rate_interval", "__range"}
            assert asked <= variables.keys()
