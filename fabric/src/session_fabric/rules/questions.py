"""What may be asked of participants, of whom, and which answers are good. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from session_fabric.words.errors import InvalidName, InvalidRequest, TooLarge
from session_fabric.words.names import check_id, check_participant

if TYPE_CHECKING:
    from session_fabric.rules.forms import Form

InputKind = Literal["approval", "choice", "text", "form"]
RequestKind = Literal["tool", "approval", "choice", "text", "form"]
INPUT_KINDS: Final[tuple[InputKind, ...]] = ("approval", "choice", "text", "form")
ROLES: Final = ("user", "agent", "operator", "supervisor", "service")
# What is asked, and what is answered, is kept inline.
MAX_BODY_BYTES: Final = 256 * 1024
# 30 days.
MAX_DEADLINE_MS: Final = 30 * 86_400_000


# --- to whom it is addressed ------------------------------------------------------------------------


def check_to(to: object) -> None:
    """Raise `InvalidRequest` unless it names whom to ask."""
    hint = 'Use None (anybody), "user:ada", "role:operator" or {"participant":"user:ada","device":"d1"}.'
    try:
        if isinstance(to, str):
            role = to.removeprefix("role:")
            if role != to and role not in ROLES:
                raise InvalidRequest(f"There is no role {role!r:.40}.", hint=f"Roles are {', '.join(ROLES)}.")
            if role == to:
                check_participant(to)
            return
        if to is None:
            return
        if isinstance(to, dict) and to.keys() == {"participant", "device"}:
            check_participant(to["participant"])
            check_id(to["device"], "device")
            return
    except InvalidName as error:
        raise InvalidRequest(f"The request is addressed wrongly: {error.message}", hint=hint) from error
    raise InvalidRequest(f"{to!r:.80} is nobody to ask.", hint=hint)


def is_addressed(to: object, participant: str, device: str | None) -> bool:
    """Say whether a participant, on this device, may answer what is addressed like this."""
    if to is None:
        return True
    if isinstance(to, str):
        return to == participant or to == f"role:{participant.partition(':')[0]}"
    return isinstance(to, dict) and (to.get("participant"), to.get("device")) == (participant, device)


# --- what is asked ------------------------------------------------------------------------------------


def check_question(body: Mapping[str, Any], kind: RequestKind) -> None:
    """Raise `InvalidRequest` or `TooLarge` for what nobody could answer."""
    check_to(body.get("to"))
    check_deadline(body.get("deadline_ms"))
    check_size(body, "request")
    named = body.get("tool") if kind == "tool" else body.get("title")
    if not isinstance(named, str) or not named:
        raise InvalidRequest(f"The {'tool' if kind == 'tool' else 'title'} is {named!r:.60}.", hint="Give it a name.")
    if kind == "choice":
        _check_options(body.get("options"))
    if kind == "form":
        _form(body.get("schema"))
    if "default" in body:
        if body.get("deadline_ms") is None:
            raise InvalidRequest("A default needs a deadline.", hint="Give deadline_s too.")
        try:
            check_answer(kind, body, body["default"])
        except InvalidRequest as error:
            raise InvalidRequest(f"The default is no answer: {error.message}", hint=error.hint) from error


def check_deadline(deadline_ms: object) -> None:
    if deadline_ms is None or (isinstance(deadline_ms, int) and 1 <= deadline_ms <= MAX_DEADLINE_MS):
        return
    raise InvalidRequest(
        f"The deadline is {deadline_ms!r:.40} ms.", hint=f"Use 1 to {MAX_DEADLINE_MS} (30 days).", limit=MAX_DEADLINE_MS
    )


def check_size(body: object, what: str) -> None:
    """Raise `TooLarge`, or `InvalidRequest` for what is not JSON."""
    try:
        size = len(orjson.dumps(body))
    except orjson.JSONEncodeError as error:
        raise InvalidRequest(f"The {what} is not JSON: {error}.", hint="Use what JSON can say.") from error
    if size > MAX_BODY_BYTES:
        raise TooLarge(
            f"The {what} has {size} bytes; {MAX_BODY_BYTES} is the most.",
            hint="Store it elsewhere and answer with a link.",
            limit=MAX_BODY_BYTES,
        )


def _check_options(options: object) -> None:
    names = _options(options)
    if not names or len(set(names)) < len(names):
        raise InvalidRequest(
            f"The options are {options!r:.80}.",
            hint='Use different texts, or objects with an id: ["S","M"] or [{"id":"s","label":"Small"}].',
        )


def _options(options: object) -> list[str]:
    """Return what may be chosen; nothing where an option is neither text nor has an id."""
    listed = list(options) if isinstance(options, Sequence) and not isinstance(options, str) else []
    names = [option.get("id") if isinstance(option, dict) else option for option in listed]
    return [name for name in names if isinstance(name, str)] if all(isinstance(n, str) for n in names) else []


# --- what is answered -----------------------------------------------------------------------------------


def check_answer(kind: RequestKind, asked: Mapping[str, Any], body: Any) -> None:
    """Raise `InvalidRequest` for what is no answer to what was asked (a tool's result may be any JSON)."""
    if kind == "approval":
        approved = body.get("approved") if isinstance(body, dict) else None
        if not isinstance(approved, bool) or not isinstance(body.get("comment"), str | None):
            raise InvalidRequest(
                "The answer to an approval says whether it is `approved`.",
                hint='Answer {"approved":true} or {"approved":false,"comment":"why"}.',
            )
    elif kind == "choice":
        options = _options(asked.get("options"))
        if body not in options:
            raise InvalidRequest(f"{body!r:.60} is none of the options.", hint=f"Choose {', '.join(options):.300}.")
    elif kind == "text":
        if not isinstance(body, str):
            raise InvalidRequest(f"The answer is {body!r:.60}.", hint="Answer with text.")
    elif kind == "form":
        _check_form(asked.get("schema"), body)


def _form(schema: object) -> Form:
    # Here, not above: it takes a moment to be loaded, and most programs never ask with a form.
    from session_fabric.rules.forms import Form

    return Form(schema)


def _check_form(schema: Any, body: Any) -> None:
    try:
        form = _form(schema)
    except InvalidRequest as error:
        raise InvalidRequest(
            f"The request's schema cannot be used: {error.message}", hint="The agent has to ask again."
        ) from error
    form.check(body)
