"""A session as a file of lines that can be verified without the fabric, and made a session again (`importing`)."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from importlib.metadata import version
from typing import Any, NamedTuple

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from session_fabric import audit
from session_fabric.parts import Parts
from session_fabric.records import SessionRecord
from session_fabric.rules.archives import Content, event_line
from session_fabric.rules.chains import FORMAT, Chain
from session_fabric.words.errors import Forbidden
from session_fabric.words.names import unescape
from session_fabric.words.positions import After, Offset


class Previous(NamedTuple):
    """The end of an earlier export: its last hash, and up to where it came."""

    chain: str
    head: Offset


async def export(
    parts: Parts,
    *,
    previous: Previous | None = None,
    cursors: bool = False,
    key: Ed25519PrivateKey | None = None,
) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a session's export; see `Session.export`."""
    if parts.identity.role == "user":
        raise Forbidden("A user cannot export a session.", hint="Operators, supervisors, agents and services can.")
    record = await parts.directory.load(parts.place, fresh=True)
    head = await parts.history.head()
    who = parts.identity.participant
    await audit.note(parts.broker, record.tenant, record.session, who, "session.exported", head=str(head))
    chain, content = Chain(None if previous is None else previous.chain), Content()
    yield chain.line(_manifest(record, who, previous, key))
    after: After = "start" if previous is None else previous.head
    async with aclosing(parts.history.read(after, upto=head)) as batches:
        async for records in batches:
            for stored in records:
                if stored.parts.kind != "tok":  # what an open run has said so far comes with what completes it
                    line = event_line(stored)
                    content.add(line, stored.payload)
                    yield chain.line(line)
    documents = await _kept(parts, record, "sf-state", ("document",))
    for one in documents:
        yield chain.line({"type": "document", **one})
    markers = await _kept(parts, record, "sf-cursors", ("participant", "device")) if cursors else []
    for one in markers:
        yield chain.line({"type": "cursor", **one})
    yield chain.line(
        {
            "type": "end",
            "events": content.events,
            "documents": len(documents),
            "cursors": len(markers),
            "head": str(head),
            "content": content.value,
        }
    )
    if key is not None:
        yield chain.signature(key)


def _manifest(
    record: SessionRecord, who: str, previous: Previous | None, key: Ed25519PrivateKey | None
) -> dict[str, Any]:
    return {
        "type": "manifest",
        "format": FORMAT,
        "kind": "session",
        "fabric": version("session-fabric"),
        "tenant": record.tenant,
        "session": record.session,
        "at": time.time_ns() // 1_000_000,
        "by": who,
        "previous": None if previous is None else previous.chain,
        "after": None if previous is None else str(previous.head),
        "signed": key is not None,
        "created": record.created,
        "state": record.state,
        "labels": dict(record.labels),
        "participants": list(record.participants),
        "policy": record.policy.model_dump(),
        "retention": dict(record.retention),
        "source": record.source,
    }


async def _kept(parts: Parts, record: SessionRecord, bucket: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return what a bucket keeps of a session: `names` of what stands behind it in the keys, and the values."""
    found = []
    for entry in await parts.broker.bucket(bucket).entries(record.place.key()):
        behind = [unescape(part) for part in entry.key.split(".")[2:]]
        if entry.value is not None and len(behind) == len(names):
            value = orjson.loads(entry.value)
            found.append({**dict(zip(names, behind, strict=True)), "value": value})
    return sorted(found, key=lambda one: [one[name] for name in names])
