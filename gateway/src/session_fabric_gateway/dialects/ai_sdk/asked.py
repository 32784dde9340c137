"""What a client of the AI SDK sends, read: a message, an edit, a wish for another answer, answers to a run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field
from session_fabric.words.errors import InvalidEvent, InvalidRequest

from session_fabric_gateway.dialects.inputs import event_id

Trigger = Literal["submit-message", "regenerate-message"]
_TOOL: Final = ("tool-", "dynamic-tool")


class Chat(BaseModel):
    """The body of a POST, and what a `send` frame has of it; what a page adds to it is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    messages: list[dict[str, Any]]
    trigger: Trigger = "submit-message"
    message_id: Annotated[str | None, Field(alias="messageId")] = None


class Say(NamedTuple):
    """A user's message, as AG-UI has it; `answers`: what the page has answered before it, and not sent yet, maybe."""

    message: Mapping[str, Any]
    answers: Answers | None = None


class Edit(NamedTuple):
    """A message in place of another one's: the framework has both under the id of `of`, the log this one under its
    own, that follows from what it says."""

    of: str
    message: Mapping[str, Any]


class Again(NamedTuple):
    """The user's message `of` is to be answered again; where the page named what is replaced, `instead` of that."""

    of: str | None
    instead: str | None


class Given(NamedTuple):
    """An answer of the page's: to a request of this id, or to one about the tool call of this id."""

    id: str
    body: Any = ...
    error: str | None = None


class Answers(NamedTuple):
    """Answers to what a run asks."""

    run: str
    given: Sequence[Given]


Asked = Say | Edit | Again | Answers


def asked_of(chat: Chat) -> Asked:
    """Return what a client wants. Raises `InvalidRequest`, `InvalidEvent`, `InvalidName`."""
    messages = chat.messages
    if chat.trigger == "regenerate-message":
        of = next((one.get("id") for one in reversed(messages) if one.get("role") == "user"), None)
        return Again(of if isinstance(of, str) else None, chat.message_id)
    if not messages:
        raise InvalidRequest("There are no messages.", hint="Send the new one, last of `messages`.", field="messages")
    named = next((one for one in messages if chat.message_id is not None and one.get("id") == chat.message_id), None)
    last = messages[-1] if named is None or named.get("role") != "assistant" else named
    role = last.get("role")
    if role == "assistant":
        return _answers(last)
    if role != "user":
        raise InvalidRequest(
            f"The last message has the role {role!r:.40}.", hint="Send a user's message last.", field="messages"
        )
    message = {"id": event_id(last.get("id"), "message's id"), "role": "user", "content": _content(last)}
    if chat.message_id == message["id"]:
        said = orjson.dumps([chat.message_id, message["content"]], option=orjson.OPT_SORT_KEYS)
        return Edit(chat.message_id, {**message, "id": "edit-" + digest(said)})
    before = messages[-2] if len(messages) > 1 and messages[-2].get("role") == "assistant" else None
    answers = None if before is None else _answers(before)
    return Say(message, answers if answers is not None and answers.given else None)


def digest(of: bytes) -> str:
    return sha256(of).hexdigest()[:24]


def _answers(message: Mapping[str, Any]) -> Answers:
    return Answers(event_id(message.get("id"), "message's id"), _given(message.get("parts")))


def _given(parts: object) -> list[Given]:
    given = []
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict) or not str(part.get("type", "")).startswith(_TOOL):
            continue
        if part.get("providerExecuted") is True and part.get("state") != "approval-responded":
            continue  # a tool of the agent's
        id, approval = part.get("toolCallId"), part.get("approval")
        match part.get("state"):
            case "approval-responded" if isinstance(approval, dict):
                reason = {"comment": approval["reason"]} if isinstance(approval.get("reason"), str) else {}
                given.append(Given(str(approval.get("id")), {"approved": approval.get("approved") is True, **reason}))
            case "output-available" if part.get("preliminary") is not True:
                given.append(Given(str(id), part.get("output")))
            case "output-error":
                given.append(Given(str(id), error=str(part.get("errorText") or "The tool failed.")))
    return given


def _content(message: Mapping[str, Any]) -> str | list[dict[str, Any]]:
    """Return a message's parts as AG-UI's content: text alone as text."""
    parts = message.get("parts")
    if not isinstance(parts, list):
        raise InvalidRequest(
            "The message has no parts.", hint='For example {"parts":[{"type":"text","text":"Hello"}]}.', field="parts"
        )
    if not parts:
        raise InvalidEvent(
            "The message has no parts in it.",
            hint='For example {"parts":[{"type":"text","text":"Hello"}]}.',
            field="parts",
        )
    found = [_part(part) for part in parts]
    if all(part["type"] == "text" for part in found):
        return "".join(part["text"] for part in found)
    return found


def _part(part: object) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict):
        if kind == "text" and isinstance(part.get("text"), str):
            return {"type": "text", "text": part["text"]}
        if kind == "file" and isinstance(part.get("url"), str) and isinstance(part.get("mediaType"), str):
            return _media(part["url"], part["mediaType"], part.get("filename"))
        if isinstance(kind, str) and kind.startswith("data-"):
            return {"type": kind, "data": part.get("data")}
    raise InvalidRequest(
        f"A user's message has a part of the type {kind!r:.60}.", hint="Send text, file and data parts.", field="parts"
    )


def _media(url: str, media_type: str, filename: object) -> dict[str, Any]:
    """Return a file as AG-UI 1.0 has it: an image, audio, a video or a document."""
    family = media_type.partition("/")[0]
    head, comma, data = url.partition(",")
    inline = comma and head.startswith("data:") and head.endswith(";base64")
    source = {"type": "data", "value": data} if inline else {"type": "url", "value": url}
    named = {"metadata": {"filename": filename}} if isinstance(filename, str) else {}
    kind = family if family in ("image", "audio", "video") else "document"
    return {"type": kind, "source": {**source, "mimeType": media_type}, **named}
