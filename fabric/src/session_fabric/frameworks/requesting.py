"""Approvals of a framework's tool calls, and calls of participants' tools, as requests of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import orjson

from session_fabric import AgentRun, Approval
from session_fabric.words.errors import RequestExpired

T = TypeVar("T")
# What a tool may say of how it is asked for: what `Run.approve` and `Run.client_tool` take under these names.
_HOW = ("to", "deadline_s", "id")


async def approve_call(run: AgentRun, tool: str, args: Any, how: Mapping[str, Any]) -> Approval:
    """Ask whether a tool may be called; nobody in time is a no, said by the fabric.

    `how` may have `title`, `text`, `to`, `deadline_s` and `id`. Raises `RequestExpired` when the run has ended.
    """
    text = how.get("text") or (args if isinstance(args, str) else orjson.dumps(args, default=str).decode())
    title = str(how.get("title") or f"Call {tool}?")
    try:
        return await run.approve(title, text=str(text)[:4000], **_asked(how))
    except RequestExpired as expired:
        if expired.facts.get("reason") != "deadline":
            raise
        return Approval(False, "service:fabric", "Nobody decided in time.", True)


async def call_client(run: AgentRun, tool: str, args: Any, call: str, how: Mapping[str, Any]) -> Any:
    """Have a participant's device call a tool whose call the framework has announced as `call`; return the result.

    Raises what `Run.client_tool` raises.
    """
    known = orjson.loads(args or b"{}") if isinstance(args, str | bytes) else args
    return await run.client_tool(tool, known if isinstance(known, dict) else {}, call=call, **_asked(how))


def _asked(how: Mapping[str, Any]) -> dict[str, Any]:
    return {field: how[field] for field in _HOW if how.get(field) is not None}


async def together(asked: Mapping[str, Coroutine[Any, Any, T]]) -> dict[str, T]:
    """Ask several things at once; return the answers by name. Raises what the first that fails raises; the others
    are cancelled then."""
    with first_error():
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(each) for name, each in asked.items()}
    return {name: task.result() for name, task in tasks.items()}


@contextmanager
def first_error() -> Iterator[None]:
    """Raise the first error of a group in its place: what a run fails of has a name of its own."""
    try:
        yield
    except BaseExceptionGroup as failed:
        error: BaseException = failed
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
