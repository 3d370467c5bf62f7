"""IP networks in settings: parsing, and membership of an address."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def networks(text: str) -> tuple[Network, ...]:
    """Parse networks that are separated by commas or blanks.  Raises ValueError."""
    return tuple(map(ip_network, filter(None, re.split(r"[\s,]+", text))))


def is_inside(address: str, inside: tuple[Network, ...]) -> bool:
    """Whether an address is in one of the networks; an IPv4-mapped IPv6 address counts as its IPv4 address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in inside)
