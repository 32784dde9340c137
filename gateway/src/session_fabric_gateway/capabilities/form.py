"""The form of a capability: one model and one coroutine serve the socket's operation and the path of HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from session_fabric import Session

from session_fabric_gateway.admission import admit
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
    """An operation: `model` checks it, `carry_out` does it, who is granted `needs` (rules.grants) may ask for it.

    `needs` has the fields of the model in braces: `state:{document}`. `makes`: it makes a session that is not there.
    `http` None: on a socket only.
    """

    model: type[Asked]
    carry_out: Carry
    needs: str
    http: Http | None = None
    makes: bool = False
    op: str = field(init=False)

    @property
    def writes(self) -> bool:
        """Say whether it stores something."""
        return self.http is not None and self.http.method != "GET"

    async def admit(self, ask: Ask, operation: Asked) -> None:
        """Return if who asks may. Raises what `admission.admit` does."""
        needs = self.needs.format_map(vars(operation)) if "{" in self.needs else self.needs
        await admit(ask.grant, ask.session, needs, makes=self.makes)

    def __post_init__(self) -> None:
        object.__setattr__(self, "op", self.model.model_fields["op"].annotation.__args__[0])  # type: ignore[union-attr]
