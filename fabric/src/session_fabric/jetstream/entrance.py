"""Whether there is a JetStream behind a connection, for this account: else every call would wait for one in vain."""

from __future__ import annotations

from typing import Final

import orjson

from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.requests import Lost, Nobody, NotLet, Requests
from session_fabric.words.errors import BrokerIncompatible

_ANSWER_S: Final = 1.0
# err_codes of nats-server (server/errors.json).
_NOT_FOR_ACCOUNT: Final = 10039
_NOT_AT_ALL: Final = 10076


async def check_jetstream(requests: Requests, connection: Connection, url: str) -> None:
    """Raise `BrokerIncompatible` where there is none. What is only late, or without a leader, is let pass."""
    number = 0
    try:
        reply = await requests.one("$JS.API.INFO", b"", timeout_s=_ANSWER_S)
        number = int((orjson.loads(reply.payload).get("error") or {}).get("err_code", 0))
    except Nobody:
        # A server says of itself whether it has JetStream; in a cluster another one may have it, and soon answer.
        if connection.server_has_jetstream or connection.in_cluster:
            return
        number = _NOT_AT_ALL
    except (Lost, NotLet):
        return
    if number == _NOT_AT_ALL:
        raise BrokerIncompatible(
            f"The broker at {url} runs without JetStream.",
            hint="Start it with `nats-server -js`, or with `jetstream {}` in its configuration.",
        )
    if number == _NOT_FOR_ACCOUNT:
        raise BrokerIncompatible(
            f"JetStream is off for this account at the broker at {url}.",
            hint="Put `jetstream: enabled` into the account's configuration (nats-server -c), and reload it.",
        )
