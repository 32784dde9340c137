"""Tokens that are made here: what goes into their claims, and for how long."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jwt
from session_fabric.jetstream.credentials import Granted
from session_fabric.rules.grants import parse
from session_fabric.rules.revocations import LONGEST_S
from session_fabric.streams.records import MOST_PATH_BYTES, RESERVED, check_path
from session_fabric.words.errors import InvalidName, InvalidRequest
from session_fabric.words.names import check_participant, check_tenant, new_id

from session_fabric_cli.signing import Signing

MOST_CHARACTERS: Final = 16 * 1024
_SPAN: Final = re.compile(r"(\d{1,9})([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def claims_of(
    participant: str,
    tenant: str,
    *,
    sessions: Sequence[str] = (),
    issuer: str | None = None,
    audience: str | None = None,
) -> dict[str, Any]:
    """Return what a token says of whom it is and what it grants; `sessions`: `'chat-*=read,append'` each.

    Raises `InvalidName`, `InvalidRequest`.
    """
    claims: dict[str, Any] = {"sub": check_participant(participant), "tenant": check_tenant(tenant)}
    if sessions:
        claims["sessions"] = _sessions(sessions)
    return claims | {name: value for name, value in (("iss", issuer), ("aud", audience)) if value is not None}


def mint_token(signing: Signing, claims: Mapping[str, Any], for_s: int) -> str:
    """Sign claims from now on, under a new id where they have none. Raises `InvalidRequest`."""
    now = int(time.time())
    made = signing.sign({"jti": new_id("t-"), **claims, "iat": now, "exp": now + for_s})
    if len(made) > MOST_CHARACTERS:
        raise InvalidRequest(
            f"The token has {len(made)} characters; gateways take {MOST_CHARACTERS}.",
            hint="Grant by patterns instead of by many names.",
        )
    return made


def span(text: str, option: str) -> int:
    """Read a length of time, in seconds. Raises `InvalidRequest`."""
    match = _SPAN.fullmatch(text)
    seconds = 0 if match is None else int(match[1]) * _UNITS[match[2]]
    if not 1 <= seconds <= LONGEST_S:
        raise InvalidRequest(f"{option} {text!r:.40} is no time of at most 30 days.", hint="Write 90s, 10m, 1h or 30d.")
    return seconds


def _sessions(given: Sequence[str]) -> dict[str, list[str]]:
    claim: dict[str, list[str]] = {}
    for one in given:
        pattern, equals, operations = one.partition("=")
        if not equals:
            raise InvalidRequest(
                f"--session {one!r:.80} says no operations.", hint="Write --session 'chat-*=read,append'."
            )
        claim.setdefault(pattern, []).extend(operation.strip() for operation in operations.split(","))
    parse(claim)
    for pattern in claim:
        _check_reached(pattern)
    return claim


def _check_reached(pattern: str) -> None:
    """Raise `InvalidRequest` for paths that no durable stream can have: gateways take such a grant, and it is for
    nothing."""
    if not pattern.startswith("/"):
        return
    path = pattern[1:].removeprefix(f"{RESERVED}/")  # a subscription's place is under what no stream has
    # Of the beginning of a path the last part may go on.
    whole = path.removesuffix("*").rpartition("/")[0] if path.endswith("*") else path
    try:
        if whole:
            check_path(whole)
        if len(path.encode()) > MOST_PATH_BYTES + path.endswith("*"):
            raise InvalidName("It is too long for a path.", hint=f"{MOST_PATH_BYTES} bytes is the most.")
    except InvalidName as error:
        raise InvalidRequest(
            f"--session {pattern!r:.80} grants nothing: no stream has such a path. {error.message}", hint=error.hint
        ) from error


def claims_in(granted: Granted) -> dict[str, Any]:
    """Return what the token of credentials says; whether it counts is for a gateway to say. Raises `InvalidRequest`."""
    try:
        claims: dict[str, Any] = jwt.decode(granted.token, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise InvalidRequest(f"The credentials hold no token: {type(error).__name__}.") from error
    return claims
