"""What a run needs to ask participants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from session_fabric.rules.requests import Answer, Approval


class Asker(Protocol):
    """Asks participants in a run's name, and waits for what they answer."""

    async def client_tool(
        self,
        name: str,
        args: Mapping[str, Any],
        *,
        to: Any,
        deadline_s: float | None,
        id: str | None,
        call: str | None,
    ) -> Any: ...
    async def ask(
        self,
        title: str,
        *,
        text: str | None,
        options: Sequence[Any] | None,
        schema: Mapping[str, Any] | None,
        to: Any,
        deadline_s: float | None,
        default: Any,
        id: str | None,
    ) -> Answer: ...
    async def approve(
        self, title: str, *, text: str | None, to: Any, deadline_s: float | None, default: bool | None, id: str | None
    ) -> Approval: ...
    def begin_again(self) -> None:
        """The handler is run again: what it asks then it has asked already."""

    async def close(self) -> None:
        """Close what nobody has answered, the run having ended."""
