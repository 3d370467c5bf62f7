"""Renders replies as text, from the types that their operations declare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from wad.api.operation import find
from wad.api.views.daemon import EventView
from wad.api.views.lease import HolderView, LeaseStatus
from wad.api.views.quarantine import ItemView, Retried, Shown
from wadctl import message_tables, status_tables
from wadctl.replies import decoded, reply_type
from wadctl.screen import Screen, local, plain, short_id
from wadctl.shapes import by_shape, value_text

Renderer = Callable[[Screen, Any], str]


def render(name: str, screen: Screen, reply: object) -> str:
    """The reply of the operation `name` as text.  Raises WadError if it has another form than the declared one."""
    return RENDERERS.get(name, by_shape)(screen, decoded(reply_type(find(name)), reply))


def _event(screen: Screen, event: EventView) -> str:
    account = f" {event.account}" if event.account else ""
    kind = screen.paint(f"{event.kind:8}", "dim")
    ident = str(event.detail.get("id", ""))
    which = f" ({short_id(screen, ident, [])})" if ident else ""
    return f"{local(event.at_ms)}  {kind}{account} {plain(event.text)}{plain(which)}"


# --- the lease ------------------------------------------------------------------------------------


def _lease(screen: Screen, lease: LeaseStatus) -> str:
    valid = lease.valid_for_s
    pairs = [
        ("instance", lease.instance),
        ("mode", lease.mode),
        ("reason", plain(lease.reason)),
        ("valid for", "-" if valid is None else f"{valid:g} s without another renewal"),
        ("holder", lease.holder or "-"),
        ("epoch", value_text(lease.epoch)),
        ("acquired", local(lease.acquired_ms) or "-"),
        ("acquired because", plain(lease.acquire_reason or "-")),
        ("previous holder", lease.previous_holder or "-"),
        (
            "timing",
            f"ttl {lease.ttl_s:g} s, renewed every {lease.renew_every_s:g} s, margin {lease.margin_s:g} s",
        ),
        ("stored in", lease.location),
    ]
    return screen.fields(pairs)


def _holders(screen: Screen, holders: list[HolderView]) -> str:
    if not holders:
        return "no instance has held the lease yet"
    heads = ["EPOCH", "HOLDER", "ACQUIRED", "REASON", "ENDED", "END"]
    return screen.table(
        heads,
        [
            [
                str(holder.epoch),
                holder.holder,
                local(holder.began_ms),
                holder.reason or "-",
                local(holder.ended_ms) or "-",
                holder.end_reason or "-",
            ]
            for holder in holders
        ],
        drop=("ENDED", "REASON", "END", "ACQUIRED"),
    )


# --- the quarantine -------------------------------------------------------------------------------


def _quarantined(screen: Screen, items: list[ItemView]) -> str:
    if not items:
        return "the quarantine is empty"
    heads = ["ITEM", "SINCE", "KIND", "ACCOUNT", "NAME", "REASON"]
    return screen.table(
        heads,
        [
            [
                item.id,
                local(item.since_ms) or "-",
                item.kind,
                item.account or "-",
                item.name,
                item.reason,
            ]
            for item in items
        ],
        drop=("SINCE", "NAME", "ACCOUNT"),
    )


def _quarantined_item(screen: Screen, reply: Shown) -> str:
    item = reply.item
    pairs = [
        ("item", item.id),
        ("kind", item.kind),
        ("account", item.account or "-"),
        ("name", plain(item.name)),
        ("since", local(item.since_ms) or "-"),
        ("bytes", str(item.size or "-")),
        ("reason", plain(item.reason)),
    ]
    return "\n".join([screen.fields(pairs), *map(plain, reply.detail.splitlines())])


def _retried(screen: Screen, reply: Retried) -> str:
    return f"{reply.item.id} ({plain(reply.item.name)}): {plain(reply.result)}"


def _dropped(screen: Screen, item: ItemView) -> str:
    return f"{item.id} ({plain(item.name)}) was dropped"


RENDERERS: Final[dict[str, Renderer]] = {
    "status": status_tables.status,
    "events": _event,
    "accounts.import_baileys": status_tables.imported,
    "lease.show": _lease,
    "lease.history": _holders,
    "lease.release": _lease,
    "lease.take": _lease,
    "accounts.list": status_tables.accounts,
    "accounts.show": status_tables.account,
    "accounts.add": status_tables.account_line,
    "accounts.rename": status_tables.renamed,
    "accounts.start": status_tables.account_line,
    "accounts.stop": status_tables.account_line,
    "accounts.restart": status_tables.account_line,
    "accounts.logout": status_tables.account_line,
    "accounts.remove": status_tables.removed,
    "accounts.restore": status_tables.account_line,
    "sessions.import": status_tables.account_line,
    "threads.list": message_tables.threads,
    "messages.list": message_tables.messages,
    "messages.show": message_tables.message,
    "messages.send": message_tables.sent,
    "quarantine.list": _quarantined,
    "quarantine.show": _quarantined_item,
    "quarantine.retry": _retried,
    "quarantine.drop": _dropped,
    "outbox.list": message_tables.entries,
    "outbox.show": message_tables.entry,
    "outbox.retry": message_tables.entry_line,
    "outbox.cancel": message_tables.entry_line,
}
"""The renderer of each operation.  A reply without one is rendered by its shape."""
