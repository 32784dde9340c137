"""Inputs that no agent could answer: listed across a tenant's sessions, answered anew, let go.

Bucket `sf-dead`, key `<tenant>.<session>.<pool>.<run>`. An entry is written before the end of the run that it stands
for: it may name a run that has not failed, and none that has is missing. Whoever lists them looks at the run itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from session_fabric import audit, branching
from session_fabric.parts import Common, Parts
from session_fabric.ports import Entry
from session_fabric.words.arguments import check_whole
from session_fabric.words.errors import Forbidden, InvalidRequest, KeyMissing, SessionGone, SessionNotFound
from session_fabric.words.events import RUN_ERROR, RUN_OVER
from session_fabric.words.logs import log
from session_fabric.words.measures import DEAD_LETTERS
from session_fabric.words.names import check_id, escape, unescape
from session_fabric.words.parsing import read_json
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import place_of_key
from session_fabric.words.wire import Record
from session_fabric.writer import Appended, Identity

BUCKET: Final = "sf-dead"
CODE: Final = "dead_letter"
MOST: Final = 1000
_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An input whose run has failed for good.

    `since` is milliseconds since 1970, `input` the offset of what was asked, `message` the id of the user's message,
    None where it was no message (a hand-over). `why` is what the session was told, `cause` the name of the exception,
    None where every process that worked on it was lost.
    """

    session: str
    pool: str
    run: str
    message: str | None
    input: str | None
    since: int
    attempts: int
    why: str | None
    cause: str | None
    _parts: Parts = field(repr=False, compare=False)

    async def retry(self) -> Appended:
        """Have the message answered again, by the same pool; then it is a dead letter no more.

        Said twice, by whomever, it is answered once. Raises `InvalidRequest` where it was asked by no message,
        `MessageNotFound` where that is gone, `SessionClosed`, `SessionGone`, `BrokerUnavailable` (try again).
        """
        if self.message is None:
            raise InvalidRequest(
                f"Run {self.run!r} was asked by no message.", hint="Offer the floor again, and drop this letter."
            )
        asked = await branching.regenerate(self._parts, self.message, self.pool, f"{self.run[:120]}.retry")
        await self._let_go("dead_letter.retried")
        return asked

    async def drop(self) -> None:
        """Let it go: it is listed no more, the session stays as it is. Again it changes nothing. Raises
        `BrokerUnavailable` (try again)."""
        await self._let_go("dead_letter.dropped")

    async def _let_go(self, act: audit.Act) -> None:
        """Remove it, once the audit has who did it; of one that is gone already it has that."""
        parts, key = self._parts, _key(self._parts, self.pool, self.run)
        bucket = parts.broker.bucket(BUCKET)
        if await bucket.get(key) is None:
            return
        who, place = parts.identity.participant, parts.place
        await audit.note(parts.broker, place.tenant, place.session, who, act, pool=self.pool, run=self.run)
        await bucket.delete(key)


async def bury(parts: Parts, pool: str, run: str, input: Offset, message: object) -> None:
    """Write down that a run is about to fail for good, and what it was asked; again when the broker was away."""
    key, value = _key(parts, pool, run), orjson.dumps({"input": str(input), "message": message})
    await parts.persist(lambda: parts.broker.bucket(BUCKET).put(key, value))
    parts.common.metrics.count(DEAD_LETTERS)


async def dead_letters(common: Common, identity: Identity, pool: str | None, limit: int) -> list[DeadLetter]:
    """Return a tenant's dead letters, oldest first; see `Fabric.dead_letters`."""
    if identity.role == "user":
        raise Forbidden("A user cannot see a tenant's dead letters.", hint="Agents, operators and services can.")
    check_whole(limit, "limit", 1, MOST)
    token = None if pool is None else escape(check_id(pool, "pool"))
    entries = await common.broker.bucket(BUCKET).entries(escape(identity.tenant))
    wanted = [entry for entry in entries if token is None or entry.key.split(".")[2] == token]
    found: list[DeadLetter] = []
    for begin in range(0, len(wanted), _AT_ONCE):
        some = await asyncio.gather(*(_read(common, identity, entry) for entry in wanted[begin : begin + _AT_ONCE]))
        found += [letter for letter in some if letter is not None]
        if len(found) >= limit:
            break
    return found[:limit]


async def _read(common: Common, identity: Identity, entry: Entry) -> DeadLetter | None:
    """Return what an entry stands for; None, and the entry is removed, where its run ended otherwise or is gone."""
    place = place_of_key(entry.key)
    pool, run = (unescape(token) for token in entry.key.split(".")[2:4])
    parts = Parts.of(common, identity, place.session)
    newest: Record | None = None
    try:
        newest = await parts.newest_own(await parts.directory.load(place), run)
    except (SessionNotFound, SessionGone):
        pass
    except KeyMissing as error:
        log.warning("dead_letter_sealed", session=place.session, key=error.facts.get("key"))
        return None
    told = {} if newest is None else newest.event().body
    if newest is None or (newest.type in RUN_OVER and told.get("code") != CODE):
        log.info("dead_letter_is_none", session=place.session)
        await parts.broker.bucket(BUCKET).delete(entry.key, revision=entry.revision)
        return None
    if newest.type != RUN_ERROR:
        return None  # it is failing this moment
    facts = read_json(entry.value or b"{}")
    attempts = told.get("attempts")
    return DeadLetter(
        session=place.session,
        pool=pool,
        run=run,
        message=_text(facts, "message"),
        input=_text(facts, "input"),
        since=newest.ts,
        attempts=attempts if isinstance(attempts, int) else 0,
        why=_text(told, "message"),
        cause=_text(told, "cause"),
        _parts=parts,
    )


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) else None


def _key(parts: Parts, pool: str, run: str) -> str:
    return f"{parts.place.key()}.{escape(pool)}.{escape(run)}"
