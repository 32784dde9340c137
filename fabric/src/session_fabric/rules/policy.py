"""What happens to a message that comes while an agent is at work. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from session_fabric.words.errors import InvalidRequest

WhenBusy = Literal["queue", "concurrent", "interrupt", "steer", "reject"]
WAYS: Final[tuple[WhenBusy, ...]] = get_args(WhenBusy)
Move = Literal["start", "wait", "interrupt", "steer", "reject"]


class Policy(BaseModel):
    """A session's rules for its agents; kept in its record, the same for every device.

    `when_busy`: what becomes of a message while a run of its pool is active: `queue` (it waits), `concurrent` (it is
    answered at once, beside the others), `interrupt` (they stop, their output kept), `steer` (they take it into
    account, where they can; else it waits) or `reject`. `answer_within_s`: a message that nobody took by then expires.
    `strict`: a message's own `when_busy` counts for nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    when_busy: WhenBusy = "queue"
    answer_within_s: Annotated[int, Field(ge=1, le=86_400)] = 300
    strict: Annotated[bool, Field(strict=True)] = False


def parse_policy(given: Mapping[str, Any]) -> Policy:
    """Read a policy. Raises `InvalidRequest` that names the wrong field."""
    try:
        return Policy.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(
            f"The policy has a wrong {field!r:.80}: {first['msg'][:1].lower()}{first['msg'][1:]:.200}.",
            hint=f"Its fields are {', '.join(Policy.model_fields)}; when_busy is one of {', '.join(WAYS)}.",
            field=field[:80],
        ) from error


def way_of(policy: Policy, body: Mapping[str, Any]) -> WhenBusy:
    """Return how an input is dealt with: as it says itself, unless the policy is strict, else as that says.

    What redirects a run, for which a control of its own is granted, interrupts it in any case.
    """
    said = asked_way(body)
    if policy.strict and not (said == "interrupt" and "redirects" in body):
        return policy.when_busy
    return said or policy.when_busy


def asked_way(body: Mapping[str, Any]) -> WhenBusy | None:
    """Return how an input itself says that it be dealt with."""
    said = body.get("when_busy")
    return next((way for way in WAYS if way == said), None)


def next_move(way: WhenBusy, active: int, *, steerable: bool, stopping: bool) -> Move:
    """Say what to do with the oldest waiting input, `active` runs of its pool being under way.

    `stopping`: they have been told to stop already.
    """
    if active == 0 or way == "concurrent":
        return "start"
    if way == "interrupt":
        return "wait" if stopping else "interrupt"
    if way == "steer":
        return "steer" if steerable and not stopping else "wait"
    return "reject" if way == "reject" else "wait"
