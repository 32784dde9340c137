"""The paths of durable streams as the OpenAPI document has them. What goes over them is the protocol's to say."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

TAG: Final[Json] = {
    "name": "durable-streams",
    "description": "The Durable Streams Protocol 1.0, whose clients work here unchanged.",
    "externalDocs": {
        "description": "The protocol",
        "url": "https://github.com/durable-streams/durable-streams/blob/main/PROTOCOL.md",
    },
}
_ONE: Final = "/v1/stream/{path}"
_SUBSCRIPTION: Final = "/v1/stream/__ds/subscriptions/{id}"
# Path, method, summary, what it answers when it is done (the others are problems).
_OPERATIONS: Final = (
    (_ONE, "put", "Make a stream, or a fork of one", (200, 201)),
    (_ONE, "post", "Append to a stream, or close it", (200, 204)),
    (_ONE, "get", "Read a stream, or follow it: live=long-poll, live=sse", (200, 204, 304)),
    (_ONE, "delete", "Delete a stream", (204,)),
    ("/v1/sessions/{session}/stream", "get", "Read or follow a session as a stream", (200, 204)),
    ("/v1/sessions/{session}/runs/{run}/stream", "get", "Read or follow a run as a stream", (200, 204)),
    ("/v1/stream/__ds/jwks.json", "get", "Get the keys that webhooks are signed with", (200,)),
    (_SUBSCRIPTION, "put", "Make a subscription, or find it", (200, 201)),
    (_SUBSCRIPTION, "get", "Get a subscription", (200,)),
    (_SUBSCRIPTION, "delete", "Delete a subscription", (204,)),
    (_SUBSCRIPTION + "/streams", "post", "Add streams to a subscription", (204,)),
    (_SUBSCRIPTION + "/streams/{path}", "delete", "Take a stream out of a subscription", (204,)),
    (_SUBSCRIPTION + "/claim", "post", "Claim the work of a subscription", (200,)),
    (_SUBSCRIPTION + "/ack", "post", "Acknowledge work, or keep the claim", (200,)),
    (_SUBSCRIPTION + "/callback", "post", "Acknowledge what a webhook was called for", (200,)),
    (_SUBSCRIPTION + "/release", "post", "Let a claim go", (204,)),
)
_QUERY: Final = {
    "offset": "Where to begin: an offset, -1 (the beginning) or now. Needed with live.",
    "live": "long-poll or sse.",
    "cursor": "The Stream-Cursor of the answer before.",
    "ticket": "With live=sse, in place of a token.",
}


def described() -> Json:
    """Return the path items."""
    paths: Json = {}
    for path, method, summary, done in _OPERATIONS:
        named = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        parameters = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in named]
        if 304 in done or path.endswith("/stream"):
            parameters += [
                {"name": n, "in": "query", "description": text, "schema": {"type": "string"}}
                for n, text in _QUERY.items()
            ]
        operation: Json = {
            "summary": summary,
            "tags": [TAG["name"]],
            "parameters": parameters,
            "responses": {str(status): {"description": "Done"} for status in done}
            | {"default": {"$ref": "#/components/responses/Problem"}},
        }
        if path.endswith("jwks.json"):
            operation["security"] = []
        paths.setdefault(path, {})[method] = operation
    return paths
