"""What was said before an input, as AG-UI's messages: the session's visible branch, up to what is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import orjson

from session_fabric import AgentRun, Message, Offset

# What a framework's model is told of a call that was cut off: most models refuse a call without a result.
UNFINISHED: Final = "The call was not finished."
_KINDS: Final = {"image": "image", "audio": "audio", "video": "video"}
MESSAGE_REGENERATE: Final = "message.regenerate"


async def conversation(run: AgentRun, *, limit: int = 100) -> list[dict[str, Any]]:
    """Return the conversation that a run is to answer, the oldest message first, what is asked last.

    The newest `limit` (1-1000) messages of the branch that is shown, each as AG-UI has it; a tool call's result is a
    message of its own behind the one that called. Raises what `Session.messages` raises.
    """
    shown = (await run.session.messages(limit=limit, branch="visible")).messages
    input = run.input
    again = input.type == MESSAGE_REGENERATE
    found = heard(shown, run=run.id, asked=input.message.get("id"), at=input.offset, again=again)
    spelled = [message for each in found for message in as_ag_ui(each)]
    if input.message:
        spelled.append({"id": input.message.get("id"), "role": "user", "content": input.message.get("content")})
    elif input.text:  # of a hand-over: what whoever had the floor before says about it
        spelled.append({"id": str(input.offset), "role": "user", "content": input.text})
    return spelled


def heard(messages: Sequence[Message], *, run: str, asked: str | None, at: Offset, again: bool) -> list[Message]:
    """Return the messages that stand before what is asked, in order.

    `again`: it is an earlier message that is answered anew, so that nothing behind it counts. Else what was answered
    meanwhile counts, though it stands behind it; later messages of users do not, they get a run of their own.
    """
    before: list[Message] = []
    for message in messages:
        if message.id == asked:
            if again:
                break
            continue
        later = message.role == "user" and message.first > at and message.delivery != "steered"
        unheard = message.delivery in ("rejected", "expired") or message.redacted
        if not (later or unheard or message.run == run or message.status == "open"):
            before.append(message)
    return before


def as_ag_ui(message: Message) -> Iterator[dict[str, Any]]:
    """Yield a message as AG-UI has it, and the results of its tool calls; nothing for one that says nothing."""
    if message.role == "user":
        yield {"id": message.id, "role": "user", "content": message.content}
    if message.role != "assistant" or not (message.content or message.tool_calls):
        return
    spelled: dict[str, Any] = {"id": message.id, "role": "assistant", "content": message.content or ""}
    if message.tool_calls:
        spelled["toolCalls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.args or "{}"}}
            for call in message.tool_calls
        ]
    yield spelled
    for call in message.tool_calls:
        result = UNFINISHED if call.result is None else call.result
        content = result if isinstance(result, str) else orjson.dumps(result).decode()
        yield {"id": f"{call.id}-result", "role": "tool", "toolCallId": call.id, "content": content}


class Media(NamedTuple):
    """What a message has beside text: an image, audio, video or a file, at an address or as base64."""

    kind: str
    mime: str | None
    url: str | None
    data: str | None


def parts_of(content: Any) -> Iterator[str | Media]:
    """Yield the parts of an AG-UI message's content, in order: text, and media; what is neither is left out."""
    if isinstance(content, str):
        yield content
        return
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        source = part.get("source")
        if isinstance(part.get("text"), str):
            yield part["text"]
        elif isinstance(source, dict) and source.get("type") in ("url", "data"):
            value, url = str(source.get("value")), source["type"] == "url"
            kind = _KINDS.get(str(part.get("type")), "file")
            yield Media(kind, source.get("mimeType"), value if url else None, None if url else value)
        elif part.get("type") == "binary":  # AG-UI's before 1.0
            mime = str(part.get("mimeType", ""))
            yield Media(_KINDS.get(mime.partition("/")[0], "file"), mime, part.get("url"), part.get("data"))


def text_of(content: Any) -> str:
    """Return the text of an AG-UI message's content: a string, or a list of parts."""
    return "\n".join(part for part in parts_of(content) if isinstance(part, str))
