"""What runs ask of participants: what is open, claiming it, answering it."""

from __future__ import annotations

from typing import Any, Final, Literal

from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway.capabilities.form import Answer, Ask, Capability, Http
from session_fabric_gateway.operations import Asked


class GiveAnswer(Asked):
    """`body` or `error`; `event` is the answer's event id, `device` is given over HTTP alone: a socket has one."""

    op: Literal["answer"]
    request: str
    body: Any = None
    error: str | None = None
    event: str | None = None
    device: str | None = None


class Claim(Asked):
    op: Literal["claim"]
    request: str
    device: str | None = None


class Requests(Asked):
    op: Literal["requests"]


async def _answer(ask: Ask, operation: GiveAnswer) -> Answer:
    # What is absent is no answer, while null is one.
    given = {"body": operation.body} if "body" in operation.model_fields_set else {}
    offset, duplicate = await ask.session.answer(
        operation.request,
        **given,
        error=operation.error,
        device=_device(ask, operation.device),
        id=operation.event,
    )
    return Answer("answered", {"offset": str(offset), "duplicate": duplicate})


async def _claim(ask: Ask, operation: Claim) -> Answer:
    claim = await ask.session.claim(operation.request, device=_device(ask, operation.device))
    return Answer("claimed", {"until": claim.until})


async def _requests(ask: Ask, _: Requests) -> Answer:
    return Answer("requests", {"requests": [request.public() for request in await ask.session.requests()]})


def _device(ask: Ask, given: str | None) -> str | None:
    """Return the device that asks: a socket's own, and over HTTP the one that is named."""
    own = ask.device
    if own is not None and given not in (None, own):
        raise InvalidRequest(
            f"The frame names the device {given!r:.80}; this connection is {own!r}.",
            hint="Leave `device` out: hello has named it.",
            field="device",
        )
    return own or given


CAPABILITIES: Final = (
    Capability(GiveAnswer, _answer, "answer", Http("POST", "/requests/{request}/answer", "Answer what a run asks")),
    Capability(
        Claim, _claim, "answer", Http("POST", "/requests/{request}/claim", "Say that one works on a tool request")
    ),
    Capability(
        Requests, _requests, "read", Http("GET", "/requests", "List what runs ask of participants, oldest first")
    ),
)
