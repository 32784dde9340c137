"""What the OpenAPI document says of fields beyond their types: of which form a name, an id or an offset is."""

from __future__ import annotations

from typing import Any, Final

from session_fabric.rules import retention
from session_fabric.rules.floor import MOST_NOTE, MOST_OFFER_MS
from session_fabric.rules.policy import Policy
from session_fabric.rules.retention import INHERIT

Json = dict[str, Any]

OFFSET: Final[Json] = {"type": "string", "pattern": r"^[0-9]{16}_[0-9]{16}$"}
NAME: Final[Json] = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_:@~-]{0,127}$"}
_ID: Final[Json] = {"type": "string", "pattern": r"^[A-Za-z0-9_:.~@=-]{1,128}$"}
_ROLES: Final = "(user|agent|operator|supervisor|service)"
_WHO: Final = _ROLES + r":[^\x00-\x20\x7f*>]{1,128}"
_PARTICIPANT: Final[Json] = {"type": "string", "pattern": f"^{_WHO}$"}
_OBJECT: Final[Json] = {"type": "object"}
_TYPE: Final[Json] = {"type": "string", "pattern": r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"}

_LIMIT: Final[Json] = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}, {"const": INHERIT}]}
_RETENTION: Final[Json] = {
    "type": "object",
    "properties": dict.fromkeys(retention.FIELDS, _LIMIT),
    "additionalProperties": False,
}

# By the names of fields, which mean the same everywhere.
_FORMS: Final[dict[str, Json]] = {
    "session": NAME,
    "participant": _PARTICIPANT,
    "participants": {"type": "array", "items": _PARTICIPANT, "maxItems": 200},
    # `_` names are the fabric's own.
    "document": {"type": "string", "pattern": r"^[A-Za-z0-9:.~@=-][A-Za-z0-9_:.~@=-]{0,127}$"},
    "request": _ID,
    "run": _ID,
    "pool": _ID,
    "device": _ID,
    "event": _ID,
    "id": _ID,
    "at": OFFSET,
    "since": OFFSET,
    "offset": OFFSET,
    "before": {"type": "string", "pattern": r"^(tail|[0-9]{16}_[0-9]{16})$"},
    "after": {"type": "string", "pattern": r"^(start|tail|[0-9]{16}_[0-9]{16})$"},
    "cursor": {"type": "string", "pattern": r"^[0-9]{16}~.+$"},
    "to": {"type": "string", "pattern": rf"^(role:{_ROLES}|pool:[A-Za-z0-9_:.~@=-]{{1,128}}|{_WHO})$"},
    "revision": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
    "note": {"type": "string", "maxLength": MOST_NOTE},
    "text": {"type": "string", "minLength": 1},
    "policy": Policy.model_json_schema(),
    "hold": {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$"},
    "reason": {"type": "string", "minLength": 1, "maxLength": 1000},
    "chain": {"type": "string", "pattern": r"^[0-9a-f]{64}$"},
    "retention": _RETENTION,
    "message": {"type": "object", "properties": {"id": _ID, "content": {"type": "string"}}, "required": ["content"]},
}  # fmt: skip
# Where a field of one name is another's elsewhere: by the end of the path.
_ELSEWHERE: Final[dict[tuple[str, str], Json]] = {
    ("/state/{document}", "body"): _OBJECT,
    ("/events", "body"): {"type": "object", "properties": {"type": _TYPE}, "required": ["type"]},
    ("/handoffs", "deadline_ms"): {"type": "integer", "minimum": 1, "maximum": MOST_OFFER_MS},
    ("/messages", "before"): OFFSET,
    ("/redactions", "message"): _ID,
    ("/export", "after"): OFFSET,
    ("/redactions", "target"): _ID,
}


def formed(path: str, name: str, schema: Json) -> Json:
    """Return a field's schema with its form; its default, and that it may be null, stay."""
    known = _ELSEWHERE.get((path.removeprefix("/v1/sessions/{session}"), name)) or _FORMS.get(name)
    if known is None:
        return schema
    kept = {key: value for key, value in schema.items() if key in ("title", "default", "description")}
    null = {"type": "null"}
    if null in schema.get("anyOf", ()):
        return {"anyOf": [known, null], **kept}
    return {**known, **kept}
