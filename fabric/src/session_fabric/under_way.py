"""Which runs of a session have not ended, those that wait for people or for another process among them."""

from __future__ import annotations

from contextlib import aclosing

from session_fabric.ports import Broker, Wanted
from session_fabric.records import SessionRecord
from session_fabric.rules.unended import Unended


async def runs_under_way(broker: Broker, record: SessionRecord) -> tuple[str, ...]:
    """Return them, those first that began first, as the leader has them; what a fork shares is of its source.

    `broker` may be the one below the seals. Raises `BrokerUnavailable`.
    """
    to, unended = record.stretch, Unended()
    head = await broker.log.head(to, kinds=("own",))
    read = broker.log.read(to, after=max(record.begin, 0), upto=head, wanted=[Wanted("own")])
    async with aclosing(read) as batches:
        async for records in batches:
            for one in records:
                unended.take(one.parts.name, one.type, one.actor)
    return tuple(run for run, _ in unended.runs)
