"""Shared documents of a session: read, written under a revision, watched."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator
from session_fabric import FabricError, State
from session_fabric.rules.states import check_document, nothing
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway.admission import admit
from session_fabric_gateway.capabilities.form import Answer, Ask, Capability, Http
from session_fabric_gateway.operations import Asked
from session_fabric_gateway.watches import ALL


def _number(value: object) -> object:
    """Take what a query says, which is text, for the number that it spells."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 17 else value


Revision = Annotated[int, BeforeValidator(_number)]


class Get(Asked):
    op: Literal["state.get"]
    document: str


class Put(Asked):
    op: Literal["state.put"]
    document: str
    body: Any
    revision: Revision | None = None


class Patch(Asked):
    op: Literal["state.patch"]
    document: str
    body: Any
    revision: Revision | None = None


class Delete(Asked):
    op: Literal["state.delete"]
    document: str
    revision: Revision | None = None


class List(Asked):
    op: Literal["state.list"]


class History(Asked):
    op: Literal["state.history"]
    document: str


class Watch(Asked):
    op: Literal["state.watch"]
    document: str | None = None


class Unwatch(Asked):
    op: Literal["state.unwatch"]
    document: str | None = None


async def _get(ask: Ask, operation: Get) -> Answer:
    document = ask.session.state(operation.document)
    await ask.session.record(create=False)
    return _state(await document.get() or nothing(document.name))


async def _put(ask: Ask, operation: Put) -> Answer:
    return _state(await ask.session.state(operation.document).put(operation.body, operation.revision))


async def _patch(ask: Ask, operation: Patch) -> Answer:
    return _state(await ask.session.state(operation.document).patch(operation.body, operation.revision))


async def _delete(ask: Ask, operation: Delete) -> Answer:
    return _state(await ask.session.state(operation.document).delete(operation.revision))


async def _list(ask: Ask, _: List) -> Answer:
    documents = [_without_body(state) for state in await ask.session.documents()]
    return Answer("documents", {"documents": documents})


async def _history(ask: Ask, operation: History) -> Answer:
    document = ask.session.state(operation.document)
    await ask.session.record(create=False)
    versions = [state.plain() for state in await document.history()]
    return Answer("history", {"document": document.name, "versions": versions})


async def _watch(ask: Ask, operation: Watch) -> Answer:
    document = ALL if operation.document is None else check_document(operation.document)
    await ask.session.record()
    if ask.connection is None:
        raise InvalidRequest("Documents are watched over the socket.", hint="Use GET /v1/ws.")
    watches, place = ask.gateway.watches, ask.session.place
    watches.watch(ask.connection, place, document)
    try:  # it was admitted a moment ago: since then it is watched
        await admit(ask.connection.allowed, ask.session, "read")
    except FabricError:
        watches.unwatch(ask.connection, place, document)
        raise
    return Answer("ok", {})


async def _unwatch(ask: Ask, operation: Unwatch) -> Answer:
    if ask.connection is not None:
        ask.gateway.watches.unwatch(ask.connection, ask.session.place, operation.document)
    return Answer("ok", {})


def _state(state: State) -> Answer:
    return Answer("state", state.plain())


def _without_body(state: State) -> dict[str, Any]:
    plain = state.plain()
    del plain["body"]
    return plain


_ONE: Final = "/state/{document}"
_WRITES: Final = "state:{document}"

CAPABILITIES: Final = (
    Capability(Get, _get, "read", Http("GET", _ONE, "Get a shared document")),
    Capability(Put, _put, _WRITES, Http("PUT", _ONE, "Write a shared document, under a revision"), makes=True),
    Capability(
        Patch,
        _patch,
        _WRITES,
        Http("PATCH", _ONE, "Change a shared document by a JSON Merge Patch (RFC 7396)"),
        makes=True,
    ),
    Capability(Delete, _delete, _WRITES, Http("DELETE", _ONE, "Delete a shared document")),
    Capability(List, _list, "read", Http("GET", "/state", "List a session's shared documents")),
    Capability(History, _history, "read", Http("GET", f"{_ONE}/history", "Get a shared document's newest versions")),
    Capability(Watch, _watch, "read", makes=True),
    Capability(Unwatch, _unwatch, "read"),
)
