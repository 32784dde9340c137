"""Whom the broker lets in by a token of ours, under which name and with which rights, and whether that stands. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Final

from session_fabric.rules.permissions import BUCKETS, check_native, heard_by, is_stamped, permissions
from session_fabric.words.errors import Denied, Forbidden
from session_fabric.words.names import escape, unescape
from session_fabric.words.subjects import Place, heard_of_session

from session_fabric_gateway.auth import Grant
from session_fabric_gateway.natives.user_jwt import Asked, User

# A live view is six subscriptions, a process a handful: a thousand views, and an end to what one can make the server
# remember. The server holds nobody whom it has asked us about to limits of his own (2.14): we look, and cut.
MOST_SUBSCRIPTIONS: Final = 10_000
_WIRES: Final = ("nats", "websocket")
_HOLDER: Final = 20
_NAMED: Final = "sf"


def admit(asked: Asked, grant: Grant, account: str) -> User:
    """Return who somebody with this grant is to the broker. Raises `Forbidden`, whose `facts["reason"]` says why."""
    if asked.kind != "Client" or asked.wire not in _WIRES:
        raise Forbidden("Native agents connect as clients, over NATS or WebSocket.", reason="wire")
    try:
        check_native(grant.participant)
    except Forbidden as error:
        raise Forbidden(error.message, hint=error.hint, reason="role") from error
    if grant.expires_ms is None:
        raise Forbidden("Nobody comes in for ever.", reason="claims")
    # Where a connection ends, the broker tells under which name it was: not another's.
    holder = asked.name.rpartition(" ")[2]
    if len(holder) == _HOLDER and holder.isalnum() and not is_stamped(holder, grant.tenant, grant.participant):
        raise Forbidden("The connection's name is that of another's process.", reason="name")
    sessions = heard_by(grant.grants).sessions
    rights = permissions(grant.tenant, grant.participant, sessions="*" if sessions == "*" else tuple(sessions))
    without = sorted(grant.grants.without) if sessions == "*" else []
    return User(
        name_of(grant),
        account,
        rights.publish_allow,
        rights.subscribe_allow,
        [subject for name in without for subject in heard_of_session(Place(grant.tenant, name), BUCKETS)],
        grant.expires_ms // 1000,
    )


def name_of(grant: Grant) -> str:
    """Return the name under which the server shows a connection: what it takes to see whether its token stands."""
    token_id = "" if grant.token_id is None else escape(grant.token_id)
    who = f"{escape(grant.tenant)}.{escape(grant.participant)}"
    return f"{_NAMED}.{who}.{grant.key or ''}.{grant.issued_ms or 0}.{_mark(grant.grants.without)}.{token_id}"


def stands(name: str, subscriptions: int, left: Callable[[Grant], Grant]) -> bool:
    """Say whether a connection of this name may go on; `left` returns what is left of a grant, or raises `Denied`.

    One for which other sessions count now than when it came in has to come again. One of ours stands.
    """
    parts = name.split(".")
    if len(parts) != 7 or parts[0] != _NAMED:
        return True
    if subscriptions > MOST_SUBSCRIPTIONS:
        return False
    _, tenant, participant, key, issued_ms, without, token_id = parts
    grant = Grant(
        unescape(tenant),
        unescape(participant),
        token_id=unescape(token_id) or None,
        issued_ms=int(issued_ms) if issued_ms.isdigit() else 0,
        key=key or None,
    )
    try:
        return _mark(left(grant).grants.without) == without
    except Denied:
        return False


def _mark(names: Iterable[str]) -> str:
    text = "\n".join(sorted(names))
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""
