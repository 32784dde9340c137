"""Where a connection comes from: its own address, or what a proxy that we trust says. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# A household has a network of this size to itself (RFC 6177): its addresses are as many as it likes.
_IPV6_PREFIX: Final = 64
UNKNOWN: Final = "unknown"


def parse_address(text: str) -> Address | None:
    """Read an address, of an IPv4 client of an IPv6 socket the inner one; None for what is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return inner or address


def trusted(address: Address | None, networks: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def key_of(address: Address | None) -> str:
    """Return under which name an address is counted: itself, or the network of an IPv6 client."""
    if address is None:
        return UNKNOWN
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)


def client_of(peer: str | None, forwarded: str | None, networks: Sequence[Network]) -> str:
    """Return the name of who is at the other end: of what proxies wrote, the last that no trusted one wrote of itself.

    `forwarded` is X-Forwarded-For, every proxy adding to its end whom it heard: what is left of an entry by somebody
    who is not trusted may be made up.
    """
    client = parse_address(peer or "")
    if forwarded is None or not trusted(client, networks):
        return key_of(client)
    for part in reversed(forwarded.split(",")):
        heard = parse_address(part)
        if heard is None:
            break
        client = heard
        if not trusted(heard, networks):
            break
    return key_of(client)
