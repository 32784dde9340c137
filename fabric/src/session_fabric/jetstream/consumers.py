"""Every durable subscription at the broker, as operators see it: how far behind it is, and stopping it for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from session_fabric.jetstream.api import NOT_FOUND, Api, ApiError
from session_fabric.jetstream.contents import durable_consumers

_AT_ONCE: Final = 16
_MOMENT_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Share:
    """What of a durable one stream has. Counts are of inputs or events; `oldest_ms`: when the oldest was stored of
    those that are not acknowledged (None: all are). `paused_s`: for how long nothing more is handed out."""

    stream: str
    consumer: str
    pending: int
    in_ack: int
    redelivered: int
    pulls: int
    ack_wait_s: float
    paused_s: float
    oldest_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DurableState:
    """A durable subscription over all streams. `tenant` "": the fabric's own, over all tenants."""

    tenant: str
    name: str
    session: str
    shares: Sequence[Share] = field(default=())

    @property
    def kind(self) -> str:
        if not self.tenant:
            return "own"
        return "pool" if self.name.startswith("pool-") else "subscription"

    @property
    def pending(self) -> int:
        """How many wait to be handed out for the first time."""
        return sum(share.pending for share in self.shares)

    @property
    def in_ack(self) -> int:
        """How many are handed out, or were given back, and are not acknowledged."""
        return sum(share.in_ack for share in self.shares)

    @property
    def redelivered(self) -> int:
        return sum(share.redelivered for share in self.shares)

    @property
    def pulls(self) -> int:
        """How many requests for more wait at the busiest stream: about as many as workers are free."""
        return max((share.pulls for share in self.shares), default=0)

    @property
    def paused_s(self) -> float:
        return max((share.paused_s for share in self.shares), default=0.0)

    @property
    def oldest_ms(self) -> int | None:
        return min((share.oldest_ms for share in self.shares if share.oldest_ms is not None), default=None)

    @property
    def ack_wait_s(self) -> float:
        return max((share.ack_wait_s for share in self.shares), default=0.0)


async def durables(api: Api, streams: Sequence[str]) -> list[DurableState]:
    """Return what there is, by tenant and name. Raises `BrokerUnavailable`, `BrokerRefused`."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def of(stream: str) -> list[tuple[tuple[str, str, str], Share]]:
        async with slots:
            return [
                (durable_of(info), await _share(api, stream, info)) async for info in durable_consumers(api, stream)
            ]

    found: dict[tuple[str, str, str], list[Share]] = {}
    for shares in await asyncio.gather(*map(of, streams)):
        for key, share in shares:
            found.setdefault(key, []).append(share)
    return [DurableState(*key, tuple(shares)) for key, shares in sorted(found.items())]


async def state_of(api: Api, durable: DurableState) -> DurableState:
    """Look at one again; what was deleted meanwhile has nothing left."""
    shares = []
    for share in durable.shares:
        try:
            info = await api.call(f"CONSUMER.INFO.{share.stream}.{share.consumer}")
        except ApiError as error:
            if error.number not in NOT_FOUND:
                raise
        else:
            shares.append(await _share(api, share.stream, info))
    return DurableState(durable.tenant, durable.name, durable.session, tuple(shares))


async def pause(api: Api, durable: DurableState, for_s: float) -> None:
    """Have nothing of it handed out for so long, in any stream; 0: hand out again.

    Acknowledgements count all the while; what was given back waits. A pause ends by itself, so that one who forgets it
    does not stop a pool for ever. Raises `BrokerUnavailable`, `BrokerRefused`.
    """
    if not for_s:
        await asyncio.gather(*(_resume(api, share) for share in durable.shares))
        return
    until = datetime.fromtimestamp(time.time() + for_s, UTC).isoformat()
    for share in durable.shares:
        await api.call(f"CONSUMER.PAUSE.{share.stream}.{share.consumer}", {"pause_until": until})


async def _resume(api: Api, share: Share) -> None:
    """Have a pause end in a moment, by the broker's clock, and wait for it.

    One that is taken away leaves requests for more waiting until something else happens at the consumer; at the end of
    one they are served.
    """
    info = await api.call(f"CONSUMER.INFO.{share.stream}.{share.consumer}")
    if not info.get("paused"):
        return
    until = parsed(info["ts"]) + timedelta(seconds=_MOMENT_S)
    await api.call(f"CONSUMER.PAUSE.{share.stream}.{share.consumer}", {"pause_until": until.isoformat()})
    await asyncio.sleep(_MOMENT_S)


def durable_of(info: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the tenant, the name and the session of the durable subscription that a consumer is part of, each "" where
    it has none: the names by which people call it."""
    metadata = info["config"]["metadata"]
    # Their names are sf=<tenant>=<durable>=<session's hash>, as jetstream.durable makes them.
    return metadata.get("tenant", ""), info["name"].split("=")[2], metadata.get("session", "")


async def _share(api: Api, stream: str, info: Mapping[str, Any]) -> Share:
    behind = info["num_pending"] or info["num_ack_pending"]
    return Share(
        stream,
        info["name"],
        info["num_pending"],
        info["num_ack_pending"],
        info["num_redelivered"],
        info["num_waiting"],
        info["config"]["ack_wait"] / 1e9,
        info.get("pause_remaining", 0) / 1e9 if info.get("paused") else 0.0,
        await _oldest_ms(api, stream, info) if behind else None,
    )


async def _oldest_ms(api: Api, stream: str, info: Mapping[str, Any]) -> int | None:
    """Return when the first was stored behind which all is acknowledged, of those that the consumer is for."""
    floor, config = info["ack_floor"]["stream_seq"], info["config"]
    times = []
    for subject in config.get("filter_subjects") or [config.get("filter_subject") or ">"]:
        try:
            got = await api.call(f"STREAM.MSG.GET.{stream}", {"seq": floor + 1, "next_by_subj": subject})
        except ApiError as error:
            if error.number not in NOT_FOUND:
                raise
        else:
            times.append(int(parsed(got["message"]["time"]).timestamp() * 1000))
    return min(times, default=None)


def parsed(time: str) -> datetime:
    """Read the broker's time: RFC 3339, with up to nine digits behind the seconds."""
    whole, _, rest = time.partition(".")
    digits = "".join(c for c in rest if c.isdigit())[:6] if rest else "0"
    return datetime.fromisoformat(f"{whole.rstrip('Z')}.{digits.ljust(6, '0')}+00:00")
