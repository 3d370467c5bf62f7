"""Answers to a device's <iq>: one function for each kind of query.

See docs/internals/whatsapp-protocol.md#queries.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from tests.whatsapp import media
from tests.whatsapp.wire import SERVER, Jid, Node, node

if TYPE_CHECKING:
    from tests.whatsapp.device import Device
    from tests.whatsapp.server import WhatsApp


class NumberAnswer(StrEnum):
    """How the server names a person whose number is asked for."""

    BOTH = "both"  # since 2026-07
    LID = "lid"
    PN = "pn"  # before


# With "5 or more" a new device makes 50 one-time keys, with none 812
# (docs/internals/whatsapp-protocol.md#one-time-keys).
_ENOUGH_KEYS = 5


def answer(server: WhatsApp, device: Device, iq: Node) -> Node:
    """The answer to a query; an empty result for an unknown one (5.2)."""
    query = iq.children[0] if iq.children else node("none")
    known = _ANSWERS.get((iq.get("xmlns"), query.tag)) or _ANSWERS.get((iq.get("xmlns"), ""))
    content = known(server, device, iq) if known is not None else []
    kind = "error" if content and content[0].tag == "error" else "result"
    asked = iq.attrs.get("to", SERVER)
    return node("iq", *content, type_=kind, id=iq.get("id"), from_=asked)


def _count_keys(server: WhatsApp, device: Device, iq: Node) -> list[Node]:
    return [node("count", value=max(_ENOUGH_KEYS, len(device.keys.one_time)))]


def _fetch_keys(server: WhatsApp, device: Device, iq: Node) -> list[Node]:
    return [node("list", *(_bundle(server, u.jid("jid")) for u in iq.children[0].children))]


def _bundle(server: WhatsApp, jid: Jid) -> Node:
    person = server.person(jid)
    if person is not None and jid.device == 0:
        return person.keys.bundle_node(jid)
    linked = server.device(jid)
    if linked is not None:
        return linked.keys.bundle_node(jid)
    return node("user", node("error", code=404, text="item-not-found"), jid=jid)


def _upload_keys(server: WhatsApp, device: Device, iq: Node) -> list[Node]:
    keys = iq.child("list")
    if keys is not None:
        device.keys.upload(keys.children)
    return []


def _remove_device(server: WhatsApp, device: Device, iq: Node) -> list[Node]:
    device.account.unlink(device.number)
    return []


def _media_hosts(server: WhatsApp, device: Device, iq: Node) -> list[Node]:
    host = node("host", hostname=media.HOST)
    return [node("media_conn", host, auth="test", ttl=3600, auth_ttl=3600, max_buckets=12)]


def _app_state(server: WhatsApp, device: Device, iq: Node) -> list[Node]:
    asked = iq.child("sync")
    state = device.account.phone.app_state
    return [node("sync", *(state.answer(c) for c in (asked.children if asked else ())))]


def _usync(server: WhatsApp, device: Device, iq: Node) -> list[Node]:
    query = iq.children[0]
    wanted, users = query.child("query"), query.child("list")
    if wanted is None or users is None:
        raise ValueError(f"a usync query without query or list: {iq}")
    wants = {child.tag for child in wanted.children}
    found = node("list", *(_usync_user(server, user, wants) for user in users.children))
    attrs: dict[str, str | Jid]
    attrs = {name: query.attrs[name] for name in ("sid", "mode", "context") if name in query.attrs}
    return [Node("usync", attrs, [found])]


def _usync_user(server: WhatsApp, user: Node, wants: set[str]) -> Node:
    """The data of one user.  A person that is not on this server has no LID and no devices."""
    if "jid" not in user.attrs:
        return _number(server, user.content("contact"))
    jid = user.jid("jid")
    person, account = server.person(jid), server.account(jid)
    answers = []
    if "devices" in wants and person is not None:
        linked = () if account is None else [_linked(number) for number in account.devices]
        answers.append(node("devices", node("device-list", node("device", id=0), *linked)))
    if "lid" in wants and person is not None:
        answers.append(node("lid", val=person.lid))
    return node("user", *answers, jid=jid)


def _linked(number: int) -> Node:
    """An entry of a device list; Baileys writes only to linked devices that have a key index."""
    return Node("device", {"id": str(number), "key-index": str(number)})


def _number(server: WhatsApp, asked: bytes) -> Node:
    """Whether a number is on WhatsApp; the answer repeats it, and names the person by their own addresses.

    See docs/internals/whatsapp-protocol.md#numbers.
    """
    jid = Jid(asked.decode().lstrip("+").partition("@")[0])
    server.asked_numbers.append(jid.user)
    server.news.notify()
    person = server.person(jid)
    if person is None:
        return node("user", node("contact", asked, type_="out"), jid=jid)
    found = node("contact", asked, type_="in")
    match server.number_answer:
        case NumberAnswer.PN:
            return node("user", found, jid=person.pn)
        case NumberAnswer.LID:
            return node("user", found, jid=person.lid)
        case NumberAnswer.BOTH:
            return node("user", found, jid=person.lid, pn_jid=person.pn)


def is_number_check(iq: Node) -> bool:
    """Whether a query asks if numbers are on WhatsApp."""
    usync = iq.child("usync")
    users = usync.child("list") if usync is not None else None
    return users is not None and any(user.child("contact") for user in users.children)


def _privacy(server: WhatsApp, device: Device, iq: Node) -> list[Node]:
    """All privacy settings are open."""
    names = ("groupadd", "last", "status", "profile", "readreceipts", "online", "calladd")
    return [node("privacy", *(node("category", name=name, value="all") for name in names))]


def _group(server: WhatsApp, device: Device, iq: Node) -> list[Node]:
    group = server.groups.get(iq.jid("to"))
    if group is None or device.account.phone not in group.members:
        return [node("error", code=404, text="item-not-found")]
    return [group.info()]


def _groups(server: WhatsApp, device: Device, iq: Node) -> list[Node]:
    phone = device.account.phone
    mine = [group.info() for group in server.groups.values() if phone in group.members]
    return [node("groups", *mine)]


# By namespace and first child ("": any).
_ANSWERS: dict[tuple[str, str], Callable[[WhatsApp, Device, Node], list[Node]]] = {
    ("encrypt", "count"): _count_keys,
    ("encrypt", "key"): _fetch_keys,
    ("encrypt", ""): _upload_keys,
    ("md", "remove-companion-device"): _remove_device,
    ("usync", ""): _usync,
    ("privacy", "privacy"): _privacy,
    ("w:g2", "query"): _group,
    ("w:g2", "participating"): _groups,
    ("w:m", ""): _media_hosts,
    ("w:sync:app:state", ""): _app_state,
}
