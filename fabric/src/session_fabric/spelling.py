"""What ports take and give, as `words.packing` carries it between a remote broker and the relay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from session_fabric.ports import Entry, Guard, Home, Stretch, Wanted
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.events import DeltaRef, Draft
from session_fabric.words.subjects import KINDS, Place
from session_fabric.words.wire import Record


def spell_stretch(to: Stretch) -> list[Any]:
    return [*to.home, *to.place, to.segment]


def read_stretch(told: Any) -> Stretch:
    match told:
        case [str(stream), str(epoch), str(tenant), str(session), int(segment)]:
            return Stretch(Home(stream, epoch), Place(tenant, session), segment)
    raise _wrong("stretch", told)


def read_place(told: Any) -> Place:
    match told:
        case [str(tenant), str(session)]:
            return Place(tenant, session)
    raise _wrong("place", told)


def spell_wanted(wanted: Sequence[Wanted]) -> list[Any]:
    return [list(one) for one in wanted]


def read_wanted(told: Any) -> list[Wanted]:
    found = []
    for one in told if isinstance(told, list) else [None]:
        match one:
            case [str(kind), str() | None as name, int(after)] if kind in KINDS:
                found.append(Wanted(kind, name, after))
            case _:
                raise _wrong("filter", one)
    return found


def read_guard(told: Any) -> Guard | None:
    match told:
        case None:
            return None
        case [str(kind), str(name), int(sequence)] if kind in KINDS:
            return Guard(kind, name, sequence)
    raise _wrong("guard", told)


def spell_draft(draft: Draft) -> dict[str, Any]:
    return {
        "type": draft.type,
        "id": draft.id,
        "kind": draft.kind,
        "name": draft.name,
        "actor": draft.actor,
        "writer": draft.writer,
        "run": draft.run,
        "delta": None if draft.delta is None else list(draft.delta),
        "headers": dict(draft.headers),
    }


def read_draft(told: Any, body: bytes) -> Draft:
    match told:
        case {
            "type": str(type),
            "id": str(id),
            "kind": str(kind),
            "name": str(name),
            "actor": str(actor),
            "writer": str(writer),
            "run": str() | None as run,
            "delta": None | [str(), int()] as delta,
            "headers": dict(headers),
        } if kind in KINDS:
            ref = None if delta is None else DeltaRef(*delta)
            texts = {str(name): str(value) for name, value in headers.items()}
            return Draft(type, body, id, kind, name, actor, writer, run, ref, headers=texts)
    raise _wrong("event", told)


def spell_record(record: Record) -> tuple[list[Any], list[bytes]]:
    told = [record.segment, record.sequence, record.previous, record.subject, record.ts]
    return told, [record.head, record.payload]


def read_record(told: Sequence[Any], head: bytes, payload: bytes) -> Record:
    segment, sequence, previous, subject, ts = told
    return Record(segment, sequence, previous, subject, head, payload, ts)


def spell_entry(entry: Entry) -> tuple[list[Any], bytes]:
    return [entry.key, entry.revision, entry.value is not None], entry.value or b""


def read_entry(told: Sequence[Any], value: bytes) -> Entry:
    key, revision, there = told
    return Entry(key, value if there else None, revision)


def _wrong(what: str, told: Any) -> InvalidRequest:
    return InvalidRequest(f"{told!r:.120} is no {what}.", hint="Use the SDK.")
