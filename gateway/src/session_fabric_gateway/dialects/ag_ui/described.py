"""The paths of AG-UI and TanStack as the OpenAPI document has them. What goes over them is the frameworks' to say."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

TAG: Final[Json] = {"name": "ag-ui", "description": "The wires of AG-UI and TanStack AI, whose clients work unchanged."}
_AG_UI: Final = "/v1/ag-ui"
_ONE: Final = _AG_UI + "/{session}"
_TANSTACK: Final = "/v1/tanstack/{session}"
# Path, method, summary, fields of the query.
_OPERATIONS: Final = (
    (_AG_UI, "post", "AG-UI: run an agent, as HttpAgent asks", ("abort",)),
    (_ONE, "get", "AG-UI: come back to a thread", ("abort", "ticket")),
    (_ONE + "/runs/{run}", "get", "AG-UI: come back to a run", ("abort", "offset", "ticket")),
    (_ONE + "/runs/{run}/stop", "post", "AG-UI: stop a run", ()),
    (_TANSTACK, "post", "TanStack AI: run an agent, as fetchServerSentEvents asks", ("abort",)),
    (
        _TANSTACK,
        "get",
        "TanStack AI: hydrate a thread, join a run; with Upgrade: the socket of webSocket()",
        ("threadId", "limit", "before", "runId", "offset", "abort", "ticket"),
    ),
    (_TANSTACK + "/runs/{run}/stop", "post", "TanStack AI: stop a run", ()),
)


def described() -> Json:
    """Return the path items."""
    paths: Json = {}
    for path, method, summary, query in _OPERATIONS:
        named = [("path", part[1:-1]) for part in path.split("/") if part.startswith("{")]
        fields = [*named, *(("query", name) for name in query)]
        operation: Json = {
            "summary": summary,
            "tags": [TAG["name"]],
            "parameters": [
                {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}
                for place, name in fields
            ],
            "responses": {"200": {"description": "Done"}, "default": {"$ref": "#/components/responses/Problem"}},
        }
        if method == "post" and not path.endswith("/stop"):
            operation["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        paths.setdefault(path, {})[method] = operation
    return paths
