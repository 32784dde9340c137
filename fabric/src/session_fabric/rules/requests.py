"""Requests to participants: what is asked, where it stands, who may claim and answer it now. Pure: `now` comes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

import orjson

from session_fabric.rules.questions import INPUT_KINDS, MAX_DEADLINE_MS, RequestKind, is_addressed
from session_fabric.words.errors import (
    AlreadyAnswered,
    AlreadyClaimed,
    FabricError,
    Forbidden,
    RequestClosed,
)
from session_fabric.words.events import (
    INPUT_ANSWERED,
    INPUT_EXPIRED,
    INPUT_REQUESTED,
    TOOL_ANSWERED,
    TOOL_CLAIMED,
    TOOL_EXPIRED,
    TOOL_REQUESTED,
    Event,
)
from session_fabric.words.names import is_id
from session_fabric.words.positions import Offset

ASKED: Final = frozenset({TOOL_REQUESTED, INPUT_REQUESTED})
ANSWERED: Final = frozenset({TOOL_ANSWERED, INPUT_ANSWERED})
SETTLED: Final = ANSWERED | {TOOL_EXPIRED, INPUT_EXPIRED}

# Who begins to work on a tool request has it for this long; claiming again begins anew.
CLAIM_MS: Final = 30_000
_MOST_ID: Final = 100


class Answer(NamedTuple):
    """What was answered, and by whom; `defaulted`: by nobody, so that the default counts."""

    body: Any
    by: str
    defaulted: bool


class Approval(NamedTuple):
    """Whether it was approved, by whom, and what they said to it."""

    approved: bool
    by: str
    comment: str | None
    defaulted: bool


class Claim(NamedTuple):
    """Who works on a request, on which device, and until when (milliseconds since 1970)."""

    by: str
    device: str | None
    until: int


@dataclass(frozen=True, slots=True)
class Request:
    """What a run asks of participants. `deadline` is milliseconds since 1970, None: it waits as long as its run.

    `body` is the event's: `tool`, `args` and `call` of a tool, else `title`, `text`, `options`, `schema`, `default`.
    `claimed`: who has said that they work on it; the claim may have lapsed.
    """

    request: str
    kind: RequestKind
    run: str
    to: Any
    offset: Offset
    asked: int
    deadline: int | None
    body: Mapping[str, Any] = field(repr=False)
    claimed: Claim | None = None

    @property
    def tool(self) -> str | None:
        """The name of the client tool to be called."""
        tool = self.body.get("tool")
        return tool if isinstance(tool, str) else None

    @property
    def args(self) -> Mapping[str, Any]:
        """What the client tool is called with."""
        args = self.body.get("args")
        return args if isinstance(args, dict) else {}

    def public(self) -> dict[str, Any]:
        """Spell it as the gateway does."""
        names = ("tool", "args", "call", "title", "text", "options", "schema", "default")
        return {
            "request": self.request,
            "kind": self.kind,
            "run": self.run,
            **{name: self.body[name] for name in names if name in self.body},
            "to": self.to,
            "offset": str(self.offset),
            "asked": self.asked,
            "deadline": self.deadline,
            "claimed": None if self.claimed is None else self.claimed._asdict(),
        }


def request_id(run: str, kind: str, number: int) -> str:
    """Name a run's request, the same for whoever runs its handler again."""
    return derived(f"{run}.{kind}", str(number))


def derived(id: str, suffix: str) -> str:
    """Return an id made of another; of one that is too long, of its hash."""
    head = id if len(id) <= _MOST_ID else f"~{sha256(id.encode()).hexdigest()[:32]}"
    return f"{head}.{suffix}"


def answer_id(request: str, participant: str, device: str | None, given: Mapping[str, Any]) -> str:
    """Return the id of an answer's event: the same answer sent again from one device is one event."""
    what = orjson.dumps([participant, device, given], option=orjson.OPT_SORT_KEYS)
    return derived(request, sha256(what).hexdigest()[:24])


def check_addressed(request: Request, participant: str, device: str | None) -> None:
    """Raise `Forbidden`, which names to whom the request is addressed."""
    if is_addressed(request.to, participant, device):
        return
    to = request.to
    shown = f"{to.get('participant')} on device {to.get('device')}" if isinstance(to, dict) else str(to)
    on = "" if not isinstance(to, dict) or device is None else f" on device {device}"
    raise Forbidden(
        f"The request {request.request!r} is addressed to {shown:.200}; you are {participant}{on}.",
        hint="Only they can claim or answer it.",
        request=request.request,
        to=to,
    )


