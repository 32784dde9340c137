"""The new stream: made as a copy of its part of the old one, until it has all that that one took."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from session_fabric.jetstream.api import Api, ApiError, Backoff
from session_fabric.jetstream.contents import erase_message
from session_fabric.jetstream.moves.layouts import Layouts, own
from session_fabric.jetstream.moves.settings import Say, Settings
from session_fabric.jetstream.publishing import publish
from session_fabric.jetstream.requests import Requests
from session_fabric.jetstream.streams import EPOCH, LINE, STREAMS, drops, log_stream
from session_fabric.jetstream.topology import PURGES, found
from session_fabric.ports import Bucket
from session_fabric.rules.layout import Layout, Lodging, Move
from session_fabric.words.errors import BrokerIncompatible, BrokerUnavailable
from session_fabric.words.subjects import copying, cut_subject, respelled

_LOOK_S: Final = 0.1
_SAID_S: Final = 3.0
# A copy that gets no further for this long has something against it.
_STUCK_S: Final = 60.0
_THERE: Final = 10058


class Copies:
    """Makes the streams that sessions move to, as mirrors, which keep sequences."""

    def __init__(self, api: Api, requests: Requests, bucket: Bucket, layouts: Layouts, say: Say) -> None:
        self._api = api
        self._requests = requests
        self._bucket = bucket
        self._layouts = layouts
        self._say = say

    async def check_keeps(self, source: str) -> None:
        """Raise `BrokerIncompatible` for a stream that drops its oldest: what it drops while it is copied the copy
        keeps, and is full before it has come as far."""
        info = await self._api.call(f"STREAM.INFO.{source}")
        if dropping := drops(info["config"]):
            raise BrokerIncompatible(
                f"Nothing can be moved out of {source} while it drops what it holds: {dropping}.",
                hint=f"Give it room (`nats stream edit {source} --max-bytes …`), have it refuse what does not fit "
                "(`fabricctl stream repair`), and run this again.",
                stream=source,
            )

    async def make(self, layout: Layout, moves: Sequence[Move], settings: Settings) -> None:
        """Make a new stream: a copy of a part of another, or one of its own where there is nothing to copy."""
        target, tenant = moves[0].target, moves[0].tenant
        full = next((m for m in moves if not m.empty), None)
        base = await self._api.call(f"STREAM.INFO.{(full or moves[0]).source}")
        shards = tuple(sorted({s for m in moves for s in m.shards}))
        count = int((base["config"].get("metadata") or {}).get(STREAMS, len(layout.of(None))))
        config = log_stream(Lodging(stream=target, shards=shards, tenant=tenant), count, 1)
        config |= settings.of(base["config"])
        if full is not None:
            origin = found(base)
            source_own, target_own = own(layout, full.source), tenant is not None
            rules = [copying(s, tenant, source_own=source_own, target_own=target_own) for s in full.shards]
            del config["subjects"], config["republish"], config["allow_atomic"]  # a mirror has none of these
            config["mirror"] = {"name": full.source, "subject_transforms": rules}
            config["metadata"] |= {LINE: origin.home.stream, EPOCH: origin.home.epoch}
        try:
            await self._api.call(f"STREAM.CREATE.{target}", config, timeout_s=15.0)
        except ApiError as error:
            if error.number != _THERE:  # made by whoever began this move
                raise BrokerIncompatible(
                    f"The broker cannot make the stream {target}: {error.description}.",
                    hint="Are there so many nodes, with these tags, and room? `nats server report jetstream` says.",
                    stream=target,
                ) from error
        self._say(f"{target} is made" + (f", and copies from {full.source}" if full else ""))

    async def mark(self, move: Move) -> int:
        """Store a mark behind all that is to be copied; return its sequence. Raises `BrokerIncompatible` where there is
        no room for it."""
        of_tenant = await self._layouts.is_own(move.source)
        subject = cut_subject(move.shards[0], move.tenant, own=of_tenant)
        try:
            ack = await publish(self._requests, subject, b"{}", {"Nats-TTL": "3600s"}, Backoff(10.0))
        except BrokerUnavailable as error:
            if not (isinstance(error.__cause__, ApiError) and error.__cause__.room):
                raise
            raise BrokerIncompatible(
                f"{move.source} has no room for the mark behind what moves: {error.__cause__.description}.",
                hint=f"Give it a little (`nats stream edit {move.source} --max-bytes …`, or the server's file store) "
                "and run this again.",
                stream=move.source,
            ) from error
        return ack.sequence

    async def until(self, move: Move, upto: int) -> None:
        """Wait until the copy has come as far as a sequence of the source."""
        loop = asyncio.get_running_loop()
        last, since, said = -1, loop.time(), loop.time()
        while True:
            info = await self._api.call(f"STREAM.INFO.{move.target}")
            if int(info["state"]["last_seq"]) >= upto:
                return
            mirror = info.get("mirror") or {}
            if int(info["state"]["last_seq"]) != last:
                last, since = int(info["state"]["last_seq"]), loop.time()
            if loop.time() - since > _STUCK_S:
                why = (mirror.get("error") or {}).get("description") or _fullness(info)
                raise BrokerIncompatible(
                    f"{move.target} gets no further in copying from {move.source}: {why}.",
                    hint="Look at the broker's log; then run this again.",
                    stream=move.target,
                )
            if loop.time() - said > _SAID_S:
                said = loop.time()
                self._say(
                    f"{move.target} has copied {info['state']['messages']} events, {mirror.get('lag', '?')} to go"
                )
            await asyncio.sleep(_LOOK_S)

    async def remove_too(self, moves: Sequence[Move]) -> None:
        """Remove from the copies what was removed at the source while they were made."""
        for entry in await self._bucket.entries(PURGES):
            body = orjson.loads(entry.value or b"{}")
            for move in moves:
                for sequence in body.get("erase", ()):  # at these the target has what the source had, or nothing
                    await erase_message(self._api, move.target, sequence)
                if "erase" in body:
                    continue
                spelled = {**body, "filter": respelled(body["filter"], own=move.tenant is not None)}
                await self._api.call(f"STREAM.PURGE.{move.target}", spelled)
            await self._bucket.delete(entry.key)


def _fullness(info: Mapping[str, Any]) -> str:
    """Say of a copy that the broker has nothing to say of how full it is, where it is limited."""
    most = info["config"].get("max_bytes", -1)
    if most <= 0:
        return "the broker does not say why"
    return f"it holds {info['state']['bytes']} bytes, and may hold {most} (max_bytes)"
