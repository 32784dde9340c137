"""What a token looks like, before anything in it is believed: its size, its form, its key and algorithm. Pure."""

from __future__ import annotations

import base64
import re
from typing import Any, Final, Literal, NamedTuple, get_args

import orjson
from session_fabric.words.errors import Unauthenticated

MOST_BYTES: Final = 16 * 1024
# Our own claims are three deep; there is room for what issuers add.
_MOST_DEEP: Final = 8
_HEADER_DEEP: Final = 3
_LONGEST_KID: Final = 255
_FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")

Algorithm = Literal["EdDSA", "ES256", "RS256", "HS256"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)

# Why a token is refused: a closed set, in `facts["reason"]`.
Reason = Literal[
    "missing",
    "malformed",
    "algorithm",
    "key",
    "signature",
    "not_yet",
    "issuer",
    "audience",
    "claims",
    "grants",
    "revoked",
]


class Named(NamedTuple):
    """What a token says it was signed with. `kid` None: it does not say which key."""

    algorithm: Algorithm
    kid: str | None


def refused(reason: Reason, message: str, hint: str = "Get a new one.") -> Unauthenticated:
    return Unauthenticated(message, hint=hint, reason=reason)


def check_size(token: str) -> None:
    """Raise `Unauthenticated` for a token that is too long to be looked at."""
    if len(token) > MOST_BYTES:
        raise refused(
            "malformed",
            f"The token has {len(token)} characters; {MOST_BYTES} is the most.",
            "Grant by patterns instead of by many names.",
        )


def peek(token: str) -> Named:
    """Return what a token names, once its form is one that can be read on. Raises `Unauthenticated`.

    Whatever is in it was written by whoever sent it: nothing is verified here.
    """
    match = _FORM.fullmatch(token)
    if match is None:
        raise refused("malformed", "The token is not a JWT: three parts of base64url with points between.")
    if len(match[3]) % 4 == 1:  # six bits more than whole bytes
        raise refused("malformed", "The token's signature is no base64url: some of it is missing.")
    header = _object(match[1], "header", _HEADER_DEEP)
    _object(match[2], "claims", _MOST_DEEP)
    if "crit" in header:
        raise refused("malformed", "The token's header demands extensions (crit) that are not known here.")
    algorithm, kid = header.get("alg"), header.get("kid")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= _LONGEST_KID):
        raise refused("malformed", f"The token's kid is no text of 1-{_LONGEST_KID} characters.")
    for known in ALGORITHMS:
        if algorithm == known:
            return Named(known, kid)
    raise refused(
        "algorithm", f"The token's algorithm is {algorithm!r:.40}.", f"Sign with one of {', '.join(ALGORITHMS)}."
    )


def _object(part: str, what: str, most_deep: int) -> dict[str, Any]:
    try:
        value = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError as error:
        raise refused("malformed", f"The token's {what} cannot be read: no JSON in base64url.") from error
    if not isinstance(value, dict):
        raise refused("malformed", f"The token's {what} is not an object.")
    if _deeper(value, most_deep):
        raise refused("malformed", f"The token's {what} is more than {most_deep} deep.")
    return value


def _deeper(value: object, most: int) -> bool:
    """Say whether arrays and objects lie in one another deeper than this."""
    level: list[object] = [value]
    for _ in range(most):
        below: list[object] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
            elif isinstance(one, list):
                below += one
        level = [one for one in below if isinstance(one, dict | list)]
        if not level:
            return False
    return True
