"""The form of a capability: one model and one coroutine serve the socket's operation and the path of HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from session_fabric import Session

from session_fabric_gateway.auth import Grant
from session_fabric_gateway.operations import Asked

if TYPE_CHECKING:
    from session_fabric_gateway.connection import Connection
    from session_fabric_gateway.gateway import Gateway

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
ONE: Final = "/v1/sessions/{session}"


@dataclass(frozen=True, slots=True)
class Ask:
    """Who asks, and of which session, in whose name. `connection` is None over HTTP."""

    gateway: Gateway
    grant: Grant
    session: Session
    connection: Connection | None

    @property
    def device(self) -> str | None:
        return None if self.connection is None else self.connection.device


class Answer(NamedTuple):
    """A frame's op and its fields; over HTTP the fields alone, under `status`."""

    op: str
    fields: Mapping[str, Any]
    status: int = 200


Carry = Callable[[Ask, Any], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Http:
    """The path behind `/v1/sessions/{session}`: what it names besides the session are fields of the model.

    Of a GET or a DELETE the fields come from the query (text all of them), else from the body.
    """

    method: Method
    path: str
    summary: str

    @property
    def by_query(self) -> bool:
        return self.method in ("GET", "DELETE")


@dataclass(frozen=True, slots=True)
class Capability:
    """An operation: `model` checks it, `carry_out` does it. `http` None: on a socket only."""

    model: type[Asked]
    carry_out: Carry
    http: Http | None = None
    op: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "op", self.model.model_fields["op"].annotation.__args__[0])  # type: ignore[union-attr]
