"""What people do to sessions, durable streams, tokens and keys that leaves nothing in a session's log, or takes the log
away: in the bucket `sf-audit`.

Who, when, what and why; nothing of what was said. Other acts are in the logs: `auditing` brings both together.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import orjson

from session_fabric.ports import Broker
from session_fabric.words.errors import Conflict
from session_fabric.words.logs import log
from session_fabric.words.names import escape, new_id, unescape

BUCKET: Final = "sf-audit"
# Four hundred days: a yearly export finds everything of its year.
KEPT_S: Final = 400 * 86_400
# Stands for a session where an act is about the tenant as a whole; no session's name begins so.
TENANT: Final = "_"

Act = Literal[
    "dead_letter.dropped",
    "dead_letter.retried",
    "session.deleted",
    "session.held",
    "session.released",
    "session.retention",
    "session.redacted",
    "session.imported",
    "session.exported",
    "stream.deleted",
    "stream.exported",
    "stream.restored",
    "tenant.deleted",
    "tenant.held",
    "tenant.released",
    "tenant.retention",
    "tenant.rewrapped",
    "token.revoked",
]


class Acted(NamedTuple):
    """One act. `session` None: on the tenant. `ts` is milliseconds since 1970 by the broker's clock, `said_ts` by that
    of the process that wrote it down; `revision` rises in the order in which the broker has them."""

    id: str
    revision: int
    ts: int
    said_ts: int
    session: str | None
    by: str
    act: str
    facts: Mapping[str, Any]


async def note(broker: Broker, tenant: str, session: str | None, by: str, act: Act, **facts: Any) -> None:
    """Write down an act. Raises `BrokerUnavailable`: it is not done before it is written down."""
    id = f"{time.time_ns() // 1_000_000:016d}-{new_id()}"
    await broker.bucket(BUCKET).put(_key(tenant, session, id), _spelled(by, act, facts), ttl_s=KEPT_S)


async def note_once(
    broker: Broker, tenant: str, session: str | None, by: str, act: str, id: str, facts: Mapping[str, Any]
) -> int:
    """As `note`, under an id: what several do at once, or ask for again, is written down as the first of them has it.
    Return the revision of that."""
    key, value = _key(tenant, session, id), _spelled(by, act, facts)
    try:
        return await broker.bucket(BUCKET).swap(key, value, revision=0, ttl_s=KEPT_S)
    except Conflict as written:
        return int(written.facts["revision"])


def _key(tenant: str, session: str | None, id: str) -> str:
    return f"{escape(tenant)}.{TENANT if session is None else escape(session)}.{id}"


def _spelled(by: str, act: str, facts: Mapping[str, Any]) -> bytes:
    """Return an act as it is kept: at this process's time."""
    return orjson.dumps({"ts": time.time_ns() // 1_000_000, "by": by, "act": act, "facts": facts})


async def acts(broker: Broker, tenant: str) -> list[Acted]:
    """Return what is written down of a tenant, by revision; what is not in it has a revision above all that are."""
    found = []
    for entry, ts in await broker.bucket(BUCKET).dated(escape(tenant)):
        try:
            told = orjson.loads(entry.value or b"null")
            _, session, id = entry.key.split(".")
            name = None if session == TENANT else unescape(session)
            by, act, facts = str(told["by"]), str(told["act"]), dict(told["facts"])
            found.append(Acted(id, entry.revision, ts, int(told["ts"]), name, by, act, facts))
        except (ValueError, TypeError, KeyError):
            log.error("act_unreadable", key=entry.key)
    return found
