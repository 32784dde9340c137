"""What a stream holds, by subject, and how single messages of it are made away with."""

from __future__ import annotations

from typing import Final

from session_fabric.jetstream.api import NOT_FOUND, Api, ApiError

# What a sequence that is gone answers here, or that another call is removing (server/errors.json,
# JSStreamMsgDeleteFailedF, JSSequenceNotFoundErrF).
_GONE: Final = frozenset({10057, 10043})


async def count_subjects(api: Api, stream: str, wanted_filter: str) -> dict[str, int]:
    """Return the subjects of a stream that match, and how many messages each has."""
    found: dict[str, int] = {}
    while True:
        body = {"subjects_filter": wanted_filter, "offset": len(found)}
        answer = await api.call(f"STREAM.INFO.{stream}", body)
        subjects = answer["state"].get("subjects") or {}
        found |= subjects
        if not subjects or len(found) >= answer.get("total", 0):
            return found


async def erase_message(api: Api, stream: str, sequence: int) -> bool:
    """Remove a message and have its place overwritten; False when it was not there."""
    try:
        answer = await api.call(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": False})
    except ApiError as error:
        if error.number in NOT_FOUND or error.number in _GONE:
            return False
        raise
    return bool(answer.get("success"))
