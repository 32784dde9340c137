"""The HTTP face as an OpenAPI document, from the models that check requests."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from session_fabric_gateway.api_forms import NAME, OFFSET, formed
from session_fabric_gateway.capabilities.form import ONE
from session_fabric_gateway.capabilities.paths import body_fields
from session_fabric_gateway.capabilities.registry import CAPABILITIES
from session_fabric_gateway.codes import STATUS
from session_fabric_gateway.dialects.ag_ui import described as ag_ui
from session_fabric_gateway.dialects.ai_sdk import described as ai_sdk
from session_fabric_gateway.durable.described import TAG, described
from session_fabric_gateway.operations import NewSession, PostedControl, PostedEvent, PostedFork, PostedRefresh

Json = dict[str, Any]

_SESSION: Final[Json] = {"name": "session", "in": "path", "required": True, "schema": NAME}


def document() -> Json:
    """Return the OpenAPI 3.1 document."""
    one = "/v1/sessions/{session}"
    paths = {
        "/v1/sessions": {
            "post": _operation("Make a session, or find it", "Record", NewSession, made=True),
            "get": _operation("List sessions, newest first", "Sessions", query={"limit": _limit(), "cursor": _text()}),
        },
        "/v1/tickets": {"post": _operation("Get a ticket, for the URL of an EventSource", "Ticket", made=True)},
        "/v1/refresh": {
            "post": _operation("Prove a newer token before it takes the place of this one", None, PostedRefresh)
        },
        one: {
            "get": _operation("Get a session's record", "Record", named=True),
            "delete": _operation("Delete a session with all that it holds", None, named=True),
        },
        f"{one}/events": {
            "post": _operation("Append an event, once for its id", "Appended", PostedEvent, made=True, named=True),
            "get": _events(),
        },
        f"{one}/control": {
            "post": _operation("Ask a run to cancel or interrupt", "Appended", PostedControl, made=True, named=True)
        },
        f"{one}/fork": {"post": _operation("Fork a session at an offset", "Record", PostedFork, made=True, named=True)},
        f"{one}/messages": {
            "get": _operation(
                "Get messages: completed, and the text so far",
                "Messages",
                named=True,
                query={**_paged("before"), "branch": {"type": "string", "enum": ["all", "visible"]}},
            )
        },
        f"{one}/export": {"get": _export()},
        f"{one}/presence": {"get": _operation("Get who is there", "Members", named=True)},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Session Fabric gateway", "version": "1"},
        "security": [{"bearer": []}],
        "paths": _with_forms(_with_capabilities(paths))
        | described()
        | ag_ui.described()
        | ai_sdk.described()
        | _operating(),
        "tags": [TAG, ag_ui.TAG, ai_sdk.TAG],
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {"Problem": _problem()},
        },
    }


def _with_capabilities(paths: Json) -> Json:
    for capability in CAPABILITIES.values():
        http = capability.http
        if http is None:
            continue
        schema = _schema(capability.model)
        names = body_fields(capability)
        known = {name: schema["properties"][name] for name in names}
        operation = _operation(http.summary, "Object", named=True, query=known if http.by_query else None)
        in_path = [part[1:-1] for part in http.path.split("/") if part.startswith("{")]
        operation["parameters"] += [{"name": n, "in": "path", "required": True, "schema": _text()} for n in in_path]
        if not http.by_query and names:
            required = [name for name in schema.get("required", ()) if name in names]
            body = {"type": "object", "properties": known, "required": required, "additionalProperties": False}
            body |= {"$defs": schema["$defs"]} if "$defs" in schema else {}
            operation["requestBody"] = _body(body)
        operation["responses"]["201"] = operation["responses"]["200"]
        paths.setdefault(ONE + http.path, {})[http.method.lower()] = operation
    return paths


def _with_forms(paths: Json) -> Json:
    """Say of every field of which form it is."""
    for path, item in paths.items():
        for operation in item.values():
            for parameter in operation["parameters"]:
                if parameter["in"] != "header":
                    parameter["schema"] = formed(path, parameter["name"], parameter["schema"])
            if "requestBody" in operation:
                fields = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
                fields |= {name: formed(path, name, schema) for name, schema in fields.items()}
    return paths


def _operation(
    summary: str,
    answer: str | None,
    model: type[BaseModel] | None = None,
    *,
    made: bool = False,
    named: bool = False,
    query: dict[str, Json] | None = None,
) -> Json:
    responses: Json = {"default": {"$ref": "#/components/responses/Problem"}}
    if answer is None:
        responses["204"] = {"description": "Done"}
    else:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{answer}"}}}
        responses["200"] = {"description": "It was there" if made else "Found", "content": content}
        if made:
            responses["201"] = {"description": "Made", "content": content}
    fields = [{"name": name, "in": "query", "schema": schema} for name, schema in (query or {}).items()]
    operation: Json = {"summary": summary, "parameters": ([_SESSION] if named else []) + fields, "responses": responses}
    if model is not None:
        operation["requestBody"] = _body(_schema(model))
    return operation


def _body(schema: Json) -> Json:
    """A body that needs no field may be left out."""
    return {"required": bool(schema.get("required")), "content": {"application/json": {"schema": schema}}}


def _events() -> Json:
    live = {"type": "string", "enum": ["sse", "long-poll"]}
    view = {"type": "string", "enum": ["full", "messages"]}
    timeout = {"type": "integer", "minimum": 0, "maximum": 60000}
    query = {**_paged("after"), "before": _text(), "live": live, "timeout_ms": timeout}
    query |= {"view": view, "ticket": _text()}
    operation = _operation("Read events, or follow them", "Events", named=True, query=query)
    last = {"description": "With live=sse: where an EventSource was; an offset. It goes before `after`."}
    operation["parameters"].append({"name": "Last-Event-ID", "in": "header", "schema": _text(), **last})
    operation["responses"]["200"]["content"]["text/event-stream"] = {}
    return operation


def _export() -> Json:
    query = {"after": _text(), "chain": _text(), "cursors": {"type": "string", "enum": ["true", "false"]}}
    operation = _operation("Export the session, line by line", "Object", named=True, query=query)
    operation["responses"]["200"]["content"] = {"application/x-ndjson": {}}
    return operation


def _operating() -> Json:
    health = {"200": {"description": "Yes"}, "default": {"$ref": "#/components/responses/Problem"}}
    text = {"200": {"description": "Prometheus text", "content": {"text/plain": {"schema": _text()}}}}
    return {
        "/healthz": {"get": {"summary": "Whether the process lives", "security": [], "responses": health}},
        "/readyz": {"get": {"summary": "Whether it can serve", "security": [], "responses": health}},
        "/metrics": {"get": {"summary": "Metrics", "security": [], "responses": text}},
        "/openapi.json": {"get": {"summary": "This document", "security": [], "responses": health}},
    }


def _schemas() -> Json:
    nullable = {"anyOf": [OFFSET, {"type": "null"}]}
    event = {
        "offset": OFFSET,
        "id": _text(),
        "type": _text(),
        "actor": _text(),
        "run": {"type": ["string", "null"]},
        "ts": {"type": "integer"},
        "at": {"type": "integer"},
        "body": {"type": "object"},
    }
    record = {
        "session": NAME,
        "created": {"type": "integer"},
        "state": {"enum": ["open", "closed"]},
        "labels": {"type": "object", "additionalProperties": _text()},
        "source": {"type": ["string", "null"]},
        "participants": {"type": "array", "items": _text()},
        "head": OFFSET,
    }
    member = {"participant": _text(), "device": _text(), "data": {"type": "object"}, "since": {"type": "integer"}}
    return {
        "Object": {"type": "object"},
        "Record": _object(record, "session", "created", "state", "labels"),
        "Sessions": _object({"sessions": _array("Record"), "next": {"type": ["string", "null"]}}, "sessions", "next"),
        "Ticket": _object({"ticket": _text(), "until": {"type": "integer"}}, "ticket", "until"),
        "Appended": _object({"offset": OFFSET, "duplicate": {"type": "boolean"}}, "offset"),
        "Event": _object(event, "offset", "type", "actor", "run", "ts", "body"),
        "Events": _object({"events": _array("Event"), "next": OFFSET, "head": OFFSET, "previous": nullable}, "events"),
        "Messages": _object(
            {"messages": {"type": "array", "items": {"type": "object"}}, "offset": OFFSET, "previous": nullable},
            "messages",
            "offset",
            "previous",
        ),
        "Members": _object({"members": {"type": "array", "items": _object(member, *member)}}, "members"),
    }


def _problem() -> Json:
    fields = {
        "type": _text(),
        "title": _text(),
        "status": {"type": "integer"},
        "detail": _text(),
        "code": {"enum": sorted(STATUS)},
        "retryable": {"type": "boolean"},
        "hint": _text(),
    }
    return {"description": "Refused", "content": {"application/problem+json": {"schema": _object(fields, *fields)}}}


def _schema(model: type[BaseModel]) -> Json:
    return model.model_json_schema()


def _paged(name: str) -> dict[str, Json]:
    return {name: _text(), "limit": _limit()}


def _limit() -> Json:
    return {"type": "integer", "minimum": 1, "maximum": 1000}


def _text() -> Json:
    return {"type": "string"}


def _array(of: str) -> Json:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{of}"}}


def _object(fields: Json, *required: str) -> Json:
    return {"type": "object", "properties": fields, "required": list(required)}
