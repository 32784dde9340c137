"""Deciding something once: the answer to a request, what became of a control, that an input has expired."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from session_fabric.parts import Parts
from session_fabric.ports import Guard, Wanted
from session_fabric.words.errors import AlreadyAnswered, Conflict, IdConflict
from session_fabric.words.events import Draft
from session_fabric.words.names import check_id, is_id, new_id
from session_fabric.words.positions import Offset
from session_fabric.words.wire import Record
from session_fabric.writer import Appended, parse_body


class Lost(AlreadyAnswered):
    """Somebody else was first: `winner` is what stands there now."""

    def __init__(self, winner: Record) -> None:
        offset = str(winner.offset)
        super().__init__(f"{winner.actor} was first, with {winner.type} at {offset}.", by=winner.actor, offset=offset)
        self.winner = winner


async def settle(
    parts: Parts, name: str, body: Mapping[str, Any], *, expect: int = 0, id: str | None = None, spare: bool = False
) -> Appended:
    """Write the event that decides `own/<name>`, if the newest one there is still at sequence `expect` (0: none).

    `id` is the event's. A try again under one id is safe, minutes later too: what it had stored already is
    `duplicate`. `spare`: where that id is taken, by who has guessed it, under another one. Raises `Lost` (an
    `AlreadyAnswered`) with the winner, `IdConflict`, `SessionNotFound`, `SessionGone`, and `BrokerUnavailable` (try
    again with the same id). Cancelled: it may have been stored.
    """
    record = await parts.open_existing()
    log, to = parts.broker.log, record.stretch
    run = body.get("run")
    draft = parts.writer.draft(
        parse_body(body),
        "own",
        name,
        check_id(new_id() if id is None else id, "event id"),
        run if isinstance(run, str) and is_id(run) else None,
    )
    try:
        ack = await log.publish(to, draft, guard=Guard("own", name, expect))
    except Conflict as conflict:
        winner = await log.newest(to, Wanted("own", name))
        if winner is None:
            raise  # deleted this moment
        if _is(winner, draft):
            return Appended(winner.offset, True)
        raise Lost(winner) from conflict
    if ack.duplicate:
        # The broker looks at ids before it looks at the condition: the id may have been another's.
        stored = await parts.history.at(to, ack.sequence)
        if stored is not None and not _is(stored, draft):
            if (stored.parts.kind, stored.parts.name) == ("own", name):
                raise Lost(stored)
            if spare:
                return await settle(parts, name, body, expect=expect)
            raise IdConflict(
                f"The id {draft.id!r} was used for another event, at {stored.offset}.",
                hint="An id names one event: use a new one.",
                id=draft.id,
                offset=str(stored.offset),
            )
    return Appended(Offset(to.segment, ack.sequence), ack.duplicate)


def _is(stored: Record, draft: Draft) -> bool:
    return stored.id == draft.id and orjson.loads(stored.body) == orjson.loads(draft.body)
