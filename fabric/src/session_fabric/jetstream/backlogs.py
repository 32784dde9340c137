"""How far the durable subscriptions of a stream have come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from session_fabric.jetstream.api import Api
from session_fabric.ports import Backlog
from session_fabric.words.subjects import Place

_PREFIX: Final = "sf="


async def backlogs(api: Api, stream: str, place: Place) -> list[Backlog]:
    """Return how far those have come that a session's events pass through, by name."""
    found: list[Backlog] = []
    seen = 0
    while True:
        page = await api.call(f"CONSUMER.LIST.{stream}", {"offset": seen})
        consumers = page.get("consumers") or []
        seen += len(consumers)
        found += [one for info in consumers if (one := _backlog(info)) is not None and one.passes(place)]
        if not consumers or seen >= page.get("total", 0):
            return sorted(found)


def _backlog(info: Mapping[str, Any]) -> Backlog | None:
    """Read a consumer's info; None for what is no durable subscription of ours."""
    config = info["config"]
    about = config.get("metadata") or {}
    parts = str(info["name"]).split("=")
    if about.get("session-fabric") != "durable" or len(parts) != 4:
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
