"""Which runs of a session have not ended, those that wait for people or for another process among them."""

from __future__ import annotations

from contextlib import aclosing

from session_fabric.ports import Broker, Wanted
from session_fabric.records import SessionRecord
from session_fabric.words.events import RUN_OVER


async def runs_under_way(broker: Broker, record: SessionRecord) -> tuple[str, ...]:
    """Return them, those first that began first, as the leader has them; what a fork shares is of its source.

    `broker` may be the one below the seals. Raises `BrokerUnavailable`.
    """
    to, names = record.stretch, dict[str, None]()
    head = await broker.log.head(to, kinds=("own",))
    read = broker.log.read(to, after=max(record.begin, 0), upto=head, wanted=[Wanted("own")])
    async with aclosing(read) as batches:
        async for records in batches:
            for one in records:
                name = one.parts.name
                if "/" in name:
                    continue  # a floor, or what came of a request
                if one.type in RUN_OVER:
                    names.pop(name, None)
                else:
                    names[name] = None
    return tuple(names)
