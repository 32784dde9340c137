"""The HTTP face (docs/protocol.md section 5): sessions, events, messages, presence."""

from __future__ import annotations

import time
from typing import Any, Final

import orjson
from aiohttp import web
from session_fabric import Offset, Session
from session_fabric.rules.messages import Message
from session_fabric.words.errors import InvalidInput, InvalidRequest
from session_fabric.words.names import new_id

from session_fabric_gateway import bodies, operations
from session_fabric_gateway.accounts import UNREAD_COSTS
from session_fabric_gateway.admission import admit, admit_event, check_same, forbidden, listed
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.credentials import token_of
from session_fabric_gateway.gateway import BILL, METER, Gateway
from session_fabric_gateway.operations import Model, NewSession, PostedControl, PostedEvent, PostedFork, PostedRefresh
from session_fabric_gateway.weighing import Weighing

GRANT: Final = web.RequestKey("grant", Grant)
_READING: Final = ("read", "export")


class Api:
    """Handlers of one gateway; `routes` lists them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        one = "/v1/sessions/{session}"
        return [
            web.post("/v1/sessions", self.create_session),
            web.get("/v1/sessions", self.list_sessions, allow_head=False),
            web.post("/v1/tickets", self.make_ticket),
            web.post("/v1/refresh", self.refresh),
            web.get(one, self.get_session, allow_head=False),
            web.delete(one, self.delete_session),
            web.post(f"{one}/events", self.append),
            web.post(f"{one}/control", self.control),
            web.post(f"{one}/fork", self.fork),
            web.get(f"{one}/messages", self.messages, allow_head=False),
            web.get(f"{one}/presence", self.presence, allow_head=False),
        ]

    # --- sessions -----------------------------------------------------------------------------------

    async def create_session(self, request: web.Request) -> web.Response:
        grant = await grant_of(self._gateway, request)
        asked = await body_of(request, NewSession, "The session")
        session = self._gateway.session(grant, new_id("s-") if asked.session is None else asked.session)
        await admit(grant, session, "create")
        with self._gateway.busy():
            _, made = await session.create(asked.labels, asked.participants)
        if not made:
            await admit(grant, session, "create")  # somebody else may have made it this moment
        return json(await _record(session), 201 if made else 200)

    async def list_sessions(self, request: web.Request) -> web.Response:
        grant = await grant_of(self._gateway, request)
        query = query_of(request, "limit", "cursor")
        view = self._gateway.fabric.view(tenant=grant.tenant, participant=grant.participant, gateway=True)
        page = await view.sessions(
            limit=number(query, "limit", 100), cursor=query.get("cursor"), where=lambda record: listed(grant, record)
        )
        return json({"sessions": [record.public() for record in page.records], "next": page.next})

    async def get_session(self, request: web.Request) -> web.Response:
        query_of(request)
        return json(await _record(await self._named(request, "read")))

    async def delete_session(self, request: web.Request) -> web.Response:
        with self._gateway.busy():
            await (await self._named(request, "erase")).delete()
        return web.Response(status=204)

    async def fork(self, request: web.Request) -> web.Response:
        session = await self._named(request, "read")
        asked = await body_of(request, PostedFork, "The fork")
        await self._may_fork(request, asked)
        with self._gateway.busy():
            new = await session.fork(Offset.parse(asked.at), asked.session)
        return json(await _record(new), 201)

    async def make_ticket(self, request: web.Request) -> web.Response:
        grant = await grant_of(self._gateway, request)
        query_of(request)
        ticket, until_ms = await self._gateway.tickets.make(grant)
        return json({"ticket": ticket, "until": until_ms}, 201)

    async def refresh(self, request: web.Request) -> web.Response:
        """Say whether a newer token is of who asks; what it grants, whoever sends it from now on has."""
        grant = await grant_of(self._gateway, request)
        query_of(request)
        asked = await body_of(request, PostedRefresh, "The new token")
        check_same(grant, await self._gateway.authenticator.authenticate(asked.token))
        return web.Response(status=204)

    # --- events -------------------------------------------------------------------------------------

    async def append(self, request: web.Request) -> web.Response:
        grant = await grant_of(self._gateway, request)
        session = self._gateway.session(grant, request.match_info["session"])
        await admit(grant, session, "append", makes=True)
        asked = await body_of(request, PostedEvent, "The event")
        await admit_event(grant, session, asked.body)
        since = None if asked.since is None else Offset.parse(asked.since)
        begun = time.monotonic()
        with self._gateway.busy():
            offset, duplicate = await session.append(asked.body, id=asked.id, since=since)
        self._gateway.metrics.appended(time.monotonic() - begun)
        return json({"offset": str(offset), "duplicate": duplicate}, 200 if duplicate else 201)

    async def control(self, request: web.Request) -> web.Response:
        grant = await grant_of(self._gateway, request)
        session = self._gateway.session(grant, request.match_info["session"])
        asked = await body_of(request, PostedControl, "The control request")
        await admit(grant, session, f"control:{asked.action}")
        await session.record(create=False)
        with self._gateway.busy():
            offset, _ = await session.control(
                asked.action, run=asked.run, body=asked.body, deadline_ms=asked.deadline_ms, id=asked.id
            )
        return json({"offset": str(offset)}, 201)

    async def messages(self, request: web.Request) -> web.Response:
        session = await self._named(request, "read")
        query = query_of(request, "before", "limit", "branch")
        before = Offset.parse(query["before"]) if "before" in query else None
        branch = query.get("branch", "all")
        if branch not in ("all", "visible"):
            raise InvalidRequest(f"branch is {branch!r:.40}.", hint="Use all or visible.")
        await session.record(create=False)
        page = await session.messages(
            before=before, limit=number(query, "limit", 100), branch="visible" if branch == "visible" else "all"
        )
        return json(
            {
                "messages": [message_json(message) for message in page.messages],
                "offset": str(page.offset),
                "previous": None if page.previous is None else str(page.previous),
            }
        )

    async def presence(self, request: web.Request) -> web.Response:
        session = await self._named(request, "read")
        query_of(request)
        members = await session.members()
        return json({"members": [member._asdict() for member in members]})

    async def _named(self, request: web.Request, operation: str, *, makes: bool = False) -> Session:
        return await session_of(self._gateway, request, operation, makes=makes)

    async def _may_fork(self, request: web.Request, asked: PostedFork) -> None:
        """A fork makes a session: of that name, where it has one."""
        grant = await grant_of(self._gateway, request)
        new = self._gateway.session(grant, asked.session or new_id("fork-"))
        if not grant.grants.allows(new.name, "create"):
            raise forbidden(grant, new.name, "create")


async def _record(session: Session) -> dict[str, object]:
    record = await session.record(create=False)
    return {**record.public(), "head": str(await session.head())}


def message_json(message: Message) -> dict[str, Any]:
    """Spell a message of the projection."""
    return {
        "id": message.id,
        "role": message.role,
        "actor": message.actor,
        "run": message.run,
        "content": message.content,
        "reasoning": message.reasoning,
        "toolCalls": [
            {"id": call.id, "name": call.name, "args": call.args, "result": call.result} for call in message.tool_calls
        ],
        "status": message.status,
        "first": str(message.first),
        "last": str(message.last),
        "parent": message.parent,
        "delivery": message.delivery,
        "redacted": message.redacted,
    }


# --- what handlers have in common --------------------------------------------------------------------


def json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


async def grant_of(gateway: Gateway, request: web.Request, *, by_ticket: bool = False) -> Grant:
    """Return who asks; count it, once a request. Raises `Unauthenticated`, `TokenExpired`, `RateLimited`.

    `by_ticket`: a ticket in the query will do.
    """
    grant = request.get(GRANT)
    if grant is None:
        ticket = request.query.get("ticket") if by_ticket else None
        if ticket is not None:
            grant = gateway.still(await gateway.tickets.redeem(ticket))
        else:
            grant = await gateway.authenticator.authenticate(token_of(gateway, request))
        gateway.let_in(request, grant)
        request[GRANT] = grant
    return grant


async def session_of(
    gateway: Gateway, request: web.Request, operation: str, *, makes: bool = False, by_ticket: bool = False
) -> Session:
    """Return the session of the path, in the name of who asks. Raises what `admit` does.

    What is read through it is counted; `RateLimited` while more was read than may be.
    """
    grant = await grant_of(gateway, request, by_ticket=by_ticket)
    session = gateway.session_of(request, grant, request.match_info["session"])
    await admit(grant, session, operation, makes=makes)
    if operation in _READING:
        request[BILL].open()
    return session


async def body_of(request: web.Request, model: type[Model], what: str) -> Model:
    """Read a body by its model. Raises `InvalidRequest`."""
    return operations.check(model, await json_of(request), what)


async def json_of(request: web.Request) -> object:
    """Read a JSON body; an empty one counts as an object without fields. Raises `InvalidRequest`."""
    try:
        data = await bodies.read(request, Weighing("The body"))
        return operations.parsed(data, "The body", "Send one JSON object.") if data else {}
    except InvalidInput:
        if METER in request:
            request[METER].owe("bytes", time.monotonic(), UNREAD_COSTS * (request.content_length or 0))
        raise


def query_of(request: web.Request, *names: str) -> dict[str, str]:
    """Return the query's fields. Raises `InvalidRequest` for one that is unknown or there twice."""
    query = request.query
    for name in query:
        if name not in names:
            known = f"Its fields are {', '.join(names)}." if names else "It has none."
            raise InvalidRequest(f"The query has no field {name!r:.80}.", hint=known, field=name[:80])
        if len(query.getall(name)) > 1:
            raise InvalidRequest(f"The query has {name!r} twice.", field=name)
    return dict(query)


def number(query: dict[str, str], name: str, default: int, least: int = 1, most: int = 1000) -> int:
    """Return a number of the query. Raises `InvalidRequest`."""
    text = query.get(name)
    if text is None:
        return default
    # By its length first: Python reads no number of 4300 digits.
    digits = (text.lstrip("0") or text[:1]) if text.isascii() and text.isdigit() else ""
    if not digits or len(digits) > len(str(most)) or not least <= int(digits) <= most:
        raise InvalidRequest(f"{name} is {text!r:.40}.", hint=f"Use {least} to {most}.", field=name)
    return int(digits)
