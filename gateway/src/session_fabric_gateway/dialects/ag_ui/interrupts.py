"""What runs ask of people, as AG-UI's interrupts; and what came back, as answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from session_fabric.rules.questions import is_addressed
from session_fabric.words.errors import InvalidRequest

# What TanStack's clients go by: who may resume what.
BINDING: Final = "tanstack:interruptBinding"
# Whoever reads nothing else of it finds the whole question here.
OURS: Final = "session-fabric"
ALREADY_ANSWERED: Final = f"{OURS}:already_answered"
_APPROVAL: Final = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "comment": {"type": "string"}},
    "required": ["approved"],
}
DECLINED: Final = "The user has declined."


class Question(NamedTuple):
    """What a run asks: of a tool `body` has `tool`, `args`, `call`; else `title`, `text`, `options`, `schema`."""

    request: str
    run: str
    kind: str
    body: Mapping[str, Any]
    asked_ms: int

    def is_for(self, participant: str) -> bool:
        """Say whether a participant may answer it on a device that has no name."""
        return is_addressed(self.body.get("to"), participant, None)

    @property
    def call(self) -> str:
        """The tool call of a client's tool, as the run has announced it."""
        call = self.body.get("call")
        return call if isinstance(call, str) else self.request


def question_of(body: Mapping[str, Any], run: str, asked_ms: int) -> Question | None:
    """Read the body of `tool.requested`, `input.requested`; None for what is none."""
    request = body.get("request")
    if not isinstance(request, str):
        return None
    kind = "tool" if body.get("type") == "tool.requested" else str(body.get("kind"))
    return Question(request, run, kind, body, asked_ms)


def interrupt(question: Question, run: str) -> dict[str, Any]:
    """Spell a question as AG-UI's interrupt of a run, `run` being what its reader calls that."""
    body = question.body
    title, text = body.get("title"), body.get("text")
    said = " ".join(part for part in (title, text) if isinstance(part, str) and part)
    kept = ("title", "text", "options", "schema", "to", "default")
    metadata = {
        BINDING: {
            "v": 1,
            "kind": "generic",
            "interruptId": question.request,
            "interruptedRunId": run,
            "generation": 0,
        },
        OURS: {"kind": question.kind, **{name: body[name] for name in kept if body.get(name) is not None}},
    }
    spelled = {"id": question.request, "reason": f"{OURS}:{question.kind}", "message": said, "metadata": metadata}
    deadline_ms = body.get("deadline_ms")
    if isinstance(deadline_ms, int) and not isinstance(deadline_ms, bool):
        until = datetime.fromtimestamp((question.asked_ms + deadline_ms) / 1000, UTC)
        spelled["expiresAt"] = until.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return spelled


def response_schema(question: Question) -> dict[str, Any] | None:
    """Return the JSON Schema of what answers a question.

    Not for TanStack's clients: they take an interrupt with a schema for theirs only with a hash of it in their own way.
    """
    body = question.body
    match question.kind:
        case "approval":
            return dict(_APPROVAL)
        case "choice":
            options = body.get("options")
            names = [o.get("id") if isinstance(o, dict) else o for o in options] if isinstance(options, list) else []
            return {"enum": names}
        case "text":
            return {"type": "string"}
        case "form":
            schema = body.get("schema")
            return dict(schema) if isinstance(schema, dict) else None
    return None


class Answer(NamedTuple):
    """What a client says to a request: a body, a tool's error, or (`abandons`) that it will not be answered."""

    request: str
    body: Any = None
    error: str | None = None
    abandons: bool = False


def resumed(entries: object) -> list[Answer]:
    """Read AG-UI's `resume`. Raises `InvalidRequest`, which names the entry."""
    if not isinstance(entries, list):
        raise InvalidRequest(f"resume is {entries!r:.60}.", hint="Send a list of resume entries.", field="resume")
    answers = []
    for entry in entries:
        request = entry.get("interruptId") if isinstance(entry, dict) else None
        status = entry.get("status") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(request, str) or status not in ("resolved", "cancelled"):
            raise InvalidRequest(
                f"The resume entry is {entry!r:.100}.",
                hint='Use {"interruptId":"…","status":"resolved","payload":…}, or "cancelled".',
                field="resume",
            )
        if status == "cancelled":
            answers.append(Answer(request, abandons=True))
        else:
            answers.append(Answer(request, entry.get("payload")))
    return answers


def fitting(kind: str, body: Any) -> Any:
    """Return what an answer's body is for this kind of request: a mere yes or no approves or does not."""
    return {"approved": body} if kind == "approval" and isinstance(body, bool) else body
