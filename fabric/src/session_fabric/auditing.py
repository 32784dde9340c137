"""Who did what when to a tenant's sessions, as a file of lines that follow from each other.

From the sessions' logs: joins, control, answers, hand-over, and what became of them; from the bucket `sf-audit`: what
leaves nothing in a log, or takes the log away. Nothing of what was said.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from importlib.metadata import version
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from session_fabric import audit
from session_fabric.parts import Common, Parts
from session_fabric.ports import Stretch, Wanted
from session_fabric.records import SessionRecord
from session_fabric.rules.chains import FORMAT, Chain
from session_fabric.words.errors import Forbidden, SessionGone, SessionNotFound
from session_fabric.words.events import Event
from session_fabric.writer import Identity

# What is stored now may be on its way: it is in the next file.
_SETTLED_MS: Final = 5_000
# By what an event's type begins with, the operation that whoever did it had to be granted.
_OPERATIONS: Final = {
    "session.created": "create",
    "session.forked": "create",
    "session.participants": "invite",
    "session.closed": "policy",
    "session.policy": "policy",
    "session.imported": "create",
    "control.requested": "control:",
    "control.": None,
    "tool.claimed": "answer",
    "tool.answered": "answer",
    "tool.expired": None,
    "input.answered": "answer",
    "input.expired": None,
    "handoff.": "handoff",
    "floor.": None,
    "presence.joined": "presence",
    "presence.left": "presence",
    "whisper": "supervise",
    "message.redacted": "redact",
    "event.redacted": "redact",
    "run.orphaned": None,
    "run.taken_over": None,
}
_FACTS: Final = frozenset(
    {
        *("action", "request", "reason", "to", "by", "pool", "device", "participant", "message", "event"),
        *("defaulted", "source", "at", "status"),
    }
)


class PreviousAudit(NamedTuple):
    """The end of an earlier file: its last hash, and up to when it came (milliseconds since 1970)."""

    chain: str
    until: int


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
    since, until = since_ms if previous is None else previous.until, time.time_ns() // 1_000_000 - _SETTLED_MS
    chain = Chain(None if previous is None else previous.chain)
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
            "since": since,
            "until": until,
            "signed": key is not None,
        }
    )
    found: list[dict[str, Any]] = []
    for acted in await audit.acts(common.broker, identity.tenant):
        if since <= acted.ts < until:
            facts = dict(acted.facts)
            found.append(_line(acted.ts, acted.session, acted.by, acted.act, acted.id, None, None, facts))
    for record in await common.directory.of_tenant(identity.tenant):
        found += await _of_session(Parts.of(common, identity, record.session), record, since, until)
    found.sort(key=lambda line: (line["ts"], line["session"] or "", line["at"]))
    for line in found:
        yield chain.line(line)
    yield chain.line({"type": "end", "acts": len(found), "until": until})
    if key is not None:
        yield chain.signature(key)


async def _of_session(parts: Parts, record: SessionRecord, since: int, until: int) -> list[dict[str, Any]]:
    """Return what was done in a session's own part of its log."""
    to = record.stretch
    newest = [await parts.broker.log.newest(to, Wanted(kind)) for kind in ("ev", "own")]
    if not any(one is not None and one.ts >= since for one in newest):
        return []
    try:
        return await _read(parts, record, to, since, until)
    except (SessionNotFound, SessionGone):
        return []  # deleted meanwhile: who did that is among the acts


async def _read(parts: Parts, record: SessionRecord, to: Stretch, since: int, until: int) -> list[dict[str, Any]]:
    found = []
    head = await parts.broker.log.head(to)
    read = parts.broker.log.read(to, after=record.begin, upto=head, wanted=(Wanted("ev"), Wanted("own")))
    async with aclosing(read) as batches:
        async for records in batches:
            for stored in records:
                begins = next((begin for begin in _OPERATIONS if stored.type.startswith(begin)), None)
                if begins is not None and since <= stored.ts < until:
                    found.append(_act(record.session, stored.event(), _OPERATIONS[begins]))
    return found


def _act(session: str, event: Event, operation: str | None) -> dict[str, Any]:
    body = event.body
    facts = {name: value for name, value in body.items() if name in _FACTS and isinstance(value, str | int | bool)}
    answer = body.get("body")
    if event.type == "input.answered" and isinstance(answer, dict) and isinstance(answer.get("approved"), bool):
        facts["approved"] = answer["approved"]
    if operation == "control:":
        operation += str(body.get("action"))
    return _line(event.ts, session, event.actor, event.type, str(event.offset), event.run, operation, facts)


def _line(
    ts: int,
    session: str | None,
    actor: str,
    act: str,
    at: str,
    run: str | None,
    operation: str | None,
    facts: dict[str, Any],
) -> dict[str, Any]:
    return {
        "type": "act",
        "ts": ts,
        "session": session,
        "actor": actor,
        "act": act,
        "at": at,
        "run": run,
        "operation": operation,
        "facts": facts,
    }
