"""Durable subscriptions on what moves: they go on at the target from where the copy ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from session_fabric.jetstream.api import Api, ApiError
from session_fabric.jetstream.contents import durable_consumers
from session_fabric.rules.layout import Move
from session_fabric.words.subjects import plain, respelled, shard

_THERE: Final = 10148
_OTHER: Final = 10105


class Durables:
    """The durable subscriptions of a broker's streams."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def of(self, stream: str) -> list[dict[str, Any]]:
        """Return the durable subscriptions on a stream, as JetStream describes them."""
        return [info async for info in durable_consumers(self._api, stream)]

    async def follow(self, move: Move) -> None:
        """Have each durable subscription that concerns what moves at the target too, from where the copy ends."""
        for info in await self.of(move.source):
            config = dict(info["config"])
            if not concerns(config["metadata"], move):
                continue
            filters = config.pop("filter_subjects", None) or [config.pop("filter_subject", "")]
            own = move.tenant is not None
            config["filter_subjects"] = [respelled(plain(name), own=own) for name in filters]
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": move.cut + 1, "num_replicas": 0}
            config.pop("opt_start_time", None)
            body = {"stream_name": move.target, "config": config, "action": "create"}
            try:
                await self._api.call(f"CONSUMER.CREATE.{move.target}.{config['name']}", body, timeout_s=10.0)
            except ApiError as error:
                if error.number not in (_THERE, _OTHER):
                    raise

    async def waiting(self, move: Move) -> list[str]:
        """Return the durable subscriptions that have not read all that a source still has of what moved."""
        if move.empty:
            return []
        out = []
        for info in await self.of(move.source):
            through = int(info["ack_floor"]["stream_seq"]) >= move.cut
            idle = not info["num_pending"] and not info["num_ack_pending"]
            if concerns(info["config"]["metadata"], move) and not through and not idle:
                out.append(str(info["name"]))
        return out


def concerns(metadata: Mapping[str, str], move: Move) -> bool:
    """Say whether a durable subscription has anything to do with what moves."""
    tenant, session = metadata.get("tenant", ""), metadata.get("session", "")
    if tenant and move.tenant not in (None, tenant):
        return False
    return not session or shard(tenant, session) in move.shards
