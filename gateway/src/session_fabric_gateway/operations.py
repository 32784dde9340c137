"""What a client may send on the socket (docs/protocol.md section 4), and how a wrong frame is named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from session_fabric.rules.controls import MAX_DEADLINE_MS, Action
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.parsing import read_json
from session_fabric.words.traces import PARENT, STATE, TraceContext, parse_trace
from session_fabric.words.version import VERSION

# JavaScript's largest exact integer: what every client can echo.
RequestId = Annotated[int, Field(ge=0, le=2**53 - 1)]
Object = dict[str, Any]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Asked(Frozen):
    """What every operation on a session has; a capability's model adds `op` and its own fields."""

    id: RequestId
    session: str


class Hello(Frozen):
    op: Literal["hello"]
    token: str | None = None
    device: str | None = None
    client: Annotated[str, Field(max_length=200)] | None = None
    deltas: Literal["compact"] | None = None


class Open(Frozen):
    op: Literal["open"]
    id: RequestId
    session: str
    after: str = "start"
    view: Literal["full", "messages"] = "full"
    presence: Object | None = None


class NewEvent(Frozen):
    id: str | None = None
    body: Any


class Append(Frozen):
    op: Literal["append"]
    id: RequestId
    session: str
    event: NewEvent
    since: str | None = None


class Control(Frozen):
    op: Literal["control"]
    id: RequestId
    session: str
    run: str
    action: Action
    body: Object | None = None
    event: str | None = None
    deadline_ms: Annotated[int | None, Field(ge=1, le=MAX_DEADLINE_MS)] = None


class Who(Frozen):
    op: Literal["who"]
    id: RequestId
    session: str


class Signal(Frozen):
    op: Literal["signal"]
    id: RequestId | None = None
    session: str
    body: Object


class CloseSub(Frozen):
    op: Literal["close"]
    id: RequestId | None = None
    sub: int


class Ping(Frozen):
    op: Literal["ping"]
    id: RequestId | None = None


class Refresh(Frozen):
    op: Literal["refresh"]
    id: RequestId
    token: str


Operation = Hello | Open | Append | Control | Who | Signal | CloseSub | Ping | Refresh

_MODELS: Final[Mapping[str, type[Operation]]] = {
    "hello": Hello,
    "open": Open,
    "append": Append,
    "control": Control,
    "who": Who,
    "signal": Signal,
    "close": CloseSub,
    "ping": Ping,
    "refresh": Refresh,
}


class PostedRefresh(Frozen):
    token: str


class NewSession(Frozen):
    session: str | None = None
    labels: dict[str, str] | None = None
    participants: Annotated[list[str], Field(max_length=200)] = []


class PostedEvent(Frozen):
    id: str | None = None
    body: Any
    since: str | None = None


class PostedControl(Frozen):
    id: str | None = None
    run: str
    action: Action
    body: Object | None = None
    deadline_ms: Annotated[int | None, Field(ge=1, le=MAX_DEADLINE_MS)] = None


class PostedFork(Frozen):
    at: str
    session: str | None = None


class Sent(NamedTuple):
    """What a frame asks for; `trace`: what it is part of, where it says so."""

    op: str
    operation: Operation | Asked
    trace: TraceContext | None


Model = TypeVar("Model", bound=BaseModel)


# Clients are upgraded last (docs/upgrading.md): one that knows more than we do has come too early.
_NEWER: Final = f"This gateway is {VERSION}, protocol v1: a newer client has to wait for newer gateways."
# First, or behind the `op`: further on it might be another's, as in a body.
_ID: Final = re.compile(rb'\s*\{\s*(?:"op"\s*:\s*"[a-z.]{1,40}"\s*,\s*)?"id"\s*:\s*([0-9]{1,16})\s*[,}]')


class Unreadable(InvalidRequest):
    """A frame that cannot be carried out; `id` is the client's number where it could be read."""

    id: int | None = None


def parsed(data: bytes, what: str, hint: str) -> object:
    """Read JSON. Raises `InvalidRequest`."""
    try:
        return read_json(data)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"{what} is not JSON: {error}.", hint=hint) from error


def glimpsed(data: bytes) -> int | None:
    """Return the id of a request that is not read whole, where it stands at the beginning."""
    found = _ID.match(data, 0, 256)
    return None if found is None else int(found[1])


def parse(data: bytes, others: Mapping[str, type[Asked]]) -> Sent:
    """Read one frame (valid UTF-8); `others` are the operations of capabilities.

    What is wrong with a trace is passed over. Raises `Unreadable`, which names what is wrong, and `id` where it can be
    read.
    """
    try:
        value = parsed(data, "The frame", "Send one JSON object a frame.")
    except InvalidRequest as error:
        raise _unreadable(error, glimpsed(data)) from error
    if not isinstance(value, dict):
        raise Unreadable(f"A frame is a JSON object; this one is {_kind(value)}.", hint='For example {"op":"ping"}.')
    op = value.get("op")
    model: type[Operation | Asked] | None = None
    if isinstance(op, str):
        model = _MODELS.get(op) or others.get(op)
    try:
        if model is None:
            known = ", ".join((*_MODELS, *others))
            said = "has no op" if "op" not in value else f"has the op {_shown(op)}, which is unknown"
            raise Unreadable(f"The frame {said}.", hint=f"{_NEWER} Known are {known}.")
        trace = parse_trace(value.pop(PARENT, None), value.pop(STATE, None))
        return Sent(str(op), check(model, value, f"The {op} frame"), trace)
    except InvalidRequest as error:
        # Not by a name of its own here: an error that its own frame holds is left to the garbage collector.
        raise _unreadable(error, value.get("id")) from error


def _unreadable(error: InvalidRequest, id: object) -> Unreadable:
    wrong = Unreadable(error.message, hint=error.hint, **error.facts)
    wrong.id = id if isinstance(id, int) and not isinstance(id, bool) else None
    return wrong


def check(model: type[Model], value: object, what: str) -> Model:
    """Validate a JSON value. Raises `InvalidRequest` that names the first wrong field, and never what was in it."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} is {_kind(value)}.", hint="Send a JSON object.")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        fields = ", ".join(field.alias or name for name, field in model.model_fields.items())
        hint = f"Its fields are {fields}. {_NEWER}"
        match first["type"]:
            case "extra_forbidden":
                sentence = f"{what} has no field {field!r:.80}."
            case "missing":
                sentence = f"{what} lacks the field {field!r:.80}."
            case _:
                sentence = f"{what} has a wrong {field!r:.80}: {first['msg'][:1].lower()}{first['msg'][1:]:.200}."
                hint = ""
        raise InvalidRequest(sentence, hint=hint, field=field[:80]) from error


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {list: "an array", str: "a string", bool: "a boolean"}.get(type(value), "a number")


def _shown(value: object) -> str:
    return repr(value)[:60] if isinstance(value, str) else "missing" if value is None else "not a string"
