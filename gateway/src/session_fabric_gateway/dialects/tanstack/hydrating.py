"""What TanStack's clients get when a page is loaded: a window of the conversation, what goes on, what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from session_fabric import Session
from session_fabric.rules.messages import Message, Run
from session_fabric.rules.requests import Request
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway.dialects.ag_ui.interrupts import Question, interrupt

Json = dict[str, Any]


def hydration(
    shown: Sequence[Message],
    going: str | None,
    run: Run | None,
    requests: Sequence[Request],
    participant: str,
    *,
    limit: int | None,
    before: str | None,
) -> Json:
    """Return what a client shows, and what it goes on with.

    `going`: the run that is under way, `run` what is known of it. Its messages are left out where it is to be joined,
    since a client that joins is told all of it. Raises `InvalidRequest` for a `before` that no message is called.
    """
    asked = [] if run is None else _asked(requests, run, participant)
    joins = going is not None and not asked
    window = [message for message in shown if not (joins and message.run == going)]
    page: Json = {"truncated": False}
    if before is not None:
        at = next((at for at, message in enumerate(window) if message.id == before), None)
        if at is None:
            raise InvalidRequest(
                f"There is no message {before!r:.80}.", hint="Use the cursor of a page.", field="before"
            )
        window = window[:at]
    if limit is not None and len(window) > limit:
        window = window[len(window) - limit :]
        page = {"truncated": True, "cursor": window[0].id}
    return {
        "messages": [ui_message(message) for message in window],
        "activeRun": {"runId": going} if joins else None,
        "interrupts": {"runId": going, "pending": asked} if asked else None,
        "page": page,
    }


def _asked(requests: Sequence[Request], run: Run, participant: str) -> list[Json]:
    """Return what a run that waits asks of this participant; its clients' tools are called when it is joined."""
    if run.state != "suspended":
        return []
    questions = [
        Question(request.request, request.run, request.kind, request.body, request.asked)
        for request in requests
        if request.run == run.id and request.kind != "tool"
    ]
    return [interrupt(question, run.id) for question in questions if question.is_for(participant)]


def ui_message(message: Message) -> Json:
    """Spell a message as TanStack's clients keep it."""
    if message.role == "user":
        return {"id": message.id, "role": "user", "parts": _said(message.content)}
    parts: list[Json] = []
    thought = message.reasoning or (message.content if message.role == "reasoning" else "")
    if thought:
        parts.append({"type": "thinking", "content": thought})
    if message.role != "reasoning" and message.content:
        parts += _said(message.content)
    for call in message.tool_calls:
        done = call.result is not None
        part = {"type": "tool-call", "id": call.id, "name": call.name, "arguments": call.args}
        part |= {"state": "complete" if done else "input-complete"}
        if (given := _read(call.args)) is not None:
            part["input"] = given
        parts.append(part)
        if done:
            text = call.result if isinstance(call.result, str) else orjson.dumps(call.result).decode()
            part["output"] = _read(text, text)
            parts.append({"type": "tool-result", "toolCallId": call.id, "content": text, "state": "complete"})
    role = "system" if message.role in ("system", "developer") else "assistant"
    return {"id": message.id, "role": role, "parts": parts}


def _said(content: Any) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    parts = content if isinstance(content, list) else []
    return [
        {"type": "text", "content": part.get("text", "")} if part.get("type") == "text" else part
        for part in parts
        if isinstance(part, dict)
    ]


def _read(text: str, otherwise: Any = None) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return otherwise


def check_thread(session: Session, thread: str) -> None:
    """Raise `InvalidRequest` for a thread that is not the session of the URL."""
    if thread != session.name:
        raise InvalidRequest(
            f"The thread {thread!r:.80} is not the session of this URL, {session.name!r:.80}.",
            hint=f'Give both one name: useChat({{threadId: "{session.name:.40}", …}}).',
            field="threadId",
        )
