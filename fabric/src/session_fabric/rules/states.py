"""Shared documents: their form in the bucket, their names and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from session_fabric.words.errors import Forbidden, InvalidRequest, TooLarge
from session_fabric.words.names import check_id
from session_fabric.words.parsing import read_json

MOST_BYTES: Final = 256 * 1024
MOST_DOCUMENTS: Final = 100
# Deleted ones keep their history until a new one needs the room: the oldest of them goes.
MOST_NAMES: Final = 200
# The documents that the fabric itself keeps: computed, never written.
TOOLS: Final = "_tools"
SEEN: Final = "_seen"
OWN: Final = (TOOLS, SEEN)


class State(NamedTuple):
    """A document as it was at a revision. `body` None: deleted then, or never there (`revision` 0).

    `by` is who wrote it, `ts` milliseconds since 1970 by the writer's clock; None where nobody has.
    """

    document: str
    revision: int
    body: dict[str, Any] | None
    by: str | None
    ts: int | None

    def plain(self) -> dict[str, Any]:
        """Return the form that frames and HTTP answers have."""
        return self._asdict()


def nothing(document: str) -> State:
    """Return what there is where there is no document."""
    return State(document, 0, None, None, None)


def check_document(name: object) -> str:
    """Return a document's name. Raises `InvalidName`, and `InvalidRequest` for a `_` name that is none of ours."""
    checked = check_id(name, "document id")
    if checked.startswith("_") and checked not in OWN:
        raise InvalidRequest(
            f"There is no document {checked!r:.80} of the fabric's own.",
            hint=f"Names that begin with _ are the fabric's: {', '.join(OWN)}. Choose another for yours.",
            document=checked,
        )
    return checked


def check_writable(name: str) -> None:
    """Raise `Forbidden` for a document that only the fabric writes."""
    if name.startswith("_"):
        raise Forbidden(
            f"{name!r} is the fabric's own document: it can be read, not written.",
            hint="Choose a name without _ in front for yours.",
            document=name,
        )


def check_revision(revision: object) -> int | None:
    if revision is None or (isinstance(revision, int) and not isinstance(revision, bool) and revision >= 0):
        return revision
    raise InvalidRequest(
        f"A document has no revision {revision!r:.40}.",
        hint="Use one that you were given, 0 for a document that must not exist, or none to write whatever is there.",
        field="revision",
    )


def check_body(document: str, body: object, what: str = "body") -> dict[str, Any]:
    """Return a body or patch as plain JSON, a copy. Raises `InvalidRequest` (no JSON object), `TooLarge`."""
    if not isinstance(body, Mapping):
        raise InvalidRequest(
            f"The {what} of document {document!r} is {type(body).__name__}, not a JSON object.",
            hint='For example {"step":1}; delete the document to remove it.',
            document=document,
        )
    try:
        raw = orjson.dumps(dict(body))
        checked: dict[str, Any] = orjson.loads(raw)
    except (orjson.JSONEncodeError, orjson.JSONDecodeError) as error:
        raise InvalidRequest(
            f"The {what} of document {document!r} is not JSON: {error}.", hint="Use JSON values.", document=document
        ) from error
    if len(raw) > MOST_BYTES:
        raise TooLarge(
            f"The {what} of document {document!r} has {len(raw)} bytes; {MOST_BYTES} is the most.",
            hint="Split it into several documents, or keep a link to it.",
            limit=MOST_BYTES,
            document=document,
        )
    return checked


def spell(body: Mapping[str, Any] | None, by: str, ts: int) -> bytes:
    """Return a document's bytes in the bucket; a `body` of null stands for a deletion."""
    return orjson.dumps({"by": by, "ts": ts, "body": body})


def read(document: str, revision: int, value: bytes | None) -> State:
    """Read what the bucket has; what a stranger wrote there that is no document counts as none."""
    if value is None:
        return nothing(document)._replace(revision=revision)
    try:
        found = read_json(value)
        by, ts, body = found["by"], found["ts"], found["body"]
        if isinstance(by, str) and isinstance(ts, int) and (body is None or isinstance(body, dict)):
            return State(document, revision, body, by, ts)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        pass
    return nothing(document)._replace(revision=revision)
