"""Publish with acknowledgement: retried under the same id until a deadline, guarded where asked."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from session_fabric.jetstream.api import WRONG_LAST_SEQUENCE, ApiError, Backoff
from session_fabric.jetstream.requests import Lost, Requests
from session_fabric.ports import Ack
from session_fabric.words.errors import BrokerUnavailable, Conflict, FabricError

_NEWEST = re.compile(r"wrong last sequence: (\d+)")


async def publish(
    requests: Requests, subject: str, payload: bytes, headers: Mapping[str, str], backoff: Backoff
) -> Ack:
    """Store one message, as long as `backoff` lets. Raises `Conflict` (a guard did not hold), `BrokerUnavailable`,
    `BrokerRefused`.

    `Conflict.facts["revision"]` is what the broker named, None where it named nothing; `facts["retried"]`
    says that an earlier try may have been stored.
    """
    tries = 0
    while True:
        tries += 1
        error: FabricError
        room = ""
        try:
            reply = await requests.one(subject, payload, headers=headers, timeout_s=backoff.attempt_s())
            answer = orjson.loads(reply.payload)
            if "error" not in answer:
                return Ack(answer["seq"], bool(answer.get("duplicate")))
            refused = ApiError(answer["error"], subject)
            if refused.number == WRONG_LAST_SEQUENCE:
                newest = _NEWEST.search(refused.description)
                raise Conflict(
                    "Another writer was first.",
                    revision=int(newest.group(1)) if newest else None,
                    retried=tries > 1,
                ) from refused
            if not refused.passing:
                raise refused
            error, room = refused, refused.room
        except Lost as lost:
            error = lost
        if not await backoff.wait():
            raise BrokerUnavailable(
                f"The broker did not confirm the event within {backoff.timeout_s:g} s: {error.message}",
                hint=f"{room} It may or may not be stored: send it again with the same id.".strip(),
            ) from error
