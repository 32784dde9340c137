"""The run that is being worked on, for a framework's tools and nodes; and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from session_fabric import AgentRun, RunFailed
from session_fabric.words.errors import InvalidRequest

_CURRENT: Final[ContextVar[AgentRun | None]] = ContextVar("session_fabric_run", default=None)


def current_run() -> AgentRun:
    """Return the run in which a framework is working: for its tools and nodes, which it does not hand it to.

    Raises `InvalidRequest` outside a handler of `session_fabric.frameworks`.
    """
    run = _CURRENT.get()
    if run is None:
        raise InvalidRequest(
            "No run is being worked on here.",
            hint="Call it from a tool or node of an agent that session_fabric.frameworks serves.",
        )
    return run


@contextmanager
def working_on(run: AgentRun) -> Iterator[None]:
    """Make a run the current one of this task, and of the tasks that it starts, for as long as the block lasts."""
    before = _CURRENT.set(run)
    try:
        yield
    finally:
        _CURRENT.reset(before)


def count(run: AgentRun, entries: Iterable[Mapping[str, Any]]) -> None:
    """Add to what a run has used: AG-UI's TokenUsage, summed for each provider and model. Its end says it."""
    totals: dict[tuple[Any, Any], dict[str, Any]] = {}
    for entry in [*run.usage, *entries]:
        total = totals.setdefault((entry.get("provider"), entry.get("model")), {})
        for field, value in entry.items():
            if isinstance(value, int):
                total[field] = total.get(field, 0) + value
            elif value is not None:
                total[field] = value
    run.usage = [total for total in totals.values() if any(isinstance(value, int) for value in total.values())]


def usage_entry(
    provider: str | None,
    model: str | None,
    input_tokens: int,
    output_tokens: int,
    *,
    reasoning: int = 0,
    cached: int = 0,
    cache_written: int = 0,
) -> dict[str, Any]:
    """Return one of AG-UI's TokenUsage: of totals and named parts of them; what is not known or nothing is left out."""
    counts = {"inputTokens": input_tokens, "outputTokens": output_tokens, "totalTokens": input_tokens + output_tokens}
    counts |= {"reasoningTokens": reasoning, "cachedInputTokens": cached, "cacheWriteInputTokens": cache_written}
    named = {"provider": provider, "model": model}
    return {field: value for field, value in {**named, **counts}.items() if value}


def given_up(run: AgentRun, message: str, code: str) -> RunFailed:
    """Return what to raise where trying again cannot help: the run ends with `RUN_ERROR` of this code, at once."""
    run.failure = {**run.failure, "code": code}
    return RunFailed(message)