# --- where a request stands -----------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What became of a request: an answer, or that it is over without one."""

    type: str
    offset: Offset
    by: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest event on a request's `own` subject: a claim, its outcome, or (sequence 0) nothing yet."""

    sequence: int = 0
    claim: Claim | None = None
    outcome: Outcome | None = None


def parse_request(event: Event) -> Request | None:
    """Read a request's event; None for what a stranger stored that is none."""
    body = event.body
    run, deadline_ms = body.get("run"), body.get("deadline_ms")
    kinds: tuple[RequestKind, ...] = ("tool",) if event.type == TOOL_REQUESTED else INPUT_KINDS
    said = "tool" if event.type == TOOL_REQUESTED else body.get("kind")
    kind = next((known for known in kinds if known == said), None)
    if event.type not in ASKED or kind is None or not isinstance(run, str) or not is_id(run):
        return None
    limit = deadline_ms if isinstance(deadline_ms, int) and deadline_ms > 0 else None
    deadline = None if limit is None else event.ts + min(limit, MAX_DEADLINE_MS)
    return Request(event.id, kind, run, body.get("to"), event.offset, event.ts, deadline, body)


def standing_of(newest: Event | None) -> Standing:
    """Read the newest event on a request's subject."""
    if newest is None:
        return Standing()
    body, sequence = newest.body, newest.offset.sequence
    if newest.type in SETTLED:
        # Who answered is who wrote it, whatever the body says; a default counts in the fabric's name.
        by = str(body.get("by")) if body.get("defaulted") is True else newest.actor
        return Standing(sequence, outcome=Outcome(newest.type, newest.offset, by, body))
    if newest.type == TOOL_CLAIMED:
        until, device = body.get("until"), body.get("device")
        # By the broker's clock at the most, whatever the claimer's says.
        end = min(until, newest.ts + CLAIM_MS) if isinstance(until, int) else newest.ts + CLAIM_MS
        claim = Claim(newest.actor, device if isinstance(device, str) else None, end)
        return Standing(sequence, claim=claim)
    return Standing(sequence)


def refusal(
    request: Request, standing: Standing, participant: str, device: str | None, now_ms: int
) -> FabricError | None:
    """Return why a participant can neither claim nor answer it now; None where they can."""
    outcome, claim = standing.outcome, standing.claim
    if outcome is not None and outcome.type in ANSWERED and outcome.body.get("defaulted") is not True:
        return AlreadyAnswered(
            f"The request {request.request!r} was answered by {outcome.by}.",
            hint="The first answer counts.",
            request=request.request,
            by=outcome.by,
            offset=str(outcome.offset),
        )
    if outcome is not None:
        reason = outcome.body.get("reason", "deadline")
        why = "its run has ended" if reason == "run_ended" else "its deadline has passed"
        return RequestClosed(
            f"The request {request.request!r} is closed: {why}.",
            hint="Nothing can be answered any more.",
            request=request.request,
            outcome=outcome.type,
            reason=reason,
            offset=str(outcome.offset),
        )
    if claim is not None and (claim.by, claim.device) != (participant, device) and now_ms < claim.until:
        return AlreadyClaimed(
            f"{claim.by} is working on the request {request.request!r}.",
            hint="It is free again when they have not answered by then.",
            request=request.request,
            by=claim.by,
            device=claim.device,
            until=claim.until,
        )
    return None


def is_due(request: Request, now_ms: int) -> bool:
    """Say whether its deadline has passed."""
    return request.deadline is not None and now_ms >= request.deadline


def expiry(request: Request, reason: Literal["deadline", "run_ended"], by: str) -> dict[str, Any]:
    """Return the body of what ends a request without an answer: its default, where it has one for its deadline."""
    common: dict[str, Any] = {"request": request.request, "run": request.run}
    if reason == "deadline" and "default" in request.body and request.kind != "tool":
        answer = {"by": by, "device": None, "body": request.body["default"], "defaulted": True}
        return {"type": INPUT_ANSWERED, **common, **answer}
    return {"type": TOOL_EXPIRED if request.kind == "tool" else INPUT_EXPIRED, **common, "reason": reason}
