"""What a `RunAgentInput` asks for. A rule: what the session holds comes in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from session_fabric.rules.messages import Message
from session_fabric.rules.requests import Request, derived
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.events import MESSAGE_REGENERATE, MESSAGE_USER
from session_fabric.words.parsing import json_or_text

from session_fabric_gateway.dialects.ag_ui.interrupts import Answer, resumed

# What goes to the agent with the message, where there is any of it.
_FOR_THE_AGENT: Final = {
    "tools": "tools",
    "context": "context",
    "state": "state",
    "forwardedProps": "forwarded_props",
}


class RunInput(BaseModel):
    """AG-UI's `RunAgentInput`, as far as it counts here. What else there is of it, now or later, is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)

    thread_id: str
    run_id: str
    parent_run_id: str | None = None
    messages: list[dict[str, Any]]
    resume: list[Any] | None = None
    state: Any = None
    tools: list[Any] | None = None
    context: list[Any] | None = None
    forwarded_props: Any = None

    @property
    def last(self) -> Mapping[str, Any]:
        return self.messages[-1] if self.messages else {}

    @property
    def returned(self) -> dict[str, Mapping[str, Any]]:
        """What tools of the client have returned, by call."""
        found = (message for message in self.messages if message.get("role") == "tool")
        return {str(message.get("toolCallId")): message for message in found}


class Said(NamedTuple):
    """What is to be appended: the body of `message.user` or `message.regenerate`."""

    body: Mapping[str, Any]
    kind: Literal["message", "again"]
    message: str


def saying(asked: RunInput, shown: Collection[Message]) -> Said | None:
    """Return what the last message says that the session does not know yet; None where it is no user's.

    Of what stands before it in a client's list the log knows more than the client. A message that is known already is
    to be answered again. Raises `InvalidRequest` for a message without an id.
    """
    message = asked.last
    if message.get("role") != "user":
        return None
    id = message.get("id")
    if not isinstance(id, str):
        raise InvalidRequest(f"The last message's id is {id!r:.60}.", hint="Give each message an id.", field="messages")
    if any(one.id == id and one.role == "user" for one in shown):
        return Said({"type": MESSAGE_REGENERATE, "message": id}, "again", id)
    body: dict[str, Any] = {
        "type": MESSAGE_USER,
        "message": {"id": id, "role": "user", "content": message.get("content")},
    }
    given = {name: value for name, field in _FOR_THE_AGENT.items() if (value := getattr(asked, field))}
    return Said(body | ({"input": given} if given else {}), "message", id)


def before(shown: Sequence[Message], said: Said) -> Sequence[Message]:
    """Return what the session shows before a new answer: of one that is answered again nothing that follows it."""
    at = next((at for at, one in enumerate(shown) if one.id == said.message), len(shown) - 1)
    return shown[: at + 1]


def answers(asked: RunInput, open: Collection[Request]) -> list[Answer]:
    """Return what answers requests: `resume`, and results of those client's tools that a run waits for."""
    found = [] if asked.resume is None else resumed(asked.resume)
    known = {answer.request for answer in found}
    returned = asked.returned
    for request in open:
        message = returned.get(str(request.body.get("call", request.request)))
        if message is None or request.tool is None or request.request in known:
            continue
        error = message.get("error")
        if isinstance(error, str) and error:
            found.append(Answer(request.request, error=error))
        else:
            found.append(Answer(request.request, json_or_text(message.get("content"))))
    return found


def knows_less(asked: RunInput, shown: Collection[Message]) -> bool:
    """Say whether the session shows another conversation than the client has, its new message left aside."""
    known = [message.get("id") for message in asked.messages if message.get("role") in ("user", "assistant")]
    here = [message.id for message in shown if message.role in ("user", "assistant")]
    return here != [id for id in known if id != asked.last.get("id") or id in here]


def answer_id(run: str, request: str) -> str:
    """Return the event id of an answer that a run of the client's gives: it is found again by that."""
    return answers_of(run) + sha256(request.encode()).hexdigest()[:16]


def answers_of(run: str) -> str:
    """Return how the event ids of the answers begin that a run of the client's gives."""
    return derived(run, "answer.")


def nothing_new(asked: RunInput) -> InvalidRequest:
    """Return what says that there is nothing to do."""
    role = asked.last.get("role")
    what = "There is no message" if role is None else f"The last message is of {role!r:.40}, and answers nothing"
    return InvalidRequest(
        f"{what}: there is nothing to run.",
        hint="Add a user's message, the result of a tool that a run waits for, or resume entries.",
        field="messages",
    )
