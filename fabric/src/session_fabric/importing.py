"""Making an exported session a session again: the same events, ids, actors and times, at offsets of its own.

A file is verified whole before anything is written. What an interrupted import has left is thrown away by the next try,
which begins another life of the session: nothing is ever there twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any, NamedTuple

import orjson

from session_fabric import audit
from session_fabric.endings import agent_lost, end_run
from session_fabric.floors import Floor, lost
from session_fabric.parts import Parts
from session_fabric.ports import Stretch, Wanted
from session_fabric.records import Imported, SessionRecord
from session_fabric.requests import close as close_requests
from session_fabric.rules.archives import Content, Places, body_of, check_event, renamed
from session_fabric.rules.chains import Checked, Data
from session_fabric.rules.policy import parse_policy
from session_fabric.rules.retention import changed
from session_fabric.words.errors import Conflict, Corrupt, FabricError, Forbidden, InvalidRequest, SessionExists
from session_fabric.words.events import EVENT_REDACTED, MESSAGE_REDACTED, RUN_OVER, SESSION_IMPORTED, Draft
from session_fabric.words.names import escape, new_id
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import IMPORT_WRITER
from session_fabric.words.wire import AT

Lines = Callable[[], Iterable[bytes]]
_MARKS = "imported"


class Redacted(NamedTuple):
    """What was taken out of a session before it was exported: a message (its id) or an event (its offset)."""

    target: str
    by: str
    at: int
    reason: str


class Verified(NamedTuple):
    """A file that is what was written. `signed_by` is a public key in hex, `marks` places without an event by now."""

    manifest: Data
    end: Data
    head: str
    lines: int
    signed_by: str | None
    marks: tuple[Offset, ...] = ()
    events: int = 0
    redacted: tuple[Redacted, ...] = ()


def verify(lines: Iterable[bytes]) -> Verified:
    """Check a file from its first line to its last. Raises `Corrupt`, which names the first line that is wrong."""
    checked, content, places = Checked(), Content(), Places()
    marks: set[Offset] = set()
    known: set[Offset] = set()
    redacted: list[Redacted] = []
    counts = {"event": 0, "document": 0, "cursor": 0}

    def mark(offset: Offset) -> None:
        if places.knows(offset) and offset not in known:
            marks.add(offset)

    for data in checked.read(lines):
        kind = data["type"]
        if kind in counts and checked.manifest.get("kind") == "session":
            counts[kind] += 1
        if kind == "event" and checked.manifest.get("kind") == "session":
            check_event(data, checked.lines)
            body, offset = body_of(data), Offset.parse(data["offset"])
            if known and offset <= places.events[-1]:
                raise _wrong(checked.lines, "it is not behind the event before")
            places.add(offset)
            known.add(offset)
            content.add(data, body)
            if data["event"] in (MESSAGE_REDACTED, EVENT_REDACTED):
                redacted.append(_redacted(data, body))
            renamed(body, data["event"], offset, mark)
    end = checked.end or {}
    if checked.manifest.get("kind") == "session":
        there = (content.events, counts["document"], counts["cursor"], content.value)
        if there != (end.get("events"), end.get("documents"), end.get("cursors"), end.get("content")):
            raise _wrong(checked.lines, "the end does not say what is in the file")
    return Verified(
        checked.manifest,
        end,
        checked.head,
        checked.lines,
        checked.signed_by,
        tuple(sorted(marks)),
        counts["event"],
        tuple(redacted),
    )


def _redacted(data: Data, body: bytes) -> Redacted:
    told = orjson.loads(body)
    target = told.get("message" if data["event"] == MESSAGE_REDACTED else "at")
    return Redacted(str(target), data["actor"], data["ts"], str(told.get("reason")))


async def import_session(parts: Parts, lines: Lines) -> tuple[SessionRecord, bool]:
    """Make a session of an export; see `Fabric.import_session`."""
    if parts.identity.role == "user":
        raise Forbidden("A user cannot import a session.", hint="Operators, supervisors, agents and services can.")
    if not callable(lines):
        raise InvalidRequest(f"lines is {lines!r:.60}.", hint="Use a function that begins to read them.")
    verified = verify(lines())
    manifest = verified.manifest
    if manifest.get("kind") != "session":
        raise InvalidRequest("This file is no session's.", hint="Import what `fabricctl session export` has written.")
    if manifest["previous"] is not None:
        raise InvalidRequest(
            "This file continues another one.", hint="Export the session from its beginning, without --continue."
        )
    record, begun = await _begin(parts, verified)
    if not begun:
        return record, False
    who = parts.identity.participant
    await audit.note(parts.broker, record.tenant, record.session, who, "session.imported", chain=verified.head)
    await _write(parts, record.stretch, lines, verified)
    done = await _open(parts, record, verified)
    await _let_go(parts, done)
    return done, True


async def _begin(parts: Parts, verified: Verified) -> tuple[SessionRecord, bool]:
    """Make the record, closed for now; False: it is there, from this very file."""
    found = await parts.directory.find(parts.place, fresh=True)
    new = await _record(parts, verified)
    if found is None:
        record, made = await parts.directory.add(new)
        if made:
            return record, True
        found = (record, 0)
    there = found[0]
    if there.imported is None or there.imported.chain != verified.head:
        if there.imported is not None and not there.imported.done:
            raise SessionExists(
                f"There is a session {parts.place.session!r} already, whose import from another file was cut off.",
                hint="Import that file again, or delete the session, or give the import another name: --as NAME.",
            )
        raise SessionExists(
            f"There is a session {parts.place.session!r} already.", hint="Give the import another name: --as NAME."
        )
    if there.imported.done:
        return there, False
    await parts.broker.log.purge(there.stretch)
    await parts.broker.delete_blobs(there.place)
    return await parts.directory.change(parts.place, lambda r: r.model_copy(update={"segments": new.segments})), True


async def _record(parts: Parts, verified: Verified) -> SessionRecord:
    manifest, segment = verified.manifest, await parts.directory.first_segment(parts.place)
    try:
        return SessionRecord(
            tenant=parts.place.tenant,
            session=parts.place.session,
            created=manifest["created"],
            state="closed",
            labels=manifest["labels"],
            segments=(segment,),
            policy=parse_policy(manifest["policy"]),
            participants=tuple(manifest["participants"]),
            retention=changed({}, manifest["retention"]),
            imported=Imported(chain=verified.head),
        )
    except (KeyError, ValueError, FabricError) as error:
        raise _wrong(1, "it does not describe a session") from error


async def _write(parts: Parts, to: Stretch, lines: Lines, verified: Verified) -> None:
    """Store the events in order; places that are named and hold no event any more get one, which is then removed."""
    log, table = parts.broker.log, dict[Offset, Offset]()
    marks = list(verified.marks)

    def rename(offset: Offset) -> bytes | None:
        return str(table[offset]).encode() if offset in table else None

    for data in Checked().read(lines()):
        if data["type"] == "event":
            offset, body = Offset.parse(data["offset"]), body_of(data)
            while marks and marks[0] < offset:
                ack = await log.publish(to, _mark(marks[0]), ttl_s=600)
                table[marks.pop(0)] = Offset(to.segment, ack.sequence)
            body = renamed(body, data["event"], offset, rename)
            headers = {AT: str(data["ts"])}
            draft = Draft(
                data["event"], body, data["id"], data["kind"], data["name"], data["actor"], IMPORT_WRITER, data["run"],
                headers=headers,
            )  # fmt: skip
            ack = await log.publish(to, draft)
            table[offset] = Offset(to.segment, ack.sequence)
        elif data["type"] == "document":
            key = f"{to.place.key()}.{escape(data['document'])}"
            await parts.broker.bucket("sf-state").put(key, orjson.dumps(data["value"]))
        elif data["type"] == "cursor":
            await _put_cursor(parts, to, data, rename)
    await log.purge(to, wanted=Wanted("tok", _MARKS))


async def _put_cursor(parts: Parts, to: Stretch, data: Data, rename: Callable[[Offset], bytes | None]) -> None:
    key = f"{to.place.key()}.{escape(data['participant'])}.{escape(data['device'])}"
    value = renamed(orjson.dumps(data["value"]), "", Offset(0, 0), rename)
    await parts.broker.bucket("sf-cursors").put(key, value)


def _mark(offset: Offset) -> Draft:
    body = {"type": "TEXT_MESSAGE_START", "messageId": _MARKS, "role": "assistant"}
    by = "service:fabric"
    return Draft(body["type"], orjson.dumps(body), f"mark-{offset}", "tok", _MARKS, by, IMPORT_WRITER, _MARKS)


async def _open(parts: Parts, record: SessionRecord, verified: Verified) -> SessionRecord:
    """Look that all is there once, say that it was imported, and let the session be what it was."""
    to, counted = record.stretch, 0
    head = await parts.broker.log.head(to)
    async with aclosing(parts.broker.log.read(to, after=record.begin, upto=head)) as batches:
        async for records in batches:
            counted += sum(one.parts.kind != "tok" for one in records)
    body: dict[str, Any] = {
        "type": SESSION_IMPORTED,
        "session": verified.manifest["session"],
        "tenant": verified.manifest["tenant"],
        "exported": verified.manifest["at"],
        "chain": verified.head,
    }
    if counted != verified.events:
        raise Conflict("Another import of this file is under way.", hint="Try again when it has ended.", revision=None)
    await parts.writer.append(to, body, id=new_id(), since=None, own=True)

    def done(now: SessionRecord) -> SessionRecord:
        if now.segments != record.segments:
            raise Conflict("Another import of this file began.", hint="Try again when it has ended.", revision=None)
        return now.model_copy(
            update={"state": verified.manifest["state"], "imported": Imported(chain=verified.head, done=True)}
        )

    return await parts.directory.change(parts.place, done)


async def _let_go(parts: Parts, record: SessionRecord) -> None:
    """End what nobody goes on with: runs that were under way, floors that were processes'."""
    if record.state != "open":
        return
    runs: dict[str, bool] = {}
    floors: set[str] = set()
    head = await parts.broker.log.head(record.stretch, kinds=("own",))
    async with aclosing(
        parts.broker.log.read(record.stretch, after=record.begin, upto=head, wanted=[Wanted("own")])
    ) as batches:
        async for records in batches:
            for one in records:
                name = one.parts.name
                if "/" not in name:
                    runs[name] = one.type not in RUN_OVER
                elif name.startswith("floor/"):
                    floors.add(name.removeprefix("floor/"))
    fabric = parts.as_service()
    for run, under_way in runs.items():
        if under_way and await end_run(fabric, run, agent_lost()):
            await close_requests(fabric, run)
    for pool in floors:
        state = await Floor(fabric, pool).state()
        if state.holder is not None:
            await lost(fabric, pool, state.holder)


def _wrong(line: int, why: str) -> Corrupt:
    return Corrupt(
        f"Line {line} is wrong: {why}.", hint="Use another copy of the file; nothing was written.", line=line
    )
