"""Networks that a configuration names."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def networks(text: str) -> tuple[Network, ...]:
    """Networks with commas or blanks between.  Raises ValueError."""
    return tuple(map(ip_network, filter(None, re.split(r"[\s,]+", text))))


def is_inside(address: str, inside: tuple[Network, ...]) -> bool:
    """Whether an address is in one of them; an IPv4 address that IPv6 wraps counts as what it is."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in inside)
