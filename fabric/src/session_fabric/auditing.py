"""Who did what when to a tenant's sessions, as a file of lines that follow from each other.

From the sessions' logs: joins, control, answers, hand-over, and what became of them; from the bucket `sf-audit`: what
leaves nothing in a log, or takes the log away. Nothing of what was said. A file ends, in each of these, at what the
broker had stored when it was read, and the next one begins there.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from importlib.metadata import version
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from session_fabric import audit
from session_fabric.audit import Acted
from session_fabric.keyring import key_missing
from session_fabric.parts import Common, Parts
from session_fabric.ports import Wanted
from session_fabric.records import SessionRecord
from session_fabric.rules.audits import FORMAT, Act, Begin, PreviousAudit, act_of, operation_of, ordered
from session_fabric.rules.chains import Chain
from session_fabric.sealed import as_stored
from session_fabric.words.errors import Forbidden, SessionGone, SessionNotFound
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Kind
from session_fabric.writer import Identity

_KINDS: Final[tuple[Kind, ...]] = ("ev", "own")


async def export(
    common: Common,
    identity: Identity,
    *,
    since_ms: int = 0,
    previous: PreviousAudit | None = None,
    key: Ed25519PrivateKey | None = None,
) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a tenant's audit; see `Fabric.audit`."""
    if identity.role in ("user", "agent"):
        raise Forbidden(f"An {identity.role} cannot export an audit.", hint="Operators, supervisors and services can.")
    chain = Chain(None if previous is None else previous.chain)
    begin = Begin(since=since_ms) if previous is None else previous.begin
    yield chain.line(
        {
            "type": "manifest",
            "format": FORMAT,
            "kind": "audit",
            "fabric": version("session-fabric"),
            "tenant": identity.tenant,
            "at": time.time_ns() // 1_000_000,
            "by": identity.participant,
            "previous": None if previous is None else previous.chain,
            "since": begin.since,
            "signed": key is not None,
        }
    )
    noted = await audit.acts(common.broker, identity.tenant)
    found = [_noted(noted, begin)]
    sessions: dict[str, Offset] = {}
    records = await common.directory.of_tenant(identity.tenant)
    for record in sorted(records, key=lambda record: record.session):
        parts = Parts.of(common, identity, record.session)
        try:
            done, sessions[record.session] = await _of_session(parts, record, begin)
        except (SessionNotFound, SessionGone):
            continue  # deleted meanwhile: who did that is among the acts of the next file
        found.append(done)
    acts = ordered(found)
    for act in acts:
        yield chain.line(act.line())
    reached = begin.reached.further([(each.revision, each.ts) for each in noted], sessions)
    for line in reached.lines():
        yield chain.line(line)
    yield chain.line({"type": "end", "acts": len(acts), "revision": reached.revision, "ts": reached.ts})
    if key is not None:
        yield chain.signature(key)


def _noted(noted: Sequence[Acted], begin: Begin) -> list[Act]:
    """Return what is new of what is written down."""
    found = []
    for each in noted:
        act = Act(each.ts, each.session, each.by, each.act, each.id, None, None, each.facts)
        # Earlier files went by the time that the process said which wrote it down.
        if not begin.reached.tells(each.revision, each.ts) and begin.has(act, max(each.ts, each.said_ts)):
            found.append(act)
    return found


async def _of_session(parts: Parts, record: SessionRecord, begin: Begin) -> tuple[list[Act], Offset]:
    """Return what is new of what was done in a session's own part of its log, and up to where that is."""
    if record.sealed is not None and as_stored(parts.broker) is parts.broker:
        raise key_missing(record.tenant, record.sealed.key)  # facts of its acts are among what is sealed
    to, log = record.stretch, parts.broker.log
    after = begin.reached.after(record.session, to.segment, record.begin)
    newest = [one for kind in _KINDS if (one := await log.newest(to, Wanted(kind))) is not None]
    upto = max((one.sequence for one in newest), default=after)
    reached = Offset(to.segment, max(after, upto))
    found: list[Act] = []
    if upto <= after or all(one.ts < begin.since for one in newest):
        return found, reached
    read = log.read(to, after=after, upto=upto, wanted=[Wanted(kind) for kind in _KINDS])
    async with aclosing(read) as batches:
        async for records in batches:
            for stored in records:
                if operation_of(stored.type) is not None:
                    act = act_of(record.session, stored.event())
                    if begin.has(act, act.ts):
                        found.append(act)
    return found, reached
