"""Which pages may use a gateway: those of its own host, and those that are listed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from session_fabric.words.errors import InvalidRequest

EVERYBODY: Final = "*"
_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
_PORTS: Final = {"http": "80", "https": "443"}


def parse_origin(text: str) -> str | None:
    """Return an origin in one form: lower case, without the port that goes without saying. None for what is none.

    `null`, which sandboxed pages and files have, is none: anybody can make a page of that.
    """
    text = text.lower()
    if not _ORIGIN.fullmatch(text):
        return None
    scheme, _, host = text.partition("://")
    return f"{scheme}://{host.removesuffix(f':{_PORTS[scheme]}')}"


def check_listed(origins: Iterable[str]) -> frozenset[str]:
    """Return what an operator lists, in that form. Raises `InvalidRequest`."""
    listed = set()
    for origin in origins:
        parsed = EVERYBODY if origin == EVERYBODY else parse_origin(origin.removesuffix("/"))
        if parsed is None:
            raise InvalidRequest(
                f"--allow-origin {origin!r:.100} is no origin.", hint="Write https://app.example, or * for every page."
            )
        listed.add(parsed)
    return frozenset(listed)


def may_use(origin: str, host: str, listed: frozenset[str], *, secure: bool = False) -> bool:
    """Say whether a page of this origin may use the gateway that its browser calls `host`.

    `secure`: the gateway itself has the certificate. Then a page without one is not its own: anybody in the network
    may have made that. Without, a proxy may have it, and who asks cannot be told from who does not.
    """
    if EVERYBODY in listed:
        return True
    parsed = parse_origin(origin)
    if parsed is None:
        return False
    scheme, _, its_host = parsed.partition("://")
    own = host.lower().removesuffix(f":{_PORTS[scheme]}")
    return (its_host == own and (scheme == "https" or not secure)) or parsed in listed


def host_name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
