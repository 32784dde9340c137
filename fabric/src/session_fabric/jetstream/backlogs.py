"""How far the durable subscriptions of a stream have come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from session_fabric.jetstream.api import Api
from session_fabric.jetstream.contents import durable_consumers
from session_fabric.ports import Backlog
from session_fabric.words.subjects import Place

_PREFIX: Final = "sf="


async def backlogs(api: Api, stream: str, place: Place) -> list[Backlog]:
    """Return how far those have come that a session's events pass through, by name."""
    found = [_backlog(info) async for info in durable_consumers(api, stream)]
    return sorted(one for one in found if one is not None and one.passes(place))


def _backlog(info: Mapping[str, Any]) -> Backlog | None:
    """Read a consumer's info; None for what is no durable subscription of ours."""
    config = info["config"]
    about = config["metadata"]
    parts = str(info["name"]).split("=")
    if len(parts) != 4:
        return None
    return Backlog(
        name=parts[2],
        stream=str(info["stream_name"]),
        tenant=about.get("tenant") or None,
        session=about.get("session") or None,
        delivered=int(info["delivered"]["stream_seq"]),
        acknowledged=int(info["ack_floor"]["stream_seq"]),
        waiting=int(info["num_pending"]),
        in_hand=int(info["num_ack_pending"]),
        again=int(info["num_redelivered"]),
        asking=int(info["num_waiting"]),
    )
