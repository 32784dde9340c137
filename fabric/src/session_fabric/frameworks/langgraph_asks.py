"""What a graph interrupts itself for, asked of participants; what they answer, as the graph is to have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from session_fabric import AgentRun
from session_fabric.frameworks.requesting import approve_call, call_client, together
from session_fabric.words.errors import ToolFailed

# What an interrupt may say of how it is asked, as `Run.ask` takes it.
_HOW = ("text", "to", "deadline_s", "default")


async def ask_participants(run: AgentRun, id: str, value: Any) -> Any:
    """Ask what an interrupt's value says, under a request of this id; return what `interrupt()` is to return.

    | value | asked | returned |
    |---|---|---|
    | text | that question | the text |
    | `{"title", "kind": "approval"}` | an approval | `{"approved", "comment", "by"}` |
    | `{"title", "options"}`, `{"title", "schema"}` | a choice, a form | the choice, the form |
    | `{"tool", "args"}` | a participant's device calls the tool | its result, or `{"error"}` |
    | `{"action_requests"}` (LangChain's middleware) | an approval for each | `{"decisions"}` |
    | anything else | its JSON, with a text to answer | the text |

    Each may have `text`, `to`, `deadline_s` and `default`. Raises `RequestExpired`: nobody has answered in time.
    """
    if not isinstance(value, Mapping):
        return (await run.ask(_title(value), id=id)).body
    how = {field: value[field] for field in _HOW if value.get(field) is not None}
    if isinstance(value.get("action_requests"), list):
        return {"decisions": await _decisions(run, id, value["action_requests"])}
    if isinstance(value.get("tool"), str):
        return await _call(run, id, value, how)
    title = value.get("title") or value.get("question") or value.get("message")
    if value.get("kind") == "approval":
        approval = await run.approve(_title(title), id=id, **how)
        return {"approved": approval.approved, "comment": approval.comment, "by": approval.by}
    if title is None:
        return (await run.ask(_title(value), id=id)).body
    return (await run.ask(_title(title), options=value.get("options"), schema=value.get("schema"), id=id, **how)).body


async def _call(run: AgentRun, id: str, value: Mapping[str, Any], how: Mapping[str, Any]) -> Any:
    args, call = value.get("args") or {}, value.get("tool_call_id")
    asked = {"id": id, **{field: how[field] for field in ("to", "deadline_s") if field in how}}
    try:
        if isinstance(call, str):
            return await call_client(run, value["tool"], args, call, asked)
        return await run.client_tool(value["tool"], args, **asked)
    except ToolFailed as failed:
        return {"error": failed.error}


async def _decisions(run: AgentRun, id: str, asked: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    approvals = await together(
        {
            f"{id}.{number}": approve_call(
                run,
                str(each.get("name")),
                each.get("args"),
                {"id": f"{id}.{number}", "text": each.get("description")},
            )
            for number, each in enumerate(asked)
        }
    )
    return [
        {"type": "approve"}
        if approval.approved
        else {"type": "reject", **({"message": approval.comment} if approval.comment else {})}
        for approval in approvals.values()
    ]


def _title(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
