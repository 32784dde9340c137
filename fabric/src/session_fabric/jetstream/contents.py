"""What a stream holds, by subject; single messages of it, as the leader has them, and how they are made away with."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

from session_fabric.jetstream.api import NOT_FOUND, Api, ApiError
from session_fabric.words.subjects import plain
from session_fabric.words.wire import Record

_NO_MESSAGE: Final = 10037

# What a sequence that is gone answers here, or that another call is removing (server/errors.json,
# JSStreamMsgDeleteFailedF, JSSequenceNotFoundErrF).
_GONE: Final = frozenset({10057, 10043})


async def count_subjects(api: Api, stream: str, wanted_filter: str) -> dict[str, int]:
    """Return the subjects of a stream that match, and how many messages each has."""
    found: dict[str, int] = {}
    while True:
        body = {"subjects_filter": wanted_filter, "offset": len(found)}
        answer = await api.call(f"STREAM.INFO.{stream}", body)
        subjects = answer["state"].get("subjects") or {}
        found |= subjects
        if not subjects or len(found) >= answer.get("total", 0):
            return found


async def consumers(api: Api, stream: str) -> AsyncGenerator[dict[str, Any], None]:
    """Yield what JetStream says of each consumer of a stream."""
    seen = 0
    while True:
        page = await api.call(f"CONSUMER.LIST.{stream}", {"offset": seen})
        found = page.get("consumers") or []
        for info in found:
            yield info
        seen += len(found)
        if not found or seen >= page.get("total", 0):
            return


def has_our_name(name: str) -> bool:
    """Say whether a consumer is called as durable subscriptions are (jetstream/durable.py, consumer_name)."""
    return name.startswith("sf=") and name.count("=") == 3


async def durable_consumers(api: Api, stream: str) -> AsyncGenerator[dict[str, Any], None]:
    """Yield what JetStream says of each consumer that is a durable subscription of ours, or a part of one."""
    async for info in consumers(api, stream):
        ours = (info["config"].get("metadata") or {}).get("session-fabric") == "durable"
        if ours and has_our_name(info["name"]):  # a copy that somebody has made of one has its metadata too
            yield info


async def stored_message(api: Api, stream: str, asked: Mapping[str, Any], segment: int = 0) -> Record | None:
    """Return the message that is asked for (`seq`, `last_by_subj`, …), None where there is none; the leader answers.

    A Direct Get is cheaper, and may come from a replica that is behind.
    """
    try:
        answer = await api.call(f"STREAM.MSG.GET.{stream}", asked)
    except ApiError as error:
        if error.number == _NO_MESSAGE:
            return None
        raise
    return _record(segment, answer["message"])


def _record(segment: int, message: Mapping[str, Any]) -> Record:
    head = base64.b64decode(message["hdrs"]) if "hdrs" in message else b"NATS/1.0\r\n\r\n"
    stamp = f"Nats-Time-Stamp: {message['time']}\r\n\r\n".encode()
    return Record(
        segment,
        message["seq"],
        0,
        plain(message["subject"]),
        head[:-2] + stamp,
        base64.b64decode(message.get("data", "")),
    )


async def erase_message(api: Api, stream: str, sequence: int) -> bool:
    """Remove a message and have its place overwritten; False when it was not there."""
    try:
        answer = await api.call(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": False})
    except ApiError as error:
        if error.number in NOT_FOUND or error.number in _GONE:
            return False
        raise
    return bool(answer.get("success"))
