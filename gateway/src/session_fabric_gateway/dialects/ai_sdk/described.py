"""The paths of the AI SDK's wires as the OpenAPI document has them. What goes over them is the framework's to say."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

Json = dict[str, Any]

TAG: Final[Json] = {"name": "ai-sdk", "description": "The wires of the AI SDK, whose own clients work here unchanged."}


class Told(NamedTuple):
    """A path, its method, what it does, what it answers when that is done, and its query's fields."""

    path: str
    method: str
    summary: str
    done: tuple[int, ...]
    query: tuple[str, ...] = ()


_CHAT: Final = "/v1/ai-sdk/chat"
_ONE: Final = _CHAT + "/{chat}"
_SAID: Final = ("abort", "pool", "sdk")
_OPERATIONS: Final = (
    Told(_CHAT, "post", "AI SDK: send what a chat's user says, and hear what comes of it", (200,), _SAID),
    Told(_ONE + "/stream", "get", "AI SDK: go on with the answer that is under way", (200, 204), ("after", *_SAID)),
    Told(_ONE + "/messages", "get", "AI SDK: get a chat's messages", (200,), ("limit", "sdk")),
    Told(_ONE + "/stop", "post", "AI SDK: stop the run that is under way", (201, 204)),
    Told("/v1/ai-sdk/ws", "get", "AI SDK: all of it on one WebSocket", (101,), ("abort", "pool", "sdk", "ticket")),
)  # fmt: skip


def described() -> Json:
    """Return the path items."""
    paths: Json = {}
    for told in _OPERATIONS:
        named = [part[1:-1] for part in told.path.split("/") if part.startswith("{")]
        parameters = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in named]
        parameters += [{"name": n, "in": "query", "schema": {"type": "string"}} for n in told.query]
        body = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
        paths.setdefault(told.path, {})[told.method] = {
            "summary": told.summary,
            "tags": [TAG["name"]],
            "parameters": parameters,
            "responses": {str(status): {"description": "Done"} for status in told.done}
            | {"default": {"$ref": "#/components/responses/Problem"}},
            **({"requestBody": body} if told.path == _CHAT else {}),
        }
    return paths
