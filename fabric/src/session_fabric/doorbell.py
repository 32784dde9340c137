"""Ringing for an agent of a pool: that something is left to do, or that an input is now its."""

from __future__ import annotations

from typing import Final

from session_fabric.parts import Parts
from session_fabric.words.events import MESSAGE_FORWARDED, MESSAGE_USER, POOL_RUNG, Event
from session_fabric.writer import parse_body

# A run whose process is gone, and that nobody of its pool has gone on with by then, has failed.
TAKEN_OVER_WITHIN_S: Final = 15.0


async def ring(parts: Parts, pool: str, id: str, run: str | None = None) -> None:
    """Wake one agent of a pool for a session, once for an id: to go on with a run, or to look what is left to do."""
    body: dict[str, object] = {"type": POOL_RUNG, "pool": pool}
    if run is not None:
        body |= {"run": run, "deadline_ms": int(TAKEN_OVER_WITHIN_S * 1000)}
    await _ask(parts.as_service(), body, pool, id)


async def forward(parts: Parts, event: Event, pool: str, to: str) -> None:
    """Hand an input on to another pool, once; whatever its run becomes, it is the first input's."""
    body = event.body
    origin = body.get("origin") if event.type == MESSAGE_FORWARDED else event.id
    if event.type not in (MESSAGE_USER, MESSAGE_FORWARDED):
        return  # to answer again, to take over: the other pool's agents know nothing of it
    new: dict[str, object] = {"type": MESSAGE_FORWARDED, "message": body.get("message"), "origin": origin}
    new |= {"from": pool, "pool": to, "input": str(event.offset)}
    await _ask(parts, new, to, f"fwd.{to[:40]}.{event.offset}")


async def _ask(parts: Parts, body: dict[str, object], pool: str, id: str) -> None:
    record = await parts.open()
    await parts.broker.log.publish(record.stretch, parts.writer.draft(parse_body(body), "in", pool, id))
